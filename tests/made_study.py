"""A folder of results that was never run: made rows, and the record of a study with claims."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from made_rows import made_rows, write_rows

from convtl.cli import compose
from convtl.config.parsing import parse
from convtl.reporting import report as reports
from convtl.reporting.report import Report

WORDS = (
    *("study=made", "question=How many layers?", "source=[latin,noise,scratch]"),
    *("target=[cyrillic,greek]", "n_per_class=[2,10,50]", "updates=[300,1200]"),
)
CLAIM = {
    "says": "The more data, the deeper.",
    "means": "D grows from 2 to 50 images.",
    "rank": "primary",
    "terms": [
        {"measure": "depth_benefit", "source": "latin", "n_per_class": 50},
        {"weight": -1, "measure": "depth_benefit", "source": "latin", "n_per_class": 2},
    ],
    "papers": [{"cite": "A paper 2020", "finds": "supported", "says": "the same"}],
    "history": [{"commit": "0123abc", "was": "D(200)", "gave": "+1.0", "why": "Too dear."}],
}


def made_out(
    out: Path, rows: Iterable[Mapping[str, Any]] | None = None, *words: str
) -> dict[str, Any]:
    """Write rows; return the record of the study that they are of."""
    rows = list(made_rows() if rows is None else rows)
    write_rows(out, rows)
    content = compose([*WORDS, *words])
    content |= {"claims": {"deeper": CLAIM}, "scorecard": ["deeper"]}
    points = [
        {name: row[name] for name in ("trial", "config", "source", "similarity")}
        | {"axes": json.dumps(row["axes"])}
        for row in rows
    ]
    return {
        "command": f"python -m convtl.run +experiment=made out={out}",
        "device": "2 x cpu",
        "versions": {"jax": "0.12"},
        "config": content,
        "points": points,
    }


def made_report(out: Path, rows: Iterable[Mapping[str, Any]] | None = None, *words: str) -> Report:
    """The report of a made study, without figures."""
    record = made_out(out, rows, *words)
    return reports.report_of(out, parse(record["config"]), record)
