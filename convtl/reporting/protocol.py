"""How a study was run, in words."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from convtl.analysis.columns import Table
from convtl.config.domains import TypedScriptConfig
from convtl.config.schema import Config
from convtl.reporting import numbers
from convtl.study.rows import short


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


def facts(config: Config, scope: Mapping[str, Any], data: pd.DataFrame) -> dict[str, Any]:
    """Facts of the protocol for a study of several parts: what the rows have in common and what differs."""
    usable = data[data["usable"].astype(bool)]
    targets = list(dict.fromkeys(usable["target"]))
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
    given = {
        name: value for name, value in scope.items() if name not in ("claims added later", *changed)
    }
    merged = {"command": given.pop("command", None), **changed, **given}
    if scripts := _scripts(config, targets):
        merged["scripts"] = scripts
    if other := _no_letters(config, targets):
        merged["targets that are no letters"] = other
    return {name: value for name, value in merged.items() if value not in (None, "")}


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
