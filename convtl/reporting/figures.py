"""The only door to matplotlib: style, canvases, axes in words, PNG files. No pyplot, no global state left.

Drawing itself is in `plots.py`, which works on what `canvas` returns.
"""

import contextlib
import functools
import io
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib.style
from matplotlib import font_manager, ft2font
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from PIL import Image

from convtl.reporting import numbers
from convtl.storage.files import written

COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#7F3C8D",
    "#5D6D1E",
    "#8B1A1A",
    "#1F2F6B",
    "#B8A100",
    "#E0457B",
    "#00736B",
    "#A0826D",
)
"""Okabe and Ito (2008), told apart with any colour vision; others for studies with many sources."""
MARKERS = "osD^vPX*<>phd8"
GREY = "#5F6368"
DPI = 130

_STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "figure.facecolor": "white",
    "lines.linewidth": 1.8,
    "text.parse_math": False,  # names come from users: a dollar sign is a dollar sign
}

P = ParamSpec("P")
R = TypeVar("R")


@contextlib.contextmanager
def style() -> Iterator[None]:
    """The report's look; what the user has set is back afterwards."""
    with matplotlib.style.context(["default", _STYLE]):
        yield


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Draws in the report's style."""

    @functools.wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with style():
            return draw(*args, **kwargs)

    return inside


def canvas(
    panels: int,
    *,
    rows: int = 1,
    columns: int = 3,
    width: float = 3.5,
    height: float = 3.3,
    **share: Any,
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of `rows` x `panels` axes; with one row, more than `columns` panels wrap.

    Returns:
      The figure, and the axes by row (one list of `panels` axes for each of `rows`).
    """
    wide = panels if rows > 1 else min(panels, columns)
    tall = rows if rows > 1 else -(-panels // columns)
    size = (max(width * wide + 0.7, 5.5), height * tall + 0.9)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(tall, wide, squeeze=False, **share)
    if rows > 1:
        return figure, [list(line) for line in grid]
    flat = list(grid.ravel())
    for spare in flat[panels:]:
        spare.set_visible(False)
    return figure, [flat[:panels]]


@styled
def save(figure: Figure, path: Path) -> Path:
    """Writes a PNG under a temporary name, then renames it."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    # 256 colours are enough for lines and letters, and halve the size of a report
    flat = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    path.parent.mkdir(exist_ok=True)
    with written(path) as file:
        flat.save(file, format="PNG", optimize=True)
    return path


@functools.cache
def _glyphs() -> frozenset[int]:
    path = font_manager.findfont("DejaVu Sans")
    return frozenset(ft2font.FT2Font(path).get_charmap())


def drawable(text: str) -> str:
    """The text with a box for every character that the font of the figures cannot draw."""
    return "".join(
        sign if sign == "\n" or ord(sign) in _glyphs() else "\N{WHITE SQUARE}" for sign in text
    )


def colours(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Name -> (colour, marker), in the order given."""
    return {
        name: (
            COLOURS[index % len(COLOURS)],
            MARKERS[(index + index // len(COLOURS)) % len(MARKERS)],
        )
        for index, name in enumerate(names)
    }


def log_axis(axis: Any, values: Sequence[float]) -> None:
    """A logarithmic axis with ticks at the values themselves, or at round numbers where those are many."""
    distinct = sorted(set(values))
    if (
        axis.get_scale() != "log"
    ):  # panels share axes: a second time would bring matplotlib's locator back
        getattr(axis.axes, f"set_{axis.axis_name}scale")("log")
    axis.set_major_locator(
        _LogPlaces(_apart(distinct) if len(distinct) <= 6 else _round_numbers(distinct))
    )
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: numbers.short(value)))


class _LogPlaces(FixedLocator):
    """Places on a logarithmic axis; where all values are one, it is in the middle of a decade."""

    def nonsingular(self, v0: float, v1: float) -> tuple[float, float]:
        # logarithms and back leave the last bits of equal values different
        same = math.isclose(v0, v1, rel_tol=1e-6)
        return (v0 / math.sqrt(10), v1 * math.sqrt(10)) if same else super().nonsingular(v0, v1)


def _apart(values: Sequence[float]) -> list[float]:
    """The values whose labels do not run into the one before them."""
    near = 0.09 * math.log(values[-1] / values[0]) if values else 0.0
    kept: list[float] = []
    for value in values:
        if not kept or math.log(value / kept[-1]) > near:
            kept.append(value)
    return kept


def _round_numbers(values: Sequence[float]) -> list[float]:
    """1, 2, 5 or 1 of every decade that the values span."""
    low, high = math.floor(math.log10(values[0])), math.ceil(math.log10(values[-1]))
    steps = (1, 2, 5) if high - low <= 2 else (1,)
    return [step * 10.0**power for power in range(low, high + 1) for step in steps]


def percent_axis(axis: Any) -> None:
    """Shares as percent."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}%"))


def whole_axis(axis: Any, places: Sequence[float], labels: Sequence[str]) -> None:
    """Named places and nothing between them."""
    axis.set_major_locator(FixedLocator(list(places)))
    axis.set_ticklabels([drawable(label) for label in labels])


def legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend above all panels, every name once."""
    handles: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if not handles:
        return
    widths = [
        0.6 + 0.075 * len(name) for name in handles
    ]  # inches: the line, and about so much a letter
    room = figure.get_figwidth()
    columns = len(handles) if sum(widths) < room else max(1, int(room / max(widths)))
    figure.legend(list(handles.values()), list(handles), loc="outside upper center", ncols=columns)
