import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convtl.errors import StorageError, UserError
from convtl.storage import checkpoint


def _variables() -> dict[str, Any]:
    draw = np.random.default_rng(0)
    return {
        "stem": {
            "params": {
                "kernel": draw.normal(size=(3, 3, 1, 4)).astype(np.float32),
                "scale": np.float32(2.0),
            },
            "batch_stats": {"norm": {"mean": jnp.arange(4.0), "count": jnp.array(7, jnp.int32)}},
        },
        "pool": {},
        "head.1": {
            "params": {"kernel": jnp.ones((4, 2), jnp.bfloat16), "mask": np.array([True, False])},
            "other": {
                "half": np.float16([1.5]),
                "bytes": np.arange(5, dtype=np.uint8),
                "wide": np.float64([np.nan]),
            },
        },
    }


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "net", _variables(), {"source": "latin", "updates": 900})
    return tmp_path / "net"


def test_round_trip_keeps_every_bit_type_and_shape(saved: Path) -> None:
    variables, metadata = checkpoint.load(saved)
    assert metadata == {"source": "latin", "updates": 900}
    jax.tree.map(
        np.testing.assert_array_equal, variables, _variables()
    )  # the structure too: `pool` is kept
    dtypes = jax.tree.map(lambda leaf: str(leaf.dtype), variables)
    assert dtypes == jax.tree.map(lambda leaf: str(leaf.dtype), _variables())
    assert variables["head.1"]["params"]["kernel"].dtype == jnp.bfloat16
    assert {type(leaf) for leaf in jax.tree.leaves(variables)} == {np.ndarray}
    assert checkpoint.digests(variables) == checkpoint.digests(_variables())
    assert [path.name for path in saved.parent.iterdir()] == ["net"]


def test_saving_again_replaces_it(saved: Path) -> None:
    checkpoint.save(saved, {"fc": {"params": {"bias": np.ones(2)}}}, {"second": True})
    variables, metadata = checkpoint.load(saved)
    assert list(variables) == ["fc"]
    assert metadata == {"second": True}
    assert [path.name for path in saved.parent.iterdir()] == ["net"]


@pytest.mark.parametrize("name", ["b [1]", "[!a]", "*?", "it's {x}", "ünï cødé", "50%20#$~"])
def test_a_folder_may_have_any_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / name / name
    (tmp_path / name).mkdir()
    for updates in (1, 2):
        checkpoint.save(path, _variables(), {"updates": updates})
    variables, metadata = checkpoint.load(path)
    assert checkpoint.digests(variables) == checkpoint.digests(_variables())
    assert metadata == {"updates": 2}
    assert [found.name for found in path.parent.iterdir()] == [name]


def test_digests_tell_dtypes_shapes_and_values_apart() -> None:
    def one(array: Any) -> str:
        found = checkpoint.digests({"fc": {"params": {"w": array}}})
        assert list(found) == ["fc/params/w"]
        return found["fc/params/w"]

    like = [
        np.zeros(4, np.float32),
        np.zeros((2, 2), np.float32),
        np.zeros(4, np.int32),
        -np.zeros(4, np.float32),
    ]
    like += [
        jnp.zeros(4, jnp.bfloat16),
        np.zeros(4, np.float16),
        jnp.zeros(4, jnp.float8_e5m2),
        np.zeros(4, np.int8),
    ]
    like += [jnp.zeros(4, jnp.float8_e4m3fn)]
    assert len({one(array) for array in like}) == len(like)
    assert one(jnp.zeros(4)) == one(np.zeros(4, np.float32))


# --- damage -----------------------------------------------------------------------------------------


def _data_file(path: Path) -> Path:
    return max(
        (file for file in (path / "arrays").rglob("*") if file.is_file()),
        key=lambda file: file.stat().st_size,
    )


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    record = json.loads((path / "metadata.json").read_text())
    change(record)
    (path / "metadata.json").write_text(json.dumps(record))


def _swap_metadata(path: Path) -> None:
    other = path.with_name("other")
    tree = jax.tree.map(
        lambda leaf: np.asarray(leaf) * 0, _variables()
    )  # the same leaves, other values
    checkpoint.save(other, tree, {})
    shutil.copy(other / "metadata.json", path)


def _swap_arrays(path: Path) -> None:
    shutil.rmtree(path / "arrays")
    (path / "arrays").mkdir()
    np.save(path / "arrays" / "w.npy", np.zeros(3))


DAMAGE = {
    "flipped byte": (lambda path: _flip(_data_file(path)), "arrays is damaged"),
    "deleted file": (lambda path: _data_file(path).unlink(), "arrays is damaged"),
    "deleted arrays": (lambda path: shutil.rmtree(path / "arrays"), "arrays is damaged"),
    "foreign arrays": (_swap_arrays, "arrays is damaged"),
    "swapped metadata": (_swap_metadata, "arrays is damaged"),
    "edited metadata": (
        lambda path: _edit(path, lambda r: r["metadata"].update(updates=1)),
        "metadata.json is of something else, or is damaged",
    ),
    "forgotten file": (lambda path: _edit(path, lambda r: r["files"].popitem()), "is damaged"),
    "other kind": (lambda path: _edit(path, lambda r: r.update(kind="zip")), "of something else"),
    "torn metadata": (
        lambda path: (path / "metadata.json").write_text('{"kind": "co'),
        "is damaged",
    ),
    "binary metadata": (
        lambda path: (path / "metadata.json").write_bytes(b"\x80\xff"),
        "is damaged",
    ),
    "no metadata": (lambda path: (path / "metadata.json").unlink(), r"it has no metadata.json\)$"),
    "nothing": (shutil.rmtree, "not a checkpoint"),
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGE.values(), ids=DAMAGE)
def test_what_is_damaged_is_refused_in_one_line(
    damage: Callable[[Path], None], reason: str, saved: Path
) -> None:
    damage(saved)
    with pytest.raises(UserError, match=reason) as refused:
        checkpoint.load(saved)
    assert str(refused.value).startswith(f"checkpoint {saved}: ")
    assert "\n" not in str(refused.value)


def test_every_file_of_a_checkpoint_is_guarded(saved: Path, tmp_path: Path) -> None:
    for number, file in enumerate(sorted(path for path in saved.rglob("*") if path.is_file())):
        for damage in (_flip, Path.unlink):
            if damage is _flip and not file.stat().st_size:
                continue
            copy = tmp_path / f"copy{number}{damage.__name__}"
            shutil.copytree(saved, copy)
            damage(copy / file.relative_to(saved))
            with pytest.raises(UserError, match=r"^checkpoint .*(damaged|has no)"):
                checkpoint.load(copy)


# --- expected ---------------------------------------------------------------------------------------


def test_what_is_expected_is_loaded(saved: Path) -> None:
    abstract = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, {"a": _variables()["stem"]}))["a"]
    checkpoint.save(saved, {"stem": _variables()["stem"]}, {})
    variables, _ = checkpoint.load(saved, {"stem": abstract})
    assert variables["stem"]["batch_stats"]["norm"]["count"] == 7


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda tree: tree["stem"].pop("batch_stats"),
            r"weights stem/batch_stats/norm/count are int32 \(\), expected none$",
        ),
        (
            lambda tree: tree.update(fc={"b": np.ones(1)}),
            r"weights fc/b are missing, expected float64 \(1,\)$",
        ),
        (
            lambda tree: tree["stem"]["params"].update(kernel=np.ones((3, 3, 1, 5), np.float32)),
            r"weights stem/params/kernel are float32 \(3, 3, 1, 4\), expected float32 \(3, 3, 1, 5\)$",
        ),
        (
            lambda tree: tree["head.1"]["params"].update(kernel=np.ones((4, 2), np.float32)),
            r"weights head.1/params/kernel are bfloat16 \(4, 2\), expected float32 \(4, 2\)$",
        ),
    ],
)
def test_what_is_not_expected_is_refused(
    change: Callable[[dict[str, Any]], Any], told: str, saved: Path
) -> None:
    expected = _variables()
    change(expected)
    with pytest.raises(UserError, match=told):
        checkpoint.load(saved, expected)


# --- saving -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tree",
    [
        {"a/b": np.ones(1)},
        {"": np.ones(1)},
        {3: np.ones(1)},
        {"a": np.array(["text"])},
        {"a": None},
        {"a": np.ones((0, 3))},
    ],
)
def test_what_cannot_be_saved_is_refused_before_anything_is_written(
    tree: dict[Any, Any], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"not a"):
        checkpoint.save(tmp_path / "net", tree, {})
    assert list(tmp_path.iterdir()) == []


def test_foreign_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "thesis.tex").write_text("mine")
    (tmp_path / "net" / "metadata.json").write_text('{"title": "mine"}')
    with pytest.raises(UserError, match="of something else"):
        checkpoint.save(tmp_path / "net", _variables(), {})
    assert (tmp_path / "net" / "thesis.tex").read_text() == "mine"


def test_what_cannot_be_read_back_replaces_nothing(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unnested = checkpoint._nested
    monkeypatch.setattr(
        checkpoint, "_nested", lambda leaves: jax.tree.map(np.zeros_like, unnested(leaves))
    )
    with pytest.raises(StorageError, match="read back is not what was written") as refused:
        checkpoint.save(saved, _variables(), {"second": True})
    assert "\n" not in str(refused.value)
    monkeypatch.undo()
    assert [path.name for path in saved.parent.iterdir()] == ["net"]
    assert checkpoint.load(saved)[1] == {"source": "latin", "updates": 900}


def test_a_full_disk_is_one_line(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10_000))
    with pytest.raises(StorageError, match=r"cannot be written \(no space left on device \("):
        checkpoint.save(saved, _variables(), {})
    assert [path.name for path in saved.parent.iterdir()] == ["net"]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^checkpoint .*: cannot be written \(file exists\)$"):
        checkpoint.save(tmp_path / "file" / "net", _variables(), {})


def test_metadata_that_is_not_json_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        checkpoint.save(tmp_path / "net", _variables(), {"accuracy": float("nan")})
    assert list(tmp_path.iterdir()) == []


QUIET = """
import sys, threading
from pathlib import Path
import numpy as np
from convtl.storage import checkpoint
checkpoint.save(Path(sys.argv[1]), {"fc": {"params": {"kernel": np.ones((84, 10), np.float32)}}}, {})
checkpoint.load(Path(sys.argv[1]))
assert "pickle" not in checkpoint.__dict__
others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
for thread in others:
    thread.join(10)  # those of a closed event loop are about to end
print([thread.name for thread in threading.enumerate() if not thread.daemon])
"""


def test_it_is_quiet_and_lets_the_process_end(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", QUIET, str(tmp_path / "net")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "['MainThread']\n", "")


def test_a_net_the_size_of_lenet5_takes_a_moment(tmp_path: Path) -> None:
    shapes = [
        (5, 5, 1, 6),
        (6,),
        (5, 5, 6, 16),
        (16,),
        (400, 120),
        (120,),
        (120, 84),
        (84,),
        (84, 10),
        (10,),
    ]
    net = {
        f"unit{i}": {"params": {"w": np.ones(shape, np.float32)}} for i, shape in enumerate(shapes)
    }
    assert sum(leaf.size for leaf in jax.tree.leaves(net)) == 61_706
    checkpoint.save(tmp_path / "first", net, {})  # imports Orbax
    start = time.perf_counter()
    checkpoint.save(tmp_path / "net", net, {})
    checkpoint.load(tmp_path / "net")
    assert time.perf_counter() - start < 3  # about 0.1 s on an idle core
