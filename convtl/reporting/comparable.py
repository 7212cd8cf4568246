"""Which of a folder's rows a report is about."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from convtl.analysis.columns import ABSENT, Rows, Table, column_of
from convtl.config.schema import Config
from convtl.study.names import accepts

_KNOWN_BY = (
    "config",
    "target",
    "replicate",
    "model",
    "source",
    "regime",
    "similarity",
    "contents",
    "axes",
)
"""What decides whether a row that was not planned is compared with those that were."""


def comparable(
    everything: Mapping[str, Mapping[str, Any]], config: Config, record: Mapping[str, Any]
) -> tuple[Table, list[str]]:
    """Rows of the same protocol whose names stand for the same things; and what was left out, in words.

    A planned trial has a row for each of its places in the study: one that another protocol or another
    value of an axis does not concern (scratch, with sources pretrained in two ways) serves all of them.
    """
    rows, points = Rows.of(everything), Table.of(record["points"])
    found = rows.places(points.objects("trial"))
    points, planned = points.take(np.flatnonzero(found >= 0)), found[found >= 0]
    others = np.setdiff1d(np.arange(len(rows)), planned)
    protocols = set(Table.of(record["points"]).distinct("config"))
    fates = _fates(rows.table.take(others), config, protocols)
    extra = others[np.array([fate == "kept" for fate in fates], bool)]
    kept = rows.table.take(np.concatenate([planned, extra]))
    return _placed(kept, points), _left_out(Counter(fates))


def _placed(rows: Table, points: Table) -> Table:
    """Rows of which the first are those of `points`, with what these say of their place in the study."""
    columns = {}
    for name in points.names:
        said, own = points.column(name).objects(), rows.column(name).objects()
        said += [ABSENT] * (len(own) - len(said))
        columns[name] = column_of(
            [was if new is ABSENT else new for new, was in zip(said, own, strict=True)], {}
        )
    return rows.with_columns(columns)


def _fates(rows: Table, config: Config, protocols: set[Any]) -> list[str]:
    """What becomes of each row that was not planned: found once for rows that are alike."""
    known: dict[tuple[Any, ...], str] = {}
    fates = []
    for place, alike in enumerate(zip(*(rows.keys(name) for name in _KNOWN_BY), strict=True)):
        if alike not in known:
            row = rows[place]
            if row.get("config") not in protocols:
                known[alike] = "other protocol"
            else:
                known[alike] = "kept" if accepts(config, row) else "other content"
        fates.append(known[alike])
    return fates


def _left_out(fates: Counter[str]) -> list[str]:
    said = []
    if number := fates["other protocol"]:
        said.append(f"{number} rows of another recipe (other updates, rates, seed, classes, ...)")
    if number := fates["other content"]:
        said.append(f"{number} rows whose model, regime or domain has other parameters now")
    return said
