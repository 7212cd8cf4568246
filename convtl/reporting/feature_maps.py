"""The section of a report on what each unit computes, before and after tuning, and how far it moved."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from convtl.analysis.arms import SCRATCH, Block, blocks, frame
from convtl.analysis.cells import RUNGS
from convtl.analysis.movement import movement_frame
from convtl.analysis.statistics import Estimate, estimate
from convtl.reporting import feature_plots, figures, numbers
from convtl.reporting.figures import Figure
from convtl.reporting.tables import markdown
from convtl.study.movement import IMAGES, FeatureMaps, read_maps

_MOST_SOURCES = 6
"""Sources that pictures show, the first of them."""

_WORDS = (
    "*Displacement* of a unit is |w − w₀| / |w₀|, w₀ being the weights that the trial started from (those of the "
    "source net; for scratch its fresh ones). *CKA* compares the unit's outputs before and after on the same "
    f"validation images (at most {IMAGES}): 1 where they differ by a rotation, a shift or a factor only. It is "
    "biased towards 1 where a unit has more outputs than there are images (Davari et al. 2023, Kornblith et al. "
    "2019), and it also falls where only what enters the unit has changed. A head that starts from zeros has "
    "neither. Each trial moved at the learning rate that it was given or that it chose.\n"
)

_OTHER_RATES = " Rows of unlike learning rates say nothing of each other, so no difference is taken between them."


def section(out: Path, rows: Iterable[Mapping[str, Any]], scope: Mapping[str, Any]) -> list[str]:
    """Markdown on how far units moved, with figures written to out/figures; empty for studies without `movement`.

    Args:
      rows: of the study, some of them with `moved`; read more than once.
      scope: `sources` (their order), and `movement` if the study asked for it.
    """
    found = movement_frame(rows)
    if found.empty and not scope.get("movement"):
        return []
    named = scope.get("sources", ())
    order = named.split(", ") if isinstance(named, str) else [str(name) for name in named]
    parts = blocks(frame(rows), order)
    text = [
        "## What each unit computes, and how far it moves\n",
        _WORDS,
        *(_lacking(parts, found) if scope.get("movement") else []),
    ]
    for index, block in enumerate(parts):
        if _of(block, found).empty:
            continue
        text += [f"### {' '.join(block.title.split())}\n"] if block.title else []
        text += _moved(out, block, found, "" if index == 0 else f"_{index + 1}")
    return [*text, *_pictures(out, parts)]


def _lacking(parts: Sequence[Block], found: pd.DataFrame) -> list[str]:
    """How many of the trials shown have no measure of movement."""
    trials = {trial for block in parts for trial in block.both["trial"]}
    without = trials - set(found["trial"])
    if not without:
        return []
    return [
        f"**{len(without)} of {numbers.plural(len(trials), 'finished trial')} have no measure of movement**: "
        "they were run without `movement`, and are missing below; the study's command runs them again for it.\n"
    ]


def _of(block: Block, found: pd.DataFrame) -> pd.DataFrame:
    """The movement of a block's trials, with the places of the trials."""
    places = block.both[["trial", "source", "depth", "n_per_class", "replicate", "lr"]]
    return found.merge(places, on="trial").astype(
        {"depth": int, "n_per_class": int, "replicate": int}
    )


def _sources(block: Block, own: pd.DataFrame) -> list[str]:
    """Those with a measure of movement; not the ends of a mixture beside the sources whose trials they are."""
    there = [name for name in (*block.sources, SCRATCH) if (own["source"] == name).any()]
    return [name for name in there if RUNGS.get(name) not in there]


def _picture(out: Path, name: str, figure: Figure, what: str, caption: str) -> list[str]:
    figures.save(figure, out / "figures" / f"{name}.png")
    plain = "".join(sign for sign in f"{what}. {caption}" if sign not in "*[]\\")
    return [f"![{plain}](figures/{name}.png)\n", f"**{what}.** {caption}\n"]


# --- how far ------------------------------------------------------------------------------------------


def _moved(out: Path, block: Block, found: pd.DataFrame, suffix: str) -> list[str]:
    own = _of(block, found)
    n = int(own["n_per_class"].max())
    own = own[own["n_per_class"] == n]
    units = list(own.sort_values("position")["unit"].unique())
    sources, depths = _sources(block, own), sorted(own["depth"].unique())
    names = {int(depth): block.depth_name(int(depth)) for depth in depths}
    drawing = feature_plots.movement(own, sources, units, names)
    where = f"At n={n}" if len(block.counts) > 1 else "For every trial"
    caption = (
        f"{where}, by unit and depth. Dots: replicates; lines: their means. {_frozen(own)} "
        f"{_findings(own, sources, units, names)}"
    )
    text = _picture(out, f"movement{suffix}", drawing, "How far each unit moved", caption.strip())
    return [*text, *_table(own, sources, units, names)]


def _frozen(own: pd.DataFrame) -> str:
    """Whether what was frozen stayed where it was."""
    still = own[~own["trained"]]
    if still.empty:
        return ""
    strayed = int((still["displacement"] != 0).sum())
    if strayed:
        return f"**{strayed} of {len(still)} frozen units moved: these trials cannot be trusted.**"
    return f"Weights of frozen units did not move in any of {numbers.plural(still['trial'].nunique(), 'trial')}."


def _hidden(own: pd.DataFrame, source: str, depth: int, column: str) -> pd.DataFrame:
    """Replicates x trained units with a known value, but for the head (the last unit)."""
    last = own["position"].max()
    chosen = (
        own["trained"]
        & (own["position"] < last)
        & (own["depth"] == depth)
        & (own["source"] == source)
    )
    table = own[chosen].pivot_table(
        index="replicate", columns="position", values=column, aggfunc="first"
    )
    return table.dropna(axis="columns", how="all")


def _findings(
    own: pd.DataFrame, sources: Sequence[str], units: Sequence[str], names: Mapping[int, str]
) -> str:
    """Where weights and outputs moved most, at the deepest depth."""
    depth = max(names)
    steps = {source: _hidden(own, source, depth, "displacement").mean() for source in sources}
    alike = {source: _hidden(own, source, depth, "cka").mean() for source in sources}
    far = [
        f"{units[_place(m, np.argmax)]} {_by(s)} ({m.max():.2f})"
        for s, m in steps.items()
        if len(m)
    ]
    said = [
        f"{units[_place(m, np.argmin)]} {_by(s)} ({m.min():.2f})"
        for s, m in alike.items()
        if len(m)
    ]
    if not far:
        return ""
    text = f"Below the head, at depth {names[depth]}, the weights that moved most are those of {numbers.listed(far)}"
    return (
        f"{text}; the outputs that changed most (lowest CKA) are those of {numbers.listed(said)}."
        if said
        else f"{text}."
    )


def _place(means: pd.Series, which: Callable[[np.ndarray], Any]) -> int:
    """The position (index) at which a series is largest or smallest."""
    return int(means.index[int(which(means.to_numpy()))])


def _by(source: str) -> str:
    return f"of {source}" if source == SCRATCH else f"from {source}"


def _table(
    own: pd.DataFrame, sources: Sequence[str], units: Sequence[str], names: Mapping[int, str]
) -> list[str]:
    """Every arm's units and rates, and the mean over trained units below the head against the first source's.

    Only arms of one rate are compared: how far weights move hangs on the rate first of all.
    """
    rows = []
    replicates = own["replicate"].nunique()
    several = replicates > 1
    for depth in sorted(names, reverse=True):
        tables = {source: _hidden(own, source, depth, "displacement") for source in sources}
        means = {source: table.mean(axis="columns") for source, table in tables.items()}
        first = next((source for source in sources if len(means[source])), None)
        for source in sources:
            here = own[(own["depth"] == depth) & (own["source"] == source)]
            if here.empty:
                continue
            row = [names[depth], source, _rates(own, source, depth), _interval(means[source])]
            if several:
                apart = (means[source] - means[first]).dropna() if first else means[source]
                alike = first is not None and _rates(own, source, depth) == _rates(
                    own, first, depth
                )
                row.append(
                    "–"
                    if source == first
                    else _interval(apart, signed=True)
                    if alike
                    else "other rate"
                )
            rows.append([*row, *(_cell(here[here["unit"] == unit]) for unit in units)])
    header = ["depth", "source", "learning rate", "displacement, mean below the head"]
    compared = several and any(row[4].startswith(("+", numbers.MINUS, "0")) for row in rows)
    header += ["difference to the first source"] if compared else []
    if several and not compared:
        rows = [[*row[:4], *row[5:]] for row in rows]
    unlike = several and len({row[2] for row in rows}) > 1
    note = (
        "Units: displacement · CKA, means over replicates. The mean below the head is over trained units; "
        f"in brackets exact sign-flip intervals over replicates (level {_level(replicates)} for {replicates}), each "
        "for one number, unadjusted."
        f"{_OTHER_RATES if unlike else ''}\n"
        if several
        else "Units: displacement · CKA, of one replicate. The mean below the head is over trained units.\n"
    )
    return [markdown([*header, *units], rows), note]


def _rates(own: pd.DataFrame, source: str, depth: int) -> str:
    """The rate of an arm's trials, or of the lowest and the highest of them."""
    found = sorted(
        own.loc[(own["depth"] == depth) & (own["source"] == source), "lr"].dropna().unique()
    )
    return " to ".join(f"{rate:.2g}" for rate in dict.fromkeys([*found[:1], *found[-1:]])) or "–"


def _level(replicates: int) -> str:
    """What an exact interval attains: only the number of replicates decides."""
    return numbers.level(estimate(np.arange(replicates, dtype=float)).interval)


def _interval(values: pd.Series, signed: bool = False) -> str:
    if not len(values):
        return "–"
    found: Estimate = estimate(np.asarray(values, float))
    write = numbers.signed if signed else (lambda value: f"{value:.2f}".replace("-", numbers.MINUS))
    if found.m < 2:
        return write(found.effect)
    low, high = write(found.interval.low), write(found.interval.high)
    return f"{write(found.effect)} [{low},\N{NO-BREAK SPACE}{high}]"


def _cell(here: pd.DataFrame) -> str:
    pair = [here[column].mean() for column in ("displacement", "cka")]
    return " · ".join("–" if np.isnan(value) else f"{value:.2f}" for value in pair)


# --- pictures -----------------------------------------------------------------------------------------


def _pictures(out: Path, parts: Sequence[Block]) -> list[str]:
    """Pictures of the setting with the most updates of which there are any; what is missing is said."""
    candidates = sorted(parts, key=lambda block: -float(block.both["updates"].max()))
    for block in candidates:
        n = block.counts[-1]
        chosen = _deepest(out, block, n)
        if chosen:
            return ["### Pictures\n", *_setting(block, n, chosen), *_drawn(out, chosen)]
    return [
        "No feature maps were kept, so there are no pictures: they are written as trials are run.\n"
    ]


def _deepest(out: Path, block: Block, n: int) -> dict[str, tuple[pd.Series, FeatureMaps]]:
    """Source -> row and maps of its deepest trial, all of one replicate: the lowest that most sources have."""
    by_replicate: dict[int, dict[str, tuple[pd.Series, FeatureMaps]]] = {}
    for source in (*block.sources, SCRATCH):
        own = block.both[(block.both["source"] == source) & (block.both["n_per_class"] == n)]
        for _, row in own[own["depth"] == block.full].iterrows():
            kept = read_maps(out, str(row["trial"]))
            if kept is not None:
                by_replicate.setdefault(int(row["replicate"]), {}).setdefault(source, (row, kept))
    best = max(sorted(by_replicate), key=lambda r: len(by_replicate[r]), default=None)
    if best is None:
        return {}
    found = by_replicate[best]
    names = [name for name in found if name != SCRATCH][:_MOST_SOURCES]
    return {name: found[name] for name in [*names, *([SCRATCH] if SCRATCH in found else [])]}


def _setting(
    block: Block, n: int, chosen: Mapping[str, tuple[pd.Series, FeatureMaps]]
) -> list[str]:
    """Which trials are pictured, and which are not."""
    row = next(row for row, _ in chosen.values())
    text = (
        f"Nets of replicate {int(row['replicate'])}, tuned on n={n} images a class of {row['target']} for "
        f"{int(row['updates'])} updates at depth {block.depth_name(block.full)}. Images are validation images."
    )
    wanted = [name for name in (*block.sources, SCRATCH) if (block.both["source"] == name).any()]
    if missing := [name for name in wanted if name not in chosen]:
        text += f" Not pictured: {numbers.listed(missing)}."
    return [f"{text}\n"]


def _drawn(out: Path, chosen: Mapping[str, tuple[pd.Series, FeatureMaps]]) -> list[str]:
    kept = {name: values for name, (_, values) in chosen.items()}
    first = next(iter(kept.values()))
    text: list[str] = []
    if filters := {name: values for name, values in kept.items() if values.kernels is not None}:
        caption = (
            "Before and after tuning, and the change, on one scale for each source (red: positive). Correlation "
            f"of all filter weights before with after: {numbers.listed(_kernels_alike(filters))}."
        )
        what = f"Filters of {first.units[0]}"
        text += _picture(out, "feature_kernels", feature_plots.kernels(filters), what, caption)
    for unit in first.units:
        having = {name: values for name, values in kept.items() if unit in values.maps}
        if having:
            alike = [f"{name} {_alike(*v.maps[unit]):.2f}" for name, v in having.items()]
            caption = (
                "For the same images, before and after tuning (red: positive, one scale for all). Correlation of the "
                f"maps shown, before with after: {numbers.listed(alike)}."
            )
            drawing = feature_plots.unit_maps(having, unit)
            text += _picture(out, f"feature_maps_{unit}", drawing, f"Maps of {unit}", caption)
    return [*text, *_class_rows(out, kept)]


def _kernels_alike(kept: Mapping[str, FeatureMaps]) -> list[str]:
    return [
        f"{name} {_alike(*values.kernels):.2f}" for name, values in kept.items() if values.kernels
    ]


def _alike(before: np.ndarray, after: np.ndarray) -> float:
    """Pearson correlation over all entries; nan where one side is constant."""
    old, new = (side.ravel().astype(float) - side.mean(dtype=float) for side in (before, after))
    size = np.linalg.norm(old) * np.linalg.norm(new)
    return float(old @ new / size) if size > 0 else float("nan")


def _class_rows(out: Path, kept: Mapping[str, FeatureMaps]) -> list[str]:
    """Units without maps below the head."""
    first = next(iter(kept.values()))
    units = [
        unit for unit in first.units[:-1] if all(unit in values.means for values in kept.values())
    ][:4]
    if not units:
        return []
    shares = []
    for unit in units:
        each = [f"{name} {_share(values, unit)}" for name, values in kept.items()]
        shares.append(f"{unit}: {numbers.listed(each)}")
    caption = (
        "Mean outputs by class (lines), each output less its mean over classes; before and after in one order, "
        "by the class that an output answers to most after tuning, found on one half of the images and drawn for "
        f"the other. Share of the outputs' variance that lies between classes, before → after: {'; '.join(shares)}."
    )
    return _picture(
        out, "feature_classes", feature_plots.class_rows(kept, units), "Outputs by class", caption
    )


def _share(values: FeatureMaps, unit: str) -> str:
    old, new = (
        numbers.percent(share, 0) if np.isfinite(share) else "–" for share in values.shares[unit]
    )
    return f"{old} → {new}"
