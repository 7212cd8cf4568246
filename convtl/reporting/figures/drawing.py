"""Drawing of figures: the registry's `Figure`, one style, and their forms.

Figures are as wide as a page, with letters that can be read at 400 pixels. Whatever a colour tells, a marker or a dash
tells too. No pyplot, and no setting of Matplotlib's is left changed.
"""

import inspect
import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import jinja2
import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib import figure as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.ticker import FixedLocator, PercentFormatter
from PIL import Image

from convtl.analysis.conditions import SCRATCH
from convtl.analysis.statistics import estimate
from convtl.storage.files import written

Line = dict[Any, pd.Series]
"""Place -> one number a replicate; the place None is drawn as a band across the panel."""
Parts = dict[str, dict[str, Line]]
"""Title of a panel -> name of a line -> the line."""
Points = Iterator[tuple[str, str, Any, pd.Series]]
"""Panel, line, place, and one number a replicate (none where there is no such condition)."""


class Apart(str):
    """A place that is in no order with the others: their points are not joined."""


INK, GREY = "#222222", "#5F6368"
LOOKS = {
    SCRATCH: (GREY, "X", "--"),
    "last layer trained": ("#D55E00", "s", ":"),
    "all layers trained": ("#0072B2", "o", "-"),
}
"""Colour, marker and dashes of lines that mean the same in every figure."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F3C8D", "#5D6D1E")
"""Okabe and Ito (2008), for any colour vision; the last two for larger studies."""
MARKERS, DASHES = "osD^vPX*", ("-", "--", "-.", ":")
_WIDTH, _DPI = 6.6, 150
_STYLE: dict[str, Any] = {
    **dict.fromkeys(("font.size", "axes.titlesize", "figure.labelsize"), 11),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    **{"legend.fontsize": 10.5, "axes.grid": True, "axes.axisbelow": True, "grid.color": "#E6E6E6"},
    "text.parse_math": False,  # names come from users: a dollar sign is a dollar sign
}
_MARKS = (
    " Small dots are replicates{% if report.conditions.targets | length > 1 %}, each a mean over "
    "targets{% endif %}; large marks are means over m = {{ report.conditions.frame.replicate.nunique() }} "
    "replicates (or all there are), bars and bands their {{ report.conditions.level }}% intervals."
)
NETS = " Small dots are single nets, large marks their means, bars {{ report.conditions.level }}% intervals of these."


@dataclass(frozen=True)
class Figure:
    """One figure of the registry.

    Attributes:
      caption: a Jinja template over `report` and `data`.
      data: from a report, the numbers to be drawn; form: draws them.
    """

    name: str
    title: str
    caption: str
    data: Callable[[Any], Any]
    form: Callable[[Any], mpl.Figure]

    def needs(self, report: Any) -> bool:
        """Return whether a report has data for the figure."""
        return len(self.data(report)) > 0

    def draw(self, report: Any) -> mpl.Figure:
        """Return the figure of a report."""
        with matplotlib.style.context(["default", _STYLE]):
            return self.form(self.data(report))

    def caption_for(self, report: Any) -> str:
        """Return the caption's text."""
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
        return environment.from_string(self.caption).render(report=report, data=self.data)


def figure(
    title: str,
    caption: str,
    form: Callable[[Any], mpl.Figure],
    fewest: int = 1,
    explained: str = _MARKS,
) -> Callable[[Callable[[Any], Any]], Figure]:
    """Make a `Figure` of a function that yields `Points`, or returns data of `form`.

    Args:
      fewest: places that a line of points must have to be drawn.
      explained: addition to the caption of points, on their marks.
    """

    def register(function: Callable[[Any], Any]) -> Figure:
        if not inspect.isgeneratorfunction(function):
            return Figure(function.__name__, title, caption, function, form)

        def data(report: Any) -> Parts:
            return _gathered(function(report), fewest)

        return Figure(function.__name__, title, caption + explained, data, form)

    return register


def _gathered(points: Points, fewest: int) -> Parts:
    """Group points by panel and line, without short lines and panels of bands only."""
    parts: Parts = {}
    for title, name, place, values in points:
        parts.setdefault(title, {}).setdefault(name, {})[place] = values
    for title, part in parts.items():
        lengths = {name: sum(len(v) > 0 for v in line.values()) for name, line in part.items()}
        names = [n for n, line in part.items() if lengths[n] >= (1 if None in line else fewest)]
        parts[title] = {name: part[name] for name in sorted(names, key=lambda n: n == SCRATCH)}
    return {t: part for t, part in parts.items() if any(None not in line for line in part.values())}


def save(drawing: mpl.Figure, path: Path) -> Path:
    """Write a PNG of 256 colours, atomically."""
    drawn = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a letter that no font has is drawn as a box
        drawing.savefig(drawn, format="png", dpi=_DPI)
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
    shares: bool = False,
    zero: bool = False,
    one_scale: bool = True,
    band: float = 0.0,
) -> mpl.Figure:
    """Draw a panel for each part: means by place, a line for each name.

    Args:
      across: places are rows, and numbers run to the right, not joined.
      shares: numbers are written as percent; zero: 0 is marked; one_scale: all panels have it.
      band: half the width of a grey band about 0.
    """
    names = dict.fromkeys(name for part in parts.values() for name in part)
    every = _places(parts.values())
    broken = any("\n" in str(place) for place in every)
    row = max(0.18 + 0.1 * len(names), 0.42 * broken)
    height = row * len(every) + 0.8 if across else 3.0
    drawing, axes = canvas(len(parts), columns, height, sharex=across, sharey=one_scale)
    chosen = looks(names)
    for axis, (title, part) in zip(axes, parts.items(), strict=True):
        places = every if across else _places([part])
        _lay_out(axis, places, across, 66 // min(columns, len(parts)))
        joined = not across and not any(isinstance(place, Apart) for place in places)
        width = min(0.25 if across else 0.1, 0.5 / len(part))
        for index, (name, line) in enumerate(part.items()):
            step = (index - (len(part) - 1) / 2) * width
            at = {i + step: line[p] for i, p in enumerate(places) if len(line.get(p, ()))}
            if None in line:
                _band(axis, line[None], chosen[name], name)
            elif at:
                look = chosen[name] if joined else (*chosen[name][:2], "none")
                _marks(axis, at, look, name, across)
        if band:
            (axis.axvspan if across else axis.axhspan)(-band, band, color="#DDDDDD", linewidth=0)
        if zero:
            (axis.axvline if across else axis.axhline)(0, color=GREY, linewidth=1)
        if shares:
            (axis.xaxis if across else axis.yaxis).set_major_formatter(PercentFormatter(1, 0))
        axis.set_title(title)
    drawing.supxlabel(x)
    drawing.supylabel(y)
    legend(drawing, axes)
    return drawing


# --- pieces -------------------------------------------------------------------------------


def canvas(panels: int, columns: int, height: float, **share: Any) -> tuple[mpl.Figure, list[Axes]]:
    """Return a figure as wide as a page, and its axes; `height` of a row in inches."""
    columns = min(columns, panels)
    rows = -(-panels // columns)
    drawing = mpl.Figure((_WIDTH, height * rows + 0.4), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(drawing)
    axes = list(drawing.subplots(rows, columns, squeeze=False, **share).flat)
    for spare in axes[panels:]:
        spare.remove()
    return drawing, axes[:panels]


def looks(names: Iterable[str]) -> dict[str, tuple[str, str, str]]:
    """Return colour, marker and dashes of each name, in the order given."""
    names = list(names)
    used = {LOOKS[name][0] for name in names if name in LOOKS}
    free = [pair for pair in zip(COLOURS, MARKERS, strict=True) if pair[0] not in used]
    others = [name for name in names if name not in LOOKS]
    return LOOKS | {
        name: (*free[index % len(free)], DASHES[index // 2 % len(DASHES)])
        for index, name in enumerate(others)
    }


def _marks(axis: Axes, line: Line, look: tuple[str, str, str], label: str, across: bool) -> None:
    """Draw means with intervals, hollow if unfit, and a dot a replicate."""
    at, columns = list(line), list(line.values())
    means, lows, highs = np.array([_interval(values) for values in columns]).T
    bars = np.abs([means - lows, highs - means])
    style: dict[str, Any] = dict(zip(("color", "marker", "linestyle"), look, strict=True))
    style |= {"capsize": 2.5, "zorder": 3}
    dots: dict[str, Any] = {"color": look[0], "alpha": 0.35, "s": 6, "zorder": 2}
    spread = np.repeat(at, [len(values) for values in columns]), np.concatenate(columns)
    if across:
        axis.errorbar(means, at, xerr=bars, label=label, **style)
        axis.scatter(*spread[::-1], **dots)
    else:
        axis.errorbar(at, means, yerr=bars, label=label, **style)
        axis.scatter(*spread, **dots)
        unfit = [values.attrs.get("unfit", False) for values in columns]
        hollow: dict[str, Any] = {"color": look[0], "markerfacecolor": "white", "zorder": 4}
        axis.plot(np.array(at)[unfit], means[unfit], look[1], **hollow)


def _interval(values: pd.Series) -> tuple[float, float, float]:
    """Return the mean over replicates and both ends of its exact interval."""
    result = estimate(values.to_numpy(float))
    return result.effect, result.interval.low, result.interval.high


def _band(axis: Axes, values: pd.Series, look: tuple[str, str, str], label: str) -> None:
    mean, low, high = _interval(values)
    hatch = "///" if values.attrs.get("unfit") else None
    axis.axhspan(low, high, color=look[0], alpha=0.2, linewidth=0, hatch=hatch)
    axis.axhline(mean, color=look[0], linestyle=look[2], linewidth=1.5, label=label)


def _places(parts: Iterable[dict[str, Line]]) -> list[Any]:
    """Places with numbers, ascending, or in their order if not all are numbers."""
    every = [pair for part in parts for line in part.values() for pair in line.items()]
    known = {place for place, values in every if place is not None and len(values)}
    named_first = [place for place in dict(every) if place in known]
    return sorted(known) if all(isinstance(p, Real) for p in known) else named_first


def _lay_out(axis: Axes, places: list[Any], across: bool, letters: int) -> None:
    """Name every place of a panel on its axis, with room for `letters` in a line."""
    names = list(map(_label, places))
    if across:
        named(axis.yaxis, names)
        axis.set_ylim(len(names) - 0.5, -0.5)
        return
    longest = max(len(line) for name in names for line in name.split("\n"))
    crowded = longest * len(names) > letters
    named(axis.xaxis, [name.replace("\n", " ") for name in names] if crowded else names)
    axis.tick_params(axis="x", labelrotation=50 if crowded else 0)
    axis.set_xlim(-0.5, len(names) - 0.5)


def named(axis: Any, names: Sequence[str]) -> None:
    """Name the places 0, 1, ... of an axis."""
    axis.set_major_locator(FixedLocator(range(len(names))))
    axis.set_ticklabels(names)


def _label(place: Any) -> str:
    return f"{place:,.15g}" if isinstance(place, Real) else str(place)


def legend(drawing: mpl.Figure, axes: Sequence[Axes]) -> None:
    """Put one legend above all panels, with every name once."""
    pairs = (zip(*axis.get_legend_handles_labels(), strict=True) for axis in axes)
    handles = {label: handle for axis in pairs for handle, label in axis if label}
    if handles:
        widest = max(0.62 + 0.088 * len(label) for label in handles)  # inches: a mark, and letters
        columns = max(1, min(len(handles), int(_WIDTH / widest)))
        place: dict[str, Any] = {"loc": "outside upper center", "ncols": columns}
        drawing.legend(list(handles.values()), list(handles), **place)
