"""The vocabulary: what is taken, and the one line for what is not."""

import pickle
from dataclasses import dataclass, fields
from typing import Annotated, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convtl.cli import compose
from convtl.config.parsing import parse
from convtl.config.schema import AXES, PER_STUDY, RECIPE, REGISTRIES, ROLES, VARIABLE, Config
from convtl.config.values import Neutral, Role, content, dump
from convtl.errors import UserError, nearest, unknown_name

BASE = compose([])


def put(key: str, value):
    """The default content with another value at a dotted key."""

    def inner(node, steps):
        head, *rest = steps
        return {**(node or {}), head: inner((node or {}).get(head), rest) if rest else value}

    return inner(BASE, key.split("."))


def line(key: str, value) -> str:
    with pytest.raises(UserError) as error:
        parse(put(key, value))
    text = str(error.value)
    assert "\n" not in text
    return text


def test_the_defaults_are_taken_and_one_value_becomes_a_list() -> None:
    config = parse(BASE)
    assert config.model == ("lenet5",)
    assert config.depth == (1, 2, 3, 4, 5)
    assert config.lr == (1e-3, 3.1623e-3, 1e-2)
    assert parse(put("depth", "all")).depth == ("all",)
    assert parse(put("regimes.first_unit.units", "conv2")).regimes["first_unit"].units == ("conv2",)
    assert parse(put("axes", {"seed": 3})).axes == {"seed": (3,)}


def test_what_is_parsed_can_be_dumped_and_parsed_again() -> None:
    config = parse(compose(["+experiment=finetune_depth", "debug=smoke"]))
    assert parse(dump(config)) == config


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        parse(BASE).seed = 1


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (
            "study",
            "../elsewhere",
            "study: got '../elsewhere'; accepted: a name",
        ),
        (
            "study",
            "/abs",
            "study: got '/abs'; accepted: a name",
        ),
        (
            "domains",
            {"../../evil": {"kind": "digits"}},
            "domains.../../evil.[key]: got '../../evil'; accepted: a name",
        ),
        ("seed", "abc", "seed: got 'abc'; accepted: a whole number"),
        ("seed", 1.5, "seed: got 1.5; accepted: a whole number"),
        ("seed", True, "seed: got true; accepted: a whole number"),
        ("seed", None, "seed: got null; accepted: a whole number"),
        ("seed", -1, "seed: got -1; accepted: at least 0"),
        ("seed", [1, 2], "seed: got [1, 2]; accepted: a whole number"),
        ("batch_size", [1, 2], "batch_size: got [1, 2]; accepted: a whole number"),
        ("n_per_class", -1, "n_per_class: got -1; accepted: at least 1 or 'all'"),
        ("n_per_class", [5, 0], "n_per_class[1]: got 0; accepted: at least 1 or 'all'"),
        ("n_per_class", [], "n_per_class: got []; accepted: at least one value"),
        ("n_per_class", 2.0, "n_per_class: got 2.0; accepted: a whole number or 'all'"),
        ("replicates", 0, "replicates: got 0; accepted: at least 1"),
        ("replicate", [-1], "replicate[0]: got -1; accepted: at least 0"),
        ("depth", None, "depth: got null; accepted: a whole number or text"),
        ("depth", [], "depth: got []; accepted: at least one value"),
        ("depth", 1.5, "depth: got 1.5; accepted: a whole number or text"),
        ("model", "", "model: got ''; accepted: text that is not empty"),
        ("model", 5, "model: got 5; accepted: text"),
        ("lr", -1, "lr: got -1; accepted: more than 0"),
        ("lr", float("inf"), "lr: got inf; accepted: a finite number"),
        ("lr", float("nan"), "lr: got nan; accepted: a finite number"),
        ("lr", ["x"], "lr[0]: got 'x'; accepted: a number"),
        ("classes", 1, "classes: got 1; accepted: at least 2"),
        ("dry_run", "maybe", "dry_run: got 'maybe'; accepted: true or false"),
        ("dry_run", 1, "dry_run: got 1; accepted: true or false"),
        ("save", "all", "save: got 'all'; accepted: 'none' or 'best'"),
        ("out", "", "out: got ''; accepted: text that is not empty"),
        (
            "tracking.mode",
            "maybe",
            "tracking.mode: got 'maybe'; accepted: 'disabled', 'offline' or 'online'",
        ),
        ("schedule.warmup", 2, "schedule.warmup: got 2; accepted: at most 1"),
        ("regimes.lp_ft.probe_share", 1, "regimes.lp_ft.probe_share: got 1; accepted: less than 1"),
        ("axes", 5, "axes: got 5; accepted: keys with values"),
        (
            "claims",
            [{"statement": "s"}],
            "claims: got [{'statement': 's'}]; accepted: conf/claims/NAME.yaml for each, and scorecard=[NAME]",
        ),
        ("claims.mine", {"says": "s", "means": "m"}, "claims.mine.parts: missing"),
        (
            "claims.mine",
            {"says": "s", "means": "m", "terms": [{"sorce": "latin"}]},
            "claims.mine.terms[0].sorce: unknown key; accepted: measure, weight, source, n_per_class, depth, "
            "updates, similarity, regime, model, where, depths, low, high, scratch_updates, name. "
            "Did you mean source?",
        ),
        (
            "claims.mine",
            {"says": "s", "means": "m", "parts": [{"terms": [{}], "test": "higher"}]},
            "claims.mine.parts[0].test: got 'higher'; accepted: 'above', 'below', 'within' or 'same_sign'",
        ),
        ("depth", {"x": 1}, "depth: got {'x': 1}; accepted: a whole number or text"),
        ("weights.imagenet_mobilenet_v2.foo", 1, "weights.imagenet_mobilenet_v2.foo: unknown key"),
        (
            "weights.imagenet_mobilenet_v2.package",
            1,
            "weights.imagenet_mobilenet_v2.package: got 1; accepted: text",
        ),
        ("optim", None, "optim: got null; accepted: keys with values"),
        ("nosuchkey", 1, "nosuchkey: unknown key."),
        (
            "measure",
            "time",
            "measure: got 'time'; accepted: 'movement', 'distances' or 'gradients'",
        ),
        ("replicats", 1, "replicats: unknown key. Did you mean replicates or replicate?"),
        (
            "optim.weight_decy",
            1,
            "optim.weight_decy: unknown key; accepted: kind, momentum, "
            "weight_decay, clip, ema. Did you mean weight_decay?",
        ),
        (
            "limits.nosuch",
            1,
            "limits.nosuch: unknown key; accepted: suffix, replicates, values_per_axis, updates, "
            "pretrain_updates, images_per_class.",
        ),
        (
            "models.lenet5.activation",
            "gelu",
            "models.lenet5.activation: got 'gelu'; accepted: 'sigmoid', 'tanh' or 'relu'",
        ),
        (
            "models.lenet5.activatio",
            1,
            "models.lenet5.activatio: unknown key; accepted: kind, activation, pooling, "
            "initialiser. Did you mean activation?",
        ),
        ("domains.latin", 5, "domains.latin: got 5; accepted: keys with values"),
        (
            "domains.latin.kind",
            "typed",
            "domains.latin.kind: got 'typed'; accepted: typed_script, patches, noise, digits, "
            "mixture, tfds, image_folder.",
        ),
        (
            "domains.pets",
            {"path": "x"},
            "domains.pets.kind: missing",
        ),
        ("domains.pets", {"kind": "image_folder"}, "domains.pets.path: missing"),
        (
            "domains.pets",
            {"kind": "image_folder", "path": None},
            "domains.pets.path: missing; accepted: a folder with PATH/CLASS/*, such as path=~/pictures",
        ),
        ("distributed", "no", "distributed: got 'no'; accepted: 'auto' or keys with values"),
        ("distributed", {"coordinator": "a:1", "process": 0}, "distributed.processes: missing"),
        ("devices", 0, "devices: got 0; accepted: at least 1"),
        (
            "domains.pets",
            {"kind": "image_folder", "path": "x", "sise": 1},
            "domains.pets.sise: unknown key; accepted: size, crop, interpolation, "
            "per_class, kind, path, grey. Did you mean size?",
        ),
        (
            "regimes.lp_ft.rate_facto",
            2.0,
            "regimes.lp_ft.rate_facto: unknown key; accepted: kind, probe_share, rate_factor, units, "
            "head, alpha, beta. Did you mean rate_factor?",
        ),
        ("regimes.l2_sp.alpha", -1.0, "regimes.l2_sp.alpha: got -1.0; accepted: at least 0"),
        (
            "augment",
            {"crop": [0.9, 0.5]},
            "augment: got {'crop': [0.9, 0.5]}; accepted: crop as [smallest, largest] share of the area",
        ),
        (
            "pretrain",
            {"norm_mode": "frozen"},
            "pretrain.norm_mode: got 'frozen'; accepted: 'train'",
        ),
        (
            "limits.suffix",
            "a/b",
            "limits.suffix: got 'a/b'; accepted: string should match pattern '^[\\w.-]*$'",
        ),
        (
            "regimes.fine_tune.alpha",
            0.1,
            "regimes.fine_tune: got {'kind': 'fine_tune', 'alpha': 0.1}; accepted: no alpha, which is for kind l2_sp",
        ),
        (
            "regimes.first_unit.head",
            "yes",
            "regimes.first_unit.head: got 'yes'; accepted: true or false",
        ),
        (
            "regimes.mine",
            {"kind": "fine_tun"},
            "regimes.mine.kind: got 'fine_tun'; accepted: 'fine_tune', 'lp_ft', "
            "'gradual', 'discriminative', 'surgical' or 'l2_sp'",
        ),
        (
            "regimes.mine",
            {"alpha": 1.0},
            "regimes.mine.kind: missing",
        ),
        (
            "domains.latin.jitter.noise",
            "x",
            "domains.latin.jitter.noise: got 'x'; accepted: a number",
        ),
        (
            "domains.latin.jitter.nois",
            1,
            "domains.latin.jitter.nois: unknown key; accepted: rotation, shift, scale, shear, noise, "
            "inverted. Did you mean noise?",
        ),
        (
            "augment",
            {"flop": True},
            "augment.flop: unknown key; accepted: crop, flip, colour, mixup. Did you mean flip?",
        ),
        ("batch_size", 10**9, "batch_size: got 1000000000; accepted: at most 65536"),
        ("runs_per_device", 100_000, "runs_per_device: got 100000; accepted: at most 1024"),
    ],
)
def test_what_is_not_taken_is_one_line_that_names_the_key(key, value, expected) -> None:
    text = line(key, value)
    assert text == expected or text.startswith((f"{expected};", f"{expected}.", f"{expected}:"))


@pytest.mark.parametrize(
    ("key", "value", "new"),
    [
        ("lanes", 4, "runs_per_device=..."),
        ("chunk", 50, "steps_per_call=..."),
        ("movement", True, "measure=movement"),
        ("distances", True, "measure=distances"),
        ("gradients.replicates", 3, "measure=gradients, and replicates=..."),
        ("kept", 2, "n_transferred=..."),
        ("protocol", "bit_hyperrule", "recipe=..."),
        ("shards", 2, "-m worker=0,1,..."),
        ("shard", 1, "-m worker=0,1,..."),
        ("speed.repeats", 3, "experiments/speed/run.py"),
        ("validation.per_class", 10, "validation_per_class=..."),
        ("validation.regime", "oracle", "validation=beside"),
        ("domains.noise.noise", 0.5, "domains.NAME.jitter.noise=..."),
        ("tracking.entity", "me", "WANDB_ENTITY=... in the environment"),
    ],
)
def test_a_key_of_the_first_version_is_refused_with_the_one_that_it_is_now(key, value, new) -> None:
    node = compose([f"{key}={value}"])
    with pytest.raises(UserError) as error:
        parse(node)
    top = key if key.startswith(("validation", "domains", "tracking")) else key.partition(".")[0]
    assert str(error.value) == f"{top}: unknown key. It is now {new}"


def test_a_missing_key_is_named() -> None:
    with pytest.raises(UserError, match=r"^depth: missing$"):
        parse({key: value for key, value in BASE.items() if key != "depth"})


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)


@given(
    st.sampled_from([*ROLES, "optim.clip", "domains.latin.size"]),
    JUNK,
)
def test_whatever_is_given_is_taken_or_refused_in_one_line(key, value) -> None:
    try:
        parse(put(key, value))
        text = key
    except UserError as error:
        text = str(error)
    assert text.startswith(key.partition(".")[0])
    assert "\n" not in text.replace(repr(value), "")


def test_names_near_to_what_was_typed_are_suggested() -> None:
    assert nearest("latn", ["latin", "greek"]) == " Did you mean latin?"
    assert nearest("xyz", ["latin", "greek"]) == ""
    assert nearest(5, []) == ""


def test_long_lists_of_names_are_cut() -> None:
    text = str(unknown_name("source", "x", [f"name{index:02}" for index in range(30)]))
    assert text.endswith("name19, ....")
    assert str(unknown_name("source", "x", [])) == "source: unknown name 'x'; known: none."


def test_a_key_with_its_neutral_value_is_in_no_identity() -> None:
    @dataclass(frozen=True)
    class Part:
        old: int
        later: Annotated[int, Neutral()] = 1

    @dataclass(frozen=True)
    class Whole:
        parts: tuple[Part, ...]
        named: dict[str, Part]

    one, two = Part(3), Part(3, later=2)
    assert content(Whole((one, two), {"a": one})) == {
        "parts": [{"old": 3}, {"old": 3, "later": 2}],
        "named": {"a": {"old": 3}},
    }


def test_every_key_has_one_role_and_only_keys_of_the_recipe_are_neutral() -> None:
    for item in fields(Config):
        annotations = get_args(item.type)
        assert sum(isinstance(mark, Role) for mark in annotations) == 1, item.name
        neutral = any(isinstance(mark, Neutral) for mark in annotations)
        assert not neutral or item.name in RECIPE, item.name


def test_the_lists_of_keys_are_those_of_their_roles() -> None:
    assert {*AXES, *REGISTRIES, *RECIPE} <= set(ROLES)
    assert {"models", "optim", "classes", "runs_per_device"} <= set(VARIABLE)
    assert not {*AXES, "seed", "out", "replicates", "measure", "devices"} & set(VARIABLE)
    assert {"seed", "out", "checkpoint_minutes", "devices", "distributed"} <= set(PER_STUDY)
    assert not {"replicates", "measure", "depth", "domains"} & set(PER_STUDY)


def test_equal_configs_are_one_key_of_a_cache() -> None:
    config, equal, other = parse(BASE), parse(BASE), parse(put("domains.latin.size", 32))
    assert {config: 1}[equal] == 1
    assert hash(pickle.loads(pickle.dumps(config))) == hash(equal) != hash(other)
