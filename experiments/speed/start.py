"""How long a user waits: for help, and for the first trial of a study whose materials are at hand."""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from context import Context
from result import Result
from timing import Ratio, seconds

_TRIED = 5


def starting(context: Context) -> list[Result]:
    helped = [seconds(lambda: _run(["--help"])) for _ in range(_TRIED)]
    words = ["+experiment=finetune_depth", "debug=smoke", f"cache={context.scratch / 'cache'}"]
    context.say("a smoke study, twice")
    _run([*words, f"out={context.scratch / 'first'}"])
    waited = [_first_row([*words, f"out={context.scratch / f'again{n}'}"]) for n in range(3)]
    return [
        Result(
            "help",
            "`python -m convtl.run --help`, seconds",
            ours=f"{median(helped):.2f}",
            ratio=Ratio(median(helped), min(helped), max(helped)),
            goal=1.0,
            sense="at most",
            unit=" s",
            limit="starting Python, listing files",
        ),
        Result(
            "first trial",
            "A smoke study whose source nets and programs are cached: seconds until its first row is written",
            ours=f"{median(waited):.2f}",
            ratio=Ratio(median(waited), min(waited), max(waited)),
            goal=6.0,
            sense="at most",
            unit=" s",
            limit="importing JAX, Flax, Orbax and Hydra; tracing; reading compiled programs",
        ),
    ]


def _run(words: list[str]) -> None:
    subprocess.run([sys.executable, "-m", "convtl.run", *words], check=True, capture_output=True)


def _first_row(words: list[str]) -> float:
    """Seconds until a row is there; the study is then left to end."""
    rows = (
        Path(next(word for word in words if word.startswith("out=")).removeprefix("out=")) / "rows"
    )
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "convtl.run", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        while not any(path.stat().st_size for path in rows.glob("*.jsonl")):
            if process.poll() is not None:
                raise RuntimeError("the study ended without a row")
            time.sleep(0.01)
        waited = time.perf_counter() - began
        process.wait()
    return waited
