"""Compare the numbers of smoke studies with those of an earlier commit, to the bit.

usage: python tests/golden/compare.py COMMIT [EXPERIMENT ...]

Checks COMMIT out beside this tree, runs each experiment under `debug=smoke` by both with this interpreter, and matches
trials by their coordinates, never by id. Exits with 1, and names the first conditions, where a number differs.
"""

import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
EXPERIMENTS = ("finetune_depth", "input_shift", "layer_transfer")
COORDINATES = (
    "model",
    "source",
    "similarity",
    "target",
    "regime",
    "depth",
    "depth_unit",
    "n_per_class",
    "updates",
    "replicate",
)  # and every additional axis, `axes.KEY`
NUMBERS = (
    "status",
    "lr",
    "n_rates",
    "n_train",
    "n_val",
    "n_test",
    "val_accuracy",
    "test_accuracy",
    "test_nll",
    "test_ece",
    "source_accuracy",
    "trained_weights",
    "flops_per_update",
    "frozen_ok",
    "subset_digest",
)
RENAMED: dict[str, str] = {"axes.kept": "axes.n_transferred"}
"""Column of the earlier commit -> what it is called now."""

Table = dict[tuple[str, ...], list[tuple[str, ...]]]


def run(tree: Path, experiment: str, folder: Path) -> Path:
    """Run one smoke study by the code in `tree`; return its results.csv."""
    out, cache = folder / f"{experiment}-out", folder / "cache"
    words = [f"+experiment={experiment}", "debug=smoke", f"out={out}", f"cache={cache}"]
    command = [sys.executable, "-m", "convtl.run", *words]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{experiment} fails in {tree.name}: {done.stderr.strip().splitlines()[-1:]}")
    return out / "results.csv"


def read(path: Path) -> Table:
    """Read a table: coordinates -> the numbers of all trials there, in order."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [
            {RENAMED.get(key, key): value for key, value in row.items()}
            for row in csv.DictReader(file)
        ]
    if not rows:
        sys.exit(f"{path} holds no trial")
    axes = sorted(name for name in rows[0] if name.startswith("axes."))
    table: Table = {}
    for row in rows:
        place = tuple(row.get(name, "") for name in (*COORDINATES, *axes))
        table.setdefault(place, []).append(tuple(row.get(name, "") for name in NUMBERS))
    return {place: sorted(numbers) for place, numbers in table.items()}


def differences(before: Table, after: Table) -> list[str]:
    """Return a line for each place whose numbers differ or that one side lacks."""
    lines = []
    for place in sorted({*before, *after}):
        if before.get(place) != after.get(place):
            was, now = before.get(place, "missing"), after.get(place, "missing")
            lines.append(f"{dict(zip(COORDINATES, place, strict=False))}\n  was {was}\n  now {now}")
    return lines


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    commit, experiments = sys.argv[1], sys.argv[2:] or EXPERIMENTS
    differ = False
    with tempfile.TemporaryDirectory(prefix="convtl-golden-") as name:
        folder, old = Path(name), Path(name) / "tree"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(old), commit], check=True)
        try:
            for side in ("before", "after"):
                (folder / side).mkdir()
            for experiment in experiments:
                before = read(run(old, experiment, folder / "before"))
                lines = differences(before, read(run(ROOT, experiment, folder / "after")))
                print(
                    f"{experiment}: {len(before)} conditions, {len(lines)} differ",
                    *lines[:3],
                    sep="\n",
                )
                differ |= bool(lines)
        finally:
            subprocess.run([*git, "remove", "--force", str(old)], check=True)
    sys.exit(differ)


if __name__ == "__main__":
    main()
