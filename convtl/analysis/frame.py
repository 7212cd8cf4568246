"""Data frame of a study's rows, from their files or a published results.csv.

Columns are those of results.csv, additional axes by their dotted keys, and derived ones (`_DERIVED`). Missing texts are
empty, numbers NaN, so that both ways give the same frame.
"""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json

from convtl.analysis.statistics import logit_accuracy
from convtl.config.schema import RESULTS_VERSION
from convtl.errors import UserError
from convtl.storage.files import written
from convtl.study.measurements import Similarity, read_similarity
from convtl.study.rows import COLUMNS, FINAL, Columns, has_checksum
from convtl.study.store import RowStore, accessible, intact, lines_of, other_version

PARTS = ("near", "far")
"""The two kinds of classes of a mixture, in the order of `source_accuracy_by_part`."""
SORTED_BY = (
    *("study", "model", "regime", "target", "source"),
    *("depth", "n_per_class", "updates", "replicate"),
)
_DERIVED = ("n_units", "n_classes", "logit_accuracy", "usable")
_AT_ONCE = 32 * 2**20
"""Bytes of rows that are parsed together."""
_LONGEST = 8 * 2**20
"""Bytes of a line at most."""
_FORMULA = re.compile(r"(?!-[\d.]+(e[-+]?\d+)?$)'*[=+\-@\t\r]")
"""A spreadsheet's formula, or a text that looks guarded against being one; no negative number."""
_GUARDED = re.compile(r"'+[=+\-@\t\r]")
_FLAGS = {True: True, "True": True, False: False, "False": False}
_DECODER = json.JSONDecoder()


def _kind(hint: Any) -> type:
    """Type of a column: bool, int, float; str of texts and nested values (JSON)."""
    hints = (hint,) if get_origin(hint) is list else (hint, *get_args(hint))
    return next((kind for kind in (bool, int, float) if kind in hints), str)


KINDS: dict[str, type] = {name: _kind(hint) for name, hint in get_type_hints(Columns).items()}
"""Column of results.csv -> type of its values."""
_ARROW = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string()}
_SCHEMA = pa.schema(
    {name: _ARROW[kind] for name, kind in KINDS.items() if name != "moved"}
    | {"source_accuracy_by_part": pa.list_(pa.float64()), "version": pa.int64()}
)


def read_rows(out: Path) -> pd.DataFrame:
    """Read a folder's rows: of each trial the one that counts (`RowStore.read`).

    Damaged lines are left out, and reported once for each file.

    Raises:
      UserError: the rows cannot be read, or another version of convtl has written them.
    """
    with accessible(out, "read"):
        similarity = read_similarity(out)
        blocks = _blocks(RowStore(out))
        parts = [_parsed(out, lines) for lines in blocks] or [_parsed(out, [])]
    frame = pd.concat(parts, ignore_index=True)
    del parts
    frame = _with_similarity(frame[_counting(frame)], similarity)
    return _finished(_with_axes(frame, frame["axes"]))


def _blocks(store: RowStore) -> Iterator[list[bytes]]:
    """Yield the whole lines of all files in order, in blocks to be parsed."""
    lines: list[bytes] = []
    size = 0
    for path in store.paths():
        for line in lines_of(path):
            if not has_checksum(line):
                list(intact(path, [line]))  # reports that it is damaged, or of another version
                continue
            lines.append(line)
            size += len(line)
            if size >= _AT_ONCE:
                yield lines
                lines, size = [], 0
    if lines:
        yield lines


def _parsed(out: Path, lines: list[bytes]) -> pd.DataFrame:
    """Parse rows to a frame, with nested values as JSON."""
    table = _SCHEMA.empty_table()
    if lines:
        options = pyarrow.json.ParseOptions(_SCHEMA, unexpected_field_behavior="ignore")
        at_once = pyarrow.json.ReadOptions(block_size=_LONGEST)
        table = pyarrow.json.read_json(pa.BufferReader(b"".join(lines)), at_once, options)
    others = table.filter(pc.not_equal(table["version"].fill_null(-1), RESULTS_VERSION))
    if len(others):
        raise other_version(out, others["commit"][0].as_py())
    parts = table["source_accuracy_by_part"].to_pylist()
    table = table.drop_columns(["source_accuracy_by_part", "version"])
    frame = table.to_pandas(split_blocks=True, self_destruct=True)
    frame["source_accuracy_by_part"] = [_by_part(part) for part in parts]
    for name in ("axes", "moved"):
        frame[name] = pd.array([_nested(line, name) for line in lines], dtype="str")
    return _typed(frame)


def _nested(line: bytes, key: str) -> str:
    """The JSON of a nested value; no text before it can hold the key in plain quotes."""
    text = line.partition(f'"{key}": '.encode())[2].decode()
    return text[: _DECODER.raw_decode(text)[1]] if text else ""


def _by_part(parts: list[float] | None) -> str:
    """JSON of accuracies on both sides of a mixture; empty without a mixture."""
    named = zip(PARTS, parts or (), strict=False)
    return json.dumps(dict(named)) if parts and len(parts) == len(PARTS) else ""


def axis_text(value: Any) -> str:
    """Format the value of an axis as in a frame and in results.csv."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str | bool | int | float):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Add missing known columns, and set types; incomplete numbers are floats."""
    required = Columns.__required_keys__
    for name, kind in KINDS.items():
        missing = "" if kind is str else np.nan
        column = frame[name] if name in frame else pd.Series(missing, frame.index)
        if kind is str:
            frame[name] = column.fillna("").astype("str")
        elif kind is bool:
            frame[name] = column.astype(object).map(_FLAGS).astype("boolean")
        else:
            whole = kind is int and name in required and column.notna().all()
            frame[name] = column.astype("int64" if whole else "float64")
    return frame


def _counting(frame: pd.DataFrame) -> pd.Series:
    """Mark of several rows of one trial the one that counts (as `RowStore.read`)."""
    keep = ~frame["trial"].duplicated(keep=False)
    repeated = frame.loc[~keep, ["trial", "status", "moved"]]
    ended = repeated["status"].isin(FINAL)
    rank = np.where(ended & (repeated["moved"] != ""), 0, np.where(ended, 1, 2))
    places = np.where(rank == 2, -repeated.index, repeated.index)  # the last of those not ended
    order = repeated.index[np.lexsort([places, rank])]
    keep[repeated.loc[order, "trial"].drop_duplicates().index] = True
    return keep


def _with_similarity(frame: pd.DataFrame, similarity: Similarity) -> pd.DataFrame:
    """Add the measures of each trial's source and target."""
    if not similarity.trials:  # of a million rows none has to be looked up
        return frame
    places = frame["trial"].map(similarity.trials)
    table = pd.DataFrame.from_dict(similarity.measures, orient="index", dtype="float64")
    taken = table.reindex(places)
    return frame.assign(**{name: taken[name].to_numpy() for name in COLUMNS if name in taken})


def _finished(frame: pd.DataFrame) -> pd.DataFrame:
    """Order the columns of a frame, and add derived ones."""
    frame = frame[[*COLUMNS, *sorted(axes_of(frame))]].reset_index(drop=True)
    units = frame["n_units"] if "n_units" in frame else pd.Series(np.nan, frame.index)
    # of tables that do not say it: the deepest that was trained
    frame["n_units"] = units.fillna(frame.groupby("model")["depth"].transform("max"))
    frame["n_classes"] = (frame["n_train"] / frame["n_per_class"]).round()
    frame["logit_accuracy"] = logit_accuracy(frame["test_accuracy"], frame["n_test"])
    moved = frame["frozen_ok"].eq(False).fillna(False).astype(bool)
    finite = np.isfinite(frame["logit_accuracy"])
    frame["usable"] = frame["status"].eq("done") & finite & ~moved
    return frame


def axes_of(frame: pd.DataFrame) -> list[str]:
    """The additional axes of a frame, by their dotted keys."""
    return [str(name) for name in frame if name not in (*COLUMNS, *_DERIVED)]


def of_study(frame: pd.DataFrame, trials: pd.DataFrame | None) -> tuple[pd.DataFrame, list[str]]:
    """Return a study's rows in its order, and lines on extra and missing trials.

    A trial has a row for each of its places in the study: one that an axis does not concern (scratch, with
    sources pretrained in two ways) serves all of them.

    Args:
      trials: those of a record (`convtl.study.store.POINT`); None takes all rows.
    """
    if trials is None:
        return frame, []
    run = trials["trial"].isin(frame["trial"])
    places = trials[run].reset_index(drop=True)
    rows = frame.drop(columns=axes_of(frame)).set_index("trial").loc[places["trial"]].reset_index()
    for name in ("config", "source", "similarity"):
        rows[name] = places[name].astype(frame[name].dtype)
    lines = []
    if others := int((~frame["trial"].isin(trials["trial"])).sum()):
        lines.append(f"{others:,} rows of other studies in this folder are left out")
    if len(missing := trials[~run]):
        counts = missing["source"].value_counts(sort=False)
        by_source = ", ".join(f"{source} {count:,}" for source, count in counts.items())
        lines.append(f"{len(missing):,} planned trials have not been run ({by_source})")
    return _finished(_with_axes(rows, places["axes"])), lines


def _with_axes(frame: pd.DataFrame, axes: pd.Series) -> pd.DataFrame:
    """Add a column for each key of `axes`, which holds JSON."""
    values = {text: json.loads(text) for text in axes.unique()}
    columns = {}
    for key in {key for one in values.values() for key in one}:
        texts = axes.map({text: axis_text(one.get(key)) for text, one in values.items()})
        columns[f"axes.{key}" if key in COLUMNS else key] = texts.astype("str")
    return frame.drop(columns="axes", errors="ignore").assign(**columns)


# --- results.csv --------------------------------------------------------------------------


def write_results(out: Path, frame: pd.DataFrame) -> Path:
    """Write results.csv atomically, sorted by the axes; additional axes come last."""
    names = [*COLUMNS, *axes_of(frame)]
    keys = [
        pd.factorize(frame[name], sort=True)[0] for name in (*SORTED_BY, *axes_of(frame), "trial")
    ]
    table = frame[names].iloc[np.lexsort(keys[::-1])].copy()
    for name in names:
        kind = KINDS.get(name, str)
        if kind is int:
            table[name] = table[name].astype("Int64")
        elif kind is str:  # what a spreadsheet would take for a formula gets a quote before it
            guarded = {text: f"'{text}" for text in table[name].unique() if _FORMULA.match(text)}
            table[name] = table[name].replace(guarded) if guarded else table[name]
    path = out / "results.csv"
    with accessible(out), written(path) as file:
        table.to_csv(file, mode="wb", index=False, lineterminator="\r\n")
    return path


def read_results(path: Path) -> pd.DataFrame:
    """Read a results.csv, of a folder or published, as `read_rows` reads rows.

    Raises:
      UserError: it cannot be read.
    """
    try:
        with accessible(path.parent, "read"):
            with path.open(newline="", encoding="utf-8") as file:
                names = next(csv.reader(file), [])
            numbers = {name for name, kind in KINDS.items() if kind in (int, float)}
            options = pyarrow.csv.ConvertOptions(
                column_types={name: _ARROW[float if name in numbers else str] for name in names},
                null_values=[""],
            )
            parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)
            table = pyarrow.csv.read_csv(path, parse_options=parsing, convert_options=options)
    except ValueError:  # it is no CSV file, or has text among its numbers
        table = pa.table({})
    gone = ["frechet", "h_score", "leep", "nce", "otdd"]  # of earlier commits
    cells = table.to_pandas().drop(columns=gone, errors="ignore")
    if not {"trial", "source", "target", "depth", "n_per_class"} <= set(cells):
        raise UserError(f"out: '{path}' is no table of results")
    for name in (name for name in map(str, cells) if KINDS.get(name, str) is str):
        guarded = {text: text[1:] for text in cells[name].unique() if _GUARDED.match(text)}
        cells[name] = cells[name].replace(guarded) if guarded else cells[name]
    return _finished(_typed(cells))
