"""Commands as users type them, run in this process."""

import re
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny

from convtl.entry import guarded


@dataclass(frozen=True)
class Done:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """What a refused command says: exactly one line beside progress, without a traceback."""
        assert self.code == 2, self
        lines = [one for one in self.err.splitlines() if not re.match(r"\d+/\d+ trials, ", one)]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("convtl: ")
        assert "Traceback" not in self.err
        return lines[0].removeprefix("convtl: ")


def draw_no_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a run leaves rows and their table, but draws no report: that takes longer than the study."""
    from convtl import conduct
    from convtl.analysis.frame import read_rows, write_results

    def table(out: Path, *given: Any) -> SimpleNamespace:
        write_results(out, read_rows(out))
        return SimpleNamespace(page=out / "report.html", lines=lambda: "")

    monkeypatch.setattr(conduct, "build", table)
    monkeypatch.setattr(conduct, "save_samples", lambda *given: None)


class Commands:
    """Calls an entry point with words, as `python -m convtl.NAME WORDS` would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capfd = monkeypatch, capfd

    def __call__(self, entry: Callable[[list[str]], int], *words: str) -> Done:
        self._capfd.readouterr()
        self._monkeypatch.setattr(sys, "argv", ["convtl", *words])
        before = signal.getsignal(signal.SIGTERM)
        try:
            code = guarded(entry)
        finally:
            signal.signal(signal.SIGTERM, before)
        out, err = self._capfd.readouterr()
        return Done(code, out, err)

    def without_reports(self) -> "Commands":
        """See `draw_no_reports`."""
        draw_no_reports(self._monkeypatch)
        return self

    def run(self, *words: str) -> Done:
        from convtl.run import main

        return self(main, *words)

    def tiny(self, *words: str) -> Done:
        """The tiny study, changed by `words`."""
        return self.run(*tiny.WORDS, *words)

    def report(self, *words: str) -> Done:
        from convtl.report import main

        return self(main, *words)

    def describe(self, *words: str) -> Done:
        from convtl.describe import main

        return self(main, *words)


Words = Sequence[str]
