"""Pictures of the user's, labelled by a net that a run has kept."""

import csv
import json
import os
import shutil
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import Commands, draw_no_reports
from PIL import Image

from convtl import entry, predict, run
from convtl.cli import compose
from convtl.config.parsing import parse
from convtl.data.inputs import Normalisation
from convtl.errors import UserError
from convtl.keys import generator, key
from convtl.models.registry import build_network
from convtl.storage import checkpoint
from convtl.storage.cache import Cache, default_root
from convtl.study import nets
from convtl.study.grid import expand
from convtl.study.materials import Materials
from convtl.study.nets import load_net, net_name, net_of, save_net, write_net
from convtl.training.features import Forward

CLASSES = ("down", "left")


def picture(draw: np.random.Generator, label: int) -> Image.Image:
    """20x26 pixels of noise, darker to the left or to the bottom."""
    ramp = np.linspace(60, 190, 20 if label else 26)
    field = np.broadcast_to(ramp[:, None] if label == 0 else ramp[None, :], (26, 20))
    pixels = field[:, :, None] + draw.normal(0, 45, (26, 20, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, draw = tmp_path_factory.mktemp("my pictures [1]"), generator(1, "pictures")
    for label, name in enumerate(CLASSES):
        (root / name).mkdir()
        for index in range(32):
            picture(draw, label).save(root / name / f"{index:02d}.png")
    return root


@pytest.fixture(scope="module")
def words(pictures: Path) -> list[str]:
    return [
        "domains.mine.kind=image_folder",
        f"domains.mine.path={pictures}",
        "domains.mine.size=16",
        "domains.mine.grey=false",
        "target=mine",
        "source=scratch",
        "n_per_class=8",
        "replicates=1",
        "classes=null",
        "updates=20",
        "steps_per_call=20",
        "lr=3e-3",
        "runs_per_device=2",
        "batch_size=8",
        "test_per_class=6",
        "validation_per_class=3",
    ]


@pytest.fixture(scope="module")
def saved(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        draw_no_reports(patch)
        assert run.main([*words, "save=best", f"out={out}"]) == 0
    (path,) = (out / "nets").iterdir()
    return path


def main(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, str]:
    capsys.readouterr()
    assert predict.main(list(words)) == 0
    found = capsys.readouterr()
    return found.out, found.err


def test_files_get_the_labels_of_the_trials_own_logits(saved, words, pictures, capsys) -> None:
    _, (trial,) = expand(parse(compose(words)))
    data, net = (
        Materials(Cache(default_root()), lambda line: None).target_data(trial),
        load_net(saved),
    )
    images, truth = data.examples("test")
    expected = Forward(net.network, 0)(net.variables, images).argmax(-1)

    stored = data.splits["test"].images
    by_pixels = {
        net.fit(Image.open(path)).tobytes(): path for path in sorted(pictures.rglob("*.png"))
    }
    files = [by_pixels[np.asarray(stored[place]).tobytes()] for place in data.draw.test]
    text, _ = main(capsys, f"net={saved}", f"images={pictures}", "top=1")
    said = {row["image"]: row["label"] for row in labels(text)}
    assert len(said) == 64
    assert [said[str(file)] for file in files] == [net.classes[index] for index in expected]
    assert net.row["test_accuracy"] == (expected == truth).mean() > 0.6


def labels(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def test_probabilities_of_the_likeliest_labels_are_printed(saved, pictures, capsys) -> None:
    file = pictures / "left" / "03.png"
    text, errors = main(capsys, f"net={saved}", f"images={file}", "top=9")
    assert errors == ""
    (row,) = labels(text)
    assert row["image"] == str(file)
    assert {row["label"], row["label_2"]} == set(CLASSES)
    first, second = float(row["probability"]), float(row["probability_2"])
    assert first >= second
    assert first + second == pytest.approx(1, abs=1e-5)


def test_paths_are_taken_as_typed(saved, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a [b]*").mkdir()
    for name in ("at home.png", "a [b]*/01.png"):
        picture(generator(2, name), 1).save(tmp_path / name)
    for typed, name in (("~/at home.png", "at home.png"), ("a [b]*", "a [b]*/01.png")):
        text, _ = main(capsys, f"net={os.path.relpath(saved)}", f"images={typed}")
        assert [row["image"] for row in labels(text)] == [str(tmp_path / name)]


def test_what_cannot_be_read_is_named_and_left_out(saved, tmp_path, capsys) -> None:
    picture(generator(2, "good"), 0).save(tmp_path / "good.png")
    content = (tmp_path / "good.png").read_bytes()
    (tmp_path / "half.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden").write_text("nobody asked")
    text, errors = main(capsys, f"net={saved}", f"images={tmp_path}")
    assert [row["image"] for row in labels(text)] == [str(tmp_path / "good.png")]
    assert errors.splitlines() == [
        f"convtl: left out {tmp_path / 'half.png'}: no picture that can be read (OSError)",
        f"convtl: left out {tmp_path / 'notes.txt'}: no picture that can be read (UnidentifiedImageError)",
    ]


def test_nothing_is_decoded_for_a_reader_that_has_gone(
    saved, tmp_path, capsys, monkeypatch
) -> None:
    picture(generator(2, "first"), 0).save(tmp_path / "1.png")
    (tmp_path / "2.png").write_text("no picture: named if it is read")
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(nets, "rows_at_once", lambda shape: 1)
        monkeypatch.setattr(sys, "stdout", pipe)
        entry.lenient_output()
        assert predict.main([f"net={saved}", f"images={tmp_path}"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"net": "/nowhere"},
            "net: got '/nowhere'; accepted: a folder in nets/ of a run with save=best",
        ),
        ({"net": "{}/text"}, "net: got '.*text'; accepted: a folder in nets/ of a run"),
        (
            {"images": "/nowhere/*.png"},
            "images: got '/nowhere/\\*.png', which holds or names no file",
        ),
        ({"images": "{}/empty"}, "images: got '.*empty', which holds or names no file"),
        ({"images": "{}/pipe"}, "images: got '.*pipe', which holds or names no file"),
        ({"images": "https://example.org/a.jpg"}, "images: got .*; accepted: .*, no address"),
        (
            {"images": "{}/text"},
            r"images: got '.*text'; accepted: pictures \(of 1 files none is one\)",
        ),
        ({"top": "0"}, "top: got '0'; accepted: a whole number from 1"),
        ({"nett": "x"}, r"got 'net=.* nett=x'; accepted: net=DIR images=PATH \[top=3\]"),
        ({"images": ""}, "got '.*images='; accepted: net=DIR images=PATH"),
    ],
)
def test_what_cannot_be_done_is_one_line(saved, tmp_path, changed, message) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.png").write_text("no picture")
    os.mkfifo(tmp_path / "pipe")
    given = {"net": str(saved), "images": str(tmp_path)} | changed
    with pytest.raises(UserError, match=message):
        predict.main([f"{key}={value.format(tmp_path)}" for key, value in given.items()])


def test_the_exit_code_of_bad_input_is_2(monkeypatch, capfd) -> None:
    done = Commands(monkeypatch, capfd)(predict.main, "net=/nowhere", "images=/nowhere")
    assert done.line == "net: got '/nowhere'; accepted: a folder in nets/ of a run with save=best"


def test_nets_of_a_folder_are_named(saved, tmp_path) -> None:
    accepted = "accepted: a folder in nets/ of a run with save=best, such as"
    for folder, names in ((saved.parent, saved.name), (saved.parent.parent, f"nets/{saved.name}")):
        with pytest.raises(UserError) as error:
            predict.main([f"net={folder}", "images=x"])
        assert str(error.value) == f"net: got '{folder}'; {accepted} {names}"
    for name in ("b", "a", ".half"):
        shutil.copytree(saved, tmp_path / name)
    with pytest.raises(UserError, match=r"such as a, b$"):
        load_net(tmp_path)


def test_folders_are_listed_as_training_does(saved, tmp_path, capsys) -> None:
    picture(generator(2, "linked"), 0).save(tmp_path / "a.png")
    (tmp_path / "folder" / "@eaDir").mkdir(parents=True)
    picture(generator(2, "system"), 0).save(tmp_path / "folder" / "@eaDir" / "a.png")
    (tmp_path / "folder" / "inner").symlink_to(tmp_path)
    text, _ = main(capsys, f"net={saved}", f"images={tmp_path / 'folder'}")
    assert [row["image"] for row in labels(text)] == [str(tmp_path / "folder" / "inner" / "a.png")]


RECORDS = {
    "no classes": {"classes": []},
    "another model": {"model": {"kind": "nosuch"}},
    "no shape": {"input_shape": ["a"]},
    "a deeper net": {"model": {"kind": "plain", "hidden": 3}},
}


@pytest.mark.parametrize("how", RECORDS)
def test_a_record_that_does_not_fit_is_one_line(saved, pictures, tmp_path, how) -> None:
    record = json.loads((saved / "net.json").read_text())
    del record["digest"]
    write_net(tmp_path / "net", load_net(saved).variables, record | RECORDS[how])
    with pytest.raises(UserError, match=r"^net: .*; accepted: a folder in nets/"):
        predict.main([f"net={tmp_path / 'net'}", f"images={pictures}"])


def _flipped(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")


DAMAGE = {
    "a flipped byte": lambda net: _flipped(net / "weights.safetensors"),
    "no weights": lambda net: (net / "weights.safetensors").unlink(),
    "a changed record": lambda net: _flipped(net / "net.json"),
    "an empty record": lambda net: (net / "net.json").write_text("{}"),
    "a list": lambda net: (net / "net.json").write_text("[]"),
    "a number": lambda net: (net / "net.json").write_text("5"),
    "a deep record": lambda net: (net / "net.json").write_text("[" * 100_000),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_net_is_one_line(saved, tmp_path, how) -> None:
    shutil.copytree(saved, tmp_path / "net")
    DAMAGE[how](tmp_path / "net")
    with pytest.raises(UserError, match=r"^net: .* (is damaged|is no tuned net of convtl); "):
        load_net(tmp_path / "net")


@pytest.mark.parametrize("how", ["another shape", "another type", "a leaf less", "a leaf more"])
def test_weights_of_another_net_are_one_line(saved, tmp_path, how) -> None:
    record = json.loads((saved / "net.json").read_text())
    del record["digest"]
    variables = deepcopy(dict(load_net(saved).variables))
    (head,) = variables["fc5"]["params"].values()
    if how == "another shape":
        head["bias"] = np.zeros(3, np.float32)
    elif how == "another type":
        head["bias"] = head["bias"].astype(np.float64)
    elif how == "a leaf less":
        del head["bias"]
    else:
        head["scale"] = head["bias"]
    write_net(tmp_path / "net", variables, record)
    with pytest.raises(UserError, match=r"net: the weights of '.*' are not those of its model"):
        load_net(tmp_path / "net")


def test_a_net_as_an_earlier_version_kept_it_is_refused(tmp_path) -> None:
    checkpoint.save(tmp_path / "net", {"fc5": {"params": {"bias": np.zeros(3)}}}, {"row": {}})
    with pytest.raises(
        UserError, match=r"net', kept as an earlier version did, by Orbax; accepted"
    ):
        load_net(tmp_path / "net")


def test_a_net_without_finite_outputs_is_one_line(saved, pictures, tmp_path) -> None:
    record = json.loads((saved / "net.json").read_text())
    del record["digest"]
    spoilt = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), load_net(saved).variables)
    write_net(tmp_path / "net", spoilt, record)
    with pytest.raises(UserError, match="not finite"):
        predict.main([f"net={tmp_path / 'net'}", f"images={pictures}"])


def test_a_net_keeps_what_the_weights_that_it_came_from_expect(words, tmp_path) -> None:
    """Crop, interpolation and normalisation travel from the source to the saved net."""
    facts = {"kind": "file", "path": "/nowhere", "model": "lenet5", "naming": "torchvision"}
    facts |= {"mean": "[1.0,2.0,3.0]", "std": "[4.0,5.0,6.0]"}
    own = [f"weights.far.{name}={value}" for name, value in facts.items()]
    _, (trial,) = expand(parse(compose([*words, *own])))
    trial = replace(trial, source="far")
    network = build_network(trial.settings.models["lenet5"], (16, 16, 3), 2)
    variables = network.init(key(0, "test"))
    materials = Materials(Cache(default_root()), lambda line: None)
    net = load_net(save_net(tmp_path, trial, materials, variables, {"classes": list(CLASSES)}))
    assert net.normalisation == Normalisation((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    images = generator(3, "images").integers(0, 255, (300, 16, 16, 3)).astype(np.uint8)
    expected = Forward(network, 0)(
        variables, (images - np.float32([1, 2, 3])) / np.float32([4, 5, 6])
    )
    np.testing.assert_allclose(net.logits(images), expected, rtol=1e-4, atol=1e-5)
    assert net_of(tmp_path, trial.id) == tmp_path / net_name(trial)
    assert net_of(tmp_path, "other") is None
