"""Compiled programs are kept on disk; a damaged one, or a disk that takes nothing, costs only time."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from convtl.runtime.backend import prepare_jax

PROGRAM = """
import warnings
warnings.simplefilter("error")
import jax
from convtl.runtime.backend import prepare_jax

prepare_jax()
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append("cache_hits" in name))
print(jax.jit(lambda x: x * 3 + 1)(2.0), any(hits))
"""


def run(cache: Path) -> tuple[str, str]:
    done = start(PROGRAM, cache)
    return done.stdout.strip(), done.stderr


def start(program: str, cache: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "CONVTL_CACHE": str(cache)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("size", [pytest.param(0, marks=pytest.mark.slow), 700])
def test_a_program_is_kept_and_one_that_was_cut_short_is_compiled_again(tmp_path, size) -> None:
    assert run(tmp_path)[0] == "7.0 False"
    assert run(tmp_path)[0] == "7.0 True"
    for path in (tmp_path / "xla").iterdir():
        os.truncate(path, size)
    shown = start(PROGRAM.replace('"error"', '"default"'), tmp_path)
    assert shown.stdout.strip() == "7.0 False"
    assert "Error reading persistent compilation cache entry" in shown.stderr


@pytest.mark.parametrize(
    "place",
    [
        pytest.param("below a file", marks=pytest.mark.slow),
        "of which nothing can be kept",
    ],
)
def test_a_cache_that_takes_nothing_stops_no_program(tmp_path, place) -> None:
    if place == "below a file":
        (tmp_path / "cache").write_text("")
    else:
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / "xla").symlink_to(
            "/proc/self"
        )  # a folder in which no file can be made
    assert run(tmp_path / "cache") == ("7.0 False", "")


def test_folders_that_others_may_write_to_are_not_used(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CONVTL_CACHE", str(tmp_path))
    (tmp_path / "xla").mkdir()
    used = []
    before = jax.config.jax_compilation_cache_dir
    try:
        for mode in (0o770, 0o707, 0o700):
            (tmp_path / "xla").chmod(mode)
            prepare_jax()
            used.append(jax.config.jax_compilation_cache_dir)
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert used == [before, before, str(tmp_path / "xla")]
