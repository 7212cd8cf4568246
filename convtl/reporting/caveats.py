"""What a study can say and what it cannot, computed from its rows."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from convtl.analysis.arms import Block, arm_names
from convtl.analysis.principles import Verdict, at_floor
from convtl.analysis.results import PARTS, by_part
from convtl.reporting import numbers

_EQUALLY_LEARNED = 0.05
"""Differences of source accuracy that are not worth a word."""


def limits(
    data: pd.DataFrame,
    parts: Sequence[Block],
    verdicts: Sequence[Verdict],
    facts: Mapping[str, Any],
) -> tuple[list[str], list[str]]:
    """(what it can say, what it cannot), each computed from the rows."""
    targets = sorted({block.target for block in parts})
    sources = list(dict.fromkeys(source for block in parts for source in block.sources))
    m = max((block.replicates for block in parts), default=0)
    counts = ", ".join(map(str, sorted({n for block in parts for n in block.counts})))
    can = [
        f"It compares {numbers.plural(len(sources), 'source')} ({', '.join(sources) or 'none'}) on "
        f"{numbers.plural(len(targets), 'target')} ({', '.join(targets) or 'none'}), n = {counts or 'none'}.",
        f"{numbers.plural(m, 'replicate')}; all arms of a replicate share its classes, images, source nets "
        "and "
        f"order, so differences are paired. With {m} the smallest possible two-sided p is "
        f"{min(1.0, 2 / 2**m):.2g}.",
        _declared(verdicts, facts.get("claims added later", ())),
    ]
    cannot = [
        *_one_of_a_kind(parts, targets),
        *_validation(data),
        *inputs(facts),
        *augmented(data),
        *([f"{facts['pictures are resized']}."] if facts.get("pictures are resized") else []),
        *shared(data),
        *learned(data),
        *_floors(parts),
    ]
    return can, cannot


def _declared(verdicts: Sequence[Verdict], late: Collection[str]) -> str:
    rest = (
        "every other contrast is exploratory. Intervals are for one contrast each; words such as gains and "
        "loses, "
        "and \\*, are used where the p adjusted over the whole table (step-down max-T) is at most .05."
    )
    if not verdicts:
        return f"No claim was declared before the results; {rest}"
    statements = "; ".join(dict.fromkeys(f"“{verdict.claim.statement}”" for verdict in verdicts))
    if late:
        named = "; ".join(f"“{statement}”" for statement in late)
        return f"Claims under test: {statements}. Added when results were there already: {named}; {rest}"
    if len(verdicts) == 1:
        return f"One claim was declared before the results, and its p is unadjusted: {statements}; {rest}"
    return f"Declared before the results, and adjusted by Holm over {len(verdicts)} tests: {statements}; {rest}"


def _one_of_a_kind(parts: Sequence[Block], targets: Sequence[str]) -> list[str]:
    said = []
    if len(targets) == 1:
        said.append(
            f"One target only: nothing here shows that it holds for targets other than {targets[0]}."
        )
    updates = sorted(
        {dict(block.setting)["updates"] for block in parts if dict(block.setting)["updates"]},
        key=float,
    )
    if len(updates) == 1:
        said.append(
            f"One schedule only ({updates[0]} updates whatever n): a longer one may favour deep arms and "
            "scratch, "
            "so a verdict may be one about speed."
        )
    sources = {source for block in parts for source in block.sources}
    if len(sources) > 1:
        said.append(
            "Sources are fixed, not redrawn: differences between sources hold for these, not for kinds."
        )
    if any(not block.full_known for block in parts):
        said.append(
            "Where scratch is missing, the deepest depth that was trained stands for the whole net."
        )
    return said


def _validation(data: pd.DataFrame) -> list[str]:
    oracle = data.loc[data["usable"], ["n_val", "n_per_class", "n_train"]]
    if not len(oracle):
        return []
    per_class = (oracle["n_val"] * oracle["n_per_class"] / oracle["n_train"]).median()
    labels = (
        f" ({per_class:.0f} labels a class that are not counted in n)"
        if math.isfinite(per_class)
        else ""
    )
    return [
        f"Oracle validation{labels} chose the learning rate, and the depth where it says so: with only n "
        "labels "
        "these choices would be worse."
    ]


def inputs(facts: Mapping[str, Any]) -> list[str]:
    """What the test images are."""
    if facts.get("faces"):
        faces = facts["faces"]
        names = ", ".join(faces) if isinstance(faces, list | tuple) else str(faces)
        return [
            f"Test images are new jitter of letters in known faces ({names}): nothing is said about new "
            "fonts, "
            "handwriting or photographs."
        ]
    return [
        "Test images come from the same domain as the training images: nothing is said about a shift after."
    ]


def augmented(data: pd.DataFrame) -> list[str]:
    """That some arms were augmented and others not: those whose features are cached never are."""
    if "augmented" not in data:
        return []
    known = data[data["usable"].astype(bool) & data["augmented"].notna()]
    kinds = {str(value).lower() == "true": part for value, part in known.groupby("augmented")}
    if len(kinds) < 2:
        return []
    depths = {
        flag: ", ".join(map(str, sorted(part["depth"].unique()))) for flag, part in kinds.items()
    }
    return [
        f"Images were augmented at depth {depths[True]} and not at depth {depths[False]}, where features are "
        "cached: differences between these depths are those of augmentation, too (cache_prefix=false augments "
        "everywhere)."
    ]


def learned(data: pd.DataFrame) -> list[str]:
    """Whether the sources were learned equally well; if not, similarity is not all that differs."""
    columns = [
        "source",
        "similarity",
        "source_accuracy",
        *data.columns.intersection(["source_accuracy_by_part"]),
    ]
    wanted = data["usable"].astype(bool) & data["source_accuracy"].notna()
    known = data.loc[wanted, columns].assign(arm=arm_names)
    named = set(known["arm"]) - set(stand_ins(data))  # a rung's own trials are not named twice
    groups = {str(name): part for name, part in known.groupby("arm", sort=False) if name in named}
    means = {name: float(part["source_accuracy"].mean()) for name, part in groups.items()}
    if len(means) < 2 or max(means.values()) - min(means.values()) < _EQUALLY_LEARNED:
        return []
    reached = ", ".join(
        f"{name} {mean:.0%}{_by_part(groups[name])}" for name, mean in means.items()
    )
    return [
        f"The sources were not learned equally well (accuracy on their own validation images: {reached}): "
        "part of what sets them apart may be that, and not similarity."
    ]


def _by_part(rows: pd.DataFrame) -> str:
    """` (near 92%, far 70%)` of a mixture: among its near classes, and among its far ones."""
    if "source_accuracy_by_part" not in rows:
        return ""
    parts = (value for value in rows["source_accuracy_by_part"] if isinstance(value, list | tuple))
    found = [own for value in parts if (own := by_part({"source_accuracy_by_part": value}))]
    if not found:
        return ""
    means = ", ".join(
        f"{name} {sum(own[name] for own in found) / len(found):.0%}" for name in PARTS
    )
    return f" ({means})"


def stand_ins(data: pd.DataFrame) -> dict[str, str]:
    """Mixture of one kind of classes only -> the source whose very trials its rows are."""
    if not data["similarity"].notna().any():
        return {}
    usable = data.loc[data["usable"].astype(bool), ["source", "similarity", "trial"]].assign(
        arm=arm_names
    )
    mixed = usable["arm"].str.contains("@") if len(usable) else data["usable"].iloc[:0].astype(bool)
    plain = dict(zip(usable.loc[~mixed, "trial"], usable.loc[~mixed, "arm"], strict=True))
    found: dict[str, str] = {}
    for name, part in usable[mixed].groupby("arm", sort=False):
        sources = {plain.get(trial) for trial in part["trial"]}
        if len(sources) == 1 and (source := sources.pop()):
            found[str(name)] = source
    return found


def shared(data: pd.DataFrame) -> list[str]:
    """That a mixture's ends are the trials of named sources."""
    ends = [f"{name} and {source}" for name, source in sorted(stand_ins(data).items())]
    return [f"The same trials, run once: {'; '.join(ends)}."] if ends else []


def _floors(parts: Sequence[Block]) -> list[str]:
    low = [
        f"{block.title or block.target}, from {source}, n={n}"
        for block in parts
        for source in block.sources
        for n in block.counts
        if at_floor(block, source, n)
    ]
    return (
        [f"Floor: head and whole net are both under twice chance at {'; '.join(low)} (†)."]
        if low
        else []
    )
