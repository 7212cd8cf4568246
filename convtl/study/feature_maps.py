"""What the units of a few nets say of a few images, before and after tuning, kept beside the rows.

`feature_maps/TRIAL.npz` in `out`, for the lowest replicate of a study with `movement`: small, and enough to draw
the pictures of a report again when data and nets are gone.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from convtl.models.network import Network, Variables
from convtl.storage.files import written
from convtl.study.grid import Trial
from convtl.study.materials import Materials
from convtl.study.movement import IMAGES, maps
from convtl.study.similarity import first_of_each
from convtl.study.store import accessible

FOLDER = "feature_maps"
PICTURES = 3
"""Images of which feature maps are kept, each of another class."""
_CHANNELS, _FEATURES, _CLASSES, _SIDE = 16, 256, 24, 64
"""What is kept of a unit at most: channels, features of a vector, classes, pixels of a side."""
_WHEN = ("before", "after")

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class FeatureMaps:
    """What is kept of one trial; every pair is (before, after).

    Attributes:
      images: the pictures whose maps are kept, (k, height, width, channels).
      classes: names of the target's classes (the first of them, where there are many).
      units: names of the units with weights, from the input on.
      kernels: filters of the first unit, each (filters, height, width), averaged over input channels.
      maps: unit with maps -> outputs for `images`, each (k, height, width, channels).
      means: unit without maps -> mean outputs, each (2, classes, features): of half of the validation images,
        and of the other half.
      shares: unit -> share of the variance of its outputs that lies between classes.
    """

    images: UInt8[np.ndarray, "k height width channels"]
    classes: tuple[str, ...]
    units: tuple[str, ...]
    kernels: Pair | None
    maps: dict[str, Pair]
    means: dict[str, Pair]
    shares: dict[str, tuple[float, float]]


def keep_maps(out: Path, trial: Trial, materials: Materials, net: Variables) -> None:
    """Writes the maps of a trial of the lowest replicate of a study with `movement`; of others nothing.

    The images are the first validation images of the first classes: never those that a trial is tested on.
    """
    settings = trial.settings
    if not settings.movement or trial.replicate != min(settings.replicate or (0,)):
        return
    network, data = materials.network(trial), materials.target_data(trial)
    images, labels = data.held_out("validation")
    rows = first_of_each(labels, IMAGES)
    names = [data.domain.class_names[index] for index in data.draw.classes]
    arrays: dict[str, np.ndarray] = {
        "images": data.pixels("validation", data.draw.validation[rows[:PICTURES]]),
        "classes": np.asarray(names[:_CLASSES]),
        "units": np.asarray(network.weighted),
    }
    for when, variables in zip(_WHEN, (materials.start(trial).variables, net), strict=True):
        arrays |= _kept(network, variables, images[rows], labels[rows], when)
    _publish(out, trial.id, arrays)


def _kept(
    network: Network,
    variables: Variables,
    images: Float[np.ndarray, "n height width channels"],
    labels: Int[np.ndarray, " n"],
    when: str,
) -> dict[str, np.ndarray]:
    said = maps(network, variables, images)
    kept = {}
    for unit, outputs in said.items():
        if outputs.ndim == 4:
            step = -(-max(outputs.shape[1:3]) // _SIDE)
            kept[f"maps/{when}/{unit}"] = outputs[:PICTURES, ::step, ::step, :_CHANNELS]
        else:
            kept[f"means/{when}/{unit}"] = _class_means(outputs, labels)[:, :_CLASSES, :_FEATURES]
    kernel = _kernel(
        variables[network.weighted[0]], network.shape_before(network.index(network.weighted[0]))
    )
    if kernel is not None:
        kept[f"kernels/{when}"] = kernel[:_CHANNELS]
    halved = {name: array.astype(np.float16) for name, array in kept.items()}
    shares = [between_classes(outputs, labels) for outputs in said.values()]
    return halved | {f"shares/{when}": np.asarray(shares, np.float32)}


def _class_means(
    outputs: Float[np.ndarray, "n ..."], labels: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "2 classes features"]:
    """Mean outputs of the first, third, ... image of every class, and of the others."""
    flat = outputs.reshape(len(outputs), -1)
    found = []
    for half in range(2):
        own = [flat[labels == label] for label in range(int(labels.max()) + 1)]
        # a class of a single image has but one half
        found.append([(rows[half::2] if len(rows) > 1 else rows).mean(0) for rows in own])
    return np.asarray(found)


def between_classes(outputs: Float[np.ndarray, "n ..."], labels: Int[np.ndarray, " n"]) -> float:
    """Share of the outputs' variance that lies between the means of classes, in [0, 1]; nan without variance.

    Of n random outputs of k classes it is (k - 1) / (n - 1) on average.
    """
    flat = outputs.reshape(len(outputs), -1).astype(np.float64)
    centred = flat - flat.mean(0)
    whole = np.square(centred).sum()
    if whole <= 1e-18 * np.square(flat).sum():
        return float("nan")
    parts = [centred[labels == label] for label in np.unique(labels)]
    return float(sum(len(part) * np.square(part.mean(0)).sum() for part in parts) / whole)


def _kernel(variables: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """(filters, height, width) of a unit's weights, averaged over input channels; None if they have no such form."""
    for leaf in _leaves(variables.get("params", {})):
        if leaf.ndim == 4:
            return np.moveaxis(leaf.mean(2), -1, 0)
        if leaf.ndim == 2 and len(leaf) == np.prod(shape):
            return np.moveaxis(leaf.reshape(*shape, -1).mean(2), -1, 0)
    return None


def _leaves(tree: Any) -> list[np.ndarray]:
    if isinstance(tree, dict):
        return [leaf for inner in tree.values() for leaf in _leaves(inner)]
    return [np.asarray(tree)]


# --- files --------------------------------------------------------------------------------------------


def _publish(out: Path, trial: str, arrays: dict[str, np.ndarray]) -> None:
    with accessible(out), written(out / FOLDER / f"{trial}.npz") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def read_maps(out: Path, trial: str) -> FeatureMaps | None:
    """What is kept of a trial; None if there is nothing, or nothing that can be read."""
    path = out / FOLDER / f"{trial}.npz"
    if not path.exists():
        return None
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
        return _parsed(found)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _parsed(found: dict[str, np.ndarray]) -> FeatureMaps:
    def pairs(kind: str) -> dict[str, Pair]:
        units = [name.split("/", 2)[2] for name in found if name.startswith(f"{kind}/before/")]
        return {
            u: (_wide(found[f"{kind}/before/{u}"]), _wide(found[f"{kind}/after/{u}"]))
            for u in units
        }

    units = tuple(map(str, found["units"]))
    shares = zip(units, found["shares/before"], found["shares/after"], strict=True)
    kernels = [_wide(found[f"kernels/{when}"]) for when in _WHEN if f"kernels/{when}" in found]
    return FeatureMaps(
        images=found["images"],
        classes=tuple(map(str, found["classes"])),
        units=units,
        kernels=(kernels[0], kernels[1]) if len(kernels) == 2 else None,
        maps=pairs("maps"),
        means=pairs("means"),
        shares={unit: (float(old), float(new)) for unit, old, new in shares},
    )


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32)
