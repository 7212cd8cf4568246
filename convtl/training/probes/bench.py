"""Replicates of one network, trained side by side in one program and looked at in between."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from convtl.config.training import OptimConfig
from convtl.data.batches import batch_indices, standardise
from convtl.data.domains import Domain
from convtl.data.subsets import draw_target, relabel
from convtl.errors import UserError
from convtl.keys import key
from convtl.models.network import Network, Variables
from convtl.training.devices import devices
from convtl.training.step import Batch, Step
from convtl.transfer.optim import carry_state
from convtl.transfer.plan import Phase

_EVER = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Materials:
    """Images and labels of all replicates: standardised float32 (replicates, n, h, w, c), int32 (replicates, n).

    Attributes:
      train: what nets learn from; in rounds of one image a class.
      probe: held-out images on which gradients and representations are looked at.
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

    @property
    def image_shape(self) -> tuple[int, ...]:
        return self.train[0].shape[2:]


def draw_materials(
    domain: Domain, *, seed: int, replicates: int, classes: int | None, counts: tuple[int, int, int]
) -> Materials:
    """Draws letters and images for every replicate, as a target's are drawn.

    Args:
      counts: training, probe and test images a class.

    Raises:
      UserError: a class has too few images.
    """
    n_train, n_probe, n_test = counts
    asked = (
        ("images", n_train, "train"),
        ("probe", n_probe, "validation"),
        ("test", n_test, "test"),
    )
    for name, count, kind in asked:
        if count > domain.counts[kind]:
            raise UserError(
                f"gradients.{name}_per_class: got {count}; accepted: 1 to {domain.counts[kind]}, the {kind} "
                f"images a class of target '{domain.name}'"
            )
    parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {
        "train": [],
        "validation": [],
        "test": [],
    }
    for replicate in range(replicates):
        draw = draw_target(
            domain,
            seed=seed,
            replicate=replicate,
            classes=classes,
            n_validation=n_probe,
            n_test=n_test,
        )
        chosen = {
            "train": draw.train.T.reshape(-1)[: n_train * len(draw.classes)],
            "validation": draw.validation,
            "test": draw.test,
        }
        for name, positions in chosen.items():
            split = domain.split(name)
            labels = relabel(split.labels[positions], draw.classes)
            parts[name].append((standardise(split.images[positions]), labels))
    train, probe, test = (
        (np.stack([images for images, _ in own]), np.stack([labels for _, labels in own]))
        for own in parts.values()
    )
    return Materials(seed, len(draw.classes), train, probe, test)


@dataclass(frozen=True, eq=False)
class State:
    """All replicates after so many updates; every leaf has the replicates as its first axis."""

    variables: Variables
    memory: Any
    update: int


class Bench:
    """Trains all replicates of one network at one constant rate, any stretch of updates at a time.

    Args:
      batch_size: images an update; which ones is a function of the replicate and the update alone, so all
        benches with the same materials show the same images in the same order.
      longest: number of the last update that will be asked for.
      frozen: names of units that are not trained.
    """

    def __init__(
        self,
        network: Network,
        materials: Materials,
        optim: OptimConfig,
        *,
        rate: float,
        batch_size: int,
        longest: int,
        frozen: Sequence[str] = (),
    ) -> None:
        self.network, self.materials, self.rate = network, materials, rate
        trained = tuple((unit, 1.0) for unit in network.weighted if unit not in frozen)
        self._step = Step(network, 0, Phase(0, _EVER, trained), optim)
        images, labels = materials.train
        n, seed = images.shape[1], materials.seed
        order = [
            batch_indices(seed, ("probe-order", replicate), n, batch_size, 0, longest)
            for replicate in range(materials.replicates)
        ]
        self._data = spread((images, labels, np.stack(order)))

    def start(self, variables: Variables) -> State:
        """The state before the first update of given nets (see `fresh`)."""
        fresh = over_replicates(Step.init, self._step)
        return State(variables, fresh(variables), 0)

    def go_on_from(self, other: State) -> State:
        """The state of another bench, taken over: units that stay trained keep their optimiser's memory."""
        fresh = over_replicates(Step.init, self._step)(other.variables)
        return State(
            other.variables, carry_state(other.memory, fresh, self._step.phase), other.update
        )

    def advance(self, state: State, until: int) -> State:
        """Trains up to, and not including, update number `until`."""
        program = over_replicates(_advance, self._step, shared=3)
        bounds = (np.int32(state.update), np.int32(until), np.float32(self.rate))
        variables, memory = program(*bounds, state.variables, state.memory, *self._data)
        return State(variables, memory, until)


def fresh(network: Network, materials: Materials) -> Variables:
    """Untrained nets, one for each replicate; the head is drawn by the model's own initialiser, never zero.

    Operation by operation, each compiled once for all units of a shape: as one program a deep chain takes
    longer to compile than to train.
    """
    drawn = jnp.stack(
        [key(materials.seed, "probe-init", number) for number in range(materials.replicates)]
    )
    return spread(jax.vmap(network.init)(drawn))


def accuracies(
    network: Network, variables: Variables, images: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy and mean cross-entropy (nats) of every replicate: two arrays (replicates,)."""
    program = over_replicates(_score, network)
    right, loss = program(variables, spread(images), spread(labels))
    return np.asarray(right), np.asarray(loss)


# --- programs over replicates -------------------------------------------------------------------------


def over_replicates(
    function: Callable[..., Any], *static: Any, shared: int = 0
) -> Callable[..., Any]:
    """`function(*static, ...)` for all replicates at once, spread over the devices, compiled once.

    Args:
      static: hashable arguments that shape the program.
      shared: how many of the first other arguments are one for all replicates.
    """
    return _compiled(function, static, shared)


@lru_cache(maxsize=256)
def _compiled(
    function: Callable[..., Any], static: tuple[Any, ...], shared: int
) -> Callable[..., Any]:
    programs: dict[tuple[int, int], Callable[..., Any]] = {}

    def call(*arguments: Any) -> Any:
        replicates = len(jax.tree.leaves(arguments[shared:])[0])
        known = (replicates, len(arguments))
        if known not in programs:
            programs[known] = _program(
                partial(function, *static), replicates, len(arguments), shared
            )
        return programs[known](*arguments)

    return call


def _program(
    function: Callable[..., Any], replicates: int, count: int, shared: int
) -> Callable[..., Any]:
    own = PartitionSpec("replicates")
    axes = tuple(None if place < shared else 0 for place in range(count))
    specs = tuple(PartitionSpec() if axis is None else own for axis in axes)
    mapped = jax.vmap(function, in_axes=axes)
    return jax.jit(
        jax.shard_map(
            mapped, mesh=_mesh(replicates), in_specs=specs, out_specs=own, check_vma=False
        )
    )


def spread(tree: Any) -> Any:
    """Arrays whose first axis are the replicates, on the devices that train them."""
    replicates = len(jax.tree.leaves(tree)[0])
    return jax.device_put(tree, NamedSharding(_mesh(replicates), PartitionSpec("replicates")))


def _mesh(replicates: int) -> Mesh:
    """As many devices as share the replicates evenly."""
    there = devices()
    used = max(number for number in range(1, len(there) + 1) if replicates % number == 0)
    return Mesh(np.asarray(there[:used]), ("replicates",))


# --- one replicate ------------------------------------------------------------------------------------


def _advance(
    step: Step,
    first: Int[Array, ""],
    until: Int[Array, ""],
    rate: Float[Array, ""],
    variables: Variables,
    memory: Any,
    images: Float[Array, "n ..."],
    labels: Int[Array, "n"],
    order: Int[Array, "updates batch"],
) -> tuple[Variables, Any]:
    """A loop whose bounds are arguments: stretches of any length share one program."""

    def body(number: Array, carry: tuple[Variables, Any]) -> tuple[Variables, Any]:
        chosen = order[number]
        variables, memory, _ = step(*carry, rate, Batch(images[chosen], labels[chosen]))
        return variables, memory

    return jax.lax.fori_loop(first, until, body, (variables, memory))


def _score(
    network: Network, variables: Variables, images: Float[Array, "n ..."], labels: Int[Array, "n"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    logits, _, _ = network.apply(variables, images)
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
    return (logits.argmax(-1) == labels).mean(), -chosen.mean()
