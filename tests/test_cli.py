"""The command line: what is understood, and the one line for what is not."""

from pathlib import Path

import pytest
import tiny
import yaml
from commands import Commands

from convtl.cli import compose, points, read
from convtl.config.schema import DEFAULTS
from convtl.entry import options
from convtl.errors import UserError


@pytest.fixture
def commands(monkeypatch, capfd, tmp_path) -> Commands:
    """Commands that are typed in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Commands(monkeypatch, capfd)


SMOKE = ("+experiment=finetune_depth", "debug=smoke", "out=results")

WRONG = [
    (
        "+experiment=finetune_dept",
        "experiment: unknown name 'finetune_dept'; known: .*Did you mean finetune_depth",
    ),
    ("debug=nosuch", "debug: unknown name 'nosuch'; known: smoke."),
    ("debug=null", "debug: unknown name 'null'; known: smoke."),
    ("+experiment=null", "experiment: unknown name 'null'; known: "),
    (
        "+experiment=layer_transfer",
        "experiment: given twice, 'finetune_depth' and 'layer_transfer'; accepted: one",
    ),
    (
        "optim=adm",
        "optim: unknown name 'adm'; known: adam, adamw, sgd. Did you mean adam or adamw?",
    ),
    ("depth=0", "depth: got 0; accepted: 1 to 5, all, or a unit of conv1, conv2, fc3, fc4, fc5."),
    ("depth=6", "depth: got 6; accepted: 1 to 5, all"),
    ("depth=x", "depth: got 'x'; accepted: 1 to 5, all"),
    ("depth=[]", "depth: got []; accepted: at least one value"),
    ("n_per_class=-1", "n_per_class: got -1; accepted: at least 1"),
    (
        "n_per_class=100000000",
        "n_per_class: got 100000000; accepted: 1 to .*, the train images a class of target",
    ),
    ("source=latn", "source: unknown name 'latn'; known: .*Did you mean latin?"),
    ("target=nosuch", "target: unknown name 'nosuch'"),
    ("model=lenet6", "model: unknown name 'lenet6'; known: .*Did you mean lenet5"),
    ("model=[lenet5,lenet6]", "model: unknown name 'lenet6'"),
    ("regime=nosuch", "regime: unknown name 'nosuch'"),
    (
        "regimes.first_unit.units=[conv9] regime=first_unit",
        "regimes.first_unit.units: got ['conv9']; accepted: some of conv1",
    ),
    ("replicates=0", "replicates: got 0; accepted: at least 1"),
    ("blocks=foo", "blocks: got 'foo'; accepted: keys with values"),
    ("lr=-1", "lr: got -1; accepted: more than 0"),
    ("+nosuchkey=1", "nosuchkey: unknown key."),
    ("optim.nosuch=1", "optim.nosuch: unknown key; accepted: kind, momentum"),
    ("domains.latin.jitter.nosuch=1", "domains.latin.jitter.nosuch: unknown key"),
    (
        "tracking.mode=maybe",
        "tracking.mode: got 'maybe'; accepted: 'disabled', 'offline' or 'online'",
    ),
    ("seed=abc", "seed: got 'abc'; accepted: a whole number"),
    ("seed=[1,2]", "seed: got [1, 2]; accepted: a whole number"),
    (
        "target=photos +domains.photos.kind=image_folder +domains.photos.path=/nonexistent",
        "domains.photos.path: ",
    ),
    (
        "target=c +domains.c.kind=tfds +domains.c.name=no_such_dataset",
        "domains.c.name: got 'no_such_dataset', which is not prepared",
    ),
    ("axes={norm_mod:[a,b]}", "norm_mod: unknown key"),
    # grammar
    ("depth", "'depth': not understood; accepted: key=value"),
    ("=5", "'=5': not understood"),
    ("depth=[1,2", "depth: got [1,2; not understood: are brackets and quotes closed?"),
    ("axes={seed:[0,1}", "axes: got {seed:[0,1}; not understood"),
    ("study='abc", "study: got 'abc; not understood"),
    ("depth=1)", "depth: got '1)'; accepted: 1 to 5"),
    ("depth==5", "depth: got '=5'; accepted: 1 to 5"),
    ("depth=1,2", "depth: got '1,2'; accepted: one value or a list, such as 'depth=[1,2]'"),
    (
        "target=cyrillic,greek",
        "target: got 'cyrillic,greek'; accepted: one value or a list, such as",
    ),
    ("depth=range(1,3)", "depth: got 'range(1,3)'; accepted: one value or a list"),
    ("~depth=1", "'~depth=1': not understood; accepted: key=value"),
    ("models=null", "models: got 'null'; accepted: models.NAME.KEY=VALUE"),
    ("model=${nosuch}", "configuration: Interpolation key 'nosuch' not found"),
    ("hydra/launcher=slurm", "hydra/launcher: got 'slurm'; accepted: -m with hydra/launcher=NAME"),
    ("out=", "out: got ''; accepted: text that is not empty"),
    ("cache=", "cache: got ''; accepted: text that is not empty"),
]


@pytest.mark.parametrize(("words", "line"), WRONG, ids=[words for words, _ in WRONG])
def test_wrong_input_is_one_line_that_names_the_key(commands, tmp_path, words, line) -> None:
    said = commands.run(*SMOKE, *words.split(" ")).line
    beginning, _, end = line.partition(".*")
    assert said.startswith(beginning)
    assert end in said
    assert not list(tmp_path.rglob("*.jsonl")), "something was run"


@pytest.mark.parametrize(
    "words", ["depth=6", "n_per_class=5,100000000", "target=greek,nosuch", "seed=1,x", "depth=[1,2"]
)
def test_all_points_of_a_sweep_are_checked_before_the_first_is_launched(
    commands, tmp_path, words
) -> None:
    done = commands.run("-m", *SMOKE, words)
    assert words.partition("=")[0] in done.line
    assert not list(tmp_path.rglob("*.jsonl")), "something was run"


# --- paths ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "plain",
        "~/in home",
        "a b",
        "[x]",
        "{x}",
        "a'b",
        'a"b',
        "x,y",
        "x=y",
        "50%",
        "(1)",
        "#1",
        "a:b",
        "ж",
        "a\\b",
        "a\\",
        "..",
        "/absolute [1]/it's, so",
        "$x",
        "null_",
        "!x",
        "*",
        "a&b",
    ],
)
def test_paths_are_taken_as_they_are_typed(path) -> None:
    content = compose([f"out={path}", f"cache={path}", f"domains.pets.path={path}"])
    assert content["out"] == content["cache"] == content["domains"]["pets"]["path"] == path


def test_a_path_may_be_quoted_for_hydra_too() -> None:
    content = compose(["out='a b'", 'cache="a b"', "path=null"])
    assert (content["out"], content["cache"], content["path"]) == ("a b", "a b", None)


@pytest.mark.parametrize("text", ["How many? (really)", "АБВ", "a: b", "it's", "100%", "a, b?"])
def test_text_that_is_not_hydras_grammar_is_text(text) -> None:
    assert compose([f"question={text}"])["question"] == text


# --- composing --------------------------------------------------------------------------------------


def test_keys_need_no_plus_and_may_have_one() -> None:
    for prefix in ("", "+", "++"):
        words = ("optim.clip=1.0", "domains.pets.kind=digits", "experiment=finetune_depth")
        content = compose([f"{prefix}{word}" for word in words])
        assert content["optim"]["clip"] == 1.0
        assert content["domains"]["pets"] == {"kind": "digits"}
        assert content["study"] == "finetune_depth"


def test_an_experiment_changes_only_what_it_says_and_words_come_last() -> None:
    base, study = compose([]), compose(["+experiment=finetune_depth", "n_per_class=7", "seed=3"])
    assert study["n_per_class"] == 7
    assert study["seed"] == 3
    assert study["lr"] == base["lr"]
    assert study["source"] == ["latin", "textures", "scratch"]


def test_every_file_of_a_registry_is_a_node() -> None:
    content = compose([])
    for name in ("models", "domains", "regimes"):
        assert sorted(content[name]) == options(name)


def test_optim_is_chosen_whole_and_changed_by_key() -> None:
    adamw = {"kind": "adamw", "weight_decay": 1e-4}
    assert compose(["optim=adamw"])["optim"] == DEFAULTS["optim"] | adamw
    assert compose(["optim=adamw", "optim.weight_decay=0.1"])["optim"]["weight_decay"] == 0.1


def test_the_same_words_compose_the_same_whatever_was_composed_before() -> None:
    first = compose(["+experiment=finetune_depth"])
    compose(["debug=smoke", "optim=sgd"])
    assert compose(["+experiment=finetune_depth"]) == first


def test_a_sweep_has_a_point_for_every_combination() -> None:
    found = points(["target=cyrillic,greek", "depth=[1,2],[3]", "n_per_class=[5,10]", "out=a,b"])
    assert len(found) == 4
    composed = [(c["target"], c["depth"], c["out"]) for c in map(compose, found)]
    assert composed == [
        ("cyrillic", [1, 2], "a,b"),
        ("cyrillic", [3], "a,b"),
        ("greek", [1, 2], "a,b"),
        ("greek", [3], "a,b"),
    ]


@pytest.mark.parametrize("value", ["interval(1e-4,1e-2)", "range(1,"])
def test_what_is_no_list_of_points_is_one_line(commands, value) -> None:
    assert commands.tiny("-m", f"lr={value}").line


def test_the_composed_config_is_shown(commands) -> None:
    shown = commands.run("--cfg", "job", "depth=3", "out=a b")
    assert (shown.code, yaml.safe_load(shown.out)) == (0, compose(["depth=3", "out=a b"]))


def test_hydras_own_words_are_left_to_hydra() -> None:
    assert compose(["hydra/launcher=basic", "hydra.launcher.x=1"]) == compose([])
    assert points(["hydra/launcher=basic", "depth=1,2"]) == [
        ["hydra/launcher=basic", "depth=1"],
        ["hydra/launcher=basic", "depth=2"],
    ]


# --- a user's own conf/ -----------------------------------------------------------------------------


@pytest.fixture
def own_conf(tmp_path, monkeypatch) -> Path:
    """A working directory with an experiment, a domain and a regime of the user's."""
    files = {
        "experiment/mine.yaml": "# @package _global_\nstudy: mine\nsource: runes\nregime: top_two\n",
        "domains/runes.yaml": "kind: typed_script\nscript: greek\nsize: 16\n",
        "regimes/top_two.yaml": "kind: surgical\nunits: [fc4]\n",
    }
    for name, text in files.items():
        path = tmp_path / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_conf_in_the_working_directory_adds_to_the_packages_own(own_conf) -> None:
    content = compose(["+experiment=mine"])
    assert content["study"] == "mine"
    assert content["domains"]["runes"] == {"kind": "typed_script", "script": "greek", "size": 16}
    assert content["regimes"]["top_two"]["units"] == ["fc4"]
    assert "latin" in content["domains"]
    assert {"mine", "finetune_depth"} <= set(options("experiment"))


FAULTS = {
    "a broken file": (b"kind: [", "while parsing"),
    "no keys": (b"- a\n- b\n", "holds a list; accepted: keys with values"),
    "a key of Hydra's": (
        b"hydra: {}\n",
        "sets hydra; accepted: typed, such as hydra.launcher.mem_gb=8",
    ),
    "no UTF-8": ("kind: caf\xe9".encode("latin-1"), "can't decode"),
    "a bomb": (
        b"a: &a [x]\n"
        + b"".join(
            b"%c: &%c [*%c, *%c, *%c]\n" % (c, c, c - 1, c - 1, c - 1) for c in range(98, 122)
        ),
        "has aliases",
    ),
}


@pytest.mark.parametrize("place", ["domains", "experiment"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_file_is_one_line_that_names_it(own_conf, commands, fault, place) -> None:
    content, line = FAULTS[fault]
    (own_conf / "conf" / place / "broken.yaml").write_bytes(content)
    words = ["+experiment=broken"] * (place == "experiment")
    shown = commands.run("dry_run=true", *words).line
    assert f"{place}/broken.yaml: " in shown
    assert line in shown


def test_a_file_may_begin_with_a_byte_order_mark_and_may_be_empty(own_conf) -> None:
    (own_conf / "conf" / "domains" / "marked.yaml").write_text("kind: digits\n", "utf-8-sig")
    (own_conf / "conf" / "experiment" / "empty.yaml").write_text("")
    assert compose(["+experiment=empty"])["domains"]["marked"] == {"kind": "digits"}


def test_it_is_gone_in_another_directory(own_conf, tmp_path_factory, monkeypatch) -> None:
    compose(["+experiment=mine"])
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert "runes" not in compose([])["domains"]
    with pytest.raises(UserError, match="unknown name 'mine'"):
        compose(["+experiment=mine"])


def test_a_users_domain_with_a_wrong_key_is_one_line(own_conf, commands) -> None:
    (own_conf / "conf" / "domains" / "odd.yaml").write_text("kind: digits\nsise: 3\n")
    assert commands.run("dry_run=true").line.startswith(
        "domains.odd.sise: unknown key; accepted: size, per_class, jitter, channels, kind."
    )


def test_an_experiment_of_the_users_may_be_wrong_too(own_conf, commands) -> None:
    assert commands.run(*tiny.WORDS, "+experiment=mine", "depth=9").line.startswith("depth: got 9")


@pytest.mark.parametrize(
    "words", [(), ("-m",), ("tracking={project: p}",)], ids=["run", "multirun", "another key"]
)
def test_going_online_has_to_be_typed(own_conf, commands, words) -> None:
    (own_conf / "conf" / "experiment" / "loud.yaml").write_text(
        "# @package _global_\ntracking: {mode: online}\n"
    )
    line = commands.run(*words, "+experiment=loud", "source=latin", "out=o").line
    assert line == (
        "tracking.mode: got 'online' from a file; accepted: typed, as tracking.mode=online"
    )
    assert not Path("o").exists()


def test_a_cache_has_to_be_typed(own_conf, commands) -> None:
    """What a folder ships as a cache, such as compiled programs in it, is not loaded."""
    (own_conf / "here" / "xla").mkdir(parents=True)
    (own_conf / "here" / "xla" / "jit_update-0-cache").write_bytes(b"machine code")
    (own_conf / "conf" / "config.yaml").write_text("cache: here\n")
    (own_conf / "conf" / "experiment" / "loud.yaml").write_text(
        "# @package _global_\ncache: here\n"
    )
    for words in (("+experiment=loud",), ("-m", "+experiment=loud"), ("+experiment=loud", "out=o")):
        assert commands.run(*words).line == (
            "cache: got 'here' from a file; accepted: typed, as cache=here"
        )
    assert read(["dry_run=true"]).contents[0]["cache"] is None
    for word in ("cache=here", "cache=null"):
        (content,) = read(["+experiment=loud", word]).contents
        assert content["cache"] == (None if word == "cache=null" else "here")
    assert not Path("o").exists()
