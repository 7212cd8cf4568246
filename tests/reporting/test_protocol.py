"""Tuning trials are told from rows of another protocol, and the protocol is said in words."""

import tiny

from convtl.analysis.arms import frame
from convtl.reporting.comparable import comparable
from convtl.reporting.protocol import commits_said, facts, tuned_edges, tuning_stages, unfinished
from convtl.study.grid import expand
from convtl.study.record import named_contents, planned
from convtl.study.rows import describe
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
    assert list(rows) == []
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


def learning_rates(*words: str) -> tuple[str, str]:
    """What is said of them, and which targets chose their own."""
    content = tiny.content(*tiny.MORE, *words)
    config, points = expand(content)
    done = {"status": "done", "test_accuracy": 0.5, "n_test": 24, "n_train": 8}
    said = facts(
        config, record_of(content, points), {}, frame([describe(point) | done for point in points])
    )
    return said["learning rates"], said.get("rates from the own target", "")


def test_targets_that_chose_their_own_rates_are_named() -> None:
    rates, own = learning_rates(TUNING.replace("cyrillic, latin", "armenian"))
    assert rates.endswith("so that no label of a trial's own target beyond n has chosen it")
    assert own == ""
    rates, own = learning_rates(
        TUNING.replace("cyrillic, latin", "cyrillic"), "class_draw=disjoint"
    )
    assert (
        "for cyrillic on replicates 5 to 6 of its own (other classes, as long as there are enough)"
        in rates
    )
    assert rates.endswith(
        "for cyrillic, labels of the same target have chosen it, in other replicates"
    )
    assert own == "cyrillic"
    rates, own = learning_rates(
        TUNING.replace("cyrillic, latin", "armenian"), "target=[cyrillic,armenian]"
    )
    assert rates.endswith(
        "for armenian, labels of the same target have chosen it, in other replicates; for cyrillic, no label of the "
        "own target beyond n has"
    )
    assert own == "armenian"


def test_rates_at_an_edge_are_counted() -> None:
    content = tiny.content(
        *tiny.MORE, TUNING.replace("cyrillic, latin", "armenian"), "depth=[1,5]", "lr=[0.1,0.2,0.3]"
    )
    record = record_of(content, expand(content)[1])

    def said(*accuracies: float) -> str:
        scores = [
            [rate, accuracy, 1.0]
            for rate, accuracy in zip((0.1, 0.2, 0.3), accuracies, strict=True)
        ]
        done = {"status": "done", "n_val": 100, "scores": scores}
        return tuned_edges(
            record, {trial.id: describe(trial) | done for trial in tuning_points(content)}
        )

    assert said(0.5, 0.6, 0.5) == ""
    assert said(0.5, 0.6, 0.7).startswith(
        "Of 2 arms, 2 (100%) have a learning rate at the edge of those compared"
    )
    assert "0.00 logit on average and 0.00 at most with all layers trained; " in said(0.5, 0.6, 0.7)
    assert tuned_edges(record_of(tiny.content(), []), {}) == ""


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
