"""Rates chosen by cross-validation inside the labels: no other label, one net on all of them."""

from pathlib import Path

import numpy as np
import pytest
import tiny

from convtl.errors import UserError
from convtl.measure.metrics import losses
from convtl.storage.cache import Cache, default_root
from convtl.study.group import Group, recipe_of, run_count, update_flops
from convtl.study.materials import Materials
from convtl.study.study import Study
from convtl.training.checkpoints import Checkpoints
from convtl.training.features import Forward
from convtl.training.loop import Trainer

WORDS = ("validation=within", "n_per_class=3", "source=random")


def materials() -> Materials:
    return Materials(Cache(default_root()), lambda line: None)


def row_of(*words):
    """The row of the one trial, and how many runs it took."""
    (trial,) = tiny.trials(*words)
    made = materials()
    made.check([trial])
    group = Group(recipe_of(made, trial), made, Checkpoints(Path("x"), None, print), tiny.Witness())
    ((_, row, _),) = group.run(iter([trial]))
    return row


@pytest.fixture
def runs(monkeypatch):
    """All runs that are trained, with their results."""
    pairs = []
    train = Trainer.train

    def noted(self, runs, callback=None):
        results = train(self, runs, callback)
        pairs.extend(zip(runs, results, strict=True))
        return results

    monkeypatch.setattr(Trainer, "train", noted)
    return pairs


@pytest.mark.parametrize(
    "words",
    [(), ("depth=5",), pytest.param(("depth=5", "augment={flip: true}"), marks=pytest.mark.slow)],
)
def test_the_net_is_the_one_that_all_labels_give_at_the_chosen_rate(words, runs) -> None:
    row = row_of(*WORDS, *words)
    assert (row["n_val"], row["n_train"], row["validation"]) == (0, 3 * 4, "within")
    assert len(runs) == 3 * row["n_rates"] + 1
    alone = row_of(*WORDS[1:], *words, f"lr={row['lr']}")
    assert alone["n_val"] == 3 * 4
    for name in ("test_accuracy", "test_nll", "test_ece", "subset_digest", "frozen_ok"):
        assert row[name] == alone[name], name


def test_each_picture_is_left_out_once_and_judged_by_nets_that_never_saw_it(runs) -> None:
    """The losses by hand, from what every run was trained on."""
    row = row_of(*WORDS, "depth=5", "lr=1e-2")
    (trial,) = tiny.trials(*WORDS, "depth=5", "lr=1e-2")
    made = materials()
    images, labels = made.target_data(trial).examples("train", 3)
    each = np.full(len(labels), np.nan)
    *folds, (whole, _) = runs
    for run, result in folds:
        seen = run.batches(0, trial.updates)[0].reshape(-1, *images.shape[1:])
        left = np.array([not (seen == image).all((1, 2, 3)).any() for image in images])
        assert np.bincount(labels[left], minlength=4).tolist() == [1, 1, 1, 1]
        assert np.isnan(each[left]).all(), "left out twice"
        logits = Forward(made.network(trial), 0)(result.variables, images[left])
        each[left] = losses(logits, labels[left])
    seen = whole.batches(0, trial.updates)[0].reshape(-1, *images.shape[1:])
    assert all((seen == image).all((1, 2, 3)).any() for image in images)
    ((rate, accuracy, loss, error),) = row["scores"]
    assert (rate, accuracy, error) == (row["lr"], row["val_accuracy"], 0.0)
    assert loss == pytest.approx(each.mean(), rel=1e-6)


def test_a_net_that_diverges_on_all_labels_leaves_the_next_best_rate(monkeypatch) -> None:
    validate, first = Group._validate, []

    def diverging(self, active, key, result):
        if key.fold is None and not first:
            first.append(key.rate)
            return None
        return validate(self, active, key, result)

    monkeypatch.setattr(Group, "_validate", diverging)
    row = row_of(*WORDS)
    assert row["status"] == "done"
    assert row["lr"] != first[0]
    assert (first[0], None, None, None) in row["scores"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("n_per_class=1",), "n_per_class: got 1 with validation=within; accepted: at least 2"),
        (("source=self",), "source: got 'self' with validation=within; accepted: any other source"),
    ],
)
def test_what_cannot_be_cross_validated_is_refused(words, line) -> None:
    with pytest.raises(UserError, match=line):
        row_of(*WORDS, *words)


@pytest.mark.parametrize(
    ("words", "runs"),
    [
        ((), 3),
        (("validation=within",), 3 * 2 + 1),
        (("validation=within", "n_per_class=7"), 3 * 5 + 1),
        (("validation=within", "lr=1e-2"), 2 + 1),
    ],
)
def test_runs_are_counted_before_they_are_trained(words, runs) -> None:
    (trial,) = tiny.trials(*words)
    assert run_count(trial) == runs


def test_a_plan_counts_folds_and_pretraining(tmp_path) -> None:
    trials = tiny.trials("validation=within", "depth=5")
    study = Study(trials[0].settings, trials, tmp_path / "out", Cache(tmp_path / "cache"))
    _, programs, nets, cost, _ = study.plan()
    assert programs == "1 compiled programs, 7 training runs at least"
    assert nets == "1 source nets: 0 cached, 1 to train"
    update = update_flops(recipe_of(study.materials, trials[0]))
    # 3 rates, 2 folds each, and a run on all labels; the source net, of as many units, in one
    expected = f"{7 * 6 * update:.3g} floating-point operations in training, {6 * update:.3g} in pretraining"
    assert cost == expected
