"""Batch normalisation that is given a target's statistics before it is fine-tuned (AdaBN, Li et al. 2016)."""

from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from convtl.models.network import Network, Variables
from convtl.training.features import Images, chunks, rows_at_once, through_unit

_BYTES_KEPT = 2**29
"""Outputs of a unit on all images up to which they are kept; larger ones are computed again. Changes no bit."""

_Moments = tuple[Float[Array, "channels"], Float[Array, "channels"], Float[Array, ""]]
"""Mean, sum of squared distances from it, and number of values."""


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
    chosen = [
        index
        for index in range(start, len(network.units))
        if network.names[index] in trained and "batch_stats" in variables[network.names[index]]
    ]
    adapted = dict(variables)
    if not chosen:
        return adapted
    known, base = inputs, start
    for index in range(start, chosen[-1] + 1):
        chunks = partial(_chunks, network, base, index, adapted, known)
        if index in chosen:
            name = network.names[index]
            adapted[name] = _adapted(network.units[index][1], adapted[name], chunks)
        size = 4 * len(inputs) * int(np.prod(network.shape_before(index + 1)))
        if index < chosen[-1] and size <= _BYTES_KEPT:
            after = _chunks(network, base, index + 1, adapted, known)
            known, base = np.concatenate([np.asarray(x)[here] for x, here in after]), index + 1
    return adapted


def _chunks(
    network: Network, base: int, stop: int, variables: Variables, known: Images
) -> Iterator[tuple[jax.Array, Bool[np.ndarray, "chunk"]]]:
    """What enters unit `stop`, from what enters unit `base`, and which rows of it are images."""
    at_once = rows_at_once(network.input_shape)
    for _, piece, count in chunks(known, at_once):
        here = np.arange(at_once) < count
        x = jnp.asarray(piece, jnp.float32)
        for index in range(base, stop):
            name, module = network.units[index]
            x = through_unit(module, variables[name], x, network.inferred_at_a_time(at_once, index))
        yield x, here


def _adapted(
    module: nn.Module,
    own: dict[str, Any],
    chunks: Callable[[], Iterator[tuple[jax.Array, np.ndarray]]],
) -> dict[str, Any]:
    """One unit's variables with new statistics, one normalisation after the other."""
    for place, path in enumerate(_paths(module, own, next(chunks())[0])):
        total: tuple[Any, Any, Any] | None = None
        for x, here in chunks():
            moments = _moments(module, own, x, here)[place]
            total = _together(total, tuple(np.asarray(part, np.float64) for part in moments))
        assert total is not None
        mean, squares, count = total
        new = {"mean": mean.astype(np.float32), "var": (squares / count).astype(np.float32)}
        own = own | {"batch_stats": _replaced(own["batch_stats"], path, new)}
    return own


def _together(one: tuple[Any, Any, Any] | None, other: tuple[Any, ...]) -> tuple[Any, Any, Any]:
    """Moments of two sets of values taken as one (Chan, Golub & LeVeque 1983)."""
    mean, squares, count = other
    if one is None:
        return mean, squares, count
    both, step = one[2] + count, mean - one[0]
    return one[0] + step * count / both, one[1] + squares + step**2 * one[2] * count / both, both


def _replaced(tree: Any, path: tuple[str, ...], new: Any) -> Any:
    if not path:
        return new
    return {**tree, path[0]: _replaced(tree[path[0]], path[1:], new)}


def _paths(module: nn.Module, own: Any, x: jax.Array) -> list[tuple[str, ...]]:
    """Path in the unit of every batch normalisation, in the order of calls."""
    paths: list[tuple[str, ...]] = []
    jax.eval_shape(partial(_listened, module, lambda path, _: paths.append(path)), own, x)
    return paths


@partial(jax.jit, static_argnums=0)
def _moments(module: nn.Module, own: Any, x: jax.Array, here: jax.Array) -> list[_Moments]:
    """Of what enters each of them, over the rows that are images."""
    found: list[_Moments] = []
    _listened(module, lambda _, entering: found.append(_of_images(entering, here)), own, x)
    return found


def _of_images(x: Float[Array, "chunk ... channels"], here: Bool[Array, "chunk"]) -> _Moments:
    axes = tuple(range(x.ndim - 1))
    weights = here.reshape(-1, *[1] * (x.ndim - 1)).astype(jnp.float32)
    count = weights.sum() * np.prod(x.shape[1:-1], dtype=np.float32)
    mean = (x * weights).sum(axes) / count
    return mean, (jnp.square(x - mean) * weights).sum(axes), count


def _listened(
    module: nn.Module, heard: Callable[[tuple[str, ...], jax.Array], None], own: Any, x: jax.Array
) -> Any:
    """A unit in inference mode; `heard` is told the path of each batch normalisation and what enters it."""

    def listen(
        method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: Any
    ) -> Any:
        if isinstance(context.module, nn.BatchNorm) and context.method_name == "__call__":
            heard(context.module.path, args[0])
        return method(*args, **kwargs)

    with nn.intercept_methods(listen):
        return module.apply(own, x, train=False)
