"""Networks as ordered chains of named units.

Freezing, grafting, feature caching, cost and feature maps are slices of the chain. A residual block is one unit.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import InvalidRngError
from jax.extend import core as jex_core
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
    """

    units: tuple[tuple[str, nn.Module], ...]
    input_shape: tuple[int, ...]

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

    @cached_property
    def output_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of one image's output after each unit."""
        x = jax.ShapeDtypeStruct((1, *self.input_shape), jnp.float32)
        apply = partial(self.apply, taps=self.names)
        _, _, outputs = jax.eval_shape(apply, self.abstract_variables, x)
        return tuple(tuple(outputs[name].shape[1:]) for name in self.names)

    def shape_before(self, index: int) -> tuple[int, ...]:
        """Shape of one image's input to unit number `index`."""
        return self.input_shape if index == 0 else self.output_shapes[index - 1]

    def has_maps(self, start: int) -> bool:
        """Return whether any unit from `start` on outputs maps, not vectors."""
        return any(len(shape) == 3 for shape in self.output_shapes[start:])

    def index(self, name: str) -> int:
        return self.names.index(name)

    def init(self, key: jax.Array) -> Variables:
        """Draw fresh variables of each unit, by the key folded with its index."""
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
        held: bool = False,
        rngs: jax.Array | None = None,
        taps: Collection[str] = (),
    ) -> tuple[Float[Array, "batch ..."], Variables, dict[str, Array]]:
        """Run units `start` up to, not including, `stop`.

        Args:
          train: names of the units in training mode; others leave their statistics as they are.
          held: normalise batches by running statistics in training mode too, and leave them as they are.
          rngs: key for units that draw (dropout); each unit folds in its index.
          taps: names of units whose output is returned as well.

        Returns:
          The slice's output; the slice's variables with the statistics of trained units updated; the
          tapped outputs by name.

        Raises:
          ValueError: `train` or `taps` names a unit that the network does not have.
        """
        if unknown := {*train, *taps} - set(self.names):
            raise ValueError(f"no such units: {sorted(unknown)}; there are {', '.join(self.names)}")
        updated: Variables = {}
        outputs: dict[str, Array] = {}
        fixed = {"params", "batch_stats"} if held else {"params"}
        hold = nn.intercept_methods(_with_running_statistics) if held else nullcontext()
        with hold:
            for index in range(start, len(self.units) if stop is None else stop):
                name, module = self.units[index]
                before, trained = dict(variables[name]), name in train
                keys = None if rngs is None else {"dropout": jax.random.fold_in(rngs, index)}
                mutable = [kind for kind in before if trained and kind not in fixed]
                x, changed = module.apply(before, x, train=trained, rngs=keys, mutable=mutable)
                updated[name] = before | dict(changed)
                if name in taps:
                    outputs[name] = x
        return x, updated, outputs

    def infer(
        self,
        variables: Mapping[str, Mapping[str, Any]],
        x: Float[Array, "batch ..."],
        *,
        start: int = 0,
        stop: int | None = None,
    ) -> Float[Array, "batch ..."]:
        """Output of units `start` to `stop` - 1 in inference mode, in pieces if faster."""
        stop = len(self.units) if stop is None else stop
        if start == stop:
            return x
        apply = partial(self.apply, variables, start=start, stop=stop)
        return in_pieces(lambda piece: apply(piece)[0], x, self.inferred_at_a_time(len(x), start))

    def inferred_at_a_time(self, rows: int, start: int = 0) -> int:
        """Images of a batch that pass units from `start` on together, whatever the head."""
        weights = sum(weight_count(self.abstract_variables[name]) for name in self.names[:-1])
        return inferred_at_a_time(rows, self.shape_before(start), self.input_shape, weights)

    def mixes_batch(self, train: Collection[str], *, held: bool = False) -> bool:
        """Return whether training outputs depend on the batch, by statistics or draws."""
        variables = self.abstract_variables
        if not held and any("batch_stats" in variables[name] for name in train):
            return True
        start = min(map(self.index, train), default=len(self.units))
        x = jax.ShapeDtypeStruct((2, *self.shape_before(start)), jnp.float32)
        try:
            jax.eval_shape(partial(self.apply, start=start, train=train), variables, x)
        except InvalidRngError:  # no key was given
            return True
        return False


def in_pieces(
    function: Callable[[Array], Array], x: Float[Array, "batch ..."], size: int
) -> Float[Array, "batch ..."]:
    """Apply a function to a batch in pieces of `size` images, which divides it."""
    if size == len(x):
        return function(x)
    outputs = jax.lax.map(function, x.reshape(-1, size, *x.shape[1:]))
    return outputs.reshape(-1, *outputs.shape[2:])


def _with_running_statistics(
    call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: Any
) -> Any:
    """Flax interceptor: batch normalisation by a clone with running statistics."""
    layer = context.module
    if not isinstance(layer, nn.BatchNorm) or layer.use_running_average:
        return call(*args, **kwargs)
    clone = layer.clone(parent=layer.scope, use_running_average=True)
    return clone(*args[:1], mask=kwargs.get("mask"))


def weight_count(variables: Mapping[str, Any]) -> int:
    """Number of weights (the leaves of `params`) in one unit's variables."""
    return sum(int(leaf.size) for leaf in jax.tree.leaves(variables.get("params", {})))


# --- cost ----------------------------------------------------------------------------------


@lru_cache(32)  # tracing takes long, and plans are many more than nets
def multiply_adds(network: Network) -> dict[str, int]:
    """Unit name -> multiply-adds of its forward pass on one image.

    Counted in the program with XLA's own convolutions: other forms do more arithmetic than the algorithm.
    """
    counts = {}
    for index, name in enumerate(network.names):
        x = jax.ShapeDtypeStruct((1, *network.shape_before(index)), jnp.float32)
        unit = partial(network.apply, start=index, stop=index + 1)
        with plain_forms():
            traced = jax.make_jaxpr(unit)(network.abstract_variables, x)
        counts[name] = sum(map(_of_equation, _equations(traced.jaxpr)))
    return counts


def _equations(jaxpr: Any) -> Iterator[Any]:
    """Equations of a program and of all programs inside it."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(list(equation.params.values())):
            if isinstance(value, jex_core.ClosedJaxpr | jex_core.Jaxpr):
                yield from _equations(getattr(value, "jaxpr", value))


def _of_equation(equation: Any) -> int:
    """Multiply-adds: outputs times the products that make one of them."""
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        per_output = np.prod([equation.invars[0].aval.shape[axis] for axis in contracted])
    elif equation.primitive.name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        out_axis = equation.params["dimension_numbers"].rhs_spec[0]
        per_output = np.prod(kernel) // kernel[out_axis]
    else:
        return 0
    return int(np.prod(equation.outvars[0].aval.shape) * per_output)
