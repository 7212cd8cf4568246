"""The mutants fit the code as it is; the slow test runs them."""

import subprocess
import sys
from pathlib import Path

import pytest
from run import faults, main, read


def test_every_mutant_can_be_applied() -> None:
    mutants = read()
    assert len(mutants) >= 20
    assert not [line for mutant in mutants for line in faults(mutant)]


def test_a_text_that_is_gone_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = {"file": "convtl/keys.py", "old": "no such text", "new": "", "tests": []}
    monkeypatch.setattr("run.read", lambda: [mutant])
    monkeypatch.setattr(sys, "argv", ["run.py"])
    with pytest.raises(SystemExit, match="0 times: no such text"):
        main()


@pytest.mark.slow  # two minutes
def test_every_mutant_is_noticed() -> None:
    script = Path(__file__).with_name("run.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
