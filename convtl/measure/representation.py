"""Change of a net: of its representations of the same images, and its weights."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Float
from numpy.typing import ArrayLike


def linear_cka(x: ArrayLike, y: ArrayLike) -> float:
    """Linear centred kernel alignment of two representations, in [0, 1].

    |Y'X|_F^2 / (|X'X|_F |Y'Y|_F) on centred features of the same images; all axes but the first are flattened. 1 for
    representations that differ by an orthogonal map, a shift and a factor. Kornblith et al. 2019, "Similarity
    of Neural Network Representations Revisited". Biased towards 1 where n is not above the number of features,
    and easily moved by a few outliers (Davari et al. 2023). Nan if one of them does not vary.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if not x.ndim or not y.ndim or len(x) != len(y) or not len(x):
        raise ValueError(f"representations must be of the same images, got {x.shape} and {y.shape}")
    first, second = _centred(x), _centred(y)
    if first is None or second is None:
        return float("nan")
    if len(x) < max(first.shape[1], second.shape[1]):  # then the Gram matrices are the smaller ones
        first, second = first @ first.T, second @ second.T
        shared, norms = (first * second).sum(), np.linalg.norm(first) * np.linalg.norm(second)
    else:
        shared = np.square(second.T @ first).sum()
        norms = np.linalg.norm(first.T @ first) * np.linalg.norm(second.T @ second)
    return float(min(1.0, shared / norms))


def _centred(x: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n d"] | None:
    """Flattened, centred and scaled to norm 1 against overflow; None without variance."""
    flat = x.reshape(len(x), -1)
    centred = flat - flat.mean(0)
    norm = np.linalg.norm(centred)
    return None if norm <= 1e-9 * np.linalg.norm(flat) else centred / norm


def weight_displacement(
    before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]
) -> dict[str, float]:
    """|w - w0| / |w0| of each unit, over all leaves of its `params` (Euclidean norms).

    Returns:
      Unit with weights -> displacement, in the order of `before`: 0.0 where nothing moved, nan where zeros did.

    Raises:
      ValueError: units or leaves disagree.

    >>> net = lambda w: {"fc": {"params": {"kernel": np.array(w)}}}
    >>> weight_displacement(net([3.0, 4.0]), net([3.0, 5.0]))
    {'fc': 0.2}
    """
    if set(before) != set(after):
        raise ValueError(f"units differ: {sorted(before)} and {sorted(after)}")
    moved = {}
    for unit in before:
        old, new = (_arrays(tree[unit].get("params", {})) for tree in (before, after))
        if {path: w.shape for path, w in old.items()} != {path: w.shape for path, w in new.items()}:
            raise ValueError(f"unit '{unit}': the weights are not of the same names and shapes")
        if old:
            step = np.sqrt(sum(np.square(new[path] - w).sum() for path, w in old.items()))
            size = np.sqrt(sum(np.square(w).sum() for w in old.values()))
            moved[unit] = float(step / size) if size else 0.0 if not step else float("nan")
    return moved


def _arrays(tree: Mapping[str, Any]) -> dict[tuple[str, ...], np.ndarray]:
    """Path -> leaf in float64, in the order of the tree."""
    leaves = flatten_dict(tree)
    return {path: np.asarray(leaf, np.float64) for path, leaf in leaves.items()}
