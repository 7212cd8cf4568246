"""How far a net moved: what its units say of the same images, and its weights."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float


def linear_cka(x: Float[np.ndarray, "n ..."], y: Float[np.ndarray, "n ..."]) -> float:
    """Linear centred kernel alignment of two representations of the same n images, in [0, 1].

    |Y'X|_F^2 / (|X'X|_F |Y'Y|_F) on centred features; all axes but the first are flattened. 1 for
    representations that differ by an orthogonal map, a shift and a factor. Kornblith et al. 2019, "Similarity
    of Neural Network Representations Revisited". Biased towards 1 where n is not above the number of features,
    and easily moved by a few outliers (Davari et al. 2023): print `weight_displacement` beside it.

    Returns:
      The alignment; nan if one of the representations does not vary.

    Raises:
      ValueError: not the same number of images, or none.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if not x.ndim or not y.ndim or len(x) != len(y) or not len(x):
        raise ValueError(f"representations must be of the same images, got {x.shape} and {y.shape}")
    first, second = _centred(x), _centred(y)
    if first is None or second is None:
        return float("nan")
    if len(x) < max(
        first.shape[1], second.shape[1]
    ):  # then the images' inner products are the smaller matrices
        first, second = first @ first.T, second @ second.T
        shared, own = (first * second).sum(), np.linalg.norm(first) * np.linalg.norm(second)
    else:
        shared = np.square(second.T @ first).sum()
        own = np.linalg.norm(first.T @ first) * np.linalg.norm(second.T @ second)
    return float(min(1.0, shared / own))


def _centred(x: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n d"] | None:
    """Flattened, centred and scaled to norm 1 (CKA does not see it, overflow does); None without variance."""
    flat = x.reshape(len(x), -1)
    centred = flat - flat.mean(0)
    norm = np.linalg.norm(centred)
    return None if norm <= 1e-9 * np.linalg.norm(flat) else centred / norm


def weight_displacement(
    before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]
) -> dict[str, float]:
    """|w - w0| / |w0| of each unit that has weights, over all leaves of its `params` together (Euclidean norms).

    Args:
      before: unit -> collections (`convtl.models.network.Variables`), the weights w0.
      after: the same units and leaves, the weights w.

    Returns:
      Unit -> displacement, in the order of `before`: 0.0 where nothing moved, nan where zeros did.

    Raises:
      ValueError: units or leaves do not go together.
    """
    if set(before) != set(after):
        raise ValueError(f"units differ: {sorted(before)} and {sorted(after)}")
    moved = {}
    for unit in before:
        old, new = (dict(_leaves(tree[unit].get("params", {}))) for tree in (before, after))
        if {path: w.shape for path, w in old.items()} != {path: w.shape for path, w in new.items()}:
            raise ValueError(f"unit '{unit}': the weights are not of the same names and shapes")
        if old:
            step = np.sqrt(sum(np.square(new[path] - w).sum() for path, w in old.items()))
            size = np.sqrt(sum(np.square(w).sum() for w in old.values()))
            moved[unit] = float(step / size) if size else 0.0 if not step else float("nan")
    return moved


def _leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """(path, array in float64) of every leaf of nested mappings."""
    if isinstance(tree, Mapping):
        for name, inner in tree.items():
            yield from _leaves(inner, (*path, str(name)))
    else:
        yield path, np.asarray(tree, np.float64)
