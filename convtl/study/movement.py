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
from jaxtyping import Float
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
_CHANNELS, _SIDE = 16, 64  # at most kept of a unit's maps: channels, pixels of a side

Pair = tuple[np.ndarray, np.ndarray]  # before and after tuning
Outputs = dict[str, Float[np.ndarray, "n ..."]]
"""Unit with weights -> its outputs: feature maps or vectors."""


def measure_movement(
    out: Path, trial: Trial, materials: Materials, tuned: Variables
) -> dict[str, list[float | None]]:
    """Return how far a trial's net moved (`moved`), on validation images; write its feature maps."""
    network, data = materials.network(trial), materials.target_data(trial)
    images, labels = data.examples("validation")
    rows = first_of_each(labels, PER_CLASS, IMAGES)  # one of each class is first
    nets = (materials.start(trial).variables, tuned)
    before, after = (unit_outputs(network, net, images[rows]) for net in nets)
    if trial.replicate == min(trial.settings.replicate or (0,)):
        pairs = {"kernels": [_kernels(net[network.weighted[0]]) for net in nets]}
        for unit, outputs in before.items():
            if outputs.ndim == 4:
                pairs[f"maps/{unit}"] = [_thinned(outputs), _thinned(after[unit])]
        arrays: dict[str, Any] = {n: np.asarray(pair, np.float16) for n, pair in pairs.items()}
        with accessible(out):
            (out / FOLDER).mkdir(exist_ok=True)
            with written(out / FOLDER / f"{trial.id}.npz") as file:
                np.savez_compressed(file, **arrays)
    return moved(nets, (before, after))


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
      kernels: filters of the first unit, each (filters, height, width), averaged over input channels.
      maps: unit with maps -> its thinned outputs for the first pictures, each (k, height, width, channels).
    """

    kernels: Pair | None
    maps: dict[str, Pair]


def read_maps(out: Path, trial: str) -> FeatureMaps | None:
    """What is kept of a trial; None if there is nothing, or nothing that can be read."""
    try:
        with (out / FOLDER / f"{trial}.npz").open("rb") as raw, np.load(raw) as file:
            pairs = {name: tuple(pair.astype(np.float32)) for name, pair in file.items()}
        kernels = pairs.pop("kernels")
        maps = {
            name.removeprefix("maps/"): (before, after) for name, (before, after) in pairs.items()
        }
        return FeatureMaps((kernels[0], kernels[1]) if kernels[0].size else None, maps)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _thinned(outputs: Float[np.ndarray, "n height width channels"]) -> np.ndarray:
    step = -(-max(outputs.shape[1:3]) // _SIDE)
    return outputs[:PICTURES, ::step, ::step, :_CHANNELS]


def _kernels(variables: Mapping[str, Any]) -> np.ndarray:
    """(filters, height, width) of a convolution's weights; empty for other units."""
    for leaf in map(np.asarray, jax.tree.leaves(variables.get("params", {}))):
        if leaf.ndim == 4:
            return np.moveaxis(leaf.mean(2), -1, 0)[:_CHANNELS]
    return np.empty(0)
