"""The table of all figures: as lines for a terminal, as a page, and as CSV."""

import csv
from collections.abc import Sequence
from pathlib import Path

from machine import Machine
from result import Result

SPEED = "speed.csv"
"""The table in a folder of results."""

_HEAD = ("what", "ours", "theirs", "figure [lowest, highest]", "goal", "verdict", "what bounds it")


def figure(result: Result) -> str:
    if result.ratio is None:
        return "–"
    found = result.ratio
    middle = f"{found.median:.2f}{result.unit}"
    return middle if found.low == found.high else f"{middle} [{found.low:.2f}, {found.high:.2f}]"


def goal(result: Result) -> str:
    return "–" if result.goal is None else f"{result.sense} {result.goal:g}{result.unit}"


def lines(results: Sequence[Result]) -> str:
    """One line a figure, for a terminal."""
    return "\n".join(
        f"{result.name:28} {figure(result):28} goal {goal(result):16} {result.verdict}"
        + (f"  ({result.wrong or result.note})" if result.wrong or result.ratio is None else "")
        for result in results
    )


def page(
    results: Sequence[Result], machine: Machine, question: str, command: str, versions: str
) -> str:
    """The report as Markdown."""
    rows = [
        (
            r.what + (f" ({r.note})" if r.note else ""),
            r.ours or "–",
            r.theirs or "–",
            figure(r),
            goal(r),
            f"**{r.verdict}**" + (f": {r.wrong}" if r.wrong else ""),
            r.limit or "–",
        )
        for r in results
    ]
    table = "\n".join("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows)
    return f"""# How fast is it?

{question}

```bash
{command}
```

Both sides of a comparison run in one process, one after the other in each round (A, B, then B, A), after a call of
each that is not timed; the figure is the median over rounds of the ratio of a round, with the extremes. PyTorch runs
in the fastest of its settings (contiguous or channels_last, eager or compiled, one thread or one a core), found
before; how it compiles is left to `torch.compile`. Figures without extremes are of one run of each side: the default
study, whose PyTorch programs are eager and channels_last, since each trial would compile anew. Processes of their own
have PyTorch's trials where the row says so, decoding, and starting. What differs between sides that should agree
(losses, features, accuracy) makes the command fail; a slow machine does not.

| {" | ".join(_HEAD)} |
| {" | ".join("---" for _ in _HEAD)} |
{table}

## The machine

{machine.devices}. Square float32 matrix products (XLA, all devices at once): {machine.gemm / 1e9:.0f} GFLOP/s. Reading
and writing memory: {machine.bandwidth / 1e9:.1f} GB/s. {versions}.

Arithmetic is that of the algorithm (2 x multiply-adds), whatever a lowering really does.
"""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def write_csv(results: Sequence[Result], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["name", "ours", "theirs", "median", "low", "high", "sense", "goal", "verdict"]
        )
        for result in results:
            found = result.ratio
            numbers = (
                [""] * 3
                if found is None
                else [f"{n:.4g}" for n in (found.median, found.low, found.high)]
            )
            writer.writerow(
                [
                    result.name,
                    result.ours,
                    result.theirs,
                    *numbers,
                    result.sense,
                    result.goal,
                    result.verdict,
                ]
            )
