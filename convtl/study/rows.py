"""Rows: fields with types and ranges, and their lines of JSON."""

import hashlib
import json
import subprocess
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal, Required

from pydantic import ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from convtl.config.schema import RESULTS_VERSION
from convtl.config.values import Fraction, Natural, NonNegative, Text

Finite = Annotated[float, Field(allow_inf_nan=False)]
Status = Literal["done", "diverged", "failed", "interrupted"]

FINAL = ("done", "diverged")  # statuses that are not tried again


class Columns(TypedDict, total=False):
    """The fields that are columns of results.csv, in their order."""

    study: Required[Text]
    trial: Required[Text]
    config: Required[Text]
    model: Required[Text]
    source: Required[Text]
    similarity: Required[Fraction | None]
    target: Required[Text]
    regime: Required[Text]
    depth: Required[Natural]
    depth_unit: Required[Text]
    n_units: Required[Natural]
    trained_units: Required[Text]
    n_per_class: Required[Natural]
    n_train: Natural
    replicate: Required[Natural]
    lr: NonNegative | None
    lr_at_edge: bool
    n_rates: Natural
    updates: Required[Natural]
    validation: Required[Literal["beside", "within"]]
    n_val: Natural
    val_accuracy: Fraction
    test_accuracy: Fraction
    test_nll: float  # not finite where a test image gets a probability of 0
    test_ece: float
    n_test: Natural
    source_accuracy: Fraction | None
    source_accuracy_by_part: list[Fraction]
    source_classes: Natural | None
    source_images: Natural | None
    trained_weights: Natural
    flops_per_update: Natural
    seconds: NonNegative
    frozen_ok: bool
    augmented: bool
    moved: dict[str, list[Finite | None]]
    subset_digest: Text
    mmd2: Finite
    logme: Finite
    knn: Finite
    linear_probe: Finite
    status: Required[Status]
    reason: str
    commit: str | None


@with_config(ConfigDict(strict=True, extra="forbid"))
class Row(Columns, total=False):
    """Record of a trial; `scores` as in `study/learning_rates.Score`."""

    version: Natural  # set where a row is written
    contents: Required[dict[str, str]]
    axes: Required[dict[str, Any]]
    declared: Required[list[str]]
    scores: list[tuple[NonNegative, Fraction | None, Finite | None, NonNegative | None]]
    classes: list[str]


COLUMNS = tuple(Columns.__annotations__)
_OF_DONE = {"n_test", "lr", "n_rates", "val_accuracy", "test_accuracy", "frozen_ok", "seconds"}
"""Fields without which no trial is done."""
_END = b', "checksum": "%s"}\n'
_END_LENGTH = len(_END) - 2 + 16
_ADAPTER = TypeAdapter(Row)
DIRTY = "-dirty"  # follows a commit whose files had been changed

_ROOT = Path(__file__).parent.parent.parent


class OtherVersionError(Exception):
    """Row of another version of convtl; its argument is that commit, if known."""


def line_of(row: Row) -> bytes:
    """Encode a row as a line of JSON whose last key is a checksum of all before it."""
    content = {"commit": None, **row, "version": RESULTS_VERSION}
    text = json.dumps(content, sort_keys=True, ensure_ascii=False).encode()[:-1]
    return text + _END % _checksum(text)


def parse_line(line: bytes) -> Row:
    """Decode a line; ValueError for a wrong checksum, field, type, range or rate."""
    text = line[:-_END_LENGTH]
    if not has_checksum(line):
        with suppress(ValueError):
            first = json.loads(line)  # the first version had neither a version nor a checksum
            if isinstance(first, dict) and {"trial", "version"} & first.keys() == {"trial"}:
                raise OtherVersionError(first.get("commit"))
        raise ValueError("its checksum is not that of its content")
    row: Row = json.loads(text + b"}")
    if row.get("version") != RESULTS_VERSION:
        raise OtherVersionError(row.get("commit"))
    _ADAPTER.validate_json(text + b"}")
    if row["status"] == "done":
        if missing := _OF_DONE - row.keys():
            raise ValueError(f"{min(missing)} is missing")
        tried = [rate for rate, *_ in row.get("scores", [])]
        if tried and row["lr"] not in tried:
            raise ValueError(f"lr: got {row['lr']}; tried: {tried}")
    return row


def has_checksum(line: bytes) -> bool:
    """Return whether a line ends with the checksum of all before it."""
    return line[-_END_LENGTH:] == _END % _checksum(line[:-_END_LENGTH])


def _checksum(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=8).hexdigest().encode()


@cache
def commit() -> str | None:
    """Commit of a checkout, with `-dirty` where files differ; None if installed."""
    if not (_ROOT / ".git").exists():
        return None
    run = partial(subprocess.run, cwd=_ROOT, capture_output=True, text=True, timeout=10)
    try:
        head = run(["git", "rev-parse", "HEAD"], check=True).stdout.strip()
        changed = run(["git", "diff", "--quiet", "HEAD", "--", "convtl", "conf"]).returncode == 1
    except (OSError, subprocess.SubprocessError):
        return None
    return str(head) + DIRTY * changed


def short(name: str) -> str:
    """Shorten a commit to ten digits; keep the mark of changed files."""
    return name.removesuffix(DIRTY)[:10] + DIRTY * name.endswith(DIRTY)
