"""Measures by replicate from the table of probes (`convtl.training.probes`)."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product

import numpy as np
import pandas as pd

USUAL = ("lecun_normal", "glorot_uniform", "he_normal")
"""Initialisers that keep the size of activations."""


def relative_gradients(
    frame: pd.DataFrame, activation: str, initialiser: str, hidden: int, update: int = 0
) -> pd.DataFrame:
    """Gradients in decades of a chain of `hidden` units, replicates x positions."""
    where = {"activation": activation, "initialiser": initialiser}
    rows = _rows(frame, "profile", "relative_gradient", **where)
    return _table(rows[(rows["update"] == update) & (rows["hidden"] == hidden)])


def decades_lost(
    frame: pd.DataFrame,
    activation: str,
    initialisers: Sequence[str] = USUAL,
    at_first: bool = False,
) -> pd.Series:
    """Decades that a gradient loses a unit towards the input, mean over plain chains.

    Args:
      at_first: instead, what it has lost at the first unit of the shortest chain.
    """
    lengths = sorted(frame.loc[frame["model"] == "plain", "hidden"].dropna().astype(int).unique())
    pairs = product(initialisers, lengths[: 1 if at_first else None])
    profiles = (relative_gradients(frame, activation, *pair) for pair in pairs)
    measured = (profile for profile in profiles if len(profile))
    lost = [-each.iloc[:, 0].dropna() if at_first else slopes(each) for each in measured]
    return pd.concat(lost, axis=1).dropna().mean(axis=1) if lost else pd.Series(dtype=float)


def arrivals(frame: pd.DataFrame, activation: str, optimiser: str = "sgd") -> pd.DataFrame:
    """Updates at which units arrived, replicates x positions; NaN if not moved.

    Empty for nets that did not learn.
    """
    where = {"activation": activation, "optimiser": optimiser}
    table = _table(_rows(frame, "convergence", "arrival", **where))
    return table if _have_learned(frame, "convergence", where) else table[:0]


def arrival_slope(frame: pd.DataFrame, activation: str, optimiser: str = "sgd") -> pd.Series:
    """Decades of updates by which a unit arrives later than the one above it.

    Output similarity has an order built in: no unit's outputs are final before those below it are.
    """
    return -slopes(arrivals(frame, activation, optimiser).map(np.log10))


def freezing_cost(
    frame: pd.DataFrame, activation: str, optimiser: str = "", update: int | None = None
) -> pd.DataFrame:
    """Logits of test accuracy that freezing one unit costs, replicates x positions.

    Empty for nets that did not learn though nothing was frozen.

    Args:
      optimiser: empty takes any (each activation was frozen under one).
      update: first one at which it is frozen; None takes the last (how much a unit had still to learn), 0 asks whether
        it has to be trained at all.
    """
    where = {"activation": activation} | ({"optimiser": optimiser} if optimiser else {})
    rows = _rows(frame, "freezing", "test_logit", **where)
    frozen = rows[rows["unit"].notna()]
    since = frozen["update"].max() if update is None else update
    whole = rows[rows["unit"].isna()].set_index("replicate")["value"]
    costs = _table(frozen[frozen["update"] == since]).rsub(whole, axis=0).dropna()
    return costs if _have_learned(frame, "freezing", where) else costs[:0]


def freezing_slope(frame: pd.DataFrame, activation: str) -> pd.Series:
    """Logits that freezing a unit costs more than the one above it, without the head."""
    return -slopes(freezing_cost(frame, activation).iloc[:, :-1])


MEASURES: dict[str, Callable[..., pd.Series]] = {
    "decades_lost": decades_lost,
    "decades_lost_at_first": partial(decades_lost, at_first=True),
    "arrival_slope": arrival_slope,
    "freezing_slope": freezing_slope,
}
"""Name -> function of the table and keyword arguments; it returns one number a replicate."""


def slopes(table: pd.DataFrame) -> pd.Series:
    """Least-squares slope on position of replicates with three units or more."""
    positions = np.asarray(table.columns, float)
    by_replicate = {}
    for replicate, row in table.iterrows():
        known = np.isfinite(values := row.to_numpy(float))
        if known.sum() >= 3:
            by_replicate[replicate] = float(np.polyfit(positions[known], values[known], 1)[0])
    return pd.Series(by_replicate, dtype=float, name="value").rename_axis("replicate")


def _have_learned(frame: pd.DataFrame, probe: str, where: dict[str, str]) -> bool:
    """Return whether the mean test accuracy of whole nets is at least twice chance."""
    rows = _rows(frame, probe, "test_accuracy", **where)
    accuracy = rows.loc[rows["unit"].isna(), "value"].mean()
    return bool(accuracy >= 2 * frame.loc[frame["quantity"] == "chance", "value"].mean())


def _rows(frame: pd.DataFrame, probe: str, quantity: str, **where: str) -> pd.DataFrame:
    values = {"probe": probe, "quantity": quantity, **where}
    return frame[(frame[list(values)] == pd.Series(values)).all(axis=1)]


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    """Pivot rows to replicates x positions."""
    table = rows.pivot_table(index="replicate", columns="position", values="value", dropna=False)
    return table.set_axis([int(place) for place in table.columns], axis=1)
