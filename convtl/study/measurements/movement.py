"""How far each unit of a net moved in fine-tuning: its weights, and its outputs."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits

from convtl.measure.representation import linear_cka, weight_displacement
from convtl.models.network import Network, Variables
from convtl.study.grid import Trial
from convtl.study.materials import Materials
from convtl.study.measurements.feature_maps import PICTURES, write_maps
from convtl.study.measurements.similarity import first_of_each
from convtl.training.features import chunks, rows_at_once

IMAGES = 240
"""Validation images that outputs are compared on, at most: one chunk of a forward pass."""

Outputs = dict[str, Float[np.ndarray, "n ..."]]
"""Unit with weights -> its outputs: feature maps or vectors."""


def measure_movement(
    out: Path, trial: Trial, materials: Materials, tuned: Variables
) -> dict[str, list[float | None]]:
    """Return how far a trial's net moved (`moved`), on validation images.

    Of the lowest replicate, feature maps are written to `out`.
    """
    network, data = materials.network(trial), materials.target_data(trial)
    images, labels = data.held_out("validation")
    rows = first_of_each(labels, IMAGES)
    variables = (materials.start(trial).variables, tuned)
    before, after = (unit_outputs(network, net, images[rows]) for net in variables)
    if trial.replicate == min(trial.settings.replicate or (0,)):
        pictures = data.pixels("validation", data.draw.validation[rows[:PICTURES]])
        seen = (labels[rows], pictures, data.class_names)
        write_maps(out, trial.id, network, variables, (before, after), *seen)
    return moved(variables, (before, after))


def moved(
    variables: tuple[Variables, Variables], outputs: tuple[Outputs, Outputs]
) -> dict[str, list[float | None]]:
    """How far a net moved, unit by unit.

    Args:
      variables: before and after tuning.
      outputs: before and after, for the same images.

    Returns:
      Unit -> [|w - w0| / |w0| over its weights, linear CKA of its outputs before and after]; None where
      there is no such number: a head of zeros has no size, and its outputs do not vary.
    """
    old, new = outputs
    steps = weight_displacement(*({unit: net[unit] for unit in old} for net in variables))
    with threadpool_limits(1):  # as in `convtl.study.measurements.similarity`
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
