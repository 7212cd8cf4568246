"""Rows that were taken over from another study are counted, under that study's name."""

from dataclasses import replace
from pathlib import Path

import yaml

from convtl.cli import compose
from convtl.parsing import parse
from convtl.reporting.shared_rows import shared_said
from convtl.study.store import RowStore


def other(folder: Path, name: str, trials: str) -> Path:
    store = RowStore(folder)
    store.prepare()
    for trial in trials:
        store.append({"trial": trial, "status": "done"})
    (folder / "configs").mkdir()
    record = {"config": {"study": name}, "points": [], "contents": {}}
    (folder / "configs" / "one.yaml").write_text(yaml.safe_dump(record))
    return folder


def test_taken_over_rows_are_counted_once_and_named_by_their_study(tmp_path) -> None:
    config = parse(compose(["study=mine"]))
    first, second = other(tmp_path / "a", "first", "abx"), other(tmp_path / "b", "second", "bc")
    asked = replace(config, rows_from=(str(first), str(second)))
    said = shared_said(asked, "abcd")
    assert said.startswith(
        "Of 4 trials, 2 are those of `first` and 1 are those of `second` (the same rows)"
    )
    assert "no independent evidence" in said
    assert str(tmp_path) not in said
    assert shared_said(asked, "yz") == shared_said(config, "abcd") == ""
    lost = replace(config, rows_from=(str(tmp_path / "nowhere"),))
    assert (
        shared_said(lost, "abcd")
        == "Rows may also be those of another study whose folder is not at hand."
    )
