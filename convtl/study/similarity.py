"""How similar a source is to a target, in numbers; fixed before any fine-tuning result is seen.

Two kinds that answer two questions. Distances between the data, in a space that no net has had a hand in, may
test claims about similarity. Estimators from the source net's features predict where to transfer from; as a
probe of frozen features is about the accuracy of tuning the head, they may not (circular). So that they
are at least no refit of the same images, they are computed on target images that no trial uses.
"""

from contextlib import AbstractContextManager
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int, Integer, UInt8

from convtl.data.batches import standardise
from convtl.errors import UserError
from convtl.measure import distance, transferability
from convtl.measure.metrics import log_softmax
from convtl.measure.space import PixelSpace
from convtl.models.network import Network, Variables
from convtl.training.features import Forward

PER_CLASS = 20
"""Images of a class that are looked at, at most: 240 for 12 classes, which one chunk of a forward pass holds."""
MOST = 600
"""Images of a side that are looked at, at most; exact transport takes about n^3."""
SPACE = PixelSpace()
"""Where `mmd2` and `otdd` are measured: 177 features, the steadier of the two over draws of classes and images."""
COARSE = PixelSpace(pixels=3, cells=2, orientations=4)
"""Where `frechet` is measured: 25 features, since a covariance wants 10 images a feature."""

DISTANCES = ("mmd2", "frechet", "otdd")
ESTIMATORS = ("leep", "nce", "logme", "h_score", "knn", "linear_probe")


def data_distances(
    source_images: UInt8[np.ndarray, "n height width channels"],
    source_labels: Integer[np.ndarray, " n"],
    target_images: UInt8[np.ndarray, "m height width channels"],
    target_labels: Integer[np.ndarray, " m"],
) -> dict[str, float]:
    """Distances between two data sets in a fixed space; larger is farther, 0 the same.

    From either side the first `PER_CLASS` images of each class, at most `MOST`, and equally many from both (the
    bias of `frechet` and `otdd` hangs on it). Images are standardised one by one, as for a net.

    Takes about 0.1 s of one core for 240 images of 28x28 a side.

    Returns:
      `mmd2` (primary: the only one without bias; may be a little below 0), `frechet`, `otdd`: the columns
      `DISTANCES`. All squared, in units of a feature of root mean square 1.

    Raises:
      ValueError: shapes that do not go together, or fewer than two images of a side.
    """
    sides = [(source_images, source_labels), (target_images, target_labels)]
    wanted = min(MOST, *(len(first_of_each(labels)) for _, labels in sides))
    chosen = [first_of_each(labels, wanted) for _, labels in sides]
    images = [standardise(own[rows]) for (own, _), rows in zip(sides, chosen, strict=True)]
    labels = [np.asarray(own)[rows] for (_, own), rows in zip(sides, chosen, strict=True)]
    with _one_thread():
        source, target = map(SPACE, images)
        return {
            "mmd2": distance.mmd2_unbiased(source, target),
            "frechet": distance.frechet(*map(COARSE, images)),
            "otdd": distance.otdd(source, labels[0], target, labels[1]),
        }


def transferability_of(
    network: Network,
    variables: Variables,
    images: Float[np.ndarray, "n height width channels"],
    labels: Integer[np.ndarray, " n"],
) -> dict[str, float]:
    """Estimators of how well a source net transfers to labelled target images; larger is better.

    Features are what enters the head (flattened), source probabilities the softmax of the source's own head.
    Of the images, the first `PER_CLASS` of each class, at most `MOST`.

    Args:
      network: the source's, with its own head.
      variables: the source net's.
      images: standardised target images, which no trial uses (`unused_images`).
      labels: their classes; at least two, and two images of each.

    Returns:
      The columns `ESTIMATORS`.

    Raises:
      ValueError: shapes that do not go together, or too few images.
    """
    rows = first_of_each(labels, MOST)
    labels = np.asarray(labels)[rows]
    body, head = _passes(network)
    inner = body(variables, np.asarray(images)[rows])
    features = inner.reshape(len(inner), -1)
    probabilities = np.exp(log_softmax(head(variables, inner)))
    with _one_thread():
        return {
            "leep": transferability.leep(probabilities, labels),
            "nce": transferability.nce(probabilities, labels),
            "logme": transferability.logme(features, labels),
            "h_score": transferability.h_score(features, labels),
            "knn": transferability.knn_accuracy(features, labels),
            "linear_probe": transferability.linear_probe_accuracy(features, labels),
        }


def unused_images(
    draw_train: Int[np.ndarray, "classes pool"], n_used: int, per_class: int = PER_CLASS
) -> Int[np.ndarray, "classes per_class"]:
    """Positions of target images that no trial is trained on: the last of every class's pool.

    Args:
      draw_train: `TargetDraw.train`; trials with n images a class use its first n columns.
      n_used: the largest n of the study.
      per_class: how many are wanted.

    Raises:
      UserError: the pool is too small.
    """
    pool = draw_train.shape[1]
    if pool - n_used < per_class:
        raise UserError(
            f"distances: {per_class} train images a class of the target are wanted that no trial uses, but "
            f"{max(0, pool - n_used)} of {pool} are left beside n_per_class={n_used}; "
            f"accepted: n_per_class up to {max(0, pool - per_class)}, or distances=false"
        )
    return draw_train[:, pool - per_class :]


def first_of_each(
    labels: Integer[np.ndarray, " n"], most: int | None = None
) -> Int[np.ndarray, " m"]:
    """Rows of the first `PER_CLASS` images of each class, the first of every class before any second.

    Cut to `most`, so classes stay balanced to within one image.
    """
    labels = np.asarray(labels)
    by_class = np.argsort(labels, kind="stable")
    ordered = labels[by_class]
    rank = np.empty(len(labels), int)
    rank[by_class] = np.arange(len(labels)) - np.searchsorted(ordered, ordered)
    turn = np.lexsort((labels, rank))
    return turn[rank[turn] < PER_CLASS][:most]


def _one_thread() -> AbstractContextManager[object]:
    """NumPy's and SciPy's linear algebra on one thread.

    Matrices this small take up to a hundred times as long where threads wait for each other's cores, and
    the number of threads would reach the last bits of the results.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)


@lru_cache(maxsize=16)
def _passes(network: Network) -> tuple[Forward, Forward]:
    """The network up to its head, and the head; kept, since each compiles once."""
    last = len(network.units) - 1
    return Forward(network, 0, last), Forward(network, last)
