"""Batch normalisation with a target's own statistics (AdaBN, Li et al. 2016)."""

from collections.abc import Callable, Collection, Iterator
from functools import partial, reduce
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from convtl.models.network import Network, Variables
from convtl.training.features import Images, chunks, rows_at_once, through_unit

_MAX_BYTES = 2**29
"""Outputs of a unit on all images up to which they are held; larger ones are computed again. Changes no bit."""

_Path = tuple[str, ...]
_Moments = tuple[Float[Array, "channels"], Float[Array, "channels"], Float[Array, ""]]
"""Mean, sum of squared distances from it, and number of values."""
_Chunks = Callable[[], Iterator[tuple[jax.Array, np.ndarray]]]
"""-> what enters a unit, and which rows of it are images, chunk by chunk."""


def adapt_statistics(
    network: Network, start: int, trained: Collection[str], variables: Variables, inputs: Images
) -> Variables:
    """Variables whose trained units have the running statistics of `inputs`.

    Normalisations are taken in the order of the forward pass, within units too, so that each is measured on what
    those before it give with their new statistics. Mean and variance (biased, as Flax normalises) are exact: over
    all images and places at once, no moving average. Other units, and everything else, are left as they are; so
    is a net without batch normalisation. Computed in float32, in inference mode.

    Args:
      start: index of the unit that `inputs` enter.
      trained: names of the units to adapt: those that are trained in any phase.
      variables: at least those of the units from `start` on.
      inputs: all training images of a trial, or their features: (n, ...) float32, or an array-like.

    Raises:
      ValueError: no images.
    """
    if not len(inputs):
        raise ValueError("no images")
    adapted, base = dict(variables), start
    chosen = [
        index
        for index, name in enumerate(network.names)
        if index >= start and name in trained and "batch_stats" in variables[name]
    ]
    for index in range(start, max(chosen, default=start - 1) + 1):
        if index in chosen:
            name, module = network.units[index]
            entering = partial(_chunks, network, base, index, adapted, inputs)
            adapted[name] = _adapted(module, adapted[name], entering)
        size = 4 * len(inputs) * int(np.prod(network.shape_before(index + 1)))
        if index < chosen[-1] and size <= _MAX_BYTES:
            outputs = _chunks(network, base, index + 1, adapted, inputs)
            inputs, base = np.concatenate([np.asarray(x)[real] for x, real in outputs]), index + 1
    return adapted


def _chunks(
    network: Network, base: int, stop: int, variables: Variables, inputs: Images
) -> Iterator[tuple[jax.Array, Bool[np.ndarray, "chunk"]]]:
    """Input of unit `stop`, from that of unit `base`, and which rows are images."""
    at_once = rows_at_once(network.input_shape)
    for _, piece, count in chunks(inputs, at_once):
        x = jnp.asarray(piece, jnp.float32)
        for index in range(base, stop):
            name, module = network.units[index]
            x = through_unit(module, variables[name], x, network.inferred_at_a_time(at_once, index))
        yield x, np.arange(at_once) < count


def _adapted(module: nn.Module, unit: dict[str, Any], entering: _Chunks) -> dict[str, Any]:
    """One unit's variables with new statistics, one normalisation after the other."""
    paths: list[_Path] = []
    observe = partial(_observe, module, lambda path, _: paths.append(path))
    jax.eval_shape(observe, unit, next(entering())[0])
    for place, path in enumerate(paths):
        by_chunk = (_moments(module, unit, x, real)[place] for x, real in entering())
        in_float64 = (tuple(np.asarray(m, np.float64) for m in moments) for moments in by_chunk)
        mean, squares, count = reduce(_joined, in_float64)
        statistics = {"mean": mean.astype(np.float32), "var": (squares / count).astype(np.float32)}
        unit = unit | {"batch_stats": _replaced(unit["batch_stats"], path, statistics)}
    return unit


def _joined(one: tuple[Any, ...], other: tuple[Any, ...]) -> tuple[Any, ...]:
    """Moments of two sets of values taken as one (Chan, Golub & LeVeque 1983)."""
    both, step = one[2] + other[2], other[0] - one[0]
    squares = one[1] + other[1] + step**2 * one[2] * other[2] / both
    return one[0] + step * other[2] / both, squares, both


def _replaced(tree: Any, path: _Path, new: Any) -> Any:
    if not path:
        return new
    return {**tree, path[0]: _replaced(tree[path[0]], path[1:], new)}


@partial(jax.jit, static_argnums=0)
def _moments(module: nn.Module, unit: Any, x: jax.Array, real: jax.Array) -> list[_Moments]:
    """Of what enters each normalisation, over the rows that are images."""
    moments: list[_Moments] = []
    _observe(module, lambda _, entering: moments.append(_of_images(entering, real)), unit, x)
    return moments


def _of_images(x: Float[Array, "chunk ... channels"], real: Bool[Array, "chunk"]) -> _Moments:
    axes = tuple(range(x.ndim - 1))
    weights = real.reshape(-1, *[1] * (x.ndim - 1)).astype(jnp.float32)
    count = weights.sum() * np.prod(x.shape[1:-1], dtype=np.float32)
    mean = (x * weights).sum(axes) / count
    return mean, (jnp.square(x - mean) * weights).sum(axes), count


def _observe(
    module: nn.Module, observer: Callable[[_Path, jax.Array], None], unit: Any, x: jax.Array
) -> Any:
    """Apply a unit; `observer` takes path and input of each normalisation."""

    def intercept(
        method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: Any
    ) -> Any:
        if isinstance(context.module, nn.BatchNorm) and context.method_name == "__call__":
            observer(context.module.path, args[0])
        return method(*args, **kwargs)

    with nn.intercept_methods(intercept):
        return module.apply(unit, x, train=False)
