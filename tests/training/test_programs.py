"""Compiled programs on disk are whole or absent, and a disk that takes nothing costs a program nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import warnings
warnings.simplefilter("error")
import jax
from convtl.runtime.programs import keep_programs

keep_programs()
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


def test_a_program_is_kept_and_what_a_killed_writer_left_goes(tmp_path) -> None:
    assert run(tmp_path)[0] == "7.0 False"
    (tmp_path / "xla" / ".jit_f-cache.0123456789ab.part").write_bytes(b"half")
    assert run(tmp_path)[0] == "7.0 True"
    assert {path.suffix for path in (tmp_path / "xla").iterdir()} == {""}


def test_a_damaged_program_is_replaced(tmp_path) -> None:
    run(tmp_path)
    kept = {path: path.read_bytes() for path in (tmp_path / "xla").iterdir()}
    for path, content in kept.items():
        path.write_bytes(content[: len(content) // 2])
    assert "Error reading persistent compilation cache entry" in run(tmp_path)[1]
    for path, content in kept.items():
        path.write_bytes(content[: len(content) // 2])
    allowed = PROGRAM.replace('simplefilter("error")', 'simplefilter("ignore")')
    assert start(allowed, tmp_path).returncode == 0
    assert run(tmp_path) == ("7.0 True", "")


@pytest.mark.parametrize("place", ["below a file", "of which nothing can be kept"])
def test_a_cache_that_takes_nothing_stops_no_program(tmp_path, place) -> None:
    if place == "below a file":
        (tmp_path / "cache").write_text("")
    else:
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / "xla").symlink_to(
            "/proc/self"
        )  # a folder in which no file can be made
    assert run(tmp_path / "cache") == ("7.0 False", "")


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_folders_that_others_may_write_to_are_not_used(tmp_path: Path, mode: int) -> None:
    assert run(tmp_path)[0] == "7.0 False"
    (tmp_path / "xla").chmod(mode)
    assert run(tmp_path)[0] == "7.0 False"
    (tmp_path / "xla").chmod(0o700)
    assert run(tmp_path)[0] == "7.0 True"
