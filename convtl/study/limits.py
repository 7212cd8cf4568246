"""What `debug=` cuts, after everything else is composed."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

from convtl.config.domains import MadeConfig, PicturesConfig
from convtl.config.schema import AXES, Config, LimitsConfig
from convtl.study.sources import source_name


def apply_limits(config: Config) -> Config:
    """Return the config cut as its `limits` say: the last word, whatever an experiment sets."""
    whole, limits = config, config.limits
    if limits == LimitsConfig():
        return config
    if limits.values_per_axis is not None:
        config = _with_fewer_values(config, limits.values_per_axis)
    if limits.replicates is not None:
        config = replace(
            config,
            replicates=min(config.replicates, limits.replicates),
            replicate=config.replicate and config.replicate[: limits.replicates],
        )
    if limits.updates is not None:
        config = replace(config, updates=_distinct(min(u, limits.updates) for u in config.updates))
    if limits.pretrain_updates is not None:
        updates = min(config.pretrain.updates, limits.pretrain_updates)
        config = replace(config, pretrain=replace(config.pretrain, updates=updates))
    if limits.images_per_class is not None:
        config = _with_fewer_images(config, whole, limits.images_per_class)
    name = f"{config.study or 'trials'}{limits.suffix}" if limits.suffix else config.study
    return replace(config, study=name)


def _with_fewer_values(config: Config, most: int) -> Config:
    axes = [axis for axis in AXES if axis != "replicate" and getattr(config, axis) is not None]
    values: dict[str, Any] = {axis: _ends(getattr(config, axis), most) for axis in axes}
    more = {key: _ends(values, most) for key, values in config.axes.items()}
    return replace(config, **values, axes=more)


def _with_fewer_images(config: Config, whole: Config, most: int) -> Config:
    """At most so many images a class in every split, and as many for labels and sources as these have.

    Args:
      whole: the config before its axes were cut.
    """
    labelled = most - most // 2 if _shares_the_pool(whole) else most
    source_images = most if labelled == most else most // 2
    recipe = config.pretrain
    return replace(
        config,
        pretrain=replace(recipe, images_per_class=min(recipe.images_per_class, source_images)),
        validation_per_class=min(config.validation_per_class, most),
        test_per_class=min(config.test_per_class, most),
        n_per_class=_distinct(_fewer(n, labelled, whole) for n in config.n_per_class),
        domains={name: _smaller(domain, most) for name, domain in config.domains.items()},
    )


def _distinct(values: Iterable[int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(values))


def _ends(values: Sequence[Any], most: int) -> tuple[Any, ...]:
    """At most `most` values, the first and the last among them."""
    if len(values) <= most:
        return tuple(values)
    return (*values[: most - 1], values[-1])


def _fewer(n: int | Literal["all"], most: int, config: Config) -> int:
    """Clip labels a class to the cut domains; a number that the whole domains lack is refused later."""
    if n == "all":
        return most
    made = [config.domains.get(name) for name in config.target]
    lacking = any(isinstance(d, MadeConfig) and n > d.per_class.train for d in made)
    return n if lacking else min(n, most)


def _shares_the_pool(config: Config) -> bool:
    """Whether a source takes its images from the pool of which the subsets are a part."""
    return any(source_name(source).base == "same_classes" for source in config.source)


def _smaller(domain: Any, most: int) -> Any:
    """A domain with at most `most` images a class in every split."""
    if not isinstance(domain, MadeConfig | PicturesConfig):
        return domain
    caps = asdict(domain.per_class)
    lower = {split: most if cap is None else min(cap, most) for split, cap in caps.items()}
    smaller: Any = replace(domain.per_class, **lower)
    return replace(domain, per_class=smaller)
