"""Source nets that are trained in moments, the same in every process."""

import numpy as np

from convtl.config.domains import PerClass, TypedScriptConfig
from convtl.config.training import PretrainConfig
from convtl.data.domains import Domain
from convtl.data.splits import Split
from convtl.data.subsets import draw_source
from convtl.models.lenet import PlainConfig
from convtl.training.pretrain import SourceRequest

NAMES = ("north", "east", "south", "west")
_COUNTS = {"train": 12, "validation": 6, "test": 1}


def stripes(digest: str = "stripes", classes: int = len(NAMES)) -> Domain:
    """12x12 pictures; a class is the quarter that is bright."""

    def split(seed: int, count: int) -> Split:
        rng = np.random.default_rng(seed)
        labels = np.repeat(np.arange(classes, dtype=np.int32), count)
        images = rng.integers(0, 100, (len(labels), 12, 12, 1)).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            row, column = divmod(int(label), 2)
            image[6 * row : 6 * row + 6, 6 * column : 6 * column + 6] += 120
        return Split(images, labels)

    splits = {name: split(seed, count) for seed, (name, count) in enumerate(_COUNTS.items())}
    config = TypedScriptConfig(script="none", size=12, per_class=PerClass(**_COUNTS))
    return Domain(
        "stripes", config, NAMES[:classes], (12, 12, 1), digest, _COUNTS, lambda *_: splits
    )


RECIPE = PretrainConfig(images_per_class=12, updates=40, lr=5e-3, batch_size=8)


def request(
    replicate: int = 0, domain: Domain | None = None, classes: int | None = 3, **changes: object
) -> SourceRequest:
    domain = domain or stripes()
    draw = draw_source(
        domain,
        range(len(domain.class_names)),
        seed=0,
        replicate=replicate,
        classes=classes,
        images_per_class=12,
    )
    given: dict[str, object] = {
        "model": PlainConfig(hidden=2, width=16),
        "parts": ((domain, draw),),
        "recipe": RECIPE,
        "seed": 0,
        "replicate": replicate,
        "runs_per_device": 1,
        "steps_per_call": 20,
    }
    return SourceRequest(**(given | changes))  # type: ignore[arg-type]
