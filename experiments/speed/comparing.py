"""Interleaved times of two sides, and the table of their ratios."""

import csv
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

PAGE = """# How fast is it?

```bash
{command}
```

Both sides of a comparison run in one process, one after the other in each round (A, B, then B, A), after a call of
each that is not timed; the figure is the median over rounds of the ratio of a round, with the extremes. PyTorch runs
in the fastest of its settings (contiguous or channels_last, eager or compiled, one thread or one a core). The default
study is timed once, as a command with its source nets cached; PyTorch trains the first replicate's trials (frozen
layers without gradients, the same numbers of images, updates and rates), scaled up to all. Losses or features that
should agree and do not make the command fail; a slow machine does not.

| what | ours | PyTorch | figure [lowest, highest] | goal | verdict |
| --- | --- | --- | --- | --- | --- |
{table}

Measured on {machine}; {versions}.
"""


@dataclass(frozen=True)
class Result:
    """One figure beside its goal.

    Attributes:
      ours, theirs: the figures of the two sides, with their units.
      figures: one ratio (or time) a round; empty where nothing was measured.
      at_most: whether smaller is better.
      wrong: how numbers differ that should agree.
    """

    name: str
    description: str
    goal: float
    ours: str = "-"
    theirs: str = "-"
    figures: tuple[float, ...] = ()
    at_most: bool = False
    unit: str = "x"
    wrong: str = ""

    @property
    def verdict(self) -> str:
        if self.wrong:
            return f"WRONG: {self.wrong}"
        if not self.figures:
            return "not measured"
        middle = median(self.figures)
        return "met" if (middle <= self.goal if self.at_most else middle >= self.goal) else "missed"

    @property
    def cells(self) -> tuple[str, ...]:
        """The table's cells."""
        figure = "-"
        if self.figures:
            low, high = min(self.figures), max(self.figures)
            figure = f"{median(self.figures):.2f}{self.unit}"
            figure += f" [{low:.2f}, {high:.2f}]" if low != high else ""
        goal = f"{'at most' if self.at_most else 'at least'} {self.goal:g}{self.unit}"
        return self.description, self.ours, self.theirs, figure, goal, self.verdict


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def interleaved(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time each side in each round, in alternating order, after an untimed call."""
    for work in sides.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides) if number % 2 == 0 else reversed(list(sides)):
            times[name].append(seconds(sides[name]))
    return times


def ratios(fast: Sequence[float], slow: Sequence[float], scale: float = 1.0) -> tuple[float, ...]:
    """Ratios by round of `slow` to `fast`, which does `scale` times the work."""
    return tuple(scale * theirs / ours for ours, theirs in zip(fast, slow, strict=True))


def write(results: Sequence[Result], folder: Path, **words: str) -> None:
    """Write speed.csv and README.md; `words` fill the page's other places."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "speed.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["name", "ours", "theirs", "median", "low", "high", "goal", "verdict"])
        for result in results:
            figures = result.figures or (float("nan"),)
            numbers = [f"{f(figures):.4g}" for f in (median, min, max)]
            row = [result.name, result.ours, result.theirs, *numbers, result.goal, result.verdict]
            writer.writerow(row)
    table = "\n".join(f"| {' | '.join(result.cells)} |" for result in results)
    (folder / "README.md").write_text(PAGE.format(table=table, **words), encoding="utf-8")
