"""Many processes that work on one study at once, killed at random moments and started again.

    python killing.py OUT CACHE PROCESSES KILLS SEED WORDS...

Each is forked from this process, which has imported everything and used nothing of JAX yet: a start takes a tenth
of a second instead of several, and what a killed one leaves on disk is what any other process would. One process
runs the study first, unbroken, into OUT.unbroken. The last line printed is JSON: for every kill the rows that were
there and what the killed one said last, and the exit codes of those that were not killed.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import tiny

import convtl.conduct
from convtl.entry import guarded

_AT_FIRST, _AT_LAST = 0.15, 0.25
"""Shares of the kills that do not wait for any work, and that fall when all rows are there and reports are written."""


def _start(log: Path, words: list[str]) -> int:
    """Another process that runs the study; what it says goes to `log`."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.argv = ["convtl", *words]
        cache = next(word for word in words if word.startswith("cache="))
        os.environ["CONVTL_CACHE"] = cache.removeprefix("cache=")  # compiled programs too
        code = guarded(convtl.conduct.conduct)  # type: ignore[arg-type]
        sys.stdout.flush()
    finally:
        os._exit(code)


def _end(pid: int, log: Path) -> int:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        sys.exit(f"a process ended with {code}:\n{log.read_text(errors='replace')}")
    return code


def _last(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return lines[-1] if lines else ""


def _steps(out: Path, cache: Path) -> int:
    """What is done of the work: rows and source nets."""
    return tiny.row_lines(out) + len(list((cache / "sources").glob("[!.]*")))


def main(out: Path, cache: Path, processes: int, kills: int, seed: int, words: list[str]) -> None:
    draw, words = random.Random(seed), [*tiny.WORDS, *words]
    unbroken, its_cache = (path.with_name(f"{path.name}.unbroken") for path in (out, cache))
    log = out.with_name("log")
    began = time.monotonic()
    _end(_start(log, [*words, f"out={unbroken}", f"cache={its_cache}"]), log)
    whole, steps = time.monotonic() - began, _steps(unbroken, its_cache)
    # Compiling takes longer than all else of so small a study: most of its programs are there already.
    for program in sorted((its_cache / "xla").iterdir()):
        if draw.random() < 0.8:
            (cache / "xla").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(program, cache / "xla" / program.name)

    words += [f"out={out}", f"cache={cache}"]
    logs = [log.with_name(f"log.{place}") for place in range(processes)]
    running = {place: _start(log, words) for place, log in enumerate(logs)}
    killed: list[tuple[int, str]] = []
    codes: list[int] = []
    while len(killed) < kills:
        # Where kills are ahead of the work, the next one waits for it: so some fall into every part of it, on a
        # slow machine too, and when many rows come at once.
        latest = time.monotonic() + whole
        while time.monotonic() < latest and tiny.row_lines(out) < tiny.row_lines(unbroken):
            done = _AT_FIRST + (1 - _AT_FIRST - _AT_LAST) * _steps(out, cache) / steps
            if len(killed) < kills * done:
                break
            time.sleep(whole / 200)
        time.sleep(draw.uniform(0, whole * 0.03))
        for place, pid in list(running.items()):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                codes.append(_end(pid, logs[place]))
                running[place] = _start(logs[place], words)
        place = draw.randrange(processes)
        os.kill(running[place], signal.SIGKILL)
        os.waitpid(running[place], 0)
        killed.append((tiny.row_lines(out), _last(logs[place])))
        running[place] = _start(logs[place], words)
    codes += [_end(pid, logs[place]) for place, pid in running.items()]
    print(json.dumps({"killed": killed, "codes": codes, "whole": whole}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:6]), sys.argv[6:])
