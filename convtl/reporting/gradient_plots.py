"""The pictures of the section on gradients: each takes the table of the probes and returns a figure."""

from typing import Any

import numpy as np
import pandas as pd

from convtl.analysis.gradients import arrivals, freezing_cost, relative_gradients
from convtl.analysis.statistics import bootstrap_interval
from convtl.reporting.figures import (
    GREY,
    Axes,
    Figure,
    canvas,
    colours,
    legend,
    log_axis,
    styled,
    whole_axis,
)

LENET = ("conv1", "conv2", "fc3", "fc4", "fc5")
"""Units of LeNet-5 with weights, from the input."""


@styled
def gradient_profile(frame: pd.DataFrame) -> Figure:
    """R against the distance from the last hidden unit: a column an activation, a row an update."""
    chains = chains_of(frame)
    deepest = int(chains["hidden"].max())
    activations, moments = (
        in_order(chains, "activation"),
        sorted(chains["update"].astype(int).unique()),
    )
    looks = colours(in_order(chains, "initialiser"))
    figure, grid = _grid(len(moments), len(activations), height=2.5, sharey=True)
    for moment, line in zip(moments, grid, strict=True):
        for activation, axis in zip(activations, line, strict=True):
            for initialiser, look in looks.items():
                profile = relative_gradients(
                    chains, activation, initialiser=initialiser, hidden=deepest, update=moment
                ).dropna()
                places = deepest - np.asarray(profile.columns, float)
                _band(axis, places, profile, look, initialiser)
            axis.set_title(f"{activation}, update {moment}")
            axis.invert_xaxis()
        line[0].set_ylabel("R, decades")
    for axis in grid[-1]:
        axis.set_xlabel("units from the last hidden one (left: input)")
    legend(figure, [axis for line in grid for axis in line])
    return figure


@styled
def convergence_order(frame: pd.DataFrame) -> Figure:
    """Arrival against unit: a column an activation, a row an optimiser."""
    own = frame[frame["probe"] == "convergence"]
    activations, optimisers = in_order(own, "activation"), in_order(own, "optimiser")
    figure, grid = _grid(len(optimisers), len(activations), sharey=True)
    tables = [
        arrivals(frame, *pair).to_numpy(float).ravel() for pair in pairs_of(frame, "convergence")
    ]
    every = [float(value) for table in tables for value in table if value > 0]
    for optimiser, line in zip(optimisers, grid, strict=True):
        for activation, axis in zip(activations, line, strict=True):
            found = arrivals(frame, activation, optimiser)
            _unit_axis(axis, len(LENET))
            log_axis(axis.yaxis, every or [1.0])
            places = np.asarray(found.columns, float)
            for values in found.to_numpy(float):
                axis.plot(places, values, ".", color=GREY, alpha=0.6)
            if len(found):
                usual = found.loc[
                    :, found.notna().mean() >= 0.5
                ]  # a mean of the few that moved says little
                middle = np.exp(usual.map(np.log).mean())
                axis.plot(np.asarray(usual.columns, float), middle, "o-", label="geometric mean")
            else:
                axis.text(
                    0.5, 0.5, "no net learned", ha="center", va="center", transform=axis.transAxes
                )
            axis.set_title(f"{activation}, {optimiser}")
        line[0].set_ylabel("update of arrival")
    legend(figure, [axis for line in grid for axis in line])
    return figure


@styled
def freezing_costs(frame: pd.DataFrame) -> Figure:
    """Cost against unit: a panel an activation and optimiser, a line for each moment of freezing."""
    pairs = pairs_of(frame, "freezing")
    figure, [axes] = canvas(len(pairs), sharey=True)
    for (activation, optimiser), axis in zip(pairs, axes, strict=True):
        rows = rows_of(frame, "freezing", activation, optimiser)
        moments = sorted(rows.loc[rows["unit"].notna(), "update"].astype(int).unique())
        for moment, look in zip(moments, colours([str(m) for m in moments]).values(), strict=True):
            cost = freezing_cost(frame, activation, optimiser, moment)
            _band(axis, np.asarray(cost.columns, float), cost, look, f"frozen from update {moment}")
        axis.axhline(0, color=GREY, linewidth=1)
        _unit_axis(axis, len(LENET))
        axis.set_title(f"{activation}, {optimiser}")
    axes[0].set_ylabel("cost, logits")
    legend(figure, axes)
    return figure


# --- pieces -------------------------------------------------------------------------------------------


def chains_of(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[(frame["probe"] == "profile") & (frame["model"] == "plain")]


def in_order(frame: pd.DataFrame, column: str) -> list[str]:
    return [str(value) for value in frame[column].dropna().unique()]


def rows_of(frame: pd.DataFrame, probe: str, activation: str, optimiser: str) -> pd.DataFrame:
    same = (frame["probe"] == probe) & (frame["activation"] == activation)
    return frame[same & (frame["optimiser"] == optimiser)]


def pairs_of(frame: pd.DataFrame, probe: str) -> list[tuple[str, str]]:
    own = frame[frame["probe"] == probe][["activation", "optimiser"]].drop_duplicates()
    return [
        (str(activation), str(optimiser)) for activation, optimiser in own.itertuples(index=False)
    ]


def _grid(
    rows: int, columns: int, height: float = 2.8, **share: Any
) -> tuple[Figure, list[list[Axes]]]:
    figure, grid = canvas(columns, rows=rows, columns=columns, height=height, **share)
    return figure, grid


def _unit_axis(axis: Axes, units: int) -> None:
    whole_axis(axis.xaxis, range(1, units + 1), LENET[:units])
    axis.set_xlim(0.5, units + 0.5)


def _band(
    axis: Axes, places: np.ndarray, table: pd.DataFrame, look: tuple[str, str], label: str
) -> None:
    """Mean over replicates with a bootstrap band."""
    if not len(table):
        return
    values = table.to_numpy(float)
    axis.plot(places, values.mean(axis=0), color=look[0], marker=look[1], markersize=4, label=label)
    if len(values) > 1:
        low, high = bootstrap_interval(values)
        axis.fill_between(places, low, high, color=look[0], alpha=0.2, linewidth=0)
