"""How far each unit of a net moved in fine-tuning: its weights, and its outputs.

Of the lowest replicate, outputs for a few images are kept in `feature_maps/TRIAL.npz`: enough to draw a
report's pictures again when data and nets are gone.
"""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8
from threadpoolctl import threadpool_limits

from convtl.data.subsets import first_of_each
from convtl.measure.representation import linear_cka, weight_displacement
from convtl.models.network import Network, Variables
from convtl.storage.files import written
from convtl.study.grid import Trial
from convtl.study.materials import Materials
from convtl.study.similarity import PER_CLASS
from convtl.study.store import accessible
from convtl.training.features import chunks, rows_at_once

FOLDER = "feature_maps"
IMAGES = 240  # validation images that outputs are compared on: one chunk of a forward pass
PICTURES = 3  # images of which feature maps are kept, each of another class
_CHANNELS, _FEATURES, _CLASSES, _SIDE = 16, 256, 24, 64
"""At most kept of a unit: channels, features of a vector, classes, pixels of a side."""

Pair = tuple[np.ndarray, np.ndarray]  # before and after tuning
Outputs = dict[str, Float[np.ndarray, "n ..."]]
"""Unit with weights -> its outputs: feature maps or vectors."""


def measure_movement(
    out: Path, trial: Trial, materials: Materials, tuned: Variables
) -> dict[str, list[float | None]]:
    """Return how far a trial's net moved (`moved`), on validation images; write its feature maps."""
    network, data = materials.network(trial), materials.target_data(trial)
    images, labels = data.examples("validation")
    rows = first_of_each(labels, PER_CLASS, IMAGES)
    variables = (materials.start(trial).variables, tuned)
    before, after = (unit_outputs(network, net, images[rows]) for net in variables)
    if trial.replicate == min(trial.settings.replicate or (0,)):
        arrays = _excerpts(network, variables, (before, after), labels[rows])
        positions = data.draw.validation[rows[:PICTURES]]
        arrays |= {
            "images": data.pixels("validation", positions),
            "classes": np.asarray(data.class_names[:_CLASSES]),
        }
        with accessible(out):
            (out / FOLDER).mkdir(exist_ok=True)
            with written(out / FOLDER / f"{trial.id}.npz") as file:
                np.savez_compressed(file, **arrays)
    return moved(variables, (before, after))


def moved(
    variables: tuple[Variables, Variables], outputs: tuple[Outputs, Outputs]
) -> dict[str, list[float | None]]:
    """Unit -> [|w - w0| / |w0| over its weights, linear CKA of its outputs], before and after tuning.

    None where there is no such number: a head of zeros has no size, and its outputs do not vary.
    """
    old, new = outputs
    steps = weight_displacement(*({unit: net[unit] for unit in old} for net in variables))
    with threadpool_limits(1):  # as in `convtl.study.similarity`
        pairs = {unit: (steps[unit], linear_cka(old[unit], new[unit])) for unit in old}
    return {u: [x if np.isfinite(x) else None for x in pair] for u, pair in pairs.items()}


def unit_outputs(
    network: Network, variables: Variables, images: Float[np.ndarray, "n height width channels"]
) -> Outputs:
    """Outputs of each unit with weights, in inference mode, for images as the net takes them."""
    forward = _forward(network)
    on_device = jax.device_put({unit: variables[unit] for unit in network.names})
    pieces = [
        {unit: np.asarray(x)[:count] for unit, x in forward(on_device, piece).items()}
        for piece, count in chunks(images, rows_at_once(network.input_shape))
    ]
    return {unit: np.concatenate([piece[unit] for piece in pieces]) for unit in network.weighted}


@lru_cache(maxsize=16)
def _forward(network: Network) -> Any:
    """Variables and images -> outputs of the units with weights; each compiles once."""

    def outputs(variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        return network.apply(variables, images, taps=network.weighted)[2]

    return jax.jit(outputs)


@dataclass(frozen=True)
class FeatureMaps:
    """What is kept of one trial; every pair is (before, after).

    Attributes:
      images: pictures whose maps are kept, (k, height, width, channels).
      classes: names of the target's classes (the first of them, where there are many).
      units: names of the units with weights, from the input on.
      kernels: filters of the first unit, each (filters, height, width), averaged over input channels.
      maps: unit with maps -> outputs for `images`, each (k, height, width, channels).
      means: unit without maps -> mean outputs, each (2, classes, features): of half of the validation
        images, and of the other half.
      shares: unit -> share of the variance of its outputs that lies between classes.
    """

    images: UInt8[np.ndarray, "k height width channels"]
    classes: tuple[str, ...]
    units: tuple[str, ...]
    kernels: Pair | None
    maps: dict[str, Pair]
    means: dict[str, Pair]
    shares: dict[str, tuple[float, float]]


def _excerpts(
    network: Network,
    variables: tuple[Variables, Variables],
    outputs: tuple[Outputs, Outputs],
    labels: Int[np.ndarray, " n"],
) -> dict[str, Any]:
    """Return what is kept of a trial's units, of outputs for images of which one of each class is first."""
    units = network.weighted
    pairs = {"kernels": [_kernels(net[units[0]]) for net in variables]}
    for unit in units:
        kind = "maps" if outputs[0][unit].ndim == 4 else "means"
        pairs[f"{kind}/{unit}"] = [_excerpt(net[unit], labels) for net in outputs]
    arrays: dict[str, Any] = {name: np.asarray(pair, np.float16) for name, pair in pairs.items()}
    shares = [[between_classes(net[unit], labels) for unit in units] for net in outputs]
    return arrays | {"units": np.asarray(units), "shares": np.asarray(shares, np.float32)}


def read_maps(out: Path, trial: str) -> FeatureMaps | None:
    """What is kept of a trial; None if there is nothing, or nothing that can be read."""
    try:
        with (out / FOLDER / f"{trial}.npz").open("rb") as raw, np.load(raw) as file:
            arrays = dict(file)
        units = tuple(map(str, arrays["units"]))
        pairs: dict[str, dict[str, Pair]] = {"maps": {}, "means": {}, "kernels": {}}
        for name, pair in arrays.items():
            kind, _, unit = name.partition("/")
            if kind in pairs:
                before, after = pair.astype(np.float32)
                pairs[kind][unit] = before, after
        kernels = pairs["kernels"][""]
        return FeatureMaps(
            images=arrays["images"],
            classes=tuple(map(str, arrays["classes"])),
            units=units,
            kernels=kernels if kernels[0].size else None,
            maps=pairs["maps"],
            means=pairs["means"],
            shares=dict(zip(units, zip(*arrays["shares"].tolist(), strict=True), strict=True)),
        )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _excerpt(outputs: np.ndarray, labels: Int[np.ndarray, " n"]) -> np.ndarray:
    """Thinned maps of the first images; of vectors means by class of either half."""
    if outputs.ndim == 4:
        step = -(-max(outputs.shape[1:3]) // _SIDE)
        return outputs[:PICTURES, ::step, ::step, :_CHANNELS]
    flat = outputs.reshape(len(outputs), -1)[:, :_FEATURES]
    classes = [flat[labels == label] for label in range(int(labels.max()) + 1)][:_CLASSES]
    # A class of a single image has but one half.
    halves = [[x[half::2] if len(x) > 1 else x for x in classes] for half in range(2)]
    return np.asarray([[x.mean(0) for x in half] for half in halves])


def _kernels(variables: Mapping[str, Any]) -> np.ndarray:
    """(filters, height, width) of a convolution's weights; empty for other units."""
    for leaf in map(np.asarray, jax.tree.leaves(variables.get("params", {}))):
        if leaf.ndim == 4:
            return np.moveaxis(leaf.mean(2), -1, 0)[:_CHANNELS]
    return np.empty(0)


def between_classes(outputs: Float[np.ndarray, "n ..."], labels: Int[np.ndarray, " n"]) -> float:
    """Share of the outputs' variance between the means of classes, in [0, 1].

    nan without variance. Of n random outputs of k classes it is (k - 1) / (n - 1) on average.
    """
    flat = outputs.reshape(len(outputs), -1).astype(np.float64)
    centred = flat - flat.mean(0)
    total = np.square(centred).sum()
    if total <= 1e-18 * np.square(flat).sum():
        return float("nan")
    parts = [centred[labels == label] for label in np.unique(labels)]
    return float(sum(len(part) * np.square(part.mean(0)).sum() for part in parts) / total)
