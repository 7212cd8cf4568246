"""What figures are made with: the registry's `Figure`, one style, and the forms that figures have.

Figures are as wide as a page, and their letters so large that they can be read at 400 pixels. Whatever a
colour tells, a marker or a dash tells too. No pyplot, and no setting of Matplotlib's is left changed.
"""

import functools
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib import figure as mpl
from matplotlib import font_manager, ft2font
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter
from PIL import Image

from convtl.analysis.conditions import SCRATCH
from convtl.analysis.statistics import estimate
from convtl.storage.files import written

Line = dict[Any, pd.Series]
"""Place -> one number a replicate. At the place None it is drawn as a band across the panel."""
Parts = dict[str, dict[str, Line]]
"""Title of a panel -> name of a line -> the line."""
Points = Iterator[tuple[str, str, Any, pd.Series]]
"""Panel, line, place, and one number a replicate (none where there is no such condition)."""
Look = tuple[str, str, str]
"""Colour, marker, dashes."""

INK, GREY = "#222222", "#5F6368"
LOOKS: dict[str, Look] = {
    SCRATCH: (GREY, "X", "--"),
    "last layer trained": ("#D55E00", "s", ":"),
    "all layers trained": ("#0072B2", "o", "-"),
}
"""Of lines that mean the same in every figure."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F3C8D", "#5D6D1E")
"""Okabe and Ito (2008), told apart with any colour vision; the last two for larger studies."""
MARKERS, DASHES = "osD^vPX*", ("-", "--", "-.", ":")
WIDTH, DPI = 6.6, 150
_STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 11,
    "axes.titlesize": 11,
    "figure.labelsize": 11,
    "legend.fontsize": 10.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "text.parse_math": False,  # names come from users: a dollar sign is a dollar sign
}
_INTERVALS = (
    "Small dots are replicates{% if report.conditions.targets | length > 1 %}, each a mean over "
    "targets{% endif %}; large marks are means over m = "
    "{{ report.conditions.frame.replicate.nunique() or report.conditions.gradients.replicate.nunique() }} "
    "replicates (or all there are), bars and bands their 95% intervals."
)


@dataclass(frozen=True)
class Figure:
    """One figure of the registry.

    Attributes:
      needs: whether a report has what the figure shows; data: the very numbers that are drawn.
      caption: a Jinja template over `report`.
    """

    name: str
    title: str
    needs: Callable[[Any], bool]
    draw: Callable[[Any], mpl.Figure]
    caption: str
    data: Callable[[Any], Any]

    def caption_for(self, report: Any) -> str:
        """Return the caption's text."""
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
        return environment.from_string(self.caption).render(report=report)


def figure(
    title: str, draw: Callable[[Any], mpl.Figure], caption: str
) -> Callable[[Callable[[Any], Any]], Figure]:
    """Make a `Figure` of the function below, which returns what is drawn, or nothing to draw."""

    def register(data: Callable[[Any], Any]) -> Figure:
        def draw_in_style(report: Any) -> mpl.Figure:
            with matplotlib.style.context(["default", _STYLE]):
                return draw(data(report))

        def needs(report: Any) -> bool:
            return len(data(report)) > 0

        return Figure(data.__name__, title, needs, draw_in_style, caption, data)

    return register


def line_figure(
    title: str, caption: str, *, fewest: int = 1, draw: Any = None, **form: Any
) -> Callable[[Callable[[Any], Points]], Figure]:
    """Make a `Figure` of means and intervals at the points that the function below yields.

    Args:
      fewest: places that a line must have to be drawn.
      draw: a function of `Parts`, `lines` by default; form: its options.
    """

    def register(points: Callable[[Any], Points]) -> Figure:
        @functools.wraps(points)
        def data(report: Any) -> Parts:
            return _gathered(points(report), fewest)

        drawn = functools.partial(draw or lines, **form)
        return figure(title, drawn, f"{caption} {_INTERVALS}")(data)

    return register


def _gathered(points: Points, fewest: int) -> Parts:
    """Points by panel and line, scratch last; no lines that are too short, no panels of bands only."""
    parts: Parts = {}
    for title, name, place, values in points:
        parts.setdefault(title, {}).setdefault(name, {})[place] = values
    for title, part in parts.items():
        numbers = {name: sum(len(v) > 0 for v in line.values()) for name, line in part.items()}
        drawn = [n for n, line in part.items() if numbers[n] >= (1 if None in line else fewest)]
        parts[title] = {name: part[name] for name in sorted(drawn, key=lambda n: n == SCRATCH)}
    return {
        title: part
        for title, part in parts.items()
        if any(None not in line for line in part.values())
    }


def save(drawing: mpl.Figure, path: Path) -> Path:
    """Write a PNG of 256 colours, which lines and letters need, under a temporary name first."""
    drawn = io.BytesIO()
    drawing.savefig(drawn, format="png", dpi=DPI)
    flat = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written(path) as file:
        flat.save(file, format="PNG", optimize=True)
    return path


# --- forms --------------------------------------------------------------------------------


def lines(
    parts: Parts,
    x: str,
    y: str = "",
    *,
    columns: int = 2,
    across: bool = False,
    log: bool = False,
    shares: bool = False,
    zero: bool = False,
    dots: bool = True,
) -> mpl.Figure:
    """Draw a panel for each part, and in it means over replicates by place, a line for each name.

    Args:
      across: places are rows, and numbers run to the right, not joined.
      log: places are numbers on a logarithmic axis.
      shares: numbers are written as percent; zero: 0 is marked; dots: replicates are shown.
    """
    names = dict.fromkeys(name for part in parts.values() for name in part)
    places = _places(parts.values())
    height = (0.2 + 0.12 * len(names)) * len(places) + 0.8 if across else 3.0
    drawing, axes = canvas(len(parts), columns, height, sharex=across, sharey=True)
    chosen = looks(names)
    for axis, (title, part) in zip(axes, parts.items(), strict=True):
        position = _lay_out(axis, places if across else _places([part]), log, across)
        for index, (name, line) in enumerate(part.items()):
            step = (index - (len(part) - 1) / 2) * min(0.25 if across else 0.1, 0.5 / len(part))
            if None in line:
                _band(axis, line[None], chosen[name], name)
            else:
                at = [position(place, step) for place in line]
                marks(axis, at, list(line.values()), chosen[name], name, across, dots)
        if zero:
            (axis.axvline if across else axis.axhline)(0, color=GREY, linewidth=1)
        if shares:
            (axis.xaxis if across else axis.yaxis).set_major_formatter(PercentFormatter(1, 0))
        axis.set_title(drawable(title))
    drawing.supxlabel(x)
    drawing.supylabel(y)
    legend(drawing, axes)
    return drawing


def heat(table: pd.DataFrame, texts: pd.DataFrame, x: str, y: str, **scale: Any) -> mpl.Figure:
    """Draw a table of numbers as coloured cells with texts."""
    drawing, [axis] = canvas(1, 1, max(0.36 * len(table) + 0.8, 1.5))
    image = axis.imshow(np.ma.masked_invalid(table.to_numpy(float)), aspect="auto", **scale)
    axis.set_facecolor("#F4F4F4")
    axis.grid(False)
    for row, column in np.argwhere((texts != "").to_numpy()):
        colour = image.cmap(image.norm(table.iloc[row, column]))
        dark = np.dot(colour[:3], (0.3, 0.6, 0.1)) < 0.5
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 10}
        axis.text(column, row, texts.iloc[row, column], color="white" if dark else INK, **style)
    columns = [f"{name:,}" if isinstance(name, int) else str(name) for name in table.columns]
    named(axis.xaxis, range(len(columns)), columns)
    named(axis.yaxis, range(len(table)), list(map(str, table.index)))
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    return drawing


# --- pieces -------------------------------------------------------------------------------


def canvas(panels: int, columns: int, height: float, **share: Any) -> tuple[mpl.Figure, list[Axes]]:
    """Return a figure as wide as a page, and its axes, `columns` in a row of `height` inches."""
    columns = min(columns, panels)
    rows = -(-panels // columns)
    drawing = mpl.Figure((WIDTH, height * rows + 0.4), dpi=DPI, layout="constrained")
    FigureCanvasAgg(drawing)
    axes = list(drawing.subplots(rows, columns, squeeze=False, **share).flat)
    for spare in axes[panels:]:
        spare.remove()
    return drawing, axes[:panels]


def looks(names: Iterable[str]) -> dict[str, Look]:
    """Return the look of each name, in the order given."""
    names = list(names)
    used = {LOOKS[name][0] for name in names if name in LOOKS}
    free = [pair for pair in zip(COLOURS, MARKERS, strict=True) if pair[0] not in used]
    others = [name for name in names if name not in LOOKS]
    return LOOKS | {
        name: (*free[index % len(free)], DASHES[index // 2 % len(DASHES)])
        for index, name in enumerate(others)
    }


def marks(
    axis: Axes,
    places: Sequence[float],
    columns: Sequence[pd.Series],
    look: Look,
    label: str,
    across: bool = False,
    dots: bool = True,
) -> None:
    """Draw means with intervals and a dot for every replicate; empty columns are left out."""
    known = [(place, values) for place, values in zip(places, columns, strict=True) if len(values)]
    if not known:
        return
    at = [place for place, _ in known]
    means, lows, highs = np.array([interval(values) for _, values in known]).T
    bars = np.abs([means - lows, highs - means])
    style: dict[str, Any] = {"color": look[0], "marker": look[1], "capsize": 2.5, "zorder": 3}
    style |= {"elinewidth": 1.4, "label": drawable(label)}
    if across:
        axis.errorbar(means, at, xerr=bars, linestyle="none", **style)
    else:
        axis.errorbar(at, means, yerr=bars, linestyle=look[2], **style)
    for place, values in known if dots else ():
        pair = [np.full(len(values), place), values.to_numpy()]
        axis.plot(*pair[:: -1 if across else 1], ".", color=look[0], alpha=0.35, markersize=4)


def interval(values: pd.Series) -> tuple[float, float, float]:
    """Return the mean over replicates and both ends of its exact interval."""
    result = estimate(values.to_numpy(float))
    return result.effect, result.interval.low, result.interval.high


def _band(axis: Axes, values: pd.Series, look: Look, label: str) -> None:
    mean, low, high = interval(values)
    axis.axhspan(low, high, color=look[0], alpha=0.2, linewidth=0)
    axis.axhline(mean, color=look[0], linestyle=look[2], linewidth=1.5, label=drawable(label))


def _places(parts: Iterable[dict[str, Line]]) -> list[Any]:
    """Places of all lines, in their order."""
    every = (place for part in parts for line in part.values() for place in line)
    return [place for place in dict.fromkeys(every) if place is not None]


def _lay_out(
    axis: Axes, places: list[Any], log: bool, across: bool
) -> Callable[[Any, float], float]:
    """Label the places of a panel; return where a place lies, moved by a step."""
    if log:
        _logarithmic(axis, places)
        return lambda place, step: place * float(np.exp(0.35 * step))
    if all(isinstance(place, int | float) for place in places):
        shown = sorted(places)[:: 1 + len(places) // 8]
        named(axis.xaxis, shown, [f"{place:g}" for place in shown])
        gap = min(np.diff(sorted(places)), default=1.0)
        return lambda place, step: place + step * gap
    order = {place: index for index, place in enumerate(places)}
    if across:
        named(axis.yaxis, range(len(places)), places)
        axis.set_ylim(len(places) - 0.5, -0.5)
    else:
        crowded = max(map(len, places)) * len(places) > 36
        names = [place.replace("\n", " ") if crowded else place for place in places]
        named(axis.xaxis, range(len(places)), names)
        axis.tick_params(axis="x", labelrotation=50 if crowded else 0)
        axis.set_xlim(-0.5, len(places) - 0.5)
    return lambda place, step: order[place] + step


def _logarithmic(axis: Axes, values: Iterable[float]) -> None:
    """Make the lower axis logarithmic, with ticks at the values, or at powers of ten if they are crowded."""
    ticks = sorted(set(values))
    axis.set_xscale("log")
    gaps = np.diff(np.log(ticks))
    if len(ticks) > 6 or min(gaps, default=1) < 0.15 * sum(gaps):
        first, last = np.floor(np.log10(ticks[0])), np.ceil(np.log10(ticks[-1]))
        ticks = [10.0**power for power in np.arange(first, last + 1)]
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    room = max((ticks[-1] / ticks[0]) ** 0.08, 1.3)
    axis.set_xlim(ticks[0] / room, ticks[-1] * room)


def named(axis: Any, places: Iterable[float], names: Iterable[str]) -> None:
    """Label places by names, and nothing between them."""
    axis.set_major_locator(FixedLocator(list(places)))
    axis.set_ticklabels([drawable(name) for name in names])


def legend(drawing: mpl.Figure, axes: Sequence[Axes]) -> None:
    """Put one legend above all panels, with every name once."""
    pairs = (zip(*axis.get_legend_handles_labels(), strict=True) for axis in axes)
    handles = {label: handle for axis in pairs for handle, label in axis if label}
    if handles:
        widest = max(0.62 + 0.088 * len(label) for label in handles)  # inches: a mark, and letters
        columns = max(1, min(len(handles), int(WIDTH / widest)))
        place: dict[str, Any] = {"loc": "outside upper center", "ncols": columns}
        drawing.legend(list(handles.values()), list(handles), **place)


def short(value: float) -> str:
    """Return a number in at most five signs: 0.003, 300, 1,200, 25M."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:,.0f}" if value >= 1 else f"{value:.1g}"


@functools.cache
def _glyphs() -> Mapping[int, int]:
    return ft2font.FT2Font(font_manager.findfont("DejaVu Sans")).get_charmap()


def drawable(text: str) -> str:
    """Return a text with a box for every character that the font of the figures cannot draw."""
    signs = (
        sign if sign == "\n" or ord(sign) in _glyphs() else "\N{WHITE SQUARE}" for sign in text
    )
    return "".join(signs)
