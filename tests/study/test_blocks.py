"""Studies that are unions of products: `blocks`, alone and with axes, slices and limits."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convtl.cli import compose
from convtl.config.parsing import parse
from convtl.config.values import dump
from convtl.errors import UserError
from convtl.study.grid import Trial, distinct, expand, products, refuse_hidden

BASE = compose(["source=latin", "depth=1", "n_per_class=10", "replicates=1"])
LADDER = ["+experiment=principle1_similarity", "replicates=1"]


def points(blocks: dict[str, Any] | None, **keys: Any) -> list[Trial]:
    return expand(parse(BASE | keys | {"blocks": blocks}))[1]


def ids(trials: list[Trial]) -> set[str]:
    return {trial.id for trial in trials}


# --- which trials there are -------------------------------------------------------------------------


def test_a_study_is_the_union_of_its_blocks() -> None:
    found = points(
        {
            "sizes": {"depth": [1, 2], "n_per_class": [2, 5]},
            "long": {"source": ["textures", "scratch"], "updates": 50},
        }
    )
    places = [(t.source, t.depth, t.n_per_class, t.updates) for t in found]
    assert places == [
        ("latin", 1, 2, 300),
        ("latin", 1, 5, 300),
        ("latin", 2, 2, 300),
        ("latin", 2, 5, 300),
        ("textures", 1, 10, 50),
        ("scratch", 5, 10, 50),
    ]


BLOCK = st.fixed_dictionaries(
    {},
    optional={
        "source": st.lists(
            st.sampled_from(["latin", "noise", "scratch", "own:shuffled"]), min_size=1, max_size=2
        ),
        "depth": st.lists(st.sampled_from([1, 3, "all"]), min_size=1, max_size=2),
        "upper_init": st.sampled_from(["source", "fresh"]),
        "shift": st.sampled_from([{"inversion": True}, {"noise": 0.2, "blur": 1.0}]),
        "replicates": st.integers(1, 2),
    },
)


@settings(max_examples=10)
@given(st.lists(BLOCK, min_size=1, max_size=3))
def test_every_block_has_the_trials_that_it_would_have_alone(blocks: list[dict[str, Any]]) -> None:
    together = points({f"block{index}": block for index, block in enumerate(blocks)})
    alone = set().union(*(ids(points(None, **block)) for block in blocks))
    assert ids(together) == alone
    assert len(distinct(together)) == len(alone)


def test_equal_points_are_one_trial() -> None:
    found = points({"one": {"depth": [1, 2]}, "other": {"depth": [2, 3]}})
    assert [trial.depth for trial in found] == [1, 2, 3]


def test_no_block_and_no_product_are_different_things() -> None:
    assert points({}) == []
    assert ids(points({"all": {}})) == ids(points(None))


def test_axes_vary_within_every_block() -> None:
    found = points({"one": {}, "other": {"depth": 2}}, axes={"optim.clip": [None, 1.0]})
    assert [(t.depth, t.axes["optim.clip"]) for t in found] == [
        (1, None),
        (1, 1.0),
        (2, None),
        (2, 1.0),
    ]


def test_every_point_has_a_column_for_all_that_any_block_sets() -> None:
    blocks = {
        "fresh": {"upper_init": "fresh"},
        "clipped": {"optim": {"clip": 1.0}},
        "more": {"replicates": 2, "depth": [1, 2]},
    }
    found = {trial.depth: dict(trial.axes) for trial in points(blocks)}
    keys = {"upper_init", "optim.clip"}
    assert all(set(axes) == keys for axes in found.values()), "what a row says anyway is no column"
    values = [tuple(trial.axes[key] for key in sorted(keys)) for trial in points(blocks)]
    assert set(values) == {(None, "fresh"), (1.0, "source"), (None, "source")}


def test_rates_of_a_block_are_no_axis() -> None:
    short, long = points({"short": {}, "long": {"updates": 1200, "lr": [1e-4, 1e-3]}})
    assert (short.axes, long.axes) == ({}, {})
    assert short.config == long.config
    assert long.settings.lr == (1e-4, 1e-3)
    (alone,) = points(None, updates=1200, lr=[1e-4, 1e-3])
    assert long.id == alone.id
    low, high = points({"all": {}}, axes={"lr": [1e-4, 1e-3]})
    assert (low.axes, high.axes) == ({"lr": [1e-4]}, {"lr": [1e-3]})


def test_blocks_that_differ_in_their_rates_alone_are_refused() -> None:
    with pytest.raises(UserError, match="two that differ in lr alone; accepted: lr under axes"):
        points({"low": {"lr": 1e-4}, "high": {"lr": 1e-3}})


def test_of_blocks_that_limits_make_equal_the_first_is_left() -> None:
    blocks = {"short": {}, "long": {"updates": 1200, "lr": [1e-4, 1e-3]}}
    (left,) = points(blocks, limits={"updates": 20})
    assert left.settings.lr == parse(BASE).lr


@pytest.mark.parametrize(
    ("dotted", "nested"),
    [
        ({"optim.clip": 1.0}, {"optim": {"clip": 1.0}}),
        ({"shift.noise": 0.1, "shift.blur": 1.0}, {"shift": {"noise": 0.1, "blur": 1.0}}),
        ({"domains.latin.size": 32}, {"domains": {"latin": {"size": 32}}}),
    ],
)
def test_dotted_keys_are_keys_below_keys(dotted, nested) -> None:
    (one,), (other,) = points({"a": dotted}), points({"a": nested})
    assert (one.id, one.axes) == (other.id, other.axes)


def test_a_block_leaves_what_is_beside_its_keys_alone() -> None:
    shift = {"noise": 0.2, "blur": 1.0}
    (trial,) = points({"a": {"shift": {"blur": 2.0}}}, shift=shift)
    assert (trial.settings.shift.noise, trial.settings.shift.blur) == (0.2, 2.0)
    assert shift == {"noise": 0.2, "blur": 1.0}


def test_only_the_nodes_that_a_block_changes_are_validated_again() -> None:
    blocks = {"a": {"optim.clip": 1.0}, "b": {"domains": {"latin": {"size": 32}}}}
    study = parse(BASE | {"blocks": blocks})
    (a, _), (b, _) = products(study)
    assert a.models["lenet5"] is b.models["lenet5"] is study.models["lenet5"]
    assert a.domains["latin"] is study.domains["latin"]
    assert b.optim is study.optim
    assert (a.optim.clip, b.domains["latin"].size) == (1.0, 32)
    assert [parse(dump(one)) for one in (a, b)] == [a, b]


# --- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "line"),
    [
        ({"lanes": 2}, "lanes: unknown key. It is now runs_per_device=..."),
        ({"sorce": "latin"}, "sorce: unknown key. Did you mean source"),
        ({"optm.clip": 1.0}, "optm: unknown key. Did you mean optim"),
        ({"optim.clp": 1.0}, "optim.clp: unknown key; accepted: kind, "),
        (
            {"out": "x"},
            "blocks.mine: got 'out'; accepted beside `blocks` only: it is the same for all of a study",
        ),
        ({"seed": 1}, "blocks.mine: got 'seed'; accepted beside"),
        ({"devices": 2}, "blocks.mine: got 'devices'; accepted beside"),
        ({"distributed": "auto"}, "blocks.mine: got 'distributed'; accepted beside"),
        ({"checkpoint_minutes": 1}, "blocks.mine: got 'checkpoint_minutes'; accepted beside"),
        ({"axes": {"seed": [1]}}, "blocks.mine: got 'axes'"),
        ({"blocks": {"a": {}}}, "blocks.mine: got 'blocks'"),
        ({"tracking.mode": "offline"}, "blocks.mine: got 'tracking.mode'"),
        ({"tracking": {"mode": "offline"}}, "blocks.mine: got 'tracking'"),
        ({"depth": 9}, "depth: got 9; accepted: 1 to 5"),
        ({"source": "latn"}, "source: unknown name 'latn'"),
        ({"n_per_class": 0}, "n_per_class: got 0; accepted: at least 1"),
    ],
)
def test_what_a_block_cannot_say_is_one_line(block, line) -> None:
    with pytest.raises(UserError) as error:
        points({"fine": {}, "mine": block})
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)


def test_a_block_that_is_none_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^blocks\.mine: got 3; accepted: keys with values"):
        points({"mine": 3})


# --- slices and limits ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ladder() -> list[Trial]:
    return expand(parse(compose(LADDER)))[1]


@pytest.mark.parametrize(
    "words",
    [
        ["target=cyrillic"],
        ["blocks.dial.similarity=0.5"],
        ["blocks.ladder.source=[own,scratch]", "blocks.long.source=latin"],
        ["replicate=0"],
    ],
)
def test_a_slice_is_made_of_the_same_trials(words: list[str], ladder: list[Trial]) -> None:
    part = expand(parse(compose([*LADDER, *words])))[1]
    assert ids(part) <= ids(ladder)
    assert 0 < len(part) <= len(ladder)
    assert {(t.source, t.similarity, t.target, t.depth, t.id) for t in part} <= {
        (t.source, t.similarity, t.target, t.depth, t.id) for t in ladder
    }


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (
            "depth",
            "depth: given beside a block that sets it itself; accepted: blocks.head.depth=...",
        ),
        ("n_per_class", "n_per_class: given beside a block"),
        ("optim.ema", "optim.ema: given beside a block that sets it itself"),
        ("optim", "optim.ema: given beside a block that sets it itself"),
        ("target", None),
        ("blocks.head.depth", None),
        ("optim.clip", None),
    ],
)
def test_what_blocks_would_hide_is_refused(typed: str, words: str | None) -> None:
    blocks = {
        "head": {"depth": 1, "n_per_class": 5, "optim": {"ema": 0.9}},
        "deeper": {"depth": [2, 3]},
        "": {},
    }
    if words is None:
        refuse_hidden([typed], {"blocks": blocks})
        return
    with pytest.raises(UserError, match=f"^{re.escape(words)}"):
        refuse_hidden([typed], {"blocks": blocks})
    refuse_hidden([typed], {"blocks": None})


def test_a_node_on_an_axis_replaces_and_one_in_a_block_is_merged() -> None:
    clip = {"kind": "adam", "clip": 1.0}
    on_axis = points(None, optim=clip, axes={"optim": [{"kind": "sgd"}, {"kind": "adam"}]})
    assert {trial.settings.optim.clip for trial in on_axis} == {None}
    (in_block,) = points({"one": {"optim": {"kind": "sgd"}}}, optim=clip)
    assert (in_block.settings.optim.kind, in_block.settings.optim.clip) == ("sgd", 1.0)


def test_limits_cut_blocks_too() -> None:
    config, found = expand(parse(compose(["+experiment=principle1_similarity", "debug=smoke"])))
    limits = config.limits
    assert config.study == "principle1_similarity-smoke"
    assert {t.replicate for t in found} == {0, 1}
    assert {t.updates for t in found} == {limits.updates}
    assert {t.settings.pretrain.updates for t in found} == {limits.pretrain_updates}
    assert {t.similarity for t in found} == {None, 0.0, 1.0}
    assert {t.settings.test_per_class for t in found} == {limits.images_per_class}
    assert {t.depth for t in found} == {1, 5}
    assert {"mixture", "own", "scratch"} <= {t.source for t in found}
