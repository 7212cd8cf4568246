"""What there is to do: each configuration of a probe, the columns of its rows and what measures it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np

from convtl.config.gradients import Activation, GradientsConfig, Initialiser, Optimiser
from convtl.config.models import LeNet5Config, PlainConfig
from convtl.config.roles import dump
from convtl.config.training import OptimConfig
from convtl.models.network import Network, Variables
from convtl.models.registry import build_network
from convtl.training.probes.bench import Bench, Materials, State, accuracies, fresh
from convtl.training.probes.convergence import alignments, arrival, grams
from convtl.training.probes.profile import profile_values
from convtl.training.probes.tables import Numbers

Net = LeNet5Config | PlainConfig


@dataclass(frozen=True)
class Job:
    """One configuration of a probe.

    Attributes:
      setting: columns that all its rows share.
      recipe: what its numbers depend on besides.
    """

    setting: dict[str, Any]
    recipe: dict[str, Any]
    measure: Callable[[Materials], Numbers]

    @property
    def probe(self) -> str:
        return str(self.setting["probe"])

    @property
    def words(self) -> str:
        hidden = self.setting["hidden"]
        given = self.setting | {"hidden": f"{hidden} hidden units" if hidden else None}
        return ", ".join(str(value) for value in given.values() if value)


def planned(config: GradientsConfig) -> Iterator[Job]:
    """All configurations of the probes, in the order of the table."""
    yield from _profile_jobs(config)
    yield from _convergence_jobs(config)
    yield from _freezing_jobs(config)


def _setting(probe: str, net: Net, optimiser: str) -> dict[str, Any]:
    return {
        "probe": probe,
        "model": net.kind,
        "activation": net.activation,
        "initialiser": net.initialiser,
        "hidden": net.hidden if isinstance(net, PlainConfig) else None,
        "optimiser": optimiser,
    }


def _profile_jobs(config: GradientsConfig) -> Iterator[Job]:
    own = config.profiles
    for hidden in (*own.hidden, None):
        for activation in own.activations:
            for initialiser in own.initialisers:
                net: Net = LeNet5Config(activation=activation, initialiser=initialiser)
                if hidden is not None:
                    net = PlainConfig(
                        hidden=hidden,
                        width=own.width,
                        activation=activation,
                        initialiser=initialiser,
                    )
                moments = tuple(sorted(set(own.lenet_updates if hidden is None else own.updates)))
                recipe = {"batch_size": own.batch_size, "rate": own.rate, "updates": list(moments)}
                yield Job(
                    _setting("profile", net, "sgd"),
                    recipe | {"model": dump(net)},
                    partial(_profile, config=config, net=net, moments=moments),
                )


def _convergence_jobs(config: GradientsConfig) -> Iterator[Job]:
    own = config.convergence
    for activation in own.activations:
        for optimiser in own.optimisers:
            net = LeNet5Config(activation=activation, initialiser=own.initialiser)
            recipe = dump(own) | {"rate": _rate(config, optimiser), "model": dump(net)}
            yield Job(
                _setting("convergence", net, optimiser),
                _without(recipe, "activations", "optimisers", "rates"),
                partial(_convergence, config=config, net=net, optimiser=optimiser),
            )


def _freezing_jobs(config: GradientsConfig) -> Iterator[Job]:
    own, like = config.freezing, config.convergence
    for pair in own.pairs:
        activation, optimiser = pair.split("/")
        net = LeNet5Config(activation=cast(Activation, activation), initialiser=like.initialiser)
        how = {"batch_size": like.batch_size, "rate": _rate(config, optimiser), "model": dump(net)}
        yield Job(
            _setting("freezing", net, optimiser),
            _without(dump(own) | how, "pairs"),
            partial(_freezing, config=config, net=net, optimiser=optimiser),
        )


def _without(content: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name not in names}


def _rate(config: GradientsConfig, optimiser: str) -> float:
    return float(getattr(config.convergence.rates, optimiser))


# --- measuring ----------------------------------------------------------------------------------------


def _nets(materials: Materials, net: Net) -> tuple[Network, Variables]:
    """A network and its untrained variables; nets that differ in the initialiser only share programs."""
    drawn = fresh(build_network(net, materials.image_shape, materials.classes), materials)
    same: Initialiser = "lecun_normal"
    alike = replace(net, initialiser=same)
    return build_network(alike, materials.image_shape, materials.classes), drawn


def _profile(
    materials: Materials, *, config: GradientsConfig, net: Net, moments: tuple[int, ...]
) -> Numbers:
    own = config.profiles
    network, variables = _nets(materials, net)
    sgd, longest = OptimConfig(kind="sgd"), max(*moments, 1)
    bench = Bench(
        network, materials, sgd, rate=own.rate, batch_size=own.batch_size, longest=longest
    )
    state = bench.start(variables)
    for moment in moments:
        state = bench.advance(state, moment)
        yield from _looked_at(bench, state)
    yield from _scored(bench, state)


def _looked_at(bench: Bench, state: State) -> Numbers:
    """The gradient profile at one moment."""
    for unit, place, quantity, values in profile_values(
        bench.network, state.variables, bench.materials
    ):
        yield state.update, unit, place, quantity, values


def _scored(
    bench: Bench, state: State, unit: str | None = None, place: int | None = None
) -> Numbers:
    """How well the nets do on their test images."""
    right, loss = accuracies(bench.network, state.variables, *bench.materials.test)
    n = bench.materials.test[0].shape[1]
    logit = np.log(right * n + 0.5) - np.log(
        n - right * n + 0.5
    )  # finite for none and for all correct
    for quantity, values in (("test_accuracy", right), ("test_logit", logit), ("test_loss", loss)):
        yield state.update, unit, place, quantity, values


def _convergence(
    materials: Materials, *, config: GradientsConfig, net: Net, optimiser: str
) -> Numbers:
    """Column `update` is when a unit was looked at; arrivals are with the last of them."""
    own = config.convergence
    network, variables = _nets(materials, net)
    bench = _lenet_bench(network, materials, config, optimiser, own.updates)
    moments = sorted(
        {0, own.updates, *(moment for moment in own.checkpoints if moment < own.updates)}
    )
    state, seen = bench.start(variables), []
    for moment in moments:
        state = bench.advance(state, moment)
        seen.append(grams(network, state.variables, materials))
        if moment in (0, own.updates):
            yield from _looked_at(bench, state)
    yield from _scored(bench, state)
    for place, (unit, alignment) in enumerate(alignments(seen).items(), start=1):
        for moment, values in zip(moments, alignment, strict=True):
            yield moment, unit, place, "cka_with_final", values
        found = [arrival(moments, one, arrived=own.arrived, moved=own.moved) for one in alignment.T]
        yield own.updates, unit, place, "arrival", np.array([one.update for one in found])
        yield own.updates, unit, place, "moved", np.array([one.moved for one in found])
    yield own.updates, None, None, "chance", np.full(materials.replicates, 1 / materials.classes)


def _freezing(
    materials: Materials, *, config: GradientsConfig, net: Net, optimiser: str
) -> Numbers:
    """Column `update` is when the unit was frozen (without a unit: never); scores are those at the end."""
    own = config.freezing
    network, variables = _nets(materials, net)
    bench = _lenet_bench(network, materials, config, optimiser, own.updates)
    state = bench.start(variables)
    for moment in sorted(set(own.at)):
        state = bench.advance(state, moment)
        for place, unit in enumerate(network.weighted, start=1):
            frozen = _lenet_bench(network, materials, config, optimiser, own.updates, (unit,))
            end = frozen.advance(frozen.go_on_from(state), own.updates)
            yield from _scored(frozen, replace(end, update=moment), unit, place)
    yield from _scored(bench, bench.advance(state, own.updates))


def _lenet_bench(
    network: Network,
    materials: Materials,
    config: GradientsConfig,
    optimiser: str,
    longest: int,
    frozen: tuple[str, ...] = (),
) -> Bench:
    optim = OptimConfig(kind=cast(Optimiser, optimiser))
    size, rate = config.convergence.batch_size, _rate(config, optimiser)
    return Bench(
        network, materials, optim, rate=rate, batch_size=size, longest=longest, frozen=frozen
    )
