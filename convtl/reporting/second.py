"""From a folder with the same study under another seed to its scorecard."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convtl.analysis.arms import frame
from convtl.analysis.reading import read_rows
from convtl.analysis.record import newest_record, without_paths
from convtl.analysis.scorecard import scorecard
from convtl.config.parsing import parse
from convtl.config.roles import dump
from convtl.config.schema import Config
from convtl.errors import UserError
from convtl.reporting.comparable import comparable
from convtl.reporting.protocol import commits_said
from convtl.reporting.replication import Second
from convtl.study.grid import apply_limits
from convtl.training.probes import TABLE, read_gradients

_AROUND = (
    "seed",
    "question",
    "save",
    "out",
    "cache",
    "dry_run",
    "tracking",
    "measure",
)
"""Keys that may differ between two runs of one study without a word."""


def read_second(out: Path, config: Config) -> Second:
    """The study of `out`, judged by the claims of the study that it is set beside.

    Raises:
      UserError: no rows, another study, the same seed, or a study without a scorecard.
    """
    accepted = f"a folder of study '{config.study}' run with another seed than {config.seed}"
    if not config.scorecard:
        raise UserError(
            f"replication: got '{out}', but the study in `out` has no claims; accepted: a `scorecard`"
        )
    everything = read_rows(out)
    if not everything:
        raise UserError(f"replication: got '{out}', which has no rows; accepted: {accepted}")
    try:
        record = newest_record(out)
        other = apply_limits(parse(record["config"]))
    except UserError as error:
        raise UserError(f"replication: got '{out}' ({error}); accepted: {accepted}") from None
    if other.study != config.study:
        raise UserError(
            f"replication: got '{out}' with study '{other.study}'; accepted: {accepted}"
        )
    if other.seed == config.seed:
        raise UserError(f"replication: got '{out}' with seed {other.seed}; accepted: {accepted}")
    rows, _ = comparable(everything, other, record)
    probes = read_gradients(out) if (out / TABLE).exists() else None
    scores = scorecard(config.scorecard, frame(rows), probes, config.target)
    command = without_paths(str(record.get("command", "")))
    commits = dict(zip(everything, everything.table.objects("commit"), strict=True))
    made_by = commits_said(commits, everything)
    return Second(other.seed, tuple(scores), command, made_by, _differs(dump(config), dump(other)))


def _differs(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[str, ...]:
    keys = dict.fromkeys([*first, *second])
    return tuple(key for key in keys if key not in _AROUND and first.get(key) != second.get(key))
