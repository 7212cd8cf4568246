"""Files of weights: what is in them is what was written, and what is wrong with them is one line."""

import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from foreign_files import drawn, write_shards
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from convtl.errors import UserError
from convtl.models.weights import readers
from convtl.models.weights.readers import read, sha256

LEAVES = {"a/kernel": (3, 3, 2, 5), "a/bias": (5,), "empty": (0, 4), "scalar": ()}
KEY = "weights.mine"


def line(path: Path) -> str:
    with pytest.raises(UserError) as error:
        read(path, KEY)
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith(f"{KEY}: ")
    assert path.name in text
    return text


def test_safetensors_come_back_as_they_were(tmp_path: Path) -> None:
    arrays = drawn(LEAVES) | {"count": np.asarray(3, np.int64)}
    save_file(arrays, tmp_path / "net.safetensors")
    found = read(tmp_path / "net.safetensors")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("stored", ["float16", "bfloat16", "float64"])
def test_numbers_with_a_fraction_become_float32_whatever_they_were_stored_as(
    tmp_path: Path, stored
) -> None:
    import ml_dtypes

    kind = np.dtype(ml_dtypes.bfloat16) if stored == "bfloat16" else np.dtype(stored)
    values = np.asarray([0.5, -1.25, 3.0])
    save_file({"a": values.astype(kind)}, tmp_path / "net.safetensors")
    found = read(tmp_path / "net.safetensors")["a"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "backbone.", "_orig_mod.module.", "module.model."]
)
def test_common_prefix_is_stripped(tmp_path: Path, prefix: str) -> None:
    arrays = drawn({"conv.weight": (2, 3), "model.bias": (3,)})
    path = tmp_path / "net.safetensors"
    save_file({prefix + name: array for name, array in arrays.items()}, path)
    assert read(path).keys() == arrays.keys()


def test_prefix_of_some_leaves_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_file(drawn({"backbone.a": (2,), "head.b": (2,)}), path)
    assert read(path).keys() == {"backbone.a", "head.b"}


def test_nested_state_dict_is_unwrapped() -> None:
    state = {"a": np.ones(2), "count": np.asarray(3)}
    for content in (
        state,
        {"net": state, "acc": 90.0},
        {"params": state, "best": np.asarray(70.1)},
        {"state_dict": state, "state_dict_ema": {}},
    ):
        assert readers._unwrapped(content) is state
    two = {"net": state, "ema": dict(state)}
    assert readers._unwrapped(two) is two


@pytest.mark.parametrize("name", ["net.pth.tar", "net.th", "net.ckpt"])
def test_suffixes_of_pytorch_are_accepted(tmp_path: Path, monkeypatch, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "pip install 'convtl[torch]'" in line(tmp_path / name)


@given(cut=st.integers(1, 400))
def test_a_truncated_safetensors_file_is_never_read(tmp_path_factory, cut: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "net.safetensors"
    save_file(drawn(LEAVES), path)
    content = path.read_bytes()
    path.write_bytes(content[: max(0, len(content) - cut)])
    assert "is damaged or no safetensors file" in line(path)


@pytest.mark.parametrize("shard_bytes", [1, 7, 64, 10**6])
@pytest.mark.parametrize("packed", [False, True])
def test_shards_come_back_wherever_they_are_cut_and_however_they_are_packed(
    tmp_path: Path, shard_bytes: int, packed: bool
) -> None:
    arrays = drawn(LEAVES)
    folder = write_shards(tmp_path / "package" / "Net", arrays, shard_bytes)
    path = folder
    if packed:
        path = tmp_path / "net-1.0.0.tgz"
        with tarfile.open(path, "w:gz") as archive:
            archive.add(tmp_path / "package", "package")
    found = read(path)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].flags.writeable
        np.testing.assert_array_equal(found[name], array)
    assert (
        sha256(path)
        == sha256(folder)
        == sha256(folder / "model.json")
        == sha256(tmp_path / "package")
    )


def changed(folder: Path, change) -> Path:
    topology = json.loads((folder / "model.json").read_text())
    change(topology["weightsManifest"][0])
    (folder / "model.json").write_text(json.dumps(topology))
    return folder


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda group: group["weights"][0].update(dtype="int32"),
            "a/kernel is int32; accepted: float32",
        ),
        (
            lambda group: group["weights"][1].update(quantization={"scale": 1}),
            "a/bias is quantised; accepted",
        ),
        (
            lambda group: group["weights"][0].update(shape=[3, 3, 2, 6]),
            "is damaged: the shards end inside",
        ),
        (
            lambda group: group["weights"][0].update(shape=[3, 3, 2, 4]),
            "is damaged: the shards hold 72 bytes too many",
        ),
        (lambda group: group["weights"][1].update(name="a/kernel"), "a/kernel is there twice"),
        (lambda group: group["paths"].append("gone.bin"), "the shard gone.bin is missing"),
        (
            lambda group: group["paths"].append("../model.json"),
            "model.json is damaged or has no weightsManifest",
        ),
        (
            lambda group: group["weights"][0].update(shape="3x3"),
            "model.json is damaged or has no weightsManifest",
        ),
        (lambda group: group.pop("weights"), "model.json is damaged or has no weightsManifest"),
    ],
)
def test_shards_that_are_not_what_the_manifest_says_are_one_line(
    tmp_path: Path, change, expected
) -> None:
    assert expected in line(changed(write_shards(tmp_path / "net", drawn(LEAVES)), change))


def test_a_folder_or_tarball_without_one_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "one model.json is accepted, there is none" in line(tmp_path / "empty")
    write_shards(tmp_path / "two" / "a", drawn(LEAVES))
    write_shards(tmp_path / "two" / "b", drawn(LEAVES))
    assert "there is 2: " in line(tmp_path / "two")
    (tmp_path / "model.json").write_text("{")
    assert "model.json is damaged" in line(tmp_path / "model.json")


@pytest.mark.parametrize("kept", [0, 10, 300])
def test_a_truncated_tarball_is_one_line(tmp_path: Path, kept: int) -> None:
    write_shards(tmp_path / "net", drawn({"a": (40, 40)}))
    whole = tmp_path / "whole.tgz"
    with tarfile.open(whole, "w:gz") as archive:
        archive.add(tmp_path / "net", "net")
    cut = tmp_path / "cut.tgz"
    cut.write_bytes(whole.read_bytes()[:kept])
    assert "cannot be read" in line(cut)


def test_what_is_no_file_of_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.h5").write_bytes(b"x")
    assert "is of no known kind; accepted: .safetensors, .pth" in line(tmp_path / "net.h5")
    assert "there is no file" in line(tmp_path / "gone.safetensors")
    save_file({}, tmp_path / "none.safetensors")
    assert "holds no weights" in line(tmp_path / "none.safetensors")
    save_file({"a": np.asarray([1.0, np.nan], np.float32)}, tmp_path / "nan.safetensors")
    assert "a has values that are no finite numbers" in line(tmp_path / "nan.safetensors")


def test_without_torch_the_line_says_what_to_install(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "net.pth").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "pip install 'convtl[torch]'" in line(tmp_path / "net.pth")


def test_a_digest_is_computed_once_until_the_file_changes(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "net.safetensors"
    save_file({"a": np.ones(3, np.float32)}, path)
    first = sha256(path)
    with monkeypatch.context() as patched:
        patched.setattr(readers.hashlib, "file_digest", None)
        assert sha256(path) == first
    save_file({"a": np.ones(4, np.float32)}, path)
    assert sha256(path) != first
