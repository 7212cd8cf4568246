"""The pictures of the section on feature maps: what units compute, before and after, and how far they moved."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from convtl.analysis.arms import SCRATCH
from convtl.reporting.figures import (
    GREY,
    Axes,
    Figure,
    canvas,
    colours,
    drawable,
    legend,
    styled,
    whole_axis,
)
from convtl.study.movement import FeatureMaps, Pair

_TILE = 60
"""Pixels of a tile: maps of every size are drawn equally large."""
_ACROSS = 22
"""Most tiles in a row."""

Kept = Mapping[str, FeatureMaps]
"""Source -> what is kept of its trial, in the order in which sources are shown."""


@styled
def unit_maps(kept: Kept, unit: str) -> Figure:
    """Maps of one unit for some images: two lines a source (before, after), a column for each channel."""
    first = next(iter(kept.values()))
    channels = min(values.maps[unit][0].shape[-1] for values in kept.values())
    shown = min(len(first.images), max(1, _ACROSS // (channels + 1)))
    lines, pictures, limit = [], [], 0.0
    for values in kept.values():
        for when, outputs in enumerate(values.maps[unit]):
            line: list[np.ndarray | None] = []
            seen: list[np.ndarray | None] = []
            for index in range(shown):
                limit = max(limit, float(np.abs(outputs[index]).max()))
                line += [None, *(outputs[index, :, :, channel] for channel in range(channels))]
                grey = values.images[index].mean(-1) / 255 if when == 0 else None
                seen += [grey, *[None] * channels]
            lines.append(line)
            pictures.append(seen)
    figure, axis = _tiles(
        lines, limit, [f"from {name}" if name != SCRATCH else name for name in kept], 2
    )
    axis.imshow(_mosaic(pictures, 2), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    names = [text for _ in range(shown) for text in ("image", *map(str, range(1, channels + 1)))]
    _above(axis, names)
    axis.set_title(f"{unit}: what its channels say")
    return figure


@styled
def kernels(kept: Kept) -> Figure:
    """Filters of the first unit: three lines a source (before, after, change), each source on its own scale."""
    lines: list[list[np.ndarray | None]] = []
    names, filters = [], 0
    for name, values in kept.items():
        if values.kernels is None:
            continue
        before, after = values.kernels
        size = max(float(np.abs(before).max()), float(np.abs(after).max())) or 1.0
        lines += [list(part / size) for part in (before, after, after - before)]
        names.append(f"from {name}" if name != SCRATCH else name)
        filters = max(filters, len(before))
    lines = [[*line, *[None] * (filters - len(line))] for line in lines]
    figure, axis = _tiles(lines, 1.0, names, 3)
    _above(axis, [str(index + 1) for index in range(filters)])
    unit = next(iter(kept.values())).units[0]
    axis.set_title(f"filters of {unit}")
    return figure


@styled
def class_rows(kept: Kept, units: Sequence[str]) -> Figure:
    """Mean outputs by class of units without maps: a line a source, each unit before and after.

    Of every output its mean over classes is taken off. Outputs stand in the order of the class that they answer
    to most after tuning; that order is found on one half of the images, and drawn is the other half.
    """
    panels = 2 * len(units)
    figure, grid = canvas(
        panels, rows=len(kept), columns=panels, width=min(3.2, 10.5 / panels), height=1.7
    )
    limits = {unit: max(_largest(values.means[unit]) for values in kept.values()) for unit in units}
    for axes, (name, values) in zip(grid, kept.items(), strict=True):
        for index, unit in enumerate(units):
            order = _by_class(_centred(values.means[unit][1][0]))
            for when, (axis, means) in enumerate(
                zip(axes[2 * index : 2 * index + 2], values.means[unit], strict=True)
            ):
                limit = limits[unit]
                table = _centred(means[1])[:, order]
                axis.imshow(
                    table,
                    cmap="RdBu_r",
                    vmin=-limit,
                    vmax=limit,
                    aspect="auto",
                    interpolation="nearest",
                )
                axis.grid(False)
                axis.set_xticks([])
                axis.set_yticks([])
                axis.set_title(f"{unit}, {'after' if when else 'before'}", fontsize=9.5)
        axes[0].set_yticks(
            range(len(values.classes)), [drawable(c[:3]) for c in values.classes], fontsize=6.5
        )
        axes[0].set_ylabel(drawable(f"from {name}" if name != SCRATCH else name), fontsize=9)
    for axis in grid[-1]:
        axis.set_xlabel("outputs of the unit", fontsize=8.5)
    return figure


@styled
def movement(
    frame: pd.DataFrame, sources: Sequence[str], units: Sequence[str], names: Mapping[int, str]
) -> Figure:
    """Displacement and CKA by unit: a column a depth, a line a source, a dot a replicate.

    Args:
      frame: columns source, depth, unit, replicate, displacement, cka.
      sources: in their order, scratch among them.
      units: from the input on.
      names: depth -> what it is called.
    """
    looks = colours([name for name in sources if name != SCRATCH]) | {SCRATCH: (GREY, "x")}
    shifts = (np.arange(len(sources)) - (len(sources) - 1) / 2) * min(
        0.12, 0.7 / max(len(sources), 1)
    )
    wide = max(len(names), 1)
    figure, grid = canvas(
        wide, rows=2, columns=wide, width=min(3.5, 10.5 / wide), height=2.7, sharey="row"
    )
    for column, label, axes in zip(
        ("displacement", "cka"),
        ("weights: |w − w₀| / |w₀|", "outputs: CKA with before"),
        grid,
        strict=True,
    ):
        for axis, (depth, name) in zip(axes, names.items(), strict=True):
            for source, shift in zip(sources, shifts, strict=True):
                own = frame[(frame["depth"] == depth) & (frame["source"] == source)]
                table = own.pivot_table(
                    index="replicate", columns="unit", values=column, aggfunc="first"
                )
                known = [unit for unit in units if unit in table]
                _dots(
                    axis,
                    table[known],
                    [units.index(u) + shift for u in known],
                    looks[source],
                    source,
                )
            whole_axis(axis.xaxis, range(len(units)), units)
            axis.set_xlim(-0.5, len(units) - 0.5)
            axis.tick_params(axis="x", labelsize=10 if wide < 4 else 7.5)
            axis.set_title(f"depth {name}")
        axes[0].set_ylabel(label)
    grid[0][0].set_ylim(bottom=0)
    lowest = float(frame["cka"].min()) if frame["cka"].notna().any() else 1.0
    grid[1][0].set_ylim(min(lowest - 0.05, 0.9), 1.03)
    for axis in grid[1]:
        axis.set_xlabel("unit, from the input")
    legend(figure, [axis for line in grid for axis in line])
    return figure


# --- pieces -------------------------------------------------------------------------------------------


def _dots(
    axis: Axes, table: pd.DataFrame, places: Sequence[float], look: tuple[str, str], source: str
) -> None:
    """A dot a replicate, and the means joined by a line."""
    if not len(table) or not places:
        return
    colour, marker = look
    for place, unit in zip(places, table, strict=True):
        values = table[unit].dropna()
        axis.plot(
            np.full(len(values), place),
            values,
            ".",
            color=colour,
            alpha=0.4,
            markersize=4,
            zorder=2,
        )
    label = drawable(f"from {source}" if source != SCRATCH else source)
    style = {"color": colour, "marker": marker, "markersize": 5.5, "label": label}
    axis.plot(places, table.mean().to_numpy(), linewidth=1.3, zorder=3, **style)  # type: ignore[arg-type]


def _tiles(
    lines: Sequence[Sequence[np.ndarray | None]], limit: float, names: Sequence[str], each: int
) -> tuple[Figure, Axes]:
    """Tiles in lines, `each` lines a name; red is positive, blue negative."""
    across = max(len(line) for line in lines)
    size = min(0.62, 9.2 / across, 7.0 / len(lines))
    height = size * (len(lines) + 0.35 * (len(names) - 1))
    figure, [[axis]] = canvas(1, width=size * across + 1.4, height=height)
    image = axis.imshow(
        _mosaic(lines, each),
        cmap="RdBu_r",
        vmin=-(limit or 1),
        vmax=limit or 1,
        interpolation="nearest",
    )
    axis.grid(False)
    for side in axis.spines.values():
        side.set_visible(False)
    whens = ("before", "after", "change")[:each]
    places = [(_top(index, each) + _TILE / 2) for index in range(len(lines))]
    labels = [f"{name}\n{when}" if when == "before" else when for name in names for when in whens]
    whole_axis(axis.yaxis, places, labels)
    axis.tick_params(length=0, labelsize=8.5)
    bar = figure.colorbar(image, ax=axis, shrink=min(1.0, 2.2 / height), aspect=12, pad=0.01)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8)
    return figure, axis


def _above(axis: Axes, names: Sequence[str]) -> None:
    axis.xaxis.tick_top()
    whole_axis(axis.xaxis, [index * (_TILE + 4) + _TILE / 2 for index in range(len(names))], names)
    axis.tick_params(axis="x", length=0, labelsize=7.5)


def _top(line: int, each: int) -> int:
    """First pixel of a line; there is a gap before every new name."""
    return line * (_TILE + 4) + line // each * (_TILE // 3)


def _mosaic(lines: Sequence[Sequence[np.ndarray | None]], each: int) -> np.ma.MaskedArray:
    """One array of all tiles, masked where there is none."""
    across = max(len(line) for line in lines)
    whole = np.full((_top(len(lines) - 1, each) + _TILE, across * (_TILE + 4) - 4), np.nan)
    for row, line in enumerate(lines):
        for column, tile in enumerate(line):
            if tile is not None:
                down, right = (np.arange(_TILE) * side // _TILE for side in tile.shape)
                top, left = _top(row, each), column * (_TILE + 4)
                whole[top : top + _TILE, left : left + _TILE] = tile[down][:, right]
    return np.ma.masked_invalid(whole)


def _centred(means: np.ndarray) -> np.ndarray:
    """(classes, features) without each feature's mean over classes."""
    return means - means.mean(0)


def _by_class(table: np.ndarray) -> np.ndarray:
    """Features by the class that they answer to most, the strongest of a class first."""
    best = table.argmax(0)
    return np.lexsort((-table.max(0), best))


def _largest(pair: Pair) -> float:
    return max(max(float(np.abs(_centred(means[1])).max()) for means in pair), 1e-6)
