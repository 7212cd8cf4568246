"""What a study of declared claims can say and what it cannot, computed from its rows and verdicts."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from convtl.analysis.arms import SCRATCH
from convtl.analysis.cells import AtEdge, Cells
from convtl.analysis.contrasts import SPECIAL
from convtl.analysis.scorecard import Score
from convtl.reporting import caveats, numbers
from convtl.reporting.view import View

_FLOOR_NAMED = 8
"""Cells under twice chance that are named before they are only counted."""


_SOURCES = {
    "own": "own, other letters of the target's script than the target's classes",
    "self": "self, trained from scratch on the very images of the trial first, with as many updates as a source net",
    "random": "random, a fresh net whose frozen layers stay as they were drawn",
    "same_classes": "same_classes, the target's classes in other images",
}
_CONTROLS = {
    "shuffled": "X:shuffled, the weights of the net from X in another order within each layer",
    "statistics": "X:statistics, weights drawn with mean and spread of those of the net from X",
    "random_labels": "X:random_labels, a net that learned X under random labels",
    "random_labels_rescaled": "X:random_labels_rescaled, the same with activations as large as those of the net from X",
}


def glossary(sources: Sequence[str]) -> str:
    """What the names of sources mean that are no names of data; empty where there are none."""
    said = [text for name, text in _SOURCES.items() if name in sources]
    said += [
        text
        for name, text in _CONTROLS.items()
        if any(s.partition(":")[2] == name for s in sources)
    ]
    if any("mixture" in name for name in sources):
        said.append("mixture@s, a share s of its classes from own and the rest from the far source")
    return f"*Sources*: {'; '.join(said)}.\n" if said else ""


def box(
    data: pd.DataFrame, found: Sequence[View], scores: Sequence[Score], facts: Mapping[str, Any]
) -> str:
    """The two lists as a block quotation of Markdown."""
    usable = data[data["usable"].astype(bool)]
    can, cannot = _can(usable, scores, facts), _cannot(usable, found, scores, facts)
    lines = ["**What this study can say**", "", *(f"- {text}" for text in can), ""]
    lines += ["**What it cannot**", "", *(f"- {text}" for text in cannot)]
    return "\n".join(f"> {line}".rstrip() for line in lines) + "\n"


def _can(usable: pd.DataFrame, scores: Sequence[Score], facts: Mapping[str, Any]) -> list[str]:
    said = []
    if len(usable):
        targets = list(dict.fromkeys(usable["target"]))
        sources = [name for name in dict.fromkeys(usable["source"]) if name != SCRATCH]
        counts = ", ".join(f"{int(n):,}" for n in sorted(usable["n_per_class"].unique()))
        said.append(
            f"It compares {numbers.plural(len(sources), 'source')}, controls included "
            f"({', '.join(sources) or 'none'}), on "
            f"{numbers.plural(len(targets), 'target')} ({', '.join(targets)}), n = {counts}."
        )
    m = max((score.m for score in scores), default=0)
    if m:
        said.append(
            f"{numbers.plural(m, 'replicate')}; all arms of a replicate share its classes, images, source nets and "
            f"order, so differences are paired. With {m} the smallest possible two-sided p is {min(1.0, 2 / 2**m):.2g}."
        )
    said += caveats.shared(usable)
    judge = (
        f" (this report: commit {facts['commit of this report']})"
        if facts.get("commit of this report")
        else ""
    )
    said.append(
        f"Claims, numbers, tests and thresholds are part of the program{judge}, and no result changes them; all that "
        "is not in Table 1 is exploratory."
    )
    if facts.get("rows made by"):
        said.append(f"The rows were made by {facts['rows made by']}.")
    return said + _seen(scores, facts)


def _seen(scores: Sequence[Score], facts: Mapping[str, Any]) -> list[str]:
    """Claims that got their words or their numbers when results of some seed had been seen."""
    by_seed: dict[int, list[str]] = {}
    for number, score in enumerate(scores, 1):
        if score.claim.seen is not None:
            by_seed.setdefault(score.claim.seen, []).append(str(number))
    said = []
    own, again = facts.get("seed", "not known"), facts.get("run again with seed")
    for seed, claims in by_seed.items():
        it, its, are, s = (
            ("it", "its", "is", "") if len(claims) == 1 else ("them", "their", "are", "s")
        )
        tests = (
            "another seed tests" if again in (None, seed) else f"seed {again}, below Table 1, tests"
        )
        means = (
            f"this study's own: here {'it' if it == 'it' else 'they'} {are} exploratory, and {tests} {it}"
            if own == seed
            else f"while this study's is {own}: this is {its} test"
        )
        said.append(
            f"Claim{s} {numbers.listed(claims)} got {its} words or {its} numbers when some results of seed {seed} had "
            f"been seen, {means}."
        )
    return said


def _cannot(
    usable: pd.DataFrame, found: Sequence[View], scores: Sequence[Score], facts: Mapping[str, Any]
) -> list[str]:
    said = [*_nets(usable, facts), *_inputs(facts)]
    short = [
        str(number) for number, score in enumerate(scores, 1) if "short schedule only" in score.note
    ]
    if short:
        said.append(
            f"Short schedule only, for claim{'s' if len(short) > 1 else ''} {numbers.listed(short)}: with more updates "
            "the verdict may change, as it would be one about speed."
        )
    speed = [
        str(number)
        for number, score in enumerate(scores, 1)
        if "conclusion about speed" in score.note
    ]
    if speed:
        said.append(
            f"The schedule changes the verdict on {numbers.listed(speed)}: that is a conclusion about speed."
        )
    if len({name for view in found for name in view.names}) > 1:
        said.append(
            "Sources are fixed, not redrawn: differences between sources hold for these, not for kinds of sources, "
            "except where their order itself was tested."
        )
    tasks = {name.partition("@")[0] for view in found for name in view.names}
    said += caveats.learned(usable[usable["source"].isin(tasks) & ~usable["target"].isin(SPECIAL)])
    said += [
        *(
            [f"Unmatched sources: {facts['sources are not matched']}."]
            if facts.get("sources are not matched")
            else []
        ),
        *_validation(usable),
        *_floors(found),
    ]
    if not facts.get("run again with seed"):
        said.append(
            "One seed: a claim counts as replicated if it keeps its sign, p ≤ .05, under another `seed`."
        )
    return said


def _nets(usable: pd.DataFrame, facts: Mapping[str, Any]) -> list[str]:
    nets = ", ".join(dict.fromkeys(usable["model"])) if len(usable) else ""
    scripts = f", scripts {facts['scripts']}" if facts.get("scripts") else ""
    if other := facts.get("targets that are no letters"):
        scripts += f", and as targets {other}"
    classes = sorted(
        {round(value) for value in (usable["n_train"] / usable["n_per_class"]).dropna()}
    )
    sizes = (
        f", {numbers.listed([str(value) for value in classes], 'or')} classes" if classes else ""
    )
    return [
        f"Its scope is {nets or 'no net'}{scripts}{sizes}: nothing is said about other nets or other kinds of images."
    ]


def _inputs(facts: Mapping[str, Any]) -> list[str]:
    """What the test images are: letters in known faces, and what other targets consist of."""
    said = caveats.inputs(facts)
    if other := facts.get("targets that are no letters"):
        said = [
            text.replace("fonts, handwriting or photographs", "fonts or handwriting")
            + f" What is said about {other} holds for new images of the same kind."
            for text in said
        ]
    return said


def _validation(usable: pd.DataFrame) -> list[str]:
    if not (usable["source"] != SCRATCH).any():
        return []
    return [
        "Oracle validation (labels that are not counted in n) chose learning rates: with n labels alone they "
        "would be worse."
    ]


def _floors(found: Sequence[View]) -> list[str]:
    """Cells in which head and whole net are both under twice chance; they enter no test."""
    low = []
    for view in found:
        for target in view.targets:
            cells = view.cells.of(target)
            for source in view.names:
                for updates in view.schedules:
                    low += [
                        f"{source} to {target}, n={n}, {updates:,} updates"
                        for n in view.counts_of(source, updates)
                        if _is_floor(cells, source, n, updates)
                    ]
    if not low:
        return []
    more = f" and {len(low) - _FLOOR_NAMED} more" if len(low) > _FLOOR_NAMED else ""
    shown = f"{'; '.join(low[:_FLOOR_NAMED])}{more}"
    return [
        f"Floor: head and whole net are both under twice chance at {shown}. Such a cell enters no test."
    ]


def _is_floor(cells: Cells, source: str, n: int, updates: int) -> bool:
    try:
        cells.check(source, n, updates)
    except AtEdge as what:
        return what.edge == "floor"
    return False
