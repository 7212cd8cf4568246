"""What a trial starts from: which units are the source's, which are fresh, and whose head is kept."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import tiny

from convtl.config.parsing import parse
from convtl.errors import UserError
from convtl.keys import key
from convtl.models.network import Variables
from convtl.storage.cache import Cache, default_root
from convtl.study.grid import Trial, expand
from convtl.study.materials import Materials
from convtl.study.names import source_name
from convtl.transfer.graft import fresh_variables

UNITS = ("conv1", "conv2", "fc3", "fc4", "fc5")
TESTED = ("test_accuracy", "test_nll", "test_ece", "val_accuracy", "lr", "n_rates", "scores")


@pytest.fixture(scope="module")
def materials() -> Materials:
    return Materials(Cache(default_root()), lambda what: None)


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    return tiny.content(*tiny.MORE, "pretrain.images_per_class=4", "lr=1e-2")


def only(content: dict[str, Any], **keys: Any) -> Trial:
    (trial,) = expand(parse(content | keys))[1]
    return trial


def start(materials: Materials, trial: Trial) -> Variables:
    materials.check([trial])
    materials.prepare([trial])
    return materials.start(trial).variables


def fresh(materials: Materials, trial: Trial) -> Variables:
    stream = trial.settings.seed, "init", trial.replicate
    return fresh_variables(materials.network(trial), key(*stream))


def same(one: Any, other: Any) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def source(materials: Materials, trial: Trial) -> Variables:
    request = materials.request(trial)
    assert request is not None
    return materials.source_variables(request, source_name(trial.source).variant)


def taken(materials: Materials, trial: Trial) -> set[str]:
    """Units that are the source's; all others are fresh."""
    begun, anew = start(materials, trial), fresh(materials, trial)
    theirs = source(materials, trial)
    found = {unit for unit in UNITS if same(begun[unit], theirs[unit])}
    assert all(same(begun[unit], anew[unit]) for unit in UNITS if unit not in found)
    return found


# --- upper units ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "lowest"),
    [
        ({"depth": 2}, 4),
        ({"depth": "all"}, 4),
        ({"depth": 2, "upper_init": "fresh"}, 3),
        ({"depth": 4, "upper_init": "fresh"}, 1),
        ({"depth": "all", "upper_init": "fresh"}, 0),
        ({"depth": "all", "upper_init": "fresh", "n_transferred": 2}, 2),
        ({"depth": 3, "upper_init": "fresh", "n_transferred": 4}, 4),
    ],
)
def test_which_units_come_from_the_source(materials, content, keys, lowest) -> None:
    assert taken(materials, only(content, **keys)) == set(UNITS[:lowest])


def test_fresh_upper_units_at_full_depth_are_scratch_bit_for_bit(tmp_path: Path, content) -> None:
    blocks = {
        "fresh": {"source": ["latin", "latin:shuffled"], "upper_init": "fresh", "depth": "all"},
        "scratch": {"source": "scratch"},
    }
    found = expand(parse(content | {"blocks": blocks, "replicates": 2, "lr": [1e-3, 1e-2]}))[1]
    tiny.run(tmp_path, found)
    rows = tiny.table(tmp_path)
    for replicate in range(2):
        own = [rows[trial.id] for trial in found if trial.replicate == replicate]
        assert len(own) == 3
        for name in TESTED:
            assert own[0][name] == own[1][name] == own[2][name], name
    assert len({row["test_nll"] for row in rows.values()}) == 2, "replicates differ"


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"n_transferred": 2}, "n_transferred: got 2; accepted with upper_init=fresh only"),
        ({"n_transferred": 0, "upper_init": "fresh"}, "n_transferred: got 0; accepted: at least 1"),
        (
            {"n_transferred": 5, "upper_init": "fresh"},
            "n_transferred: got 5; accepted: 1 to 4 units of 'lenet5'",
        ),
    ],
)
def test_a_number_of_kept_units_that_is_none_is_one_line(materials, content, keys, line) -> None:
    with pytest.raises(UserError, match=f"^{line}"):
        materials.check([only(content, **keys)])


def test_kept_units_are_part_of_a_trial(content) -> None:
    given = [
        {},
        {"upper_init": "fresh"},
        *({"upper_init": "fresh", "n_transferred": kept} for kept in (1, 2)),
    ]
    assert len({only(content, depth="all", **keys).id for keys in given}) == 4
    assert len({only(content, source="scratch", **keys).id for keys in given}) == 1


# --- head -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["same_classes", "self", "same_classes:shuffled"])
def test_a_sources_head_is_kept_where_its_classes_are_the_targets(
    materials, content, source
) -> None:
    trial = only(content, source=source, head_init="source", depth=2)
    assert taken(materials, trial) == set(UNITS)
    assert taken(materials, only(content, source=source, depth=2)) == set(UNITS[:4])


@pytest.mark.parametrize("source", ["latin", "own"])
def test_a_head_for_other_classes_is_refused(materials, content, source) -> None:
    trial = only(content, source=source, head_init="source")
    with pytest.raises(
        UserError, match=f"^head_init: got 'source' with source '{source}', whose classes are"
    ):
        materials.check([trial])


def test_a_fresh_net_has_no_head_to_keep(materials, content) -> None:
    for source in ("scratch", "random"):
        trial = only(content, source=source, head_init="source")
        assert same(start(materials, trial), fresh(materials, trial))


@pytest.mark.parametrize(
    "keys",
    [
        {"source": "same_classes"},
        {"source": "random", "head_init": "source"},
    ],
)
def test_a_regime_that_leaves_the_head_alone_needs_one_that_was_trained(content, keys) -> None:
    with pytest.raises(
        UserError, match=r"^regime: got 'first_unit_only', which leaves the head alone"
    ):
        only(content, regime="first_unit_only", **keys)


def test_a_kept_head_stays_as_it_is_where_the_regime_says_so(materials, content, tmp_path) -> None:
    trial = only(content, regime="first_unit_only", source="same_classes", head_init="source")
    assert trial.trained_units == ("conv1",)
    assert tiny.run(tmp_path, [trial]).failed == []
    (row,) = tiny.table(tmp_path).values()
    assert (row["status"], row["frozen_ok"], row["depth_unit"]) == ("done", True, "conv1")


# --- controls ---------------------------------------------------------------------------------------


def test_a_control_is_the_same_whoever_makes_it_and_another_in_each_replicate(content) -> None:
    def control(replicate: int) -> Variables:
        own = Materials(Cache(default_root()), lambda what: None)
        trial = only(content, source="latin:shuffled", replicate=replicate)
        own.prepare([trial])
        return source(own, trial)

    one, again, other = control(0), control(0), control(1)
    assert same(one, again)
    assert not same(one["conv1"], other["conv1"])
