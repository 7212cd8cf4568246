"""Trials of one program: what a row holds, and that nothing leaks into it."""

from pathlib import Path

import numpy as np
import pytest
import tiny

from convtl.models.lenet import LeNet5Config
from convtl.storage.cache import Cache, default_root
from convtl.study.active import describe
from convtl.study.draws import Start, TargetData
from convtl.study.group import Group, recipe_of
from convtl.study.materials import Materials
from convtl.study.rows import COLUMNS
from convtl.training.checkpoints import Checkpoints


@pytest.fixture(scope="module")
def materials() -> Materials:
    return Materials(Cache(default_root()), lambda line: None)


def rows_of(materials, *words):
    """The rows of the tiny study with `words`, all of which share one program."""
    trials = tiny.trials(*words)
    materials.prepare(trials)
    (recipe,) = {recipe_of(materials, trial) for trial in trials}
    checkpoints = Checkpoints(Path("nowhere"), None, print)
    found = list(Group(recipe, materials, checkpoints, tiny.Witness()).run(iter(trials)))
    assert {trial.id for trial, _, _ in found} == {trial.id for trial in trials}
    return {trial.id: (row, net) for trial, row, net in found}


def only(found):
    ((row, net),) = found.values()
    return row, net


def test_a_row_tells_all_that_the_table_promises(materials) -> None:
    row, net = only(rows_of(materials))
    asked_for = {
        "moved",
        "augmented",
        *("mmd2", "logme", "knn", "linear_probe"),
    }  # columns of studies that ask for them
    assert set(COLUMNS) - set(row) == {
        "reason",
        "commit",
        *asked_for,
    }  # the commit is signed where rows are kept
    assert row["status"] == "done"
    assert (row["n_train"], row["n_val"], row["n_test"]) == (2 * 4, 3 * 4, 6 * 4)
    assert row["trained_weights"] == 84 * 4 + 4
    # 4 images, 84x4 multiply-adds: forward, and the gradient of the weights; 2 operations each
    assert row["flops_per_update"] == 2 * 4 * (84 * 4) * 2
    assert 2 <= row["n_rates"] <= 5
    assert 0 <= row["source_accuracy"] <= 1
    assert row["frozen_ok"] is True
    assert set(net) == {"conv1", "pool1", "conv2", "pool2", "fc3", "fc4", "fc5"}


def test_the_net_that_is_handed_out_is_the_one_that_was_tested(materials) -> None:
    trial = tiny.trials()[0]
    row, net = only(rows_of(materials))
    data = materials.target_data(trial)
    images, labels = data.examples("test")
    logits = materials.network(trial).apply(net, images)[0]
    assert np.mean(np.asarray(logits).argmax(1) == labels) == pytest.approx(
        row["test_accuracy"], abs=1e-9
    )


def test_the_choice_is_made_before_the_test_labels_are_read(materials, monkeypatch) -> None:
    honest = rows_of(materials, "n_per_class=[2,4]", "replicates=2")
    read = TargetData.examples

    def poisoned(self, split, n_per_class=None):
        images, labels = read(self, split, n_per_class)
        return (images[::-1], (labels + 1) % 4) if split == "test" else (images, labels)

    monkeypatch.setattr(TargetData, "examples", poisoned)
    other = rows_of(
        Materials(materials.cache, lambda line: None), "n_per_class=[2,4]", "replicates=2"
    )
    assert honest.keys() == other.keys()
    tested = {"seconds", "test_accuracy", "test_nll", "test_ece"}
    for name, (row, _) in honest.items():
        assert {k: v for k, v in row.items() if k not in tested} == {
            k: v for k, v in other[name][0].items() if k not in tested
        }
    assert any(row["test_nll"] != other[name][0]["test_nll"] for name, (row, _) in honest.items())


@pytest.mark.parametrize(
    ("words", "splits"),
    [
        ((), ["train", "validation", "test"]),
        (("validation=within", "n_per_class=3", "source=random"), ["train", "test"]),
    ],
    ids=["beside", "within"],
)
def test_each_trial_reads_its_test_images_once_and_last(
    materials, monkeypatch, words, splits
) -> None:
    asked = []
    read = TargetData.pixels

    def noted(self, split, positions):
        asked.append(split)
        return read(self, split, positions)

    monkeypatch.setattr(TargetData, "pixels", noted)
    rows_of(Materials(materials.cache, lambda line: None), *words)
    assert asked == splits


def test_which_lanes_travel_together_changes_no_bit(materials) -> None:
    words = ("n_per_class=[2,4]", "replicates=2")
    together = rows_of(materials, *words)
    for trial in tiny.trials(*words):
        alone, _ = only(
            rows_of(materials, f"n_per_class={trial.n_per_class}", f"replicate={trial.replicate}")
        )
        assert tiny.untimed(alone) == tiny.untimed(together[trial.id][0])


def test_logits_that_are_not_finite_make_a_trial_diverge(materials, monkeypatch) -> None:
    def overflown(self, active, variables, split, fold=None):
        labels = active.data.examples(split)[1]
        return np.full((len(labels), 4), np.inf, np.float32), labels

    monkeypatch.setattr(Group, "_logits", overflown)
    row, net = only(rows_of(materials))
    assert row["status"] == "diverged"
    assert row["lr"] is None
    assert row["reason"]
    assert net is None
    assert row["n_rates"] == 4  # one step further down, in case it was too high
    assert not row.keys() & {"test_accuracy", "test_nll", "val_accuracy"}


def test_with_and_without_cached_features_a_trial_ends_the_same(materials) -> None:
    words = ("lr=1e-2", "n_per_class=[2,4]", "replicates=2")
    cached = rows_of(materials, *words)
    plain = rows_of(materials, *words, "cache_prefix=false")
    assert not cached.keys() & plain.keys()
    for (one, _), (other, _) in zip(cached.values(), plain.values(), strict=True):
        assert abs(one["test_accuracy"] - other["test_accuracy"]) <= 1 / one["n_test"] + 1e-12
        assert abs(one["val_accuracy"] - other["val_accuracy"]) <= 1 / one["n_val"] + 1e-12
        assert one["test_nll"] == pytest.approx(other["test_nll"], abs=1e-4)
        assert one["flops_per_update"] < other["flops_per_update"]


def test_all_arms_of_a_replicate_share_classes_images_and_counts(materials) -> None:
    def drawn(row):
        return row["subset_digest"], row["classes"], row["n_val"], row["n_test"]

    latin, _ = only(rows_of(materials, "source=latin"))
    random, _ = only(rows_of(materials, "source=random"))
    other, _ = only(rows_of(materials, "source=random", "replicate=1"))
    assert drawn(latin) == drawn(random)
    assert drawn(latin) != drawn(other)


def test_what_is_known_before_a_trial_is_part_of_its_row(materials) -> None:
    (trial,) = tiny.trials()
    row, _ = only(rows_of(materials))
    assert describe(trial, "done").items() <= row.items()


# --- frozen_ok --------------------------------------------------------------------------------------


def start() -> Start:
    import jax

    network = LeNet5Config().build((16, 16, 1), 4)
    variables = jax.tree.map(np.asarray, network.init(jax.random.key(0)))
    variables["conv2"]["batch_stats"] = {"mean": np.zeros(3, np.float32)}
    return Start(variables)


def tampered(variables, unit, kind, change):
    import jax

    leaves = {**variables[unit], kind: jax.tree.map(change, variables[unit][kind])}
    return variables | {unit: leaves}


def flip_last_bit(leaf: np.ndarray) -> np.ndarray:
    changed = leaf.copy()
    changed.reshape(-1).view(np.uint32)[-1] ^= 1
    return changed


def test_untouched_units_are_frozen_whatever_the_trained_ones_became() -> None:
    begun = start()
    tuned = tampered(begun.variables, "fc5", "params", lambda leaf: leaf + 1)
    assert begun.frozen_ok(tuned, ["fc5"])
    assert begun.frozen_ok(begun.variables, [])
    assert not begun.frozen_ok(tuned, ["fc4"])


@pytest.mark.parametrize(
    ("unit", "kind", "change"),
    [
        *((unit, "params", flip_last_bit) for unit in ("conv1", "conv2", "fc3", "fc4")),
        ("conv2", "batch_stats", lambda leaf: -leaf),
        ("conv2", "batch_stats", lambda leaf: leaf.astype(np.float64)),
        ("conv2", "batch_stats", lambda leaf: leaf[:2]),
    ],
)
def test_a_changed_leaf_of_a_frozen_unit_is_noticed(unit, kind, change) -> None:
    begun = start()
    tuned = tampered(begun.variables, unit, kind, change)
    assert not begun.frozen_ok(tuned, ["fc5"])
    assert begun.frozen_ok(tuned, ["fc5", unit])


def test_a_frozen_unit_that_has_lost_its_statistics_is_noticed() -> None:
    begun = start()
    tuned = begun.variables | {"conv2": {"params": begun.variables["conv2"]["params"]}}
    assert not begun.frozen_ok(tuned, ["fc5"])
