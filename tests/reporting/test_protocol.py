"""Tuning trials are told from rows of another protocol, and the protocol is said in words."""

import tiny

from convtl.reporting.build import comparable
from convtl.reporting.protocol import facts, tuning_stages, unfinished
from convtl.study.arms import frame
from convtl.study.grid import expand
from convtl.study.group import describe
from convtl.study.record import named_contents, planned
from convtl.study.tuning import tuning_points

TUNING = "tuning={targets: [cyrillic, latin], replicates: 2, first: 5}"


def record_of(content, points):
    return {"config": content, "points": planned(points), "contents": named_contents(points)}


def test_tuning_trials_are_no_other_protocol():
    content = tiny.content(TUNING)
    config, points = expand(content)
    tuning = tuning_points(content)
    other = tuning_points(tiny.content(TUNING, "batch_size=2"))
    everything = {trial.id: describe(trial) | {"status": "done"} for trial in (*tuning, *other)}
    rows, left_out = comparable(everything, config, record_of(content, points))
    assert rows == []
    assert left_out == [
        "2 tuning trials (replicates 5, 6), which chose the learning rates",
        "2 rows of another protocol (other updates, rates, seed, classes, ...)",
    ]


def test_a_study_that_validates_for_itself_has_no_tuning_trials():
    content = tiny.content()
    _, points = expand(content)
    assert tuning_stages(record_of(content, points)) == set()


def test_the_protocol_is_said():
    content = tiny.content(TUNING)
    config, points = expand(content)
    record = record_of(content, points)
    rows = [
        describe(point) | {"status": "done", "test_accuracy": 0.5, "n_test": 24, "n_train": 8}
        for point in points
    ]
    said = facts(config, record, {"command": "run", "updates": "many"}, frame(rows))
    assert "for cyrillic on replicates 5 to 6 of latin; then frozen" in said["learning rates"]
    assert said["updates"] == "6"
    assert said["test"] == "6 images a class, read once"
    assert said["scripts"] == "cyrillic"
    assert unfinished(record, {}) == ["1 planned trial not run yet (latin 1)"]
    assert unfinished(record, {point.id for point in points}) == []
