"""Axes -> trials: what there is to run, and what a trial is known by."""

from typing import Any

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from convtl.cli import compose
from convtl.config.domains import Caps
from convtl.config.parsing import parse
from convtl.errors import UserError
from convtl.study import grid
from convtl.study.grid import apply_limits, expand

BASE = compose([])
SMALL = BASE | {"depth": [1], "n_per_class": [10], "replicates": 1}


def changed(content: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """Content with other values at dotted keys (`__` stands for the dot)."""
    for key, value in keys.items():
        content = put(content, key.replace("__", "."), value)
    return content


def put(content: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    head, _, rest = key.partition(".")
    return content | {head: put(content.get(head) or {}, rest, value) if rest else value}


def ids(content: dict[str, Any]) -> list[str]:
    return [trial.id for trial in expand(parse(content))[1]]


def points(content: dict[str, Any], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(getattr(trial, name) for name in names) for trial in expand(parse(content))[1]]


# --- which trials there are -------------------------------------------------------------------------


def test_a_study_is_the_product_of_its_axes() -> None:
    content = changed(
        BASE,
        source=["latin", "textures"],
        target=["greek", "cyrillic"],
        depth=[1, 3],
        n_per_class=[2, 5],
        updates=[10, 20],
        regime=["fine_tune", "lp_ft"],
        replicates=3,
    )
    names = ("source", "target", "depth", "n_per_class", "updates", "regime", "replicate")
    found = points(content, *names)
    assert len(found) == len(set(found)) == 2**6 * 3
    assert len(set(ids(content))) == len(found)


def test_one_value_stands_for_a_list_of_one() -> None:
    listed = {key: [SMALL[key]] for key in ("model", "source", "target", "regime", "updates", "lr")}
    one = changed(SMALL, lr=1e-3)
    assert ids(one) == ids(one | listed | {"lr": [1e-3], "depth": 1, "n_per_class": 10})


def test_the_default_study_has_its_198_trials() -> None:
    _, trials = expand(parse(compose(["+experiment=finetune_depth"])))
    assert len(trials) == 198
    assert sum(trial.source == "scratch" for trial in trials) == 18


def test_equal_points_are_one_trial() -> None:
    content = changed(
        SMALL, depth=[5, "all", "conv1", 5], n_per_class=[10, 10], source=["latin", "latin"]
    )
    assert points(content, "depth", "depth_unit") == [(5, "conv1")]


def test_scratch_appears_once_whatever_depth_and_regime() -> None:
    content = changed(
        SMALL, source="scratch", depth=[1, 2, "all"], regime=["lp_ft", "discriminative"]
    )
    assert points(content, "source", "depth", "depth_unit", "regime") == [
        ("scratch", 5, "conv1", "fine_tune")
    ]
    assert ids(content) == ids(changed(SMALL, source="scratch", depth=3))


def test_scratch_does_not_depend_on_how_others_are_pretrained() -> None:
    other = changed(SMALL, source=["scratch", "random", "latin"], pretrain__updates=7)
    same = [
        one == two
        for one, two in zip(ids(other), ids(put(other, "pretrain.updates", 8)), strict=True)
    ]
    assert same == [True, True, False]


def test_depths_that_scratch_does_not_use_are_checked_too() -> None:
    with pytest.raises(UserError, match=r"^depth: got .banana.; accepted"):
        expand(parse(changed(SMALL, source="scratch", depth="banana")))


def test_random_has_all_depths() -> None:
    assert points(changed(SMALL, source="random", depth=[1, 4]), "source", "depth") == [
        ("random", 1),
        ("random", 4),
    ]


def test_named_units_do_not_depend_on_depth() -> None:
    content = changed(SMALL, regime="first_unit", depth=[1, 2, 5])
    assert points(content, "depth", "depth_unit", "trained_units") == [
        (2, "conv1+fc5", ("conv1", "fc5"))
    ]


def test_replicates_are_counted_or_picked() -> None:
    assert points(changed(SMALL, replicates=3), "replicate") == [(0,), (1,), (2,)]
    assert points(changed(SMALL, replicates=3, replicate=[5, 1]), "replicate") == [(5,), (1,)]
    assert points(changed(SMALL, replicate=3), "replicate") == [(3,)]
    assert ids(changed(SMALL, replicate=[3])) == ids(changed(SMALL, replicates=4))[-1:]


# --- identity ---------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(st.randoms())
def test_ids_do_not_depend_on_the_order_of_axes(random) -> None:
    content = changed(
        BASE,
        source=["latin", "scratch"],
        depth=[1, 2],
        n_per_class=[2, 5],
        regime=["fine_tune", "lp_ft"],
    )
    turned = dict(random.sample(list(content.items()), len(content)))
    for key in ("source", "depth", "n_per_class", "regime"):
        turned[key] = random.sample(content[key], len(content[key]))
    assert sorted(ids(turned)) == sorted(ids(content))


AROUND = [
    ("out", "elsewhere"),
    ("cache", "elsewhere"),
    ("study", "name"),
    ("question", "why?"),
    ("save", "best"),
    ("dry_run", True),
    ("tracking.mode", "offline"),
    ("tracking.project", "p"),
    ("replicates", 1),
    ("limits.suffix", "-x"),
    ("models.other", {"kind": "lenet5", "activation": "relu"}),
    ("domains.other", {"kind": "digits"}),
    ("domains.greek.size", 14),
    ("regimes.lp_ft.probe_share", 0.4),
    ("claims.deeper_with_more_data.smallest_effect", 0.3),
    ("scorecard", ["deeper_with_more_data"]),
    ("measure", ["movement", "gradients"]),
    ("blocks", {"one": {}}),
    ("domains.textures.size", 14),
    ("path", "elsewhere"),
    ("advice", True),
    ("devices", "batch"),
    ("devices.count", 3),
    ("distributed", "auto"),
    ("checkpoint_minutes", None),
    ("worker", 2),
    ("data.memory_gb", 1.0),
    ("weights.imagenet_mobilenet_v2.size", 160),
]
NUMBERS = [
    ("seed", 1),
    ("classes", 11),
    ("classes", None),
    ("batch_size", 16),
    ("lr", [1e-3, 1e-2]),
    ("lr_extend", 1),
    ("head_init", "source"),
    ("optim.kind", "sgd"),
    ("optim.clip", 1.0),
    ("optim.weight_decay", 0.1),
    ("schedule.kind", "constant"),
    ("schedule.warmup", 0.2),
    ("validation", "within"),
    ("validation_per_class", 10),
    ("test_per_class", 50),
    ("pretrain.updates", 10),
    ("pretrain.lr", 0.1),
    ("pretrain.images_per_class", 10),
    ("cache_prefix", False),
    ("runs_per_device", 2),
    ("steps_per_call", 25),
    ("updates", 30),
    ("n_per_class", 9),
    ("replicate", 1),
    ("depth", 2),
    ("source", "greek"),
    ("target", "greek"),
    ("regime", "lp_ft"),
    ("models.lenet5.activation", "relu"),
    ("models.lenet5.pooling", "max"),
    ("models.lenet5.initialiser", "he_normal"),
    ("domains.cyrillic.size", 32),
    ("domains.cyrillic.jitter.noise", 0.5),
    ("domains.latin.script", "greek"),
    ("class_draw", "disjoint"),
    ("upper_init", "fresh"),
    ("shift.inversion", True),
    ("class_balance", "at_most"),
    ("norm_mode", "frozen"),
    ("augment", {"flip": True}),
    ("precision", "bfloat16"),
    ("domains.cyrillic.per_class.test", 410),
    ("domains.latin.lookalike", 0.7),
    ("regimes.fine_tune.kind", "lp_ft"),
]


@pytest.mark.parametrize(("key", "value"), AROUND)
def test_what_is_around_the_trials_leaves_their_ids_alone(key, value) -> None:
    assert ids(put(SMALL, key, value)) == ids(SMALL)


@pytest.mark.parametrize(("key", "value"), NUMBERS)
def test_what_can_change_numbers_changes_the_id(key, value) -> None:
    assert not set(ids(put(SMALL, key, value))) & set(ids(SMALL))


_CHOICES = ("source", "target", "regime")
"""What decides whether keys of some domain or regime change numbers or not."""
APART = [item for item in NUMBERS if item[0] not in _CHOICES]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from(APART), unique_by=lambda item: item[0], max_size=3),
    st.lists(st.sampled_from(APART), unique_by=lambda item: item[0], max_size=3),
    st.lists(st.sampled_from(AROUND), unique_by=lambda item: item[0].split(".")[0], max_size=2),
)
def test_two_configs_share_an_id_only_if_their_numbers_are_the_same(one, other, around) -> None:
    first, second = SMALL, SMALL
    for key, value in one:
        first = put(first, key, value)
    for key, value in [*other, *around]:
        second = put(second, key, value)
    same = sorted(one, key=repr) == sorted(other, key=repr)
    assert (ids(first) == ids(second)) == same


def test_the_table_of_keys_is_complete() -> None:
    """A new key must be decided on: does it change numbers or not?"""
    elsewhere = {"model", "axes", "n_transferred", "similarity"}  # in tests of their own
    decided = {key.split(".")[0] for key, _ in [*AROUND, *NUMBERS]} | elsewhere
    assert decided == set(BASE)


def test_protocol_changes_every_id(monkeypatch) -> None:
    before = ids(SMALL)
    monkeypatch.setattr(grid, "RESULTS_VERSION", grid.RESULTS_VERSION + 1)
    assert not set(ids(SMALL)) & set(before)


def test_slices_share_the_config_digest_and_other_protocols_do_not() -> None:
    def config(content: dict[str, Any]) -> set[str]:
        return {trial.config for trial in expand(parse(content))[1]}

    whole = config(changed(BASE, source=["latin", "scratch"], n_per_class=[5, 50]))
    assert len(whole) == 1
    for slice_ in (
        {"depth": 3},
        {"n_per_class": 50},
        {"replicate": [1]},
        {"out": "x"},
        {"target": "greek"},
    ):
        assert config(BASE | slice_) == whole
    assert (
        config(BASE | {"axes": {"optim.clip": [None, 1.0]}}) != whole
    )  # the key is no part of the protocol then
    for key, value in (("seed", 1), ("lr", 1e-3), ("optim.clip", 1.0), ("pretrain.updates", 3)):
        assert config(put(BASE, key, value)) != whole


def test_names_stand_for_what_they_mean() -> None:
    """Another name for the same thing gives the same trial; the same name for another thing does not."""
    renamed = put(SMALL, "domains.abc", SMALL["domains"]["latin"]) | {"source": "abc"}
    assert ids(renamed) == ids(SMALL)
    assert ids(put(SMALL, "domains.latin.jitter.shift", 1.0)) != ids(SMALL)


# --- additional axes --------------------------------------------------------------------------------


def test_any_key_becomes_an_axis() -> None:
    content = SMALL | {
        "axes": {"optim.clip": [None, 1.0], "models.lenet5.activation": ["tanh", "relu", "sigmoid"]}
    }
    config, trials = expand(parse(content))
    assert len({trial.id for trial in trials}) == 6
    assert {(t.axes["optim.clip"], t.settings.models["lenet5"].activation) for t in trials} == {
        (clip, name) for clip in (None, 1.0) for name in ("tanh", "relu", "sigmoid")
    }
    assert len({trial.config for trial in trials}) == 1
    assert config.axes
    assert all(not trial.settings.axes for trial in trials)


def test_a_point_of_an_axis_is_the_trial_that_has_this_value_set() -> None:
    for key, value in (
        ("optim.clip", 1.0),
        ("classes", 3),
        ("upper_init", "fresh"),
        ("domains.latin.size", 32),
    ):
        assert ids(SMALL | {"axes": {key: [value]}}) == ids(put(SMALL, key, value))


def test_one_value_of_an_axis_needs_no_list() -> None:
    assert ids(SMALL | {"axes": {"classes": 4}}) == ids(SMALL | {"classes": 4})


@pytest.mark.parametrize(
    ("axes", "line"),
    [
        ({"depth": [1]}, "axes: got 'depth'; it is given as depth=... itself"),
        ({"replicate": [1]}, "axes: got 'replicate'"),
        ({"out": ["a"]}, "axes: got 'out'"),
        ({"tracking.mode": ["offline"]}, "axes: got 'tracking.mode'"),
        ({"norm_mod": ["frozen"]}, "norm_mod: unknown key"),
        (
            {"schedul.kind": ["constant"]},
            "schedul: unknown key. Did you mean schedule",
        ),
        ({"optim.nosuch": [1]}, "optim.nosuch: unknown key"),
        ({"seed": [1]}, "axes: got 'seed'; it is given as seed=... itself"),
        (
            {"classes.deeper": [1]},
            "classes: got {'deeper': 1}; accepted: a whole number",
        ),
        ({"optim.clip": []}, "axes.optim.clip: got []; accepted: at least one value"),
        ({"optim.clip": ["x"]}, "optim.clip: got 'x'; accepted: a number"),
        ({"domains.nosuch.size": [1]}, "domains.nosuch.kind: missing"),
    ],
)
def test_an_axis_that_is_none_is_refused(axes, line) -> None:
    with pytest.raises(UserError) as error:
        expand(parse(SMALL | {"axes": axes}))
    assert str(error.value).startswith(line)


# --- names and depths -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("source", "latn", "source: unknown name 'latn'; known: .*Did you mean latin?"),
        ("source", ["latin", "scrach"], "source: unknown name 'scrach'; .*Did you mean scratch?"),
        ("target", "scratch", "target: unknown name 'scratch'"),
        (
            "model",
            ["lenet5", "lenet6"],
            "model: unknown name 'lenet6'; known: .*Did you mean lenet5",
        ),
        ("regime", "fine_tun", "regime: unknown name 'fine_tun'; .*Did you mean fine_tune?"),
        (
            "depth",
            0,
            "depth: got 0; accepted: 1 to 5, all, or a unit of conv1, conv2, fc3, fc4, fc5",
        ),
        ("depth", [1, 6], "depth: got 6; accepted: 1 to 5"),
        ("depth", "conv3", "depth: got 'conv3'; .*Did you mean conv2 or conv1?"),
        ("depth", "pool1", "depth: got 'pool1'"),
        (
            "regimes.first_unit.units",
            ["conv9"],
            r"regimes.first_unit.units: got \['conv9'\]; accepted: some of conv1, .*fc5",
        ),
        (
            "regimes.first_unit.units",
            [],
            "regimes.first_unit.units: got \\[\\]; accepted: some of",
        ),
        ("domains.latin.script", "latn", "domains.latin.script: unknown name 'latn'"),
        ("domains.latin.faces", ["Nosuch"], "domains.latin.faces: unknown name 'Nosuch'"),
        ("domains.scratch", {"kind": "digits"}, "domains.scratch: this name is taken"),
    ],
)
def test_an_unknown_name_is_named_with_its_neighbours(key, value, line) -> None:
    content = put(SMALL, key, value)
    if key.startswith("regimes"):
        content["regime"] = "first_unit"
    with pytest.raises(UserError, match=f"^{line.replace('?', '[?]')}"):
        expand(parse(content))


# --- limits -----------------------------------------------------------------------------------------


def test_limits_cut_the_study_as_documented() -> None:
    content = compose(["+experiment=finetune_depth", "debug=smoke"])
    config, trials = expand(parse(content))
    limits = config.limits
    assert config.study == "finetune_depth-smoke"
    assert (config.depth, config.n_per_class, config.source) == (
        (1, 5),
        (2, 50),
        ("latin", "scratch"),
    )
    assert (config.replicates, config.updates) == (limits.replicates, (limits.updates,))
    assert config.pretrain.updates == limits.pretrain_updates
    assert config.domains["cyrillic"].per_class.train == limits.images_per_class
    assert config.domains["textures"].per_class.test == limits.images_per_class
    assert config.test_per_class == min(content["test_per_class"], limits.images_per_class)
    assert len(trials) == 2 * 2 * (2 + 1)


def test_limits_read_a_part_of_photographs() -> None:
    domains = {
        "pets": {"kind": "tfds", "name": "oxford_iiit_pet"},
        "few": {"kind": "image_folder", "path": "pictures", "per_class": {"test": 3}},
    }
    config = apply_limits(
        parse(SMALL | {"domains": SMALL["domains"] | domains, "limits": {"images_per_class": 5}})
    )
    assert config.domains["pets"].per_class == Caps(5, 5, 5)
    assert config.domains["few"].per_class == Caps(5, 5, 3)


def test_limits_leave_labels_that_the_domain_lacks_to_be_refused() -> None:
    most = expand(parse(compose(["debug=smoke"])))[0].limits.images_per_class
    config, _ = expand(parse(compose(["debug=smoke", "n_per_class=[2,400]"])))
    assert config.n_per_class == (2, most)
    config, _ = expand(parse(compose(["debug=smoke", "n_per_class=[2,401]"])))
    assert config.n_per_class == (2, 401)


def test_limits_are_the_last_word_and_never_raise_anything() -> None:
    content = changed(
        SMALL, updates=[3, 50, 60], replicates=1, replicate=[7, 8, 9], test_per_class=5
    )
    config = apply_limits(
        parse(
            content
            | compose(["debug=smoke"])
            | {
                key: content[key]
                for key in ("updates", "replicates", "replicate", "test_per_class")
            }
        )
    )
    assert config.updates == (3, config.limits.updates)
    assert config.replicates == 1
    assert config.replicate == (7, 8)
    assert config.test_per_class == 5


def test_limits_cut_additional_axes_too() -> None:
    content = SMALL | {"limits": {"values_per_axis": 2}, "axes": {"classes": [2, 3, 4]}}
    assert [trial.axes["classes"] for trial in expand(parse(content))[1]] == [2, 4]


def test_no_limits_cut_nothing() -> None:
    config = parse(BASE)
    assert apply_limits(config) == config


def test_a_smoke_run_shares_neither_name_nor_trials_with_the_study() -> None:
    words = ["+experiment=finetune_depth"]
    config, trials = expand(parse(compose(words)))
    smoke, cut = expand(parse(compose([*words, "debug=smoke"])))
    assert smoke.study != config.study
    assert not {trial.id for trial in cut} & {trial.id for trial in trials}


def test_the_tiny_study_is_one_trial() -> None:
    assert len(tiny.trials()) == 1
