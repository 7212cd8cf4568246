"""What `debug=` cuts, after everything else is composed."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

from convtl.config.domains import (
    ImageFolderConfig,
    MixtureConfig,
    NoiseConfig,
    PatchesConfig,
    TfdsConfig,
    TypedScriptConfig,
)
from convtl.config.schema import Config
from convtl.study.sources import source_name

_CUT = ("model", "source", "target", "regime", "depth", "n_per_class", "updates", "similarity")
"""Axes of which a few values are kept."""

_MADE = (TypedScriptConfig, PatchesConfig, NoiseConfig)
"""Kinds of domains of which a smaller one can be made."""

_READ = (TfdsConfig, ImageFolderConfig)
"""Kinds of domains of which a part can be read."""


def apply_limits(config: Config) -> Config:
    """Cuts a config as `limits` says: the last word, whatever an experiment asked for."""
    limits = config.limits
    cut: dict[str, Any] = {}
    if limits.values_per_axis is not None:
        cut |= {
            axis: _ends(getattr(config, axis), limits.values_per_axis)
            for axis in _CUT
            if getattr(config, axis) is not None
        }
        cut["axes"] = {
            name: _ends(values, limits.values_per_axis) for name, values in config.axes.items()
        }
    if limits.replicates is not None:
        cut["replicates"] = min(config.replicates, limits.replicates)
        if config.replicate is not None:
            cut["replicate"] = config.replicate[: limits.replicates]
    if limits.updates is not None:
        cut["updates"] = tuple(
            dict.fromkeys(min(u, limits.updates) for u in cut.get("updates", config.updates))
        )
    recipe = config.pretrain
    if limits.pretrain_updates is not None:
        recipe = replace(recipe, updates=min(recipe.updates, limits.pretrain_updates))
    most = limits.images_per_class
    if most is not None:
        labelled = most - most // 2 if _shares_the_pool(config) else most
        source_images = int(most * _smallest_share(config)) if labelled == most else most // 2
        recipe = replace(recipe, images_per_class=min(recipe.images_per_class, source_images))
        cut["test_per_class"] = min(config.test_per_class, most)
        cut["validation"] = replace(
            config.validation, per_class=min(config.validation.per_class, most)
        )
        cut["n_per_class"] = tuple(
            dict.fromkeys(
                _fewer(n, labelled, config) for n in cut.get("n_per_class", config.n_per_class)
            )
        )
        cut["domains"] = {name: _smaller(domain, most) for name, domain in config.domains.items()}
    study = f"{config.study or 'trials'}{limits.suffix}" if limits.suffix else config.study
    return replace(config, pretrain=recipe, study=study, **cut)


def _ends(values: Sequence[Any], most: int) -> tuple[Any, ...]:
    """At most `most` values, the first and the last among them."""
    if len(values) <= most:
        return tuple(values)
    return (*values[: most - 1], values[-1])


def _fewer(n: int | Literal["all"], most: int, config: Config) -> int:
    """Labels a class as far as the cut domains have them; what the uncut ones lack is left to be refused."""
    if n == "all":
        return most
    made = [config.domains.get(name) for name in config.target]
    lacking = any(
        isinstance(d, TypedScriptConfig | PatchesConfig | NoiseConfig) and n > d.per_class.train
        for d in made
    )
    return n if lacking else min(n, most)


def _shares_the_pool(config: Config) -> bool:
    """Whether a source takes its images from the pool of which the subsets are a part."""
    return any(source_name(source).base == "same_classes" for source in config.source)


def _smallest_share(config: Config) -> float:
    """1, or less where an amount twin makes up for the classes it lacks with more images of the others."""
    mixtures = [config.domains.get(name.partition(":")[0]) for name in config.source]
    twins = any(isinstance(mixture, MixtureConfig) and mixture.amount for mixture in mixtures)
    shares = [share for share in config.similarity or () if share > 0]
    return min(shares) if twins and shares else 1.0


def _smaller(domain: Any, most: int) -> Any:
    if not isinstance(domain, _MADE + _READ):
        return domain
    asked: Any = domain.per_class
    caps = {split: most if cap is None else min(cap, most) for split, cap in asdict(asked).items()}
    smaller: Any = replace(asked, **caps)
    return replace(domain, per_class=smaller)
