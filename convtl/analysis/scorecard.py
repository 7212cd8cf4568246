"""The scorecard: every declared claim of some principles, judged by the protocol's rules.

Practically null is asked first (of conjunctions, of every part that is compared with 0); supported and
contradicted need the adjusted p and every target's sign; the family that Holm adjusts are the primary claims
that could be computed. Strong readings wait for their weak one. A verdict that another schedule does not share
is one about speed.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from convtl.analysis.arms import SCRATCH
from convtl.analysis.cells import AtEdge, Cells, NotEnoughData
from convtl.analysis.contrasts import LONG, SHORT, SPECIAL
from convtl.analysis.declared import Claim, claims_of
from convtl.analysis.findings import Finding, Measured, find, outcome_of
from convtl.analysis.principles import ALPHA, Outcome, joined
from convtl.analysis.statistics import Interval, holm

_Key = tuple[str, str]
"""Name of a claim, setting."""
_NAN = float("nan")
_NO_INTERVAL = Interval(_NAN, _NAN, 0.0)
_SELECTED = ("axes.upper_init", "axes.n_transferred")
"""Axes that claims themselves choose from; any other axis that varies makes a setting of its own."""


@dataclass(frozen=True)
class Score:
    """A row of the scorecard.

    Attributes:
      estimand, unit: the formula, and what effect and interval are in.
      effect, interval, values, replicates, by_target: of the number that decides: the difference, or the
        part of the claim with the largest p (of a refuted claim the part that refutes it, of a practically
        null one the part that is).
      p: exact; p_adjusted: Holm, NaN outside the family.
      parts: all parts, each with its own interval and p.
      schedule: updates of the deciding schedule; elsewhere: the outcome on others, adjusted in its place;
        only: words for that no other schedule was run.
      agrees: what papers found, and whether this agrees.
      edge: `floor` or `ceiling` where that is why the claim is not judged; left_out: cells at an edge that the
        numbers are without, in words.
    """

    claim: Claim
    setting: str
    outcome: Outcome
    note: str
    scope: str = ""
    agrees: str = ""
    effect: float = _NAN
    interval: Interval = _NO_INTERVAL
    p: float = _NAN
    p_adjusted: float = _NAN
    replicates: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    by_target: tuple[tuple[str, float], ...] = ()
    parts: tuple[Measured, ...] = ()
    schedule: int = 0
    elsewhere: tuple[tuple[int, Outcome], ...] = ()
    only: str = ""
    edge: str = ""
    left_out: str = ""

    @property
    def name(self) -> str:
        return self.claim.name

    @property
    def reading(self) -> str:
        return self.claim.reading

    @property
    def estimand(self) -> str:
        return self.claim.formula

    @property
    def unit(self) -> str:
        return self.claim.unit

    @property
    def m(self) -> int:
        return len(self.replicates)

    @property
    def targets(self) -> tuple[str, ...]:
        """Those that the claim names, or the main ones that have what it needs."""
        if self.m and self.claim.targets:
            return self.claim.targets
        return tuple(name for name, _ in self.by_target)

    verdict = property(lambda self: self.outcome)


def scorecard(
    names: Sequence[str],
    data: pd.DataFrame,
    gradients: pd.DataFrame | None = None,
    targets: Sequence[str] | None = None,
) -> list[Score]:
    """One row a declared claim (and setting, if several nets, regimes or protocols are in the data).

    A secondary claim whose own targets are not in the data at all has no row.

    Args:
      names: principles, as in the key `scorecard`.
      data: of `arms.frame`; unusable rows do not count.
      gradients: the table of the probes.
      targets: the main targets, those of the study's key `target`; by default, or where none of them has rows,
        all that are not named by a claim. Claims that name their targets see those in any case.

    Raises:
      UserError: an unknown name.
    """
    settings = functools.cache(lambda selects: settings_of(data, targets, selects))
    candidates: list[_Candidate] = []
    there = set(data["target"]) if len(data) else set()
    for claim in claims_of(names):
        if claim.reading == "secondary" and claim.targets and there.isdisjoint(claim.targets):
            continue
        probes = claim.principle == "vanishing_gradients"
        places = [("", Cells(data.iloc[:0], (), gradients))] if probes else settings(claim.selects)
        tried = [_try(claim, cells, setting) for setting, cells in places]
        candidates += [one for one in tried if one.main] or tried[:1]
    family = {one.key: one.main.p for one in candidates if one.main and one.claim.primary}
    scores: dict[_Key, Score] = {}
    for one in sorted(candidates, key=lambda one: bool(one.claim.after)):  # weak readings first
        scores[one.key] = _score(one, family, scores)
    found = [_qualified(scores[one.key], scores) for one in candidates]
    return [_with_parts(score, found) for score in found]


# --- settings -----------------------------------------------------------------------------------------


def settings_of(
    data: pd.DataFrame, targets: Sequence[str] | None = None, selects: tuple[str, ...] = ()
) -> list[tuple[str, Cells]]:
    """What may be compared with each other: rows that differ in nothing but what claims look at.

    Args:
      targets: the main ones, if any of them has rows.
      selects: columns, or beginnings of their names, from which the claim chooses rows itself.
    """
    usable = data[data["usable"].astype(bool)] if len(data) else data
    pretrained = usable[usable["source"] != SCRATCH]
    if not len(pretrained):
        return [("", Cells(usable, ()))]
    there = set(usable["target"])
    named = [name for name in targets or () if name in there]
    known = [
        "model",
        "regime",
        "config",
        *(str(c) for c in data if str(c).startswith("axes.")),
    ]
    words = pretrained[
        [name for name in known if not name.startswith((*_SELECTED, *selects))]
    ].astype(str)
    apart = [str(c) for c in words if words[c].groupby(pretrained["target"]).nunique().max() > 1]
    found = []
    for key in dict.fromkeys(words[apart].itertuples(index=False, name=None)):
        wanted = {name: str(word) for name, word in zip(apart, key, strict=True)}
        alike = _matching(usable, wanted)
        fresh = _matching(usable, {name: word for name, word in wanted.items() if name != "regime"})
        rows = pd.concat([alike[alike["source"] != SCRATCH], fresh[fresh["source"] == SCRATCH]])
        main = (
            [name for name in named if name in set(rows["target"])]
            if named
            else _main_targets(rows)
        )
        title = ", ".join(f"{name.removeprefix('axes.')} {word}" for name, word in wanted.items())
        found.append((title, Cells(rows, tuple(main))))
    return found


def _matching(rows: pd.DataFrame, wanted: Mapping[str, str]) -> pd.DataFrame:
    for name, word in wanted.items():
        rows = rows[rows[name].astype(str) == word]
    return rows


def _main_targets(rows: pd.DataFrame) -> list[str]:
    return [name for name in dict.fromkeys(rows["target"]) if name not in SPECIAL]


# --- one claim ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Candidate:
    """A claim in one setting: its numbers on the deciding schedule, on others, and what is missing."""

    claim: Claim
    setting: str
    cells: Cells
    main: Finding | None
    others: tuple[Finding, ...]
    missing: tuple[NotEnoughData, ...]

    @property
    def key(self) -> _Key:
        return self.claim.name, self.setting


def _try(claim: Claim, cells: Cells, setting: str) -> _Candidate:
    found, missing = [], []
    for updates in claim.schedules:
        try:
            found.append(find(claim, cells, updates))
        except NotEnoughData as what:
            missing.append(what)
    first = found[0] if found else None
    return _Candidate(claim, setting, cells, first, tuple(found[1:]), tuple(missing))


def _score(one: _Candidate, family: Mapping[_Key, float], scores: Mapping[_Key, Score]) -> Score:
    claim, found = one.claim, one.main
    edges = [what for what in one.missing if isinstance(what, AtEdge)]
    if found is None and edges:
        return Score(claim, one.setting, "not judged", str(edges[0]), edge=edges[0].edge)
    if found is None:
        return Score(claim, one.setting, "not enough data", f"missing: {one.missing[0]}")
    shown = found.deciding
    score = Score(
        claim,
        one.setting,
        "inconclusive",
        "",
        left_out=_left_out(found),
        effect=found.effect,
        interval=shown.interval if shown else _NO_INTERVAL,
        replicates=(shown or found.parts[0]).replicates,
        values=shown.values if shown else (),
        by_target=(shown or found.parts[0]).by_target,
        parts=found.parts,
        schedule=found.updates,
        scope=_scope(one, found),
    )
    if claim.after:
        weak = [
            item
            for (name, where), item in scores.items()
            if name == claim.after and where == one.setting
        ]
        if not weak or weak[0].outcome != "supported":
            state = f" ({weak[0].outcome})" if weak else ""
            return replace(score, outcome="not tested", note=f"weak reading not supported{state}")
    p, tests = _adjusted(one, found, family)
    outcome, note = outcome_of(found, p, tests)
    only = _only(one)
    speed, elsewhere = _schedules(one, outcome, family)
    return replace(
        score,
        outcome=outcome,
        note=joined(
            note,
            *(f"left out: {what}" for what in (*found.left_out, *edges)),
            found.note,
            only,
            speed,
        ),
        agrees=_agrees(claim, outcome, found.effect),
        p=found.p,
        p_adjusted=p if claim.primary else _NAN,
        elsewhere=elsewhere,
        only=only,
    )


def _left_out(found: Finding) -> str:
    """`without latin to textures at n=10: floor`; empty where nothing is left out."""
    cells: dict[str, list[str]] = {}
    for what in found.left_out:
        cells.setdefault(what.edge, []).append(what.cell)
    said = [f"without {', '.join(dict.fromkeys(own))}: {edge}" for edge, own in cells.items()]
    return "; ".join(said)


def _adjusted(one: _Candidate, found: Finding, family: Mapping[_Key, float]) -> tuple[float, int]:
    """p after Holm, with this finding in its claim's place in the family; and how many tests that makes."""
    if not one.claim.primary:
        return found.p, 1
    together = {**family, one.key: found.p}
    return float(holm(list(together.values()))[list(together).index(one.key)]), len(together)


def _only(one: _Candidate) -> str:
    """That trials of a single schedule decided; empty for fresh nets, and for numbers that span both schedules."""
    assert one.main is not None
    if one.others or not one.main.updates or _spans_both(one.claim):
        return ""
    names = {SHORT: "short schedule only", LONG: "long schedule only"}
    return names.get(one.main.updates, f"{one.main.updates} updates only")


def _spans_both(claim: Claim) -> bool:
    """Whether the number itself compares the two schedules (L)."""
    return claim.schedules == (LONG,)


def _schedules(
    one: _Candidate, outcome: Outcome, family: Mapping[_Key, float]
) -> tuple[str, tuple[tuple[int, Outcome], ...]]:
    """What the other schedules say."""
    elsewhere = tuple(
        (found.updates, outcome_of(found, *_adjusted(one, found, family))[0])
        for found in one.others
    )
    said = [
        f"with {updates} updates: {found}"
        + ("" if found == outcome else ", so this is a conclusion about speed")
        for updates, found in elsewhere
    ]
    return "; ".join(said), elsewhere


def _qualified(score: Score, scores: Mapping[_Key, Score]) -> Score:
    """What other claims say of how far this one reaches (of a refuted strong one: what refutes it)."""
    if score.outcome != ("contradicted" if score.claim.test == "all_parts" else "supported"):
        return score
    notes = [
        _reach(other)
        for name in score.claim.qualified_by
        if (other := scores.get((name, score.setting))) is not None
    ]
    return replace(score, note=joined(*notes, score.note))


def _with_parts(score: Score, found: Sequence[Score]) -> Score:
    """Says of a mean over unlike parts, and beside what papers say of it, that its parts differ in sign."""
    names = score.claim.parts_of_it
    own = [(number, one) for number, one in enumerate(found, 1) if one.name in names and one.m]
    settled = [one for _, one in own if one.outcome in ("supported", "contradicted")]
    if not score.m or len({one.effect > 0 for one in settled}) < 2:
        return score
    numbered = [str(number) for number, _ in own]
    said = f"the parts differ: see claims {', '.join(numbered[:-1])} and {numbered[-1]}"
    return replace(score, note=joined(score.note, said), agrees=joined(score.agrees, said))


def _reach(other: Score) -> str:
    """What a claim says of another one's reach, and where that was measured."""
    where = f"{other.estimand}, {other.schedule or other.claim.schedules[0]} updates"
    if other.claim.test == "order":
        if other.outcome == "supported":
            return f"generalises over sources (their order, p = {other.p:.3f}; {where})"
        return f"these sources only: their order ({where}) {_not_settled(other)}"
    if other.outcome == "supported":
        return f"reuse of features ({where}): the gain is above that of the shuffled source"
    return (
        f"not called reuse of features ({where}): that the gain is above that of the shuffled source "
        f"{_not_settled(other)}"
    )


def _not_settled(other: Score) -> str:
    if not other.m:
        return "was not run"
    return f"is {other.outcome} (p = {other.p:.3f})" if other.p > ALPHA else f"is {other.outcome}"


def _agrees(claim: Claim, outcome: Outcome, effect: float) -> str:
    """What papers found, and how that compares; a direction that is the same but too small is no contradiction."""
    if outcome not in ("supported", "contradicted", "practically null"):
        return "; ".join(f"open; {paper.cite}: {paper.what}" for paper in claim.papers)
    side: Outcome = (
        "supported" if (effect > 0) == (claim.direction == "positive") else "contradicted"
    )
    said = []
    for paper in claim.papers:
        how = "agrees with" if paper.finds == outcome else "differs from"
        if outcome == "practically null" and paper.finds == side and claim.test == "difference":
            how = "same direction, smaller than the smallest effect of interest:"
        said.append(f"{how} {paper.cite}: {paper.what}")
    return "; ".join(said)


def _scope(one: _Candidate, found: Finding) -> str:
    """To what the row is confined."""
    rows, parts = one.cells.rows, [f"targets {', '.join(one.claim.targets or found.targets)}"]
    for column, what in (("model", "net"), ("regime", "regime")):
        if len(rows) and (words := _words(rows.loc[rows["source"] != SCRATCH, column])):
            parts.append(f"{what} {words}")
    if found.updates:
        parts.append(
            f"{SHORT} and {LONG} updates" if _spans_both(one.claim) else f"{found.updates} updates"
        )
    return f"Scope: {'; '.join(parts)}."


def _words(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if str(value)))
