"""What `debug=` cuts from the probes."""

from dataclasses import replace
from typing import Any, TypeVar

from convtl.config.gradients import GradientsConfig
from convtl.config.schema import Config

V = TypeVar("V")


def within_limits(settings: Config) -> GradientsConfig:
    """The probes of a study as its `limits` cut them; without any, those of the default config."""
    config, limits = settings.gradients or GradientsConfig(), settings.limits
    cut: dict[str, Any] = {}
    if limits.replicates is not None:
        cut["replicates"] = min(config.replicates, limits.replicates)
    if limits.images_per_class is not None:
        for name in ("images_per_class", "probe_per_class", "test_per_class"):
            cut[name] = min(getattr(config, name), limits.images_per_class)
    config = replace(config, **cut)
    if limits.values_per_axis is not None:
        config = _fewer(config, limits.values_per_axis)
    if limits.updates is not None:
        config = _shorter(config, limits.updates)
    return config


def _ends(values: tuple[V, ...], most: int) -> tuple[V, ...]:
    """At most `most` values, the first and the last among them."""
    return values if len(values) <= most else (*values[: most - 1], values[-1])


def _fewer(config: GradientsConfig, most: int) -> GradientsConfig:
    profiles, convergence, freezing = config.profiles, config.convergence, config.freezing
    return replace(
        config,
        profiles=replace(
            profiles,
            activations=_ends(profiles.activations, most),
            initialisers=_ends(profiles.initialisers, most),
            hidden=_ends(profiles.hidden, most),
        ),
        convergence=replace(convergence, activations=_ends(convergence.activations, most)),
        freezing=replace(freezing, pairs=_ends(freezing.pairs, most)),
    )


def _shorter(config: GradientsConfig, most: int) -> GradientsConfig:
    profiles, convergence, freezing = config.profiles, config.convergence, config.freezing
    return replace(
        config,
        profiles=replace(
            profiles,
            updates=_within(profiles.updates, most),
            lenet_updates=_within(profiles.lenet_updates, most),
        ),
        convergence=replace(
            convergence,
            updates=min(convergence.updates, most),
            checkpoints=_within(convergence.checkpoints, most),
        ),
        freezing=replace(
            freezing, updates=min(freezing.updates, most), at=_within(freezing.at, most // 2)
        ),
    )


def _within(moments: tuple[int, ...], most: int) -> tuple[int, ...]:
    return tuple(dict.fromkeys(min(moment, most) for moment in moments))
