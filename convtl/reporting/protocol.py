"""How a study was run, in words and in what tells its tuning trials from others."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from convtl.analysis.arms import SCRATCH
from convtl.analysis.edges import edges_of, tuned_arms
from convtl.config import Config, TypedScriptConfig
from convtl.errors import UserError
from convtl.reporting import numbers
from convtl.study.columns import Table
from convtl.study.grid import expand, settings_of, trials_of
from convtl.study.program import short
from convtl.study.store import Row
from convtl.study.tuning import tuning_points

Stage = tuple[str, str, int]
"""(protocol, target, replicate) of tuning trials."""


def tuning_stages(record: Mapping[str, Any]) -> set[Stage]:
    """The trials that chose the study's learning rates; none where data or names are not at hand any more."""
    found: set[Stage] = set()
    try:
        for settings, values in settings_of(record["config"]):
            if (tuning := settings.tuning) is None:
                continue
            stage = replace(  # one trial a target and replicate is enough to know the protocol
                settings,
                tuning=None,
                target=tuple(dict.fromkeys([*tuning.targets, *settings.target])),
                replicate=tuple(range(tuning.first, tuning.first + tuning.replicates)),
                source=(SCRATCH,),
                similarity=None,
                n_per_class=settings.n_per_class[:1],
                updates=settings.updates[:1],
            )
            found |= {(t.config, t.target, t.replicate) for t in trials_of(stage, values)}
    except UserError:
        return set()
    return found


def tuning_words(record: Mapping[str, Any], targets: Collection[str]) -> str:
    """On what the learning rates of each target were chosen; empty where every trial chose its own."""
    said: dict[str, list[str]] = {}
    for settings, _ in settings_of(record["config"]):
        if (tuning := settings.tuning) is None:
            continue
        last = tuning.first + tuning.replicates - 1
        for own in settings.target:
            others = [name for name in tuning.targets if name != own]
            which = (
                f"replicates {tuning.first} to {last}"
                if tuning.replicates > 1
                else f"replicate {last}"
            )
            draws = (
                "other classes, as long as there are enough"
                if settings.class_draw == "disjoint"
                else "other draws"
            )
            where = (
                f"{which} of {numbers.listed(others)}"
                if others
                else f"{which} of its own ({draws})"
            )
            if own in targets and own not in said.setdefault(where, []):
                said[where].append(own)
    if not said:
        return ""
    return "; ".join(f"for {numbers.listed(names)} on {where}" for where, names in said.items())


def tuned_on_themselves(record: Mapping[str, Any], targets: Collection[str]) -> list[str]:
    """Targets whose rates, somewhere in the study, were chosen on replicates of their own."""
    found = {
        own: None
        for settings, _ in settings_of(record["config"])
        if settings.tuning is not None
        for own in settings.target
        if own in targets and set(settings.tuning.targets) <= {own}
    }
    return list(found)


def tuned_edges(record: Mapping[str, Any], rows: Mapping[str, Row]) -> str:
    """How many arms' rates are at an edge, and what that may cost; empty where the data are not at hand any more."""
    try:
        tuning = tuning_points(record["config"])
        found = edges_of(tuned_arms(expand(record["config"])[1], tuning, rows)) if tuning else None
    except UserError:
        return ""
    if found is None or not found.at_edge:
        return ""
    parts = [("all layers", found.whole), ("fewer", found.fewer)]
    costs = [
        f"{numbers.signed(loss.mean)} logit on average and {numbers.signed(loss.largest)} at most with {what} trained"
        for what, loss in parts
        if loss is not None
    ]
    cost = (
        f". What that may cost, in each tuning trial against the best of its own rates, which go on past an edge: "
        f"{'; '.join(costs)} (on the validation images that chose that best rate, so rather too much)"
    )
    return (
        f"Of {numbers.plural(found.arms, 'arm')}, {found.at_edge} ({found.at_edge / found.arms:.0%}) have a learning "
        f"rate at the edge of those compared, which all tuning trials of the arm had tried{cost if costs else ''}"
    )


def commits_said(made_by: Mapping[str, str | None], rows: Collection[str]) -> str:
    """`commits d1df0cc5fe (3,822 rows) and e0825f1d18 (112)`; empty where none is known."""
    counts = Counter(made_by.get(trial) for trial in rows)
    known = [(name, number) for name, number in counts.most_common() if name]
    if not known:
        return ""
    said = [f"{short(name)} ({number:,})" for name, number in known]
    said[0] = said[0].replace(")", f" row{'s' * (known[0][1] != 1)})")
    text = f"commit{'s' * (len(said) > 1)} {numbers.listed(said)}"
    return text + (
        f", and {numbers.plural(counts[None], 'row')} by one that is not known"
        if counts[None]
        else ""
    )


def facts(
    config: Config, record: Mapping[str, Any], scope: Mapping[str, Any], data: pd.DataFrame
) -> dict[str, Any]:
    """Facts of the protocol for a study of several parts: what the rows have in common and what differs."""
    usable = data[data["usable"].astype(bool)]
    targets = list(dict.fromkeys(usable["target"]))
    tuned, alone = tuning_words(record, targets), tuned_on_themselves(record, targets)
    per_class = (usable["n_test"] / (usable["n_train"] / usable["n_per_class"])).dropna()
    updates = sorted(int(value) for value in usable["updates"].dropna().unique())
    changed: dict[str, Any] = {
        "targets": ", ".join(targets),
        "nets": ", ".join(dict.fromkeys(usable["model"])),
        "sources": ", ".join(dict.fromkeys(usable["source"])),
        "updates": ", ".join(f"{value:,}" for value in updates),
        "labelled images a class": ", ".join(
            f"{int(n):,}" for n in sorted(usable["n_per_class"].dropna().unique())
        ),
        "replicates": int(usable["replicate"].nunique()),
        "test": f"{_span(per_class)} images a class, read once",
    }
    if tuned:
        rates = ", ".join(f"{rate:g}" for rate in config.lr)
        changed["learning rates"] = (
            f"confirmatory: one for each arm (source, n, depth, schedule), the best on average of {rates} and up to "
            f"{config.lr_extend} steps beyond, chosen {tuned}; then frozen{_unseen(alone, targets)}"
        )
        changed["rates from the own target"] = numbers.listed(alone)
        changed["validation"] = (
            f"{config.validation.per_class} images a class beside the n: in tuning trials they choose the rate; in the "
            "others only the depth, and only where it says so"
        )
    given = {
        name: value for name, value in scope.items() if name not in ("claims added later", *changed)
    }
    merged = {"command": given.pop("command", None), **changed, **given}
    if scripts := _scripts(config, targets):
        merged["scripts"] = scripts
    if other := _no_letters(config, targets):
        merged["targets that are no letters"] = other
    return {name: value for name, value in merged.items() if value not in (None, "")}


def _unseen(alone: Sequence[str], targets: Sequence[str]) -> str:
    """Of which trials no label beyond n has had a part in the choice of their rate."""
    others = [name for name in targets if name not in alone]
    unseen = ", so that no label of a trial's own target beyond n has chosen it"
    if not alone:
        return unseen
    own = f"for {numbers.listed(list(alone))}, labels of the same target have chosen it, in other replicates"
    return f"; {own}{f'; for {numbers.listed(others)}, no label of the own target beyond n has' if others else ''}"


def _scripts(config: Config, targets: Sequence[str]) -> str:
    found = [
        domain.script
        for name in targets
        if isinstance(domain := config.domains.get(name), TypedScriptConfig)
    ]
    return ", ".join(dict.fromkeys(found))


def _no_letters(config: Config, targets: Sequence[str]) -> str:
    """`textures (patches of photographs)`: targets that are no typed scripts, where some are."""
    what = {
        "patches": " (patches of photographs)",
        "digits": " (handwritten digits)",
        "noise": " (noise)",
    }
    kinds = {name: domain.kind for name in targets if (domain := config.domains.get(name))}
    if "typed_script" not in kinds.values():
        return ""
    return numbers.listed(
        [name + what.get(kind, "") for name, kind in kinds.items() if kind != "typed_script"]
    )


def _span(values: pd.Series) -> str:
    found = sorted({round(float(value)) for value in values})
    return numbers.listed([str(value) for value in found], "or") or "–"


def unfinished(record: Mapping[str, Any], everything: Collection[str]) -> list[str]:
    """Planned trials without a row, counted by source."""
    points = Table.of(record["points"])
    sources = points.mapped("source", str, "")
    open_ones = {
        trial: source
        for trial, source in zip(points.objects("trial"), sources, strict=True)
        if trial not in everything
    }
    if not open_ones:
        return []
    counts = ", ".join(
        f"{name} {number}" for name, number in Counter(open_ones.values()).most_common()
    )
    return [f"{numbers.plural(len(open_ones), 'planned trial')} not run yet ({counts})"]
