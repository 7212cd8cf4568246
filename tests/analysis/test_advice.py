"""Advice on one's own pictures: the best mean wins, unless fewer layers are shown to lose hardly anything."""

import pytest
from made_rows import made_conditions

from convtl.analysis.advice import advise
from convtl.analysis.learning_curve import LearningCurve

AXES = {"sources": ["latin"], "targets": ["mine"], "schedules": [300], "shared_sd": 0.02}


def rising(step):
    """Each further layer gains `step` logits, and more images gain, too."""
    return lambda source, n, depth, updates, similarity: 0.1 * n**0.5 + step * depth


@pytest.mark.parametrize(
    ("step", "depth", "best"),
    [
        (0.1, 5, 5),  # deeper is better: no head "until settled otherwise"
        (-0.1, 1, 1),
        (0.002, 1, None),  # no depth loses a point
    ],
)
def test_the_depth_that_is_advised(step, depth, best):
    [advice] = advise(made_conditions(rising(step), sd=0.005, replicates=6, **AXES))
    for choice in advice.choices:
        assert choice.depth == depth
        assert best in (None, choice.best)
        assert (choice.loss is None) == (choice.depth == choice.best)


def test_few_noisy_replicates_are_no_reason_to_train_fewer_layers():
    [advice] = advise(made_conditions(rising(0.05), sd=0.2, replicates=3, **AXES))
    assert all(choice.depth == choice.best for choice in advice.choices)


def test_what_depth_gains_at_one_size_is_not_averaged_away():
    effect = lambda source, n, depth, updates, similarity: depth * (0.05 if n == 50 else -0.1)  # noqa: E731
    [advice] = advise(made_conditions(effect, sd=0.005, replicates=6, **AXES))
    assert [choice.depth for choice in advice.choices] == [1, 1, 5]


def test_validation_images_choose_and_test_images_report():
    """On validation images the last layer alone is best, on test images all layers."""
    seen = lambda row: {"val_accuracy": 0.9 - 0.05 * row["depth"]}  # noqa: E731
    [advice] = advise(made_conditions(rising(0.1), sd=0.0, change=seen, **AXES))
    assert [choice.depth for choice in advice.choices] == [1, 1, 1]
    accuracies = advice.now.accuracies
    assert list(accuracies) == [1, 2, 3, 4, 5] == sorted(accuracies, key=accuracies.get)
    assert advice.now.interval.low < accuracies[1] < advice.now.interval.high


def test_one_replicate_gives_its_best_depth_and_no_curve():
    [advice] = advise(made_conditions(rising(0.1), sd=0.0, replicates=1, **AXES))
    assert advice.now.depth == advice.now.best == 5
    assert advice.now.interval is None
    assert advice.curve == (
        "a curve needs 3 numbers of images and 2 replicates that have them all; there are 3 and 1"
    )


def test_the_curve_is_that_of_the_nearest_depth_with_enough_sizes():
    conditions = made_conditions(rising(0.1), sd=0.01, **AXES)
    deep = conditions.frame["depth"].isin([4, 5]) & (conditions.frame["n_per_class"] < 50)
    [advice] = advise(type(conditions)(conditions.frame[~deep]))
    assert (advice.now.depth, advice.curve_depth) == (5, 3)
    assert isinstance(advice.curve, LearningCurve)
    assert [round(forecast.images) for forecast in advice.curve.forecasts] == [1200, 2400]


def test_the_kept_net_is_chosen_on_validation_images():
    conditions = made_conditions(rising(0.1), sd=0.05, **AXES)
    [advice] = advise(conditions)
    rows = conditions.frame.query("n_per_class == 50 and depth == 5")
    assert advice.trial == rows.loc[rows["val_accuracy"].idxmax(), "trial"]


def test_scratch_is_no_source_to_advise_on():
    assert advise(made_conditions(sources=["scratch"], targets=["mine"])) == []
