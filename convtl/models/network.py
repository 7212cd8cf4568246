"""A network is an ordered chain of named units; everything else in convtl hangs on that.

Freezing, grafting, feature caching, cost and feature maps are slices of the chain, written once and
the same for every model. A residual block is one unit.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import InvalidRngError
from jaxtyping import Array, Float

from convtl.models.lowering import inferred_at_a_time, plain_forms

Variables = dict[str, dict[str, Any]]
"""Unit name -> its Flax collections (`params`, and `batch_stats` where there are any)."""


@dataclass(frozen=True)
class Network:
    """An ordered chain of units.

    Attributes:
      units: (name, module) pairs in the order of the forward pass; a module is called as
        `module(x, train=bool)` and maps a batch to a batch.
      input_shape: height, width and channels of one image.
      plain: compute with XLA\'s own convolutions on every platform, as cost is counted.
    """

    units: tuple[tuple[str, nn.Module], ...]
    input_shape: tuple[int, ...]
    plain: bool = False

    def __post_init__(self) -> None:
        names = [name for name, _ in self.units]
        if len(set(names)) != len(names):
            raise ValueError(f"unit names repeat: {names}")

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.units)

    @property
    def head(self) -> str:
        """The last unit: the classifier."""
        return self.names[-1]

    @cached_property
    def weighted(self) -> tuple[str, ...]:
        """Names of the units that have weights, in order; only these count for depth."""
        shapes = self.abstract_variables
        return tuple(name for name in self.names if jax.tree.leaves(shapes[name].get("params", {})))

    @cached_property
    def abstract_variables(self) -> Variables:
        """Shapes and dtypes of all variables; computes nothing."""
        return jax.eval_shape(self.init, jax.random.key(0))

    def inferred_at_a_time(self, rows: int, start: int = 0) -> int:
        """How many of a batch of `rows` go together through units from `start` on; never a matter of the head."""
        return inferred_at_a_time(
            rows, self.shape_before(start), self.input_shape, self._below_head
        )

    @cached_property
    def _below_head(self) -> int:
        """How many weights the units below the head have."""
        return sum(weight_count(self.abstract_variables[name]) for name in self.names[:-1])

    @cached_property
    def output_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of one image's output after each unit."""
        x = jax.ShapeDtypeStruct((1, *self.input_shape), jnp.float32)
        shapes = []
        for index in range(len(self.units)):
            x, _, _ = jax.eval_shape(
                lambda v, x, i=index: self.apply(v, x, start=i, stop=i + 1),
                self.abstract_variables,
                x,
            )
            shapes.append(tuple(x.shape[1:]))
        return tuple(shapes)

    def shape_before(self, index: int) -> tuple[int, ...]:
        """Shape of one image's input to unit number `index`."""
        return self.input_shape if index == 0 else self.output_shapes[index - 1]

    def has_maps(self, start: int) -> bool:
        """Whether any unit from `start` on makes maps, and not vectors."""
        return any(len(shape) == 3 for shape in self.output_shapes[start:])

    def index(self, name: str) -> int:
        return self.names.index(name)

    def init(self, key: jax.Array) -> Variables:
        """Draws fresh variables; a unit's key is folded from its index, so units draw independently."""
        x = jnp.zeros((1, *self.input_shape), jnp.float32)
        variables: Variables = {}
        for index, (name, module) in enumerate(self.units):
            x, drawn = module.init_with_output(jax.random.fold_in(key, index), x, train=False)
            variables[name] = dict(drawn)
        return variables

    def apply(
        self,
        variables: Mapping[str, Mapping[str, Any]],
        x: Float[Array, "batch ..."],
        *,
        start: int = 0,
        stop: int | None = None,
        train: Collection[str] = frozenset(),
        held: Collection[str] = frozenset(),
        rngs: jax.Array | None = None,
        taps: Collection[str] = (),
    ) -> tuple[Float[Array, "batch ..."], Variables, dict[str, Array]]:
        """Runs units `start` up to, not including, `stop`.

        A unit that is not named in `train` runs in inference mode and leaves its statistics as they are.

        Args:
          variables: at least those of the units in the slice.
          x: what enters unit `start`: (batch, ...).
          train: names of the units in training mode.
          held: names of units whose batch normalisation uses its running statistics, and leaves them as they
            are, also in training mode; dropout in them is not concerned.
          rngs: key for units that draw (dropout); each unit folds in its index.
          taps: names of units whose output is wanted.

        Returns:
          The slice's output; the slice's variables with the statistics of trained units updated; the
          tapped outputs by name.

        Raises:
          ValueError: `train`, `held` or `taps` names a unit that the network does not have.
        """
        if unknown := {*train, *held, *taps} - set(self.names):
            raise ValueError(f"no such units: {sorted(unknown)}; there are {', '.join(self.names)}")
        stop = len(self.units) if stop is None else stop
        updated: Variables = {}
        tapped: dict[str, Array] = {}
        for index in range(start, stop):
            name, module = self.units[index]
            own = dict(variables[name])
            keys = None if rngs is None else {"dropout": jax.random.fold_in(rngs, index)}
            kept = {"params", "batch_stats"} if name in held else {"params"}
            mutable = [kind for kind in own if kind not in kept] if name in train else False
            hold = nn.intercept_methods(_with_running_statistics) if name in held else nullcontext()
            with hold, plain_forms() if self.plain else nullcontext():
                if mutable:
                    x, changed = module.apply(own, x, train=True, rngs=keys, mutable=mutable)
                    own |= dict(changed)
                else:
                    x = jnp.asarray(module.apply(own, x, train=name in train, rngs=keys))
            updated[name] = own
            if name in taps:
                tapped[name] = x
        return x, updated, tapped

    def infer(
        self,
        variables: Mapping[str, Mapping[str, Any]],
        x: Float[Array, "batch ..."],
        *,
        start: int = 0,
        stop: int | None = None,
    ) -> Float[Array, "batch ..."]:
        """What units `start` up to `stop` make of `x` in inference mode, a few images at a time where that is faster.

        Args: as those of `apply`.
        """
        stop = len(self.units) if stop is None else stop
        if start == stop:
            return x
        few = self.inferred_at_a_time(len(x), start)
        return in_pieces(
            lambda some: self.apply(variables, some, start=start, stop=stop)[0], x, few
        )

    def mixes_batch(self, train: Collection[str], held: Collection[str] = ()) -> bool:
        """Whether in training mode a batch means more than its images one by one: for statistics, or for draws.

        Args: as those of `apply`.
        """
        own = self.abstract_variables
        return any(
            ("batch_stats" in own[name] and name not in held) or self._draws(name) for name in train
        )

    def _draws(self, name: str) -> bool:
        index = self.index(name)
        x = jax.ShapeDtypeStruct((2, *self.shape_before(index)), jnp.float32)
        own = {name: self.abstract_variables[name]}
        try:
            jax.eval_shape(partial(self.apply, start=index, stop=index + 1, train=(name,)), own, x)
        except InvalidRngError:  # there is no key to draw with
            return True
        return False


def in_pieces(
    through: Callable[[Array], Array], x: Float[Array, "batch ..."], few: int
) -> Float[Array, "batch ..."]:
    """What `through` makes of a batch in which images do not meet, `few` of them at a time.

    Args:
      few: a divisor of the batch's size; see `Network.inferred_at_a_time`.
    """
    if few == len(x):
        return through(x)
    found = jax.lax.map(through, x.reshape(-1, few, *x.shape[1:]))
    return found.reshape(-1, *found.shape[2:])


def _with_running_statistics(
    method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: Any
) -> Any:
    """Flax calls this for every method of a unit's layers: batch normalisation is told not to look at the batch."""
    layer = context.module
    if not isinstance(layer, nn.BatchNorm) or context.method_name != "__call__":
        return method(*args, **kwargs)
    # What is said at the call and what is said when the layer is made exclude each other.
    said = layer.use_running_average
    object.__setattr__(layer, "use_running_average", None)
    try:
        return method(*args[:1], **{**kwargs, "use_running_average": True})
    finally:
        object.__setattr__(layer, "use_running_average", said)


def weight_count(variables: Mapping[str, Any]) -> int:
    """Number of weights (the leaves of `params`) in one unit's variables."""
    return sum(int(leaf.size) for leaf in jax.tree.leaves(variables.get("params", {})))
