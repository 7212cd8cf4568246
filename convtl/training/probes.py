"""Probes: untrained nets, trained by `Trainer` and measured between its calls.

- Profile: how large the gradient is at each unit (Glorot & Bengio 2010; Hochreiter 1991).
- Convergence: when each unit becomes what it will be, by linear CKA with its final outputs
  (Kornblith et al. 2019).
- Freezing: what it costs to leave one unit as it is from some update on.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from convtl.config.gradients import (
    Activation,
    ConvergenceConfig,
    FreezingConfig,
    GradientsConfig,
    Optimiser,
)
from convtl.config.roles import dump
from convtl.config.training import OptimConfig, ScheduleConfig
from convtl.data.domains import Domain
from convtl.data.inputs import batch_indices, standardise
from convtl.data.subsets import draw_target, relabel
from convtl.errors import UserError
from convtl.keys import key
from convtl.models.lenet import LeNet5Config
from convtl.models.network import Network, Variables
from convtl.models.plain import PlainConfig
from convtl.models.registry import build_network
from convtl.training.devices import Layout, devices
from convtl.training.loop import Trainer
from convtl.training.runs import Callback, Recipe, Run, RunResult, RunState, TrainState
from convtl.training.unit_measures import (
    alignments,
    arrival,
    gradient_profile,
    grams,
    relative_gradient,
    score,
)
from convtl.transfer.plan import Phase, Plan

Net = LeNet5Config | PlainConfig
Number = tuple[int, str | None, int | None, str, np.ndarray]
"""(update, unit, position, quantity, one number a replicate); positions count weighted units from 1."""

_STEPS_PER_CALL = 100


@dataclass(frozen=True, eq=False)
class ProbeImages:
    """Images (replicates, n, h, w, c), standardised, and labels (replicates, n).

    Attributes:
      train: what nets are trained on; in rounds of one image a class.
      probe: held-out images on which gradients and representations are measured.
      test: images that are used for accuracies only.
    """

    seed: int
    classes: int
    train: tuple[np.ndarray, np.ndarray]
    probe: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]

    @property
    def replicates(self) -> int:
        return len(self.train[0])


def draw_images(
    domain: Domain, config: GradientsConfig, seed: int, classes: int | None
) -> ProbeImages:
    """Draw classes and images for every replicate, as a target's are drawn.

    Raises:
      UserError: a class has too few images.
    """
    names = {"train": "images_per_class", "validation": "probe_per_class", "test": "test_per_class"}
    for kind, name in names.items():
        if (count := getattr(config, name)) > domain.counts[kind]:
            raise UserError(
                f"gradients.{name}: got {count}; accepted: 1 to {domain.counts[kind]}, the {kind} "
                f"images a class of target '{domain.name}'"
            )
    drawn = []
    for replicate in range(config.replicates):
        draw = draw_target(
            domain,
            seed=seed,
            replicate=replicate,
            classes=classes,
            n_validation=config.probe_per_class,
            n_test=config.test_per_class,
        )
        train = draw.train.T.reshape(-1)[: config.images_per_class * len(draw.classes)]
        pairs = []
        for kind, positions in zip(names, (train, draw.validation, draw.test), strict=True):
            split = domain.split(kind)
            labels = relabel(split.labels[positions], draw.classes)
            pairs.append((standardise(split.images[positions]), labels))
        drawn.append(pairs)
    stacked: Any = [map(np.stack, zip(*pairs, strict=True)) for pairs in zip(*drawn, strict=True)]
    return ProbeImages(seed, len(draw.classes), *map(tuple, stacked))


# --- training and measuring all replicates ------------------------------------------------


class Replicates:
    """Untrained nets, one for each replicate, and their training at one rate.

    Nets that differ in their initialiser only share programs.

    Attributes:
      variables: as drawn, NumPy, the replicates as first axis; the head too is drawn, never zero.
    """

    def __init__(
        self, images: ProbeImages, net: Net, optimiser: Optimiser, rate: float, batch_size: int
    ) -> None:
        self.images, self._rate, self._batch_size = images, rate, batch_size
        self._optim = OptimConfig(kind=optimiser)
        shape, alike = images.train[0].shape[2:], replace(net, initialiser="lecun_normal")
        self.network = build_network(alike, shape, images.classes)
        numbers = range(images.replicates)
        keys = jnp.stack([key(images.seed, "probe-init", number) for number in numbers])
        drawn = build_network(net, shape, images.classes)
        # Operation by operation, each compiled once for all units of a shape: a deep chain takes
        # longer to compile.
        self.variables: Variables = jax.tree.map(np.asarray, jax.vmap(drawn.init)(keys))

    def train(
        self,
        last: int,
        callback: Callback | None = None,
        pauses: Sequence[int] = (),
        frozen: str | None = None,
        since: int = 0,
        states: Sequence[RunState] | None = None,
    ) -> Variables:
        """Variables of all replicates after `last` updates.

        Args:
          callback, pauses: see `Trainer.train`.
          frozen: unit that is not trained from update `since` on.
          states: where the replicates continue; None starts from `variables`.
        """
        every = tuple((unit, 1.0) for unit in self.network.weighted)
        rest = tuple((unit, factor) for unit, factor in every if unit != frozen)
        phases = (Phase(0, since, every), Phase(since, last, rest))
        layout = replicate_layout(self.images.replicates)
        recipe = Recipe(
            network=self.network,
            start=0,
            plan=Plan(tuple(phase for phase in phases if phase.first < phase.stop), 0),
            optim=self._optim,
            schedule=ScheduleConfig(kind="constant"),
            batch_size=self._batch_size,
            runs_per_device=self.images.replicates // len(layout.devices),
            steps_per_call=_STEPS_PER_CALL,
            vectorised=True,  # the last bits of earlier tables
        )
        runs = [
            Run(
                jax.tree.map(lambda leaf, at=number: leaf[at], self.variables),
                self._rate,
                partial(self._batches, number),
                state=None if states is None else states[number],
            )
            for number in range(self.images.replicates)
        ]
        return _stacked(_trainer(recipe, layout).train(runs, callback, pauses))

    def observe(
        self, moments: Sequence[int], observer: Callable[[int, Variables], None]
    ) -> Variables:
        """Train up to the last of `moments`, with `observer(update, variables)` at each."""

        def callback(state: TrainState) -> None:
            if state.update in moments:
                observer(state.update, _stacked(state.results()))

        variables, last = self.variables, max(moments)
        if 0 in moments:
            observer(0, variables)
        if last:
            variables = self.train(last, callback, moments)
            observer(last, variables)
        return variables

    def _batches(self, replicate: int, first: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Of a replicate and update alone: all nets see the same images in the same order."""
        images, labels = (array[replicate] for array in self.images.train)
        stream, size = ("probe-order", replicate), self._batch_size
        order = batch_indices(self.images.seed, stream, len(images), size, first, stop)
        return images[order], labels[order]


_trainer = lru_cache(maxsize=4)(Trainer)


def _stacked(results: Sequence[RunResult]) -> Variables:
    trees = [result.variables for result in results]
    return cast(Variables, jax.tree.map(lambda *leaves: np.stack(leaves), *trees))


def replicate_layout(replicates: int) -> Layout:
    """As many devices as share the replicates evenly; last bits depend on their number."""
    local = devices()
    used = max(number for number in range(1, len(local) + 1) if replicates % number == 0)
    return Layout(tuple(local[:used]))


def measure(function: Callable[..., Any], network: Network, *arrays: Any) -> Any:
    """`function(network, ...)` of every replicate, the first axis of all arrays."""
    layout = replicate_layout(len(jax.tree.leaves(arrays)[0]))
    return jax.tree.map(np.asarray, _measuring(function, network, layout)(*arrays))


@lru_cache(maxsize=16)
def _measuring(function: Callable[..., Any], network: Network, layout: Layout) -> Any:
    mapped = jax.vmap(partial(function, network))
    sharded = jax.shard_map(
        mapped, mesh=layout.mesh, in_specs=layout.runs, out_specs=layout.runs, check_vma=False
    )
    return jax.jit(sharded)


# --- the probes -------------------------------------------------------------------------


@dataclass(frozen=True)
class ProbeConfiguration:
    """One configuration of a probe.

    Attributes:
      setting: columns that all its rows share.
      recipe: what its numbers depend on besides.
    """

    setting: dict[str, Any]
    recipe: dict[str, Any]
    numbers: Callable[[ProbeImages], list[Number]]

    def __str__(self) -> str:
        hidden = self.setting["hidden"]
        shown = self.setting | {"hidden": f"{hidden} hidden units" if hidden else None}
        return ", ".join(str(value) for value in shown.values() if value)


def configurations(config: GradientsConfig) -> Iterator[ProbeConfiguration]:
    """All configurations of the probes, in the order of the table."""
    profiles, convergence, freezing = config.profiles, config.convergence, config.freezing

    def configuration(
        probe: str, net: Net, optimiser: Optimiser, recipe: Mapping[str, Any], numbers: Any
    ) -> ProbeConfiguration:
        names = {"model": net.kind, "activation": net.activation, "initialiser": net.initialiser}
        hidden = net.hidden if isinstance(net, PlainConfig) else None
        setting = {"probe": probe, **names, "hidden": hidden, "optimiser": optimiser}
        make = partial(Replicates, net=net, optimiser=optimiser, rate=recipe["rate"])
        batch_size = recipe["batch_size"]
        return ProbeConfiguration(
            setting,
            {**recipe, "model": dump(net)},
            lambda images: numbers(make(images, batch_size=batch_size)),
        )

    for hidden in (*profiles.hidden, None):
        moments = sorted(set(profiles.lenet_updates if hidden is None else profiles.updates))
        recipe = {"batch_size": profiles.batch_size, "rate": profiles.rate, "updates": moments}
        for activation in profiles.activations:
            for initialiser in profiles.initialisers:
                either: dict[str, Any] = {"activation": activation, "initialiser": initialiser}
                net: Net = LeNet5Config(**either)
                if hidden is not None:
                    net = PlainConfig(hidden=hidden, width=profiles.width, **either)
                yield configuration(
                    "profile", net, "sgd", recipe, partial(_profile, moments=moments)
                )
    for activation in convergence.activations:
        for optimiser in convergence.optimisers:
            net = LeNet5Config(activation=activation, initialiser=convergence.initialiser)
            recipe = _without(dump(convergence), "activations", "optimisers", "rates")
            recipe |= {"rate": getattr(convergence.rates, optimiser)}
            yield configuration(
                "convergence", net, optimiser, recipe, partial(_convergence, rule=convergence)
            )
    for pair in freezing.pairs:
        activation, optimiser = cast(tuple[Activation, Optimiser], pair.split("/"))
        net = LeNet5Config(activation=activation, initialiser=convergence.initialiser)
        recipe = _without(dump(freezing), "pairs") | {"batch_size": convergence.batch_size}
        recipe |= {"rate": getattr(convergence.rates, optimiser)}
        yield configuration("freezing", net, optimiser, recipe, partial(_freezing, config=freezing))


def _without(content: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name not in names}


def _profile(nets: Replicates, moments: Sequence[int]) -> list[Number]:
    """Gradient profiles at `moments`, and scores at the last of them."""
    numbers: list[Number] = []
    end = nets.observe(moments, lambda *state: numbers.extend(profile_numbers(nets, *state)))
    return numbers + _scores(nets, end, max(moments))


def _convergence(nets: Replicates, rule: ConvergenceConfig) -> list[Number]:
    """CKA with the final outputs, arrivals, and the first and last profile."""
    last, network, probe = rule.updates, nets.network, nets.images.probe[0]
    moments = sorted({0, last, *(moment for moment in rule.checkpoints if moment < last)})
    products: list[dict[str, np.ndarray]] = []
    numbers: list[Number] = []

    def observer(update: int, variables: Variables) -> None:
        products.append(measure(grams, network, variables, probe))
        if update in (0, last):
            numbers.extend(profile_numbers(nets, update, variables))

    end = nets.observe(moments, observer)
    numbers += _scores(nets, end, last)
    for place, (unit, alignment) in enumerate(alignments(products).items(), start=1):
        for moment, values in zip(moments, alignment, strict=True):
            numbers.append((moment, unit, place, "cka_with_final", values))
        limits = {"arrived": rule.arrived, "moved": rule.moved}
        arrivals = np.transpose([arrival(moments, of_one, **limits) for of_one in alignment.T])
        for quantity, values in zip(("arrival", "moved"), arrivals, strict=True):
            numbers.append((last, unit, place, quantity, values))
    chance = np.full(nets.images.replicates, 1 / nets.images.classes)
    return [*numbers, (last, None, None, "chance", chance)]


def _freezing(nets: Replicates, config: FreezingConfig) -> list[Number]:
    """Final scores by the update from which a unit was frozen (no unit: never)."""
    last, moments = config.updates, sorted(set(config.at))
    states: dict[int, list[RunState]] = {}

    def callback(state: TrainState) -> None:
        if state.update in moments:
            states[state.update] = state.states()

    whole = nets.train(last, callback, moments)
    numbers: list[Number] = []
    for moment in moments:
        for place, unit in enumerate(nets.network.weighted, start=1):
            end = whole
            if moment < last:
                end = nets.train(last, frozen=unit, since=moment, states=states.get(moment))
            numbers += _scores(nets, end, moment, unit, place)
    return numbers + _scores(nets, whole, last)


def _scores(
    nets: Replicates,
    variables: Variables,
    update: int,
    unit: str | None = None,
    place: int | None = None,
) -> list[Number]:
    """Accuracy, logit of accuracy and loss (nats) on the test images."""
    right, loss = measure(score, nets.network, variables, *nets.images.test)
    n = nets.images.test[0].shape[1]
    logit = np.log(right * n + 0.5) - np.log(n - right * n + 0.5)  # finite for none and for all
    values = {"test_accuracy": right, "test_logit": logit, "test_loss": loss}
    return [(update, unit, place, quantity, value) for quantity, value in values.items()]


def profile_numbers(nets: Replicates, update: int, variables: Variables) -> list[Number]:
    """`relative_gradient` of hidden units (R in decades) and `weight_gradient`.

    R is the median over probe images of log10 |dL_i/dh| - log10 |dL_i/dh_last|: a few images of which a ReLU net
    passes nothing on do not change it. It is nan where half of them or more are such, or a net has diverged.
    """
    units = nets.network.weighted
    gradients, weights = measure(gradient_profile, nets.network, variables, *nets.images.probe)
    last = gradients[units[-2]]
    relative = {unit: relative_gradient(gradients[unit], last) for unit in units[:-1]}
    return [
        (update, unit, place, quantity, values[unit])
        for quantity, values in (("relative_gradient", relative), ("weight_gradient", weights))
        for place, unit in enumerate(units, start=1)
        if unit in values
    ]
