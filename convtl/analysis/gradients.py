"""From the table of the probes of training (`convtl.training.probes`) to one number a replicate."""

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
    """R in decades, replicates x positions of the hidden units (1 is the first) of a plain chain of so many."""
    where = {"activation": activation, "initialiser": initialiser}
    rows = _rows(frame, "profile", "relative_gradient", **where)
    return _table(rows[(rows["update"] == update) & (rows["hidden"] == hidden)])


def decades_lost(
    frame: pd.DataFrame,
    activation: str,
    initialisers: Sequence[str] = USUAL,
    at_first: bool = False,
) -> pd.Series:
    """Decades that a gradient loses from unit to unit towards the input: mean over plain chains and initialisers.

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
    """Update at which each unit had arrived, replicates x positions; NaN where it did not move.

    Empty for nets that did not learn: where they end is no place to arrive at.
    """
    where = {"activation": activation, "optimiser": optimiser}
    table = _table(_rows(frame, "convergence", "arrival", **where))
    return table if _have_learned(frame, "convergence", where) else table[:0]


def arrival_slope(frame: pd.DataFrame, activation: str, optimiser: str = "sgd") -> pd.Series:
    """Decades of updates by which a unit arrives later than the one above it: positive if early ones are slowest.

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
      update: from which on it was frozen; None takes the last (how much a unit had still to learn), 0 asks whether
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
    """Logits by which freezing a unit costs more than freezing the one above it, the head left out."""
    return -slopes(freezing_cost(frame, activation).iloc[:, :-1])


MEASURES: dict[str, Callable[..., pd.Series]] = {
    "decades_lost": decades_lost,
    "decades_lost_at_first": partial(decades_lost, at_first=True),
    "arrival_slope": arrival_slope,
    "freezing_slope": freezing_slope,
}
"""Measures by name: the table, and keyword arguments -> one number a replicate in which it is defined."""


def slopes(table: pd.DataFrame) -> pd.Series:
    """Least-squares slope on position over the units with a number, of replicates with three or more."""
    positions = np.asarray(table.columns, float)
    by_replicate = {}
    for replicate, row in table.iterrows():
        known = np.isfinite(values := row.to_numpy(float))
        if known.sum() >= 3:
            by_replicate[replicate] = float(np.polyfit(positions[known], values[known], 1)[0])
    return pd.Series(by_replicate, dtype=float, name="value").rename_axis("replicate")


def _have_learned(frame: pd.DataFrame, probe: str, where: dict[str, str]) -> bool:
    """Whether the test accuracy of whole nets, a mean over replicates, is at least twice chance."""
    rows = _rows(frame, probe, "test_accuracy", **where)
    accuracy = rows.loc[rows["unit"].isna(), "value"].mean()
    return bool(accuracy >= 2 * frame.loc[frame["quantity"] == "chance", "value"].mean())


def _rows(frame: pd.DataFrame, probe: str, quantity: str, **where: str) -> pd.DataFrame:
    values = {"probe": probe, "quantity": quantity, **where}
    return frame[(frame[list(values)] == pd.Series(values)).all(axis=1)]


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    """Replicates x positions."""
    table = rows.pivot_table(index="replicate", columns="position", values="value", dropna=False)
    return table.set_axis([int(place) for place in table.columns], axis=1)
