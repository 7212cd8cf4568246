"""Trouble with output, folders and the environment is one line at most, and loses no study."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from convtl.storage.cache import default_root

ROOT = Path(__file__).parent.parent
STUDY = ("source=random", "lr=1e-2")


def shell(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which $RUN is `python -m convtl.run` of the tiny study."""
    words = [*tiny.WORDS, *STUDY, f"cache={default_root()}"]
    quoted = " ".join(f"'{word}'" for word in words)
    python = f"'{sys.executable}' -m"
    script = script.replace("RUN", f"{python} convtl.run {quoted}").replace("PYTHON", python)
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("PYTHON convtl.run --help | true", 0),
        ("PYTHON convtl.run --help > /dev/full", 1),
        ("PYTHON convtl nosuch", 2),
        *(
            pytest.param(script, code, marks=pytest.mark.slow)
            for script, code in (
                (f"PYTHON convtl.run out={'x' * 300}", 2),
                ("PYTHON convtl --help | true", 0),
                ("PYTHON convtl.run --help >&-", 0),
                ("PYTHON convtl.run nosuch=1 2>&-", 2),
                ("PYTHON convtl.run nosuch=1 2>/dev/full", 2),
                ("PYTHON convtl.run out=~nosuch/x dry_run=true", 2),
                ("mkdir gone; cd gone; rmdir ../gone; PYTHON convtl.run dry_run=true", 2),
                ("PYTHON convtl.describe model=plain models.plain.hidden=100000", 2),
            )
        ),
    ],
)
def test_no_trouble_is_a_trace(tmp_path: Path, script: str, code: int) -> None:
    done = shell(script, tmp_path)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1
    assert "Exception ignored" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "variables"),
    [
        ("RUN out=o 2>&1 | true", {}),
        ("RUN out=o >&- 2>&-", {}),
        ("RUN out=o > /dev/full 2> /dev/full || true", {}),
        ("RUN out=o 'question=Жё?'", {"PYTHONIOENCODING": "ascii"}),
        ("RUN out=o 'question=Жё?'", {"PYTHONIOENCODING": "latin-1"}),
        ("RUN out=o", {"JAX_ENABLE_X64": "1"}),
    ],
)
def test_no_trouble_loses_a_study(tmp_path: Path, script: str, variables: dict[str, str]) -> None:
    done = shell(script, tmp_path, **variables)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "o" / "report.html").is_file()
    (row,) = tiny.table(tmp_path / "o").values()
    assert row["status"] == "done"


def test_a_backend_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    done = shell("RUN out=o", tmp_path, JAX_PLATFORMS="cuda")
    assert done.returncode == 2
    assert done.stderr.startswith("convtl: JAX_PLATFORMS: got 'cuda', which does not start here")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("key", ["out", "cache"])
def test_a_folder_without_rights_is_one_line(tmp_path: Path, key: str) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    done = shell(f"RUN {key}=closed/x", tmp_path)
    assert done.returncode == 2
    assert len([line for line in done.stderr.splitlines() if line.startswith("convtl: ")]) == 1
    assert "Traceback" not in done.stderr
