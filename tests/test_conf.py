"""conf/: every file composes, and every named thing runs a trial from end to end."""

import csv
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tiny
import yaml
from PIL import Image

from convtl.analysis.claims import check
from convtl.cli import compose
from convtl.conduct import run_study
from convtl.config.parsing import parse
from convtl.config.schema import DEFAULTS, REGISTRIES, ROLES, Config
from convtl.config.values import listed
from convtl.entry import GROUPS, conf_folders, options
from convtl.study.grid import Trial, distinct, expand

CONF = Path(__file__).parent.parent / "conf"
FOLDERS = [*GROUPS, *REGISTRIES]
VIEWS = ("principle1_similarity", "principle2_data_size", "principle3_dissimilar", "rule_of_thumb")
"""Studies whose trials are a part of those of `principles`."""
PICTURES = ("imagenet_cats_dogs", "imagenet_groceries", "imagenet_pets", "my_pictures")
"""Experiments on pictures and weights that are not in the package: run with others instead (`test_photographs`)."""


def named(*folders: str) -> list[tuple[str, str]]:
    return [(folder, name) for folder in folders for name in options(folder)]


def test_the_packages_conf_is_the_one_beside_it() -> None:
    assert conf_folders()[0].resolve() == CONF.resolve()


def test_every_folder_of_conf_is_a_group_or_a_registry() -> None:
    assert {path.name for path in CONF.iterdir() if path.is_dir()} <= {
        *FOLDERS,
        "tracking",
        "hydra",
    }
    assert all(options(folder) for folder in FOLDERS)


def test_every_entry_of_a_registry_is_there() -> None:
    content = compose([])
    for folder in REGISTRIES:
        assert set(options(folder)) == set(content[folder])
    parse(content)


@pytest.mark.parametrize(("group", "name"), named(*GROUPS))
def test_every_option_of_a_group_composes(group: str, name: str) -> None:
    parse(compose([f"{group}={name}", "path=somewhere"]))


def test_every_key_has_its_default_in_one_place() -> None:
    written = [
        key for key in yaml.safe_load((CONF / "config.yaml").read_text()) if key != "defaults"
    ]
    assert sorted([*written, *DEFAULTS, *REGISTRIES]) == sorted(ROLES)
    assert set(compose([])) == set(ROLES)


@pytest.mark.parametrize("name", [name for name in options("experiment") if name not in PICTURES])
def test_every_experiment_says_what_it_asks_and_can_decide_its_claims(name) -> None:
    config, trials = study_of(name)
    assert config.study == name
    assert config.question
    lines = check(config, trials)  # `4 claims: 12 replicates find ...`, `claim NAME: ...`
    judged = [int(first) if first.isdigit() else 1 for first, *_ in map(str.split, lines)]
    assert sum(judged) == len(config.scorecard)
    assert trials or "gradients" in config.measure


def test_every_claim_is_judged_by_a_study_and_four_are_primary() -> None:
    judged = {name for study in options("experiment") for name in scorecard_of(study)}
    claims = parse(compose([])).claims
    assert judged == set(claims)
    assert len([claim for claim in claims.values() if claim.rank == "primary"]) == 4


@cache
def study_of(name: str) -> tuple[Config, list[Trial]]:
    """An experiment as it is, and its trials."""
    return expand(parse(compose([f"+experiment={name}"])))


def scorecard_of(name: str) -> tuple[str, ...]:
    if name in PICTURES:
        return parse(compose([f"+experiment={name}", "path=somewhere"])).scorecard
    return study_of(name)[0].scorecard


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_has_no_trial_of_its_own(name) -> None:
    """So rows of the study that it is a view of are all that it needs."""
    view, whole = ({trial.id for trial in study_of(study)[1]} for study in (name, "principles"))
    assert view < whole
    assert set(scorecard_of(name)) < set(scorecard_of("principles"))


@pytest.mark.parametrize(
    ("name", "updates", "warmup", "mixup"),
    [("bit_hyperrule", 500, 0.2, None), ("bit_hyperrule_medium", 10_000, 0.05, 0.1)],
)
def test_bits_rule_is_that_of_the_paper(name, updates, warmup, mixup) -> None:
    """Kolesnikov et al. (2020), section 3.3; the warm-up is that of the authors' code."""
    config = parse(compose([f"recipe={name}"]))
    assert (config.batch_size, config.updates, config.lr, config.lr_extend) == (
        512,
        (updates,),
        (0.003,),
        0,
    )
    assert (config.optim.kind, config.optim.momentum, config.optim.weight_decay) == (
        "sgd",
        0.9,
        0.0,
    )
    assert (config.schedule.kind, config.schedule.warmup) == ("staircase", warmup)
    assert config.head_init == "zeros"
    assert config.augment is not None
    assert (config.augment.flip, config.augment.mixup or None) == (True, mixup)


# --- one trial of each ------------------------------------------------------------------------------

CUT = [
    "replicates=1",
    "replicate=null",
    "n_per_class=2",
    "updates=6",
    "steps_per_call=6",
    "runs_per_device=2",
    "classes=4",
    "batch_size=4",
    "lr=1e-3",
    "pretrain={images_per_class: 12,updates: 6,lr: 3e-3}",
    "validation_per_class=3",
    "test_per_class=6",
    "limits={images_per_class: 16}",
    "depth=1",
    "scorecard=[]",
]
LIMITS = "limits={replicates: 1,updates: 6,pretrain_updates: 6,images_per_class: 24}"
"""Blocks say for themselves what they are made of; limits cut them too."""
TRIED = [name for name in options("experiment") if name not in ("vanishing_gradients", *PICTURES)]
"""Experiments of trials; probes of gradients have tests of their own."""
MIXTURES = [name for name in options("domains") if name.startswith("mixture")]
"""Sources that are no targets."""


def one_done(tmp_path, words) -> None:
    _, trials = expand(parse(compose(words)))
    outcome = tiny.run(tmp_path, trials)
    rows = tiny.table(tmp_path)
    assert outcome.failed == []
    assert set(rows) == {trial.id for trial in trials}
    for row in rows.values():
        assert row["status"] == "done"
        assert row["frozen_ok"] is True
        assert 0 <= row["test_accuracy"] <= 1


# LeNet-5 runs below; of the others `test_describe` sees that they can be built, `models/` that they train, made narrow.
@pytest.mark.parametrize("name", ["plain", pytest.param("resnet20", marks=pytest.mark.long)])
def test_every_small_model_runs(name, tmp_path) -> None:
    one_done(tmp_path, [*tiny.WORDS, f"model={name}", "lr=1e-3", "source=random"])


@pytest.mark.parametrize("name", tiny.named("regimes"))
def test_every_regime_runs(name, tmp_path) -> None:
    # A regime that leaves the head alone needs a source whose head can be kept.
    source = (
        ["source=same_classes", "head_init=source"] if name.endswith("_only") else ["source=random"]
    )
    one_done(tmp_path, [*tiny.WORDS, f"regime={name}", "depth=2", "lr=1e-3", *source])


@pytest.mark.parametrize("name", options("optim"))
def test_every_optimiser_runs(name, tmp_path) -> None:
    one_done(tmp_path, [*tiny.WORDS, f"optim={name}", "lr=1e-3", "source=random"])


@pytest.mark.parametrize("name", [name for name in tiny.named("domains") if name not in MIXTURES])
def test_every_domain_is_a_target(name, tmp_path) -> None:
    one_done(tmp_path, [*CUT, "source=random", f"target={name}"])


@pytest.mark.slow
@pytest.mark.parametrize("name", options("domains"))
def test_every_domain_is_a_source(name, tmp_path) -> None:
    dial = ["similarity=0.5", "pretrain.images_per_class=8"] if name in MIXTURES else []
    one_done(
        tmp_path,
        [*CUT, f"source={name}", f"target={'greek' if name != 'greek' else 'latin'}", *dial],
    )


@pytest.mark.parametrize("name", MIXTURES)
def test_every_mixture_is_a_source(name, tmp_path) -> None:
    one_done(tmp_path, [*tiny.WORDS, *tiny.MORE, f"source={name}", "similarity=0.5", "lr=1e-3"])


def run_whole(out: Path, values: int, *words: str) -> None:
    """Runs a study as a command does, from its words to its report, with so many values of every axis."""
    kept = [
        word for word in CUT if not word.startswith(("depth", "n_per_class", "scorecard", "limits"))
    ]
    cut = [
        *kept,
        LIMITS,
        f"limits.values_per_axis={values}",
        "n_per_class=[2,4]",
        "target=cyrillic",
    ]
    content = compose([*words, *cut, f"out={out}"])
    content["measure"] = [name for name in listed(content["measure"]) if name != "gradients"]
    points = expand(parse(content))[1]
    assert run_study(content, "python -m convtl.run") == 0
    assert (out / "report.html").exists()
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(distinct(points))
    assert {(row["status"], row["frozen_ok"]) for row in rows} == {("done", "True")}


@pytest.mark.parametrize(
    "name", ["finetune_depth", pytest.param("finetune_options", marks=pytest.mark.slow)]
)
def test_every_block_of_an_experiment_runs(name, tmp_path) -> None:
    run_whole(tmp_path, 1, f"+experiment={name}")


@pytest.mark.slow
@pytest.mark.parametrize("name", TRIED)
def test_a_smoke_run_of_every_experiment_has_what_it_needs(name, tmp_path) -> None:
    content = compose([f"+experiment={name}", "debug=smoke", "dry_run=true", f"out={tmp_path}"])
    assert run_study(content, "python -m convtl.run") == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", TRIED)
def test_every_experiment_runs(name, tmp_path) -> None:
    run_whole(tmp_path, 2, f"+experiment={name}")


def pictures(folder: Path, classes: int = 3, each: int = 12) -> Path:
    """A folder of small coloured pictures, whose classes differ in colour."""
    rng = np.random.default_rng(0)
    for label in range(classes):
        own = folder / f"class {label}"
        own.mkdir(parents=True)
        for index in range(each):
            pixels = rng.integers(0, 120, (20, 24, 3), np.uint8)
            pixels[..., label % 3] += 100
            Image.fromarray(pixels).save(own / f"{index}.png")
    return folder


def test_pictures_of_ones_own_are_studied_with_a_net_from_elsewhere(tmp_path) -> None:
    content = compose(["+experiment=my_pictures", f"path={pictures(tmp_path / 'my pictures')}"])
    study, found = expand(parse(content))
    assert {trial.source for trial in found} == {"imagenet_efficientnet_lite0"}
    assert {trial.n_per_class for trial in found} == {
        5,
        7,
    }  # all: 12, less 2 for validation and 3 for the test
    assert study.save == "best"


def test_pictures_of_ones_own_end_in_advice(tmp_path, capsys) -> None:
    folder, out = pictures(tmp_path / "my pictures"), tmp_path / "out"
    own = [
        "+experiment=my_pictures",
        f"path={folder}",
        "model=lenet5",
        "source=random",
        "blocks=null",
        "depth=[1,2]",
    ]
    cut = [
        "domains.my_pictures.size=16",
        "updates=6",
        "steps_per_call=6",
        "replicates=2",
        "n_per_class=[2,4,all]",
        "lr=1e-3",
    ]
    assert run_study(compose([*own, *cut, f"out={out}"]), "python -m convtl.run") == 0
    assert "## How deep to fine-tune" in (out / "report.md").read_text(encoding="utf-8")
    assert "python -m convtl.predict net=" in capsys.readouterr().out
    assert len(list((out / "nets").iterdir())) == 12
