"""Rows of another protocol are left out, and the protocol is said in words."""

import tiny

from convtl.analysis.arms import frame
from convtl.config.parsing import parse
from convtl.reporting.comparable import comparable
from convtl.reporting.protocol import commits_said, facts, unfinished
from convtl.study.active import describe
from convtl.study.grid import expand
from convtl.study.store import planned


def record_of(content, points):
    return {"config": content, "points": planned(points)}


def test_rows_of_another_protocol_are_left_out():
    content = tiny.content()
    config, points = expand(parse(content))
    _, other = expand(parse(tiny.content("batch_size=2")))
    everything = {trial.id: describe(trial) | {"status": "done"} for trial in (*points, *other)}
    rows, left_out = comparable(everything, config, record_of(content, points))
    assert len(rows) == len(points)
    assert left_out == [
        f"{len(other)} rows of another recipe (other updates, rates, seed, classes, ...)"
    ]


def test_the_protocol_is_said():
    content = tiny.content()
    config, points = expand(parse(content))
    record = record_of(content, points)
    rows = [
        describe(point) | {"status": "done", "test_accuracy": 0.5, "n_test": 24, "n_train": 8}
        for point in points
    ]
    said = facts(config, {"command": "run", "updates": "many"}, frame(rows))
    assert said["updates"] == "6"
    assert said["test"] == "6 images a class, read once"
    assert said["scripts"] == "cyrillic"
    assert unfinished(record, {}) == ["1 planned trial not run yet (latin 1)"]
    assert unfinished(record, {point.id for point in points}) == []


def test_every_commit_is_named_with_its_rows() -> None:
    one, other = "d1df0cc5fe" + 30 * "0", "e0825f1d18" + 30 * "0" + "-dirty"
    made_by = {"a": one, "b": one, "c": other, "d": None}
    assert commits_said(made_by, "ab") == "commit d1df0cc5fe (2 rows)"
    assert commits_said(made_by, "abc") == "commits d1df0cc5fe (2 rows) and e0825f1d18-dirty (1)"
    assert (
        commits_said(made_by, "ad")
        == "commit d1df0cc5fe (1 row), and 1 row by one that is not known"
    )
    assert commits_said(made_by, "d") == ""
