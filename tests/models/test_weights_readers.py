"""Files of weights: what is in them is what was written, and what is wrong with them is one line."""

import sys
from pathlib import Path

import numpy as np
import pytest
from foreign_files import drawn
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from convtl.errors import UserError
from convtl.models.weights import files
from convtl.models.weights.files import read, sha256

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
        assert found[name].dtype == np.float32
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


STATE = {"a": np.ones(2), "count": np.asarray(3)}


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"net": STATE, "acc": 90.0},
        {"params": STATE, "best": np.asarray(70.1)},
        {"state_dict": STATE, "state_dict_ema": {}},
        {"state_dict": {"model": STATE}},
    ],
    ids=["bare", "only mapping", "beside a scalar tensor", "usual key", "nested twice"],
)
def test_nested_state_dict_is_unwrapped(content) -> None:
    assert files.state_dict(content, Path("net.pth"), KEY) is STATE


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"net": STATE, "ema": dict(STATE)}, "holds several state dicts: ema, net; save one"),
        ([np.ones(2)], "is no state dict, a mapping of names to tensors; save the weights alone"),
        ({0: np.ones(2)}, "is no state dict"),
    ],
    ids=["two", "list", "numbers"],
)
def test_no_single_state_dict_is_refused(content, message: str) -> None:
    with pytest.raises(UserError, match=message):
        files.state_dict(content, Path("net.pth"), KEY)


@pytest.mark.parametrize("name", ["net.pth", "net.pth.tar", "net.th", "net", "net.safetensors"])
@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\x80\x02\x8a\n"], ids=["zip", "pickle"])
def test_pytorch_files_are_recognised_by_content(tmp_path, monkeypatch, name, start) -> None:
    (tmp_path / name).write_bytes(start)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "pip install 'convtl[torch]'" in line(tmp_path / name)


@pytest.mark.parametrize("name", ["net.pth", "net.bin", "net"])
def test_safetensors_are_recognised_by_content(tmp_path: Path, name: str) -> None:
    save_file({"a": np.ones(2, np.float32)}, tmp_path / "net.safetensors")
    (tmp_path / "net.safetensors").rename(tmp_path / name)
    assert read(tmp_path / name).keys() == {"a"}


@given(cut=st.integers(1, 400))
def test_a_truncated_safetensors_file_is_never_read(tmp_path_factory, cut: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "net.safetensors"
    save_file(drawn(LEAVES), path)
    content = path.read_bytes()
    path.write_bytes(content[: max(0, len(content) - cut)])
    assert "is damaged or" in line(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"\x89HDF\r\n\x1a\n", b"\x1f\x8b\x08", b"version https://git-lfs"],
    ids=["empty", "a byte", "HDF5", "gzip", "git-lfs pointer"],
)
def test_other_formats_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.pth").write_bytes(content)
    assert "of no known format; accepted: safetensors, or what torch.save" in line(
        tmp_path / "net.pth"
    )


def test_what_is_no_file_of_weights_is_refused(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path / "gone.safetensors", "no such file"),
        (tmp_path, "is a directory"),
    ):
        with pytest.raises(UserError, match=rf"^{KEY}: .* cannot be read \({reason}"):
            sha256(path, KEY)
    save_file({}, tmp_path / "none.safetensors")
    assert "holds no weights" in line(tmp_path / "none.safetensors")
    save_file({"a": np.asarray([1.0, np.nan], np.float32)}, tmp_path / "nan.safetensors")
    assert "a has values that are not finite" in line(tmp_path / "nan.safetensors")


def test_a_digest_is_computed_once_until_the_file_changes(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "net.safetensors"
    save_file({"a": np.ones(3, np.float32)}, path)
    first = sha256(path)
    with monkeypatch.context() as patched:
        patched.setattr(files.hashlib, "file_digest", None)
        assert sha256(path) == first
    save_file({"a": np.ones(4, np.float32)}, path)
    assert sha256(path) != first


def test_a_file_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    assert "cannot be read (no such file or directory)" in line(tmp_path / "gone.safetensors")
