"""Sample pictures of a study's domains, kept beside its rows so that reports need no data."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from convtl.analysis.frame import axis_text
from convtl.data.domains import Domain
from convtl.storage.files import written
from convtl.study.grid import Trial
from convtl.study.materials import Materials
from convtl.study.measurements.movement import FeatureMaps, read_maps
from convtl.study.names import source_name
from convtl.study.store import accessible
from convtl.training.pretrain import SourceRequest

_FILE = "samples.npz"
_PICTURES = 12  # of each domain


@dataclass(frozen=True)
class Samples:
    """What a folder of results keeps of pictures; empty where nothing was kept."""

    out: Path

    @cached_property
    def pictures(self) -> dict[str, tuple[np.ndarray, list[str]]]:
        """Domain -> uint8 images, (k, height, width) or (k, height, width, 3), and their labels."""
        path = self.out / _FILE
        if not path.exists():
            return {}
        with np.load(path, allow_pickle=False) as arrays:
            names = dict.fromkeys(key.rpartition("/")[0] for key in arrays.files)
            return {
                name: (_plain(arrays[f"{name}/images"]), arrays[f"{name}/labels"].tolist())
                for name in names
            }

    def maps(self, trial: str) -> FeatureMaps | None:
        """Return what the units of a trial's net computed, if it was kept (`measure=movement`)."""
        return read_maps(self.out, trial)


def save_samples(out: Path, trials: Sequence[Trial], materials: Materials) -> None:
    """Keep training pictures of each domain.

    Targets as the first trial sees them that uses them, in each way in which the study changes their
    images; sources as they are, with the classes of the first trial.
    """
    arrays: dict[str, np.ndarray] = {}
    for trial in trials:
        if f"{_seen_as(trial)}/images" not in arrays:
            data = materials.target_data(trial)
            positions = data.positions("train", 1)[:_PICTURES]
            labels = data.splits["train"].labels[positions]
            images = data.pixels("train", positions)
            arrays |= _arrays(_seen_as(trial), images, data.domain, labels)
        requests = () if f"{trial.source}/images" in arrays else materials.sources.requests(trial)
        # Pictures that imported weights were trained on are not at hand.
        if (
            requests
            and isinstance(requests[0], SourceRequest)
            and not source_name(trial.source).variant
        ):
            domain, draw = requests[0].parts[0]
            split = domain.splits(requests[0].seed, trial.replicate)["train"]
            classes = np.asarray(draw.classes)[:_PICTURES]
            first = [int(np.argmax(split.labels == label)) for label in classes]
            arrays |= _arrays(trial.source, split.images[first], domain, classes)
    with accessible(out), written(out / _FILE) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def lacks_samples(out: Path, trials: Sequence[Trial], domains: Container[str]) -> bool:
    """Return whether pictures are missing of a target, or of a source among `domains`."""
    needed = {_seen_as(trial) for trial in trials}
    needed |= {trial.source for trial in trials if trial.source in domains}
    return not needed <= Samples(out).pictures.keys()


def shift_name(axes: Mapping[str, Any]) -> str:
    """Return how values of axes below `shift.` change pictures, `inversion` or `noise 0.3`; or nothing."""
    changes = {
        key.removeprefix("shift."): axis_text(value)
        for key, value in axes.items()
        if key.startswith("shift.")
    }
    return ", ".join(
        f"{name} {text}".removesuffix(" True")
        for name, text in changes.items()
        if text not in ("", "0", "0.0", "False")
    )


def _seen_as(trial: Trial) -> str:
    return ", ".join(part for part in (trial.target, shift_name(trial.axes)) if part)


def _arrays(
    name: str, images: np.ndarray, domain: Domain, labels: Iterable[int]
) -> dict[str, np.ndarray]:
    names = np.asarray([domain.class_names[label] for label in labels])
    return {f"{name}/images": np.asarray(images), f"{name}/labels": names}


def _plain(images: np.ndarray) -> np.ndarray:
    return images[..., 0] if images.ndim == 4 and images.shape[-1] == 1 else images
