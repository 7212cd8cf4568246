"""What the cells say to one declared claim: its numbers, its p, and the outcome once that p is adjusted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from convtl.analysis.cells import AtEdge, Cells, NotEnoughData
from convtl.analysis.declared import Claim, Part
from convtl.analysis.principles import ALPHA, Outcome, decide, how_many, joined
from convtl.analysis.statistics import (
    Interval,
    SourcePermutation,
    equivalence_p,
    equivalent,
    estimate,
    intersection_union,
    shifted_p,
    sign_flip_interval,
    source_permutation_p,
)


@dataclass(frozen=True)
class Measured:
    """One mean of a claim.

    Attributes:
      replicates, values: one number per replicate, averaged over targets (in the claim's unit).
      interval: sign-flip inversion; null_interval: the one that lies within a margin or not.
      p: that the part does not hold (its relation to its margin; two-sided from 0 for a `difference`).
      p_contrary: that it does not fail: the mean is beyond the margin, on the wrong side.
    """

    part: Part
    replicates: tuple[int, ...]
    values: tuple[float, ...]
    effect: float
    interval: Interval
    null_interval: Interval
    p: float
    p_contrary: float
    by_target: tuple[tuple[str, float], ...]

    def holds(self, value: float) -> bool:
        """Whether a mean is on the part's side of its margin."""
        margin = self.part.margin
        sides = {"above": value > margin, "below": value < margin, "within": abs(value) < margin}
        return sides[self.part.relation]

    @property
    def slack(self) -> float:
        """How far the mean is from its margin, positive on the part's side."""
        margin, effect = self.part.margin, self.effect
        sides = {"above": effect - margin, "below": margin - effect, "within": margin - abs(effect)}
        return sides[self.part.relation]

    @property
    def text(self) -> str:
        return f"{self.part.name} {self.effect:+.2f} [{self.interval.low:+.2f}, {self.interval.high:+.2f}]"


@dataclass(frozen=True)
class Finding:
    """A claim's numbers on one schedule, before anything is said of them.

    Attributes:
      deciding: the part that is practically null, or else the one whose p counts; None where the claim counts
        or orders its parts.
      null: the parts of a conjunction that ask for a direction only, and whose means are too small to matter.
      p: that the claim holds, or that it fails: of that towards which the numbers point; exact.
      holds: whether that outcome is that the claim holds.
      effect: mean of the deciding part, rank correlation, or share of cells.
      note: which targets were left out, and what is printed beside.
      left_out: cells at floor or ceiling that the numbers are without.
    """

    claim: Claim
    updates: int
    parts: tuple[Measured, ...]
    p: float
    holds: bool
    effect: float
    deciding: Measured | None = None
    order: SourcePermutation | None = None
    note: str = ""
    targets: tuple[str, ...] = ()
    null: tuple[Measured, ...] = ()
    left_out: tuple[AtEdge, ...] = ()


def find(claim: Claim, cells: Cells, updates: int) -> Finding:
    """The numbers of a claim on one schedule.

    Raises:
      NotEnoughData: no target has what the claim needs.
      AtEdge: some have, but all of its cells there are at floor or ceiling.
    """
    cells = cells.noting()
    found = _found(claim, cells, updates)
    return replace(found, left_out=tuple({str(what): what for what in cells.left_out}.values()))


def _found(claim: Claim, cells: Cells, updates: int) -> Finding:
    tables, left_out = _tables(claim, claim.parts, cells, updates)
    parts = tuple(
        _measured(claim, part, table) for part, table in zip(claim.parts, tables, strict=True)
    )
    targets = tuple(map(str, tables[0].columns))
    note = joined(*left_out, _beside(claim, cells, updates, targets))
    if claim.test == "order":
        order = _order(tables)
        return Finding(
            claim, updates, parts, order.p, order.rho > 0, order.rho, None, order, note, targets
        )
    if claim.test == "share":
        above = [part.holds(value) for part in parts for _, value in part.by_target]
        return Finding(
            claim,
            updates,
            parts,
            float("nan"),
            True,
            float(np.mean(above)),
            None,
            None,
            note,
            targets,
        )
    return _tested(claim, updates, parts, note, targets)


def _tested(
    claim: Claim, updates: int, parts: tuple[Measured, ...], note: str, targets: tuple[str, ...]
) -> Finding:
    if claim.test == "difference":
        [one] = parts
        sign = 1 if claim.direction == "positive" else -1
        return Finding(
            claim,
            updates,
            parts,
            one.p,
            sign * one.effect > 0,
            one.effect,
            one,
            None,
            note,
            targets,
        )
    holds = intersection_union([part.p for part in parts])
    fails = min(
        1.0, len(parts) * min(part.p_contrary for part in parts)
    )  # any one part refutes the claim
    null = tuple(part for part in parts if _is_null(claim, part))
    if null:
        deciding = min(null, key=lambda part: abs(part.effect))
    elif holds <= fails:
        deciding = max(parts, key=lambda part: (part.p, -part.slack))
    else:
        deciding = min(parts, key=lambda part: (part.p_contrary, part.slack))
    return Finding(
        claim,
        updates,
        parts,
        min(holds, fails),
        holds <= fails,
        deciding.effect,
        deciding,
        None,
        note,
        targets,
        null,
    )


def _is_null(claim: Claim, part: Measured) -> bool:
    """A part that asks for a direction only, and whose mean is practically 0: neither that direction nor the other."""
    directed = part.part.relation != "within" and part.part.margin == 0
    return directed and equivalent(part.values, claim.smallest_effect)


# --- outcomes -----------------------------------------------------------------------------------------


def outcome_of(found: Finding, p: float, tests: int = 1) -> tuple[Outcome, str]:
    """The outcome at an adjusted p, and what qualifies it."""
    claim = found.claim
    if claim.test == "share":
        return "described", _counted(found)
    if claim.test == "order":
        means = ", ".join(f"{part.part.name} {part.effect:+.2f}" for part in found.parts)
        floor = (
            f"; p cannot be below {found.order.floor:.2g}"
            if found.order and found.order.floor > 0.01
            else ""
        )
        return _side(found, p), f"{means}{floor}"
    deciding = found.deciding
    assert deciding is not None
    if claim.test == "all_parts":
        return _conjunction(found, deciding, p, tests)
    return decide(
        deciding.values,
        p,
        deciding.by_target,
        direction=claim.direction,
        smallest_effect=claim.smallest_effect,
        tests=tests,
    )


def _conjunction(found: Finding, deciding: Measured, p: float, tests: int) -> tuple[Outcome, str]:
    """The outcome of several parts: null, supported or contradicted, inconclusive, in this order."""
    shown = ", ".join(part.text for part in found.parts) if len(found.parts) > 1 else ""
    if found.null:
        within = f"practically null (within ±{found.claim.smallest_effect:g} {found.claim.unit})"
        return "practically null", joined(
            *(
                f"{part.part.name or 'the mean'} is {part.effect:+.2f}, {within}"
                for part in found.null
            ),
            shown,
        )
    checked = found.parts if found.holds else (deciding,)
    torn = [
        f"{part.part.name}: targets disagree ({', '.join(f'{name} {v:+.2f}' for name, v in part.by_target)})"
        for part in checked
        if any(part.holds(value) != found.holds for _, value in part.by_target)
    ]
    if p <= ALPHA and torn:
        return "inconclusive", joined(*torn, shown)
    if p <= ALPHA:
        return _side(found, p), joined("" if found.holds else _refuted(deciding), shown)
    needed = _how_many(deciding, found.claim.smallest_effect, tests)
    which = f"open: {deciding.part.name}" if deciding.part.name else ""
    return "inconclusive", joined(which, needed, shown)


def _counted(found: Finding) -> str:
    """In how many cells a mean is above its margin, and all of them."""
    cells = [
        f"{part.part.name}{f' ({name})' if len(part.by_target) > 1 else ''} {value:+.2f}"
        for part in found.parts
        for name, value in part.by_target
    ]
    return f"{round(found.effect * len(cells))} of {len(cells)} cells: {', '.join(cells)}"


def _refuted(part: Measured) -> str:
    harmful = ", which does harm" if part.part.relation == "within" and part.effect < 0 else ""
    return f"refuted: {part.part.name}{harmful}" if part.part.name else ""


def _side(found: Finding, p: float) -> Outcome:
    if not p <= ALPHA:
        return "inconclusive"
    return "supported" if found.holds else "contradicted"


def _how_many(part: Measured, smallest_effect: float, tests: int) -> str:
    """How many replicates would decide a part; only one that is compared with 0 can turn out practically null."""
    margin = part.part.margin
    if part.part.relation == "within":
        return how_many(part.values, margin, tests)
    return how_many(
        [value - margin for value in part.values], 0.0 if margin else smallest_effect, tests
    )


# --- numbers ------------------------------------------------------------------------------------------


def _tables(
    claim: Claim, parts: Sequence[Part], cells: Cells, updates: int
) -> tuple[list[pd.DataFrame], list[str]]:
    """Replicates x targets of each part, over the targets that have all of them; and which were left out."""
    if claim.targets or not updates:  # the contrasts name their targets, or it is not about targets
        name = " and ".join(claim.targets) or "fresh nets"
        return [_paired(part.contrast(cells, updates), name) for part in parts], []
    columns: dict[str, list[pd.DataFrame]] = {}
    missing: dict[str, NotEnoughData] = {}
    for target in cells.targets:
        view = cells.of(target)
        try:
            columns[target] = [_paired(part.contrast(view, updates), target) for part in parts]
        except NotEnoughData as what:
            missing[target] = what
            cells.left_out.extend([what] if isinstance(what, AtEdge) else [])
    if not columns:
        edges = [what for what in missing.values() if isinstance(what, AtEdge)]
        raise next(
            iter([*edges, *missing.values()]), NotEnoughData("a target with finished trials")
        )
    tables = [pd.concat(own, axis=1).dropna() for own in zip(*columns.values(), strict=True)]
    if any(not len(table) for table in tables):
        raise NotEnoughData("no replicate is finished for every target")
    others = [what for what in missing.values() if not isinstance(what, AtEdge)]
    return tables, [f"left out: {what}" for what in others]


def _paired(values: pd.Series, name: str) -> pd.DataFrame:
    """One column a target, without replicates that lack a cell."""
    known = values.dropna()
    if not len(known):
        raise NotEnoughData(f"{name}: no replicate has every cell")
    if "target" not in known.index.names:
        return known.to_frame(name)
    return known.unstack("target").dropna()


def _measured(claim: Claim, part: Part, table: pd.DataFrame) -> Measured:
    values = table.mean(axis=1).to_numpy(float)
    found = estimate(values)
    margin = part.margin
    if claim.test == "difference":
        p, contrary = found.p, 1.0
    elif part.relation == "within":
        p = equivalence_p(values, margin)
        contrary = min(
            shifted_p(values, margin, "positive"), shifted_p(values, -margin, "negative")
        )
    else:
        beyond, short = (
            ("positive", "negative") if part.relation == "above" else ("negative", "positive")
        )
        p, contrary = shifted_p(values, margin, beyond), shifted_p(values, margin, short)  # type: ignore[arg-type]
    return Measured(
        part=part,
        replicates=tuple(map(int, table.index)),
        values=tuple(map(float, values)),
        effect=found.effect,
        interval=found.interval,
        null_interval=sign_flip_interval(values, 0.9),
        p=p,
        p_contrary=contrary,
        by_target=tuple((str(name), float(mean)) for name, mean in table.mean().items()),
    )


def _order(tables: Sequence[pd.DataFrame]) -> SourcePermutation:
    """Over sources, on means of the replicates that have all of them."""
    every = pd.concat([table.mean(axis=1) for table in tables], axis=1).dropna()
    if not len(every):
        raise NotEnoughData("no replicate has every source")
    return source_permutation_p(every.mean().to_numpy(), np.arange(len(tables)))


def _beside(claim: Claim, cells: Cells, updates: int, targets: Sequence[str]) -> str:
    """Means that are printed and not tested, as a sentence."""
    said = []
    for part in claim.beside:
        try:
            means = [float(part.contrast(cells.of(target), updates).mean()) for target in targets]
        except AtEdge as what:
            said.append((part.name, f"at {what.edge}"))
            continue
        said.append((part.name, f"{np.mean(means):+.2f}"))
    if not said:
        return ""
    if all(name.endswith(" by") for name, _ in said):
        changes = " and ".join(
            f"{name.removesuffix(' by')} changes by {mean}" for name, mean in said
        )
        return f"at the same time {changes} (not tested)"
    return f"for comparison, not tested: {', '.join(f'{name} {mean}' for name, mean in said)}"
