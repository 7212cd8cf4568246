"""Studies drawn from a study's rows: validation curves, rates chosen anew.

A replicate of the rows is a vector: for every condition its validation loss at each learning rate, and its test logit
at each. Drawn replicates have the mean and the covariance of these vectors, over conditions and rates alike. Then each
condition is validated on pictures of its own, and its rate chosen by the rule of `convtl.study.learning_rates`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from convtl.analysis.conditions import COORDINATES
from convtl.analysis.frame import axes_of, of_study, read_rows
from convtl.analysis.statistics import logit_accuracy
from convtl.config.schema import Config
from convtl.errors import UserError
from convtl.study.grid import expand
from convtl.study.learning_rates import Score, at_edge, choose_rate, next_rates
from convtl.study.store import RowStore

SMOOTHING = 0.5
"""Root of the share of variance drawn from a normal of the rows' covariance; the rest is whole rows."""


@dataclass(frozen=True)
class Curves:
    """One condition of the rows.

    Attributes:
      rows: the rows, by replicate.
      grid: the rates that every replicate began with.
      extend: further rates that a trial may try on a side.
      rates: those that any replicate tried, ascending.
      nll: replicates x rates, loss against that of the grid's middle rate, without the noise of validation pictures.
      noise: of that difference, for each rate.
      logit: replicates x rates, of test accuracy.
      ahead: logit of validation accuracy minus that of test accuracy, for each replicate.
    """

    rows: pd.DataFrame
    grid: tuple[float, ...]
    extend: int
    rates: tuple[float, ...]
    nll: np.ndarray
    noise: np.ndarray
    logit: np.ndarray
    ahead: np.ndarray


def read_curves(out: Path, config: Config, points: pd.DataFrame | None = None) -> list[Curves]:
    """Read every condition that has all replicates, and the scores of its rates."""
    frame, stored = of_study(read_rows(out), points)[0], RowStore(out).read()
    keys = [*COORDINATES, *axes_of(frame)]
    frame = frame[frame["usable"]].copy()
    frame["scores"] = [stored[trial].get("scores", []) for trial in frame["trial"]]
    groups = [
        rows.drop_duplicates("replicate").set_index("replicate", drop=False).sort_index()
        for _, rows in frame.groupby(keys, sort=False, dropna=False)
    ]
    replicates = max((len(rows) for rows in groups), default=0)
    whole = [rows for rows in groups if len(rows) == replicates]
    if replicates < 4:
        raise UserError(f"out: got {replicates} replicates in '{out}'; accepted: 4 or more")
    settings = {trial.id: trial.settings for trial in expand(config)[1]}
    own = [settings.get(rows["trial"].iloc[0], config) for rows in whole]
    return [curves_of(rows, one.lr, one.lr_extend) for rows, one in zip(whole, own, strict=True)]


def curves_of(rows: pd.DataFrame, grid: Sequence[float], extend: int) -> Curves:
    """Separate each replicate's curve from the noise of its validation pictures.

    Both in differences between rates: their variance over replicates is that of the curves and that of the pictures,
    which the rows' standard errors tell. At a rate that was not chosen a replicate's test logit is that at the chosen
    one, moved as validation accuracy moves between these rates: on average over replicates, and beyond that with the
    replicate's own loss, by the slope of one on the other. Rates beyond the grid were tried where the nearest one was
    chosen: for other replicates the step from that one is the average of those that took it.

    Args:
      grid, extend: rates of its trials, and further ones that they may try on a side.
    """
    accuracy, nll, se = _by_rate(rows)
    rates, common = nll.columns, nll.columns[nll.notna().all()]
    grid = sorted(set(grid) & set(common)) or list(common)
    if not grid:
        raise UserError(f"out: trials like {rows['trial'].iloc[0]} have no learning rate in common")
    middle = grid[len(grid) // 2]
    loss, moved = (table.sub(table[middle], axis=0) for table in (nll, accuracy))
    noise = np.sqrt(np.square(np.maximum(se, se[[middle]].to_numpy())).mean())
    noise[middle] = 0.0
    spread = loss.std()
    loss, moved = (_filled(table, middle) for table in (loss, moved))
    usual = loss.mean()
    deviation, beyond = loss - usual, moved - moved.mean()
    share = np.sqrt(np.clip(1 - (noise / spread.where(spread > 0, np.inf)) ** 2, 0, 1))
    squares = float(np.square(deviation).to_numpy().sum())
    slope = max(0.0, -float((beyond * deviation).to_numpy().sum())) / max(squares, 1e-12)
    own = share * deviation
    gain = (moved.mean() - slope * own).to_numpy()
    chosen = rates.get_indexer(rows["lr"].where(rows["lr"].isin(rates), middle))
    at_chosen = gain[np.arange(len(gain)), chosen]
    return Curves(
        rows=rows,
        grid=tuple(grid),
        extend=extend,
        rates=tuple(map(float, rates)),
        nll=(usual + own).to_numpy(),
        noise=noise.to_numpy(),
        logit=rows["logit_accuracy"].to_numpy()[:, None] + gain - at_chosen[:, None],
        ahead=(_logit(rows["val_accuracy"], _validated(rows)) - rows["logit_accuracy"]).to_numpy(),
    )


def _filled(table: pd.DataFrame, middle: float) -> pd.DataFrame:
    """Fill in rates that a replicate did not try: the next rate's value and the usual step from there."""
    rates, filled = list(table.columns), table.copy()
    inside = rates.index(middle)
    for place in (*range(inside + 1, len(rates)), *range(inside - 1, -1, -1)):
        rate, nearer = rates[place], rates[place - 1 if place > inside else place + 1]
        step = (table[rate] - filled[nearer]).mean()
        filled[rate] = table[rate].fillna(filled[nearer] + step)
    return filled


def _by_rate(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Logit of validation accuracy, loss and its standard error, replicates x rates."""
    lines = [(number, *score) for number, scores in rows["scores"].items() for score in scores]
    long = pd.DataFrame(lines, columns=["replicate", "rate", "accuracy", "nll", "se"]).dropna()
    long["accuracy"] = _logit(long["accuracy"], long["replicate"].map(_validated(rows)))
    return [
        long.pivot(index="replicate", columns="rate", values=name).reindex(rows.index)
        for name in ("accuracy", "nll", "se")
    ]


def _validated(rows: pd.DataFrame) -> pd.Series:
    """Number of pictures behind a validation accuracy; of training if within."""
    return rows["n_val"].where(rows["n_val"] > 0, rows["n_train"])


def _logit(accuracy: pd.Series, pictures: pd.Series) -> pd.Series:
    return pd.Series(logit_accuracy(accuracy, pictures), accuracy.index)


def draw(
    curves: Sequence[Curves], count: int, draws: np.random.Generator, together: int = 1
) -> pd.DataFrame:
    """Draw replicates of all conditions at once, as a frame of rows.

    Args:
      together: successive replicates whose first two choose the rate of all, as first planned; 1: each chooses its own.
    """
    parts = [np.hstack([one.nll, one.logit, one.ahead[:, None]]) for one in curves]
    vectors = np.hstack(parts)
    m, mean = len(vectors), vectors.mean(axis=0)
    deviations = (vectors - mean) / np.sqrt(m - 1)
    picked = np.sqrt(m) * deviations[draws.integers(0, m, count)]
    normal = draws.normal(size=(count, m)) @ deviations
    drawn = mean + np.sqrt(1 - SMOOTHING**2) * picked + SMOOTHING * normal
    ends = np.cumsum([part.shape[1] for part in parts])[:-1]
    frames = [
        _chosen(one, part, draws, together)
        for one, part in zip(curves, np.split(drawn, ends, axis=1), strict=True)
    ]
    return pd.concat(frames, ignore_index=True)


def _chosen(
    one: Curves, drawn: np.ndarray, draws: np.random.Generator, together: int
) -> pd.DataFrame:
    """Rows of drawn replicates of one condition, each with a rate chosen anew."""
    width, count = len(one.rates), len(drawn)
    nll, logit, ahead = drawn[:, :width], drawn[:, width:-1], drawn[:, -1]
    seen = nll + one.noise * draws.normal(size=nll.shape)
    if together > 1:
        blocks = np.arange(count) // together * together
        seen = (seen[blocks] + seen[np.minimum(blocks + 1, count - 1)]) / 2
    places, edges = map(np.array, zip(*(_choice(one, losses) for losses in seen), strict=True))
    rates = np.asarray(one.rates)[places]
    score = logit[np.arange(count), places]
    rows = one.rows.iloc[np.zeros(count, int)].drop(columns="scores").reset_index(drop=True)
    return rows.assign(
        replicate=np.arange(count),
        trial=[f"{one.rows['trial'].iloc[0]}-{number}" for number in range(count)],
        lr=rates,
        lr_at_edge=pd.array(edges, "boolean"),
        logit_accuracy=score,
        test_accuracy=1 / (1 + np.exp(-score)),
        val_accuracy=1 / (1 + np.exp(-score - ahead)),
    )


def _choice(one: Curves, losses: np.ndarray) -> tuple[int, bool]:
    """Choose a rate as a trial does: of the grid, then of further ones; is it at the edge?"""
    tried: list[int] = []
    scores: list[Score] = []
    wanted = set(one.grid)
    while further := [place for place, rate in enumerate(one.rates) if rate in wanted]:
        tried = sorted([*tried, *further])
        best = min(tried, key=lambda place: losses[place])
        errors = np.maximum(one.noise, one.noise[best])
        errors[best] = 0.0
        scores = [Score(one.rates[at], 0.0, float(losses[at]), float(errors[at])) for at in tried]
        wanted = set(next_rates(one.grid, scores, one.extend))
    chosen = choose_rate(scores, one.grid)
    return one.rates.index(chosen), at_edge(scores, chosen)
