"""How far each unit of a net moved in fine-tuning: its weights, and what it says of the same images."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np
import pandas as pd
from jaxtyping import Float

from convtl.measure.representation import linear_cka, weight_displacement
from convtl.models.network import Network, Variables
from convtl.study.columns import Table
from convtl.training.features import chunks, rows_at_once

IMAGES = 240
"""Validation images that outputs are compared on, at most: one chunk of a forward pass holds small ones."""

COLUMNS = ("trial", "unit", "position", "displacement", "cka", "trained")


def moved(
    network: Network,
    before: Variables,
    after: Variables,
    images: Float[np.ndarray, "n height width channels"],
) -> dict[str, list[float | None]]:
    """How far a net moved, unit by unit.

    Args:
      before: the variables that it started from.
      after: the same units, tuned.
      images: standardised; the same for both.

    Returns:
      Unit with weights -> [|w - w0| / |w0| over its weights, linear CKA of its outputs before and after]; None
      where there is no such number: a head of zeros has no size to compare with, and its outputs do not vary.

    Raises:
      ValueError: variables that do not go together, or no images.
    """
    from threadpoolctl import threadpool_limits

    old, new = ({unit: whole[unit] for unit in network.weighted} for whole in (before, after))
    steps = weight_displacement(old, new)
    said, says = maps(network, before, images), maps(network, after, images)
    with threadpool_limits(1):  # as in `convtl.study.similarity`
        alike = {unit: linear_cka(said[unit], says[unit]) for unit in network.weighted}
    return {unit: [_known(steps[unit]), _known(alike[unit])] for unit in network.weighted}


def maps(
    network: Network, variables: Variables, images: Float[np.ndarray, "n height width channels"]
) -> dict[str, Float[np.ndarray, "n ..."]]:
    """What each unit with weights says of standardised images, in inference mode: feature maps or vectors.

    Raises:
      ValueError: no images.
    """
    if not len(images):
        raise ValueError("no images")
    forward, own = (
        _forward(network),
        jax.device_put({unit: variables[unit] for unit in network.names}),
    )
    pieces = []
    for _, piece, count in chunks(images, rows_at_once(network.input_shape)):
        pieces.append(
            {unit: np.asarray(said)[:count] for unit, said in forward(own, piece).items()}
        )
    return {unit: np.concatenate([piece[unit] for piece in pieces]) for unit in network.weighted}


@lru_cache(maxsize=16)
def _forward(network: Network) -> Any:
    """Variables and images -> outputs of the units with weights; kept, since each compiles once."""
    return jax.jit(partial(_outputs, network))


def _outputs(network: Network, variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
    return network.apply(variables, images, taps=network.weighted)[2]


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None


# --- from rows ----------------------------------------------------------------------------------------


def movement_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The movement that rows hold, a line for each trial and unit, with `COLUMNS`.

    `position` is a unit's place from the input (0, 1, ...), `trained` whether the trial trained it.
    """
    known = Table.of(rows).only("trial", "model", "moved", "trained_units")
    measured = (
        [row for row in known if isinstance(row.get("moved"), Mapping)]
        if "moved" in known.names
        else []
    )
    order = {
        model: _order([r for r in measured if r.get("model") == model])
        for model in _models(measured)
    }
    lines = []
    for row in measured:
        trained = str(row.get("trained_units", "")).split("+")
        for position, unit in enumerate(order[row.get("model")]):
            if unit in row["moved"]:
                displacement, cka = row["moved"][unit]
                lines.append((row["trial"], unit, position, displacement, cka, unit in trained))
    frame = pd.DataFrame(lines, columns=list(COLUMNS)).drop_duplicates(["trial", "unit"])
    for name in ("displacement", "cka"):
        frame[name] = pd.to_numeric(frame[name]).astype(float)
    return frame


def _models(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    return list(dict.fromkeys(row.get("model") for row in rows))


def _order(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Units from the input on: a row lists those it trained in order; lower ones by name, numbers as numbers."""
    units = dict.fromkeys(unit for row in rows for unit in row["moved"])
    trained = max((str(row.get("trained_units", "")).split("+") for row in rows), key=len)
    upper = [unit for unit in trained if unit in units]
    lower = [unit for unit in units if unit not in upper]
    return [*sorted(lower, key=_by_number), *upper]


def _by_number(name: str) -> list[Any]:
    """`fc2` before `fc10`."""
    return [
        (part.isdigit(), int(part) if part.isdigit() else part) for part in re.split(r"(\d+)", name)
    ]
