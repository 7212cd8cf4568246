"""The table of the probes of training -> one number per replicate, for the tests of C1 and C2."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

LEAST_SLOPE = 0.25
"""Decades a unit that a gradient must lose towards the input to be called vanishing (declared beforehand)."""
LEAST_LOSS = 1.0
"""Decades that it must have lost at the first unit, besides."""
SCALED = ("lecun_normal", "glorot_uniform", "he_normal")
"""Initialisers that keep the size of activations."""


@dataclass(frozen=True)
class GradientContrast:
    """One declared number per replicate.

    Attributes:
      claim: `C1` or `C2`.
      statement: what a positive number speaks for, in a sentence.
      unit: of the number.
      threshold: the number below which the effect is too small to matter (`practically null` within +-).
      values: the table (`convtl.training.probes.read_gradients`) -> one number per replicate (index), of the
        replicates in which it is defined.
    """

    claim: str
    statement: str
    unit: str
    threshold: float
    values: Callable[[pd.DataFrame], pd.Series]


def gradient_values(frame: pd.DataFrame, name: str) -> pd.Series:
    """The numbers of the contrast called `name` (see `CONTRASTS`); empty where it was not measured."""
    return CONTRASTS[name].values(frame)


# --- C1: gradients by depth ---------------------------------------------------------------------------


def relative_gradients(
    frame: pd.DataFrame,
    activation: str,
    *,
    initialiser: str,
    hidden: int | None,
    update: int,
    probe: str = "profile",
    optimiser: str = "sgd",
) -> pd.DataFrame:
    """R in decades, replicates x positions of the hidden units (1 is the first); `hidden` None: LeNet-5."""
    rows = _rows(frame, probe, activation, optimiser)
    rows = rows[
        (rows["quantity"] == "relative_gradient")
        & (rows["initialiser"] == initialiser)
        & (rows["update"] == update)
        & (rows["hidden"].isna() if hidden is None else rows["hidden"] == hidden)
    ]
    return _table(rows)


def lost_per_unit(profile: pd.DataFrame) -> pd.Series:
    """Decades that the gradient loses from unit to unit towards the input (least squares), per replicate."""
    return _slopes(profile)


def lost_at_first(profile: pd.DataFrame) -> pd.Series:
    """Decades that it has lost at the first unit: -R."""
    return -profile.iloc[:, 0].dropna() if profile.shape[1] else pd.Series(dtype=float)


def vanishing(
    frame: pd.DataFrame,
    activation: str,
    initialisers: tuple[str, ...] = SCALED,
    update: int = 0,
    strong: bool = False,
) -> pd.Series:
    """Decades lost a unit on the plain chains, averaged over their depths and the initialisers.

    Args:
      strong: instead of the average the least of all depths, initialisers and, beside `update`, the last
        update: vanishing whatever the depth, and lasting.
    """
    chains = _chains(frame)
    last = {int(chains["update"].max())} if strong and len(chains) else set()
    lost = [
        lost_per_unit(
            relative_gradients(
                chains, activation, initialiser=initialiser, hidden=hidden, update=moment
            )
        )
        for hidden in sorted(chains["hidden"].dropna().astype(int).unique())
        for initialiser in initialisers
        for moment in sorted({update} | last)
    ]
    table = _side_by_side(lost)
    return table.min(axis=1) if strong else table.mean(axis=1)


def lost_by_first(frame: pd.DataFrame, activation: str) -> pd.Series:
    """Decades beyond `LEAST_LOSS` lost at the first unit of the shallowest chains, averaged over initialisers."""
    chains = _chains(frame)
    if not len(chains):
        return pd.Series(dtype=float)
    shallowest = int(chains["hidden"].min())
    lost = [
        lost_at_first(
            relative_gradients(
                chains, activation, initialiser=initialiser, hidden=shallowest, update=0
            )
        )
        for initialiser in SCALED
    ]
    return _side_by_side(lost).mean(axis=1) - LEAST_LOSS


def _chains(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[(frame["probe"] == "profile") & (frame["model"] == "plain")]


def _side_by_side(columns: list[pd.Series]) -> pd.DataFrame:
    """Replicates that all columns have; columns without any are left out."""
    return pd.DataFrame(dict(enumerate(column for column in columns if len(column)))).dropna()


# --- C2: when units arrive, and what freezing them costs ----------------------------------------------


def arrivals(frame: pd.DataFrame, activation: str, optimiser: str) -> pd.DataFrame:
    """Update at which each unit had arrived, replicates x positions; nan where it did not move.

    Nets that did not learn (test accuracy under twice chance at the end) are left out: where they end is no
    place to arrive at.
    """
    rows = _rows(frame, "convergence", activation, optimiser)
    table = _table(rows[rows["quantity"] == "arrival"])
    learned = _per_replicate(rows, "test_accuracy").sub(2 * _per_replicate(rows, "chance")) >= 0
    return table[learned.reindex(table.index, fill_value=False)]


def early_slowest(frame: pd.DataFrame, activation: str, optimiser: str) -> pd.Series:
    """Decades of updates by which a unit arrives later than the one above it (least squares), per replicate.

    Positive: early layers are the slowest. A replicate needs three units that moved.
    """
    return -_slopes(arrivals(frame, activation, optimiser).map(np.log10))


def freezing_cost(frame: pd.DataFrame, activation: str, optimiser: str, at: int) -> pd.DataFrame:
    """What it costs to freeze one unit from update `at` on: logits of test accuracy, replicates x positions."""
    rows = _rows(frame, "freezing", activation, optimiser)
    rows = rows[rows["quantity"] == "test_logit"]
    whole = rows[rows["unit"].isna()].set_index("replicate")["value"]
    frozen = _table(rows[rows["unit"].notna() & (rows["update"] == at)])
    return frozen.rsub(whole, axis=0).dropna()


def freezing_slope(
    frame: pd.DataFrame, activation: str, optimiser: str, at: int | None = None
) -> pd.Series:
    """Logits by which freezing a unit costs more than freezing the one above it, head left out, per replicate.

    Positive: what the early layers still have to learn matters more.

    Args:
      at: when units are frozen; None: the last of the moments that is not 0 (0 asks whether a unit has to be
        trained at all, later moments how much it had still to learn).
    """
    rows = _rows(frame, "freezing", activation, optimiser)
    moments = sorted(int(moment) for moment in rows.loc[rows["unit"].notna(), "update"].unique())
    if not moments:
        return pd.Series(dtype=float)
    cost = freezing_cost(frame, activation, optimiser, moments[-1] if at is None else at)
    return -_slopes(cost.iloc[:, :-1])


# --- tables -------------------------------------------------------------------------------------------


def _rows(frame: pd.DataFrame, probe: str, activation: str, optimiser: str) -> pd.DataFrame:
    values = {"probe": probe, "activation": activation, "optimiser": optimiser}
    return frame[(frame[list(values)] == pd.Series(values)).all(axis=1)]


def _per_replicate(rows: pd.DataFrame, quantity: str) -> pd.Series:
    return rows[rows["quantity"] == quantity].set_index("replicate")["value"]


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    """Replicates x positions."""
    table = rows.pivot_table(index="replicate", columns="position", values="value", dropna=False)
    return table.set_axis([int(place) for place in table.columns], axis=1)


def _slopes(table: pd.DataFrame) -> pd.Series:
    """Least-squares slope on position over the units with a number, of replicates with three or more."""
    positions = np.asarray(table.columns, float)
    slopes = {}
    for replicate, row in table.iterrows():
        values = row.to_numpy(float)
        known = np.isfinite(values)
        if known.sum() >= 3:
            slopes[replicate] = float(np.polyfit(positions[known], values[known], 1)[0])
    return pd.Series(slopes, dtype=float, name="value")


# --- the declared contrasts ---------------------------------------------------------------------------


def _vanishing(statement: str, activation: str, **options: Any) -> GradientContrast:
    values = partial(vanishing, activation=activation, **options)
    return GradientContrast("C1", statement, "decades a unit", LEAST_SLOPE, values)


_ACTIVATIONS = ("sigmoid", "tanh", "relu")
_PAIRS = [(activation, optimiser) for activation in _ACTIVATIONS for optimiser in ("sgd", "adam")]
_IN_CHAINS = "gradients vanish towards the input in plain {} chains"

CONTRASTS: dict[str, GradientContrast] = {
    **{f"c1_{name}": _vanishing(_IN_CHAINS.format(name), name) for name in _ACTIVATIONS},
    **{
        f"c1_{name}_first": GradientContrast(
            "C1",
            f"at the first unit of the shallowest {name} chains less than a tenth of the gradient is left",
            "decades beyond one",
            0.0,
            partial(lost_by_first, activation=name),
        )
        for name in _ACTIVATIONS
    },
    "c1_sigmoid_strong": _vanishing(
        f"{_IN_CHAINS.format('sigmoid')}, whatever their depth and scaled initialiser, and still after training",
        "sigmoid",
        strong=True,
    ),
    "c1_normal_0.01": _vanishing(
        "gradients vanish in tanh chains too when they start from N(0, 0.01)",
        "tanh",
        initialisers=("normal_0.01",),
    ),
    **{
        f"c2_{activation}_{optimiser}": GradientContrast(
            "C2",
            f"early layers are the slowest to train ({activation}, {optimiser})",
            "decades of updates a unit",
            0.05,
            partial(early_slowest, activation=activation, optimiser=optimiser),
        )
        for activation, optimiser in _PAIRS
    },
    **{
        f"c2_freeze_{activation}_{optimiser}": GradientContrast(
            "C2",
            f"early layers have most left to learn ({activation}, {optimiser}: cost of freezing one unit)",
            "logits a unit",
            0.2,
            partial(freezing_slope, activation=activation, optimiser=optimiser),
        )
        for activation, optimiser in _PAIRS
    },
}
"""The declared contrasts by name; each is positive where it speaks for its claim."""
