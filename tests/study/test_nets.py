"""A tuned net that was saved is the net whose accuracy is in the table."""

import csv
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from commands import draw_no_reports
from safetensors.numpy import load_file

from convtl import run
from convtl.cli import compose
from convtl.config.parsing import parse
from convtl.errors import UserError
from convtl.keys import key
from convtl.models.registry import build_network
from convtl.storage.cache import Cache, default_root
from convtl.storage.checkpoint import digests
from convtl.study.grid import expand
from convtl.study.materials import Materials
from convtl.study.nets import load_net, save_net

WORDS = [*tiny.WORDS, "source=random", "lr=1e-2"]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nets")
    with pytest.MonkeyPatch.context() as patch:
        draw_no_reports(patch)
        assert run.main([*WORDS, "save=best", f"out={folder}"]) == 0
    return folder


def test_a_saved_net_has_the_accuracy_of_its_row(out: Path) -> None:
    (row,) = csv.DictReader((out / "results.csv").read_text().splitlines())
    (path,) = (out / "nets").iterdir()
    assert row["trial"] in path.name
    net = load_net(path)

    _, (trial,) = expand(parse(compose(WORDS)))
    data = Materials(Cache(default_root()), lambda line: None).target_data(trial)
    images = data.splits["test"].images[data.draw.test]
    _, labels = data.examples("test")

    assert (net.logits(images).argmax(1) == labels).mean() == pytest.approx(
        float(row["test_accuracy"]), abs=1e-12
    )
    assert net.classes == tuple(data.domain.class_names[index] for index in data.draw.classes)
    assert net.row["trial"] == row["trial"]


def test_brackets_and_spaces_in_the_paths_of_a_study(tmp_path: Path, monkeypatch) -> None:
    """What libraries below take for patterns and slices, users take for names."""
    draw_no_reports(monkeypatch)
    places = [f"out={tmp_path}/b[1] of {{2}}/o [*]", f"cache={tmp_path}/c [0:1]"]
    assert run.main([*tiny.WORDS, *places, "save=best"]) == 0
    (path,) = (tmp_path / "b[1] of {2}" / "o [*]" / "nets").iterdir()
    net = load_net(path)
    assert net.logits(np.zeros((2, 16, 16, 1), np.uint8)).shape == (2, 4)
    assert list((tmp_path / "c [0:1]" / "sources").iterdir())


def test_images_of_another_shape_are_refused(out: Path) -> None:
    (path,) = (out / "nets").iterdir()
    with pytest.raises(
        UserError, match=r"images: got shape \(2, 30, 30, 1\); accepted: \(n, 16, 16, 1\)"
    ):
        load_net(path).logits(np.zeros((2, 30, 30, 1), np.uint8))


@pytest.mark.parametrize("model", ["lenet5", "resnet20"])
def test_a_net_is_read_to_the_bit_as_it_was_written(tmp_path: Path, model) -> None:
    """With units without weights, and with statistics of batch normalisation."""
    (trial,) = tiny.trials("source=scratch", f"model={model}")
    network = build_network(trial.settings.models[model], (16, 16, 1), 4)
    variables = network.init(key(0, "test"))
    materials = Materials(Cache(default_root()), lambda line: None)
    for _ in range(2):  # the second replaces the first
        path = save_net(tmp_path, trial, materials, variables, {"classes": list("abcd")})
    net = load_net(path)
    assert jax.tree.structure(net.variables) == jax.tree.structure(variables)
    assert digests(net.variables) == digests(variables)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert {file.name for file in path.iterdir()} == {"net.json", "weights.safetensors"}
    assert load_file(path / "weights.safetensors").keys() == digests(variables).keys()
