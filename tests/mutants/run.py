"""Check that each mutant of mutants.yaml is noticed by its tests.

usage: python tests/mutants/run.py [PART]

Applies each mutant (whose file or text contains PART) in a copy of the tree, and runs its tests there: they must pass
without it and fail with it. Exits with 1 where one survives. Two minutes.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
COPIED = ("convtl", "conf", "tests", "experiments", "sweeps", "pyproject.toml", "README.md")


def read() -> list[dict[str, Any]]:
    """Return the mutants: mappings with file, old, new and tests."""
    mutants: list[dict[str, Any]] = yaml.safe_load(
        Path(__file__).with_name("mutants.yaml").read_text()
    )
    return mutants


def faults(mutant: dict[str, Any], root: Path = ROOT) -> list[str]:
    """Return why a mutant cannot be applied, or its tests cannot be run; empty if they can."""
    path = root / mutant["file"]
    count = path.read_text(encoding="utf-8").count(mutant["old"]) if path.exists() else 0
    lines = [] if count == 1 else [f"{mutant['file']} has {count} times: {mutant['old']}"]
    for test in mutant["tests"]:
        file, _, name = test.partition("::")
        source = (root / file).read_text(encoding="utf-8") if (root / file).exists() else ""
        if f"def {name}(" not in source:
            lines.append(f"no test {test}")
    return lines


def passes(tests: list[str], tree: Path) -> bool:
    """Run tests in a tree; whether all pass. Hypothesis draws the same, so that no mutant survives by chance."""
    options = ["-q", "-x", "-p", "no:cacheprovider", "-o", "addopts=--strict-markers"]
    options.append("--hypothesis-seed=0")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests], cwd=tree, capture_output=True, text=True
    )
    if done.returncode not in (0, 1):
        sys.exit(f"{' '.join(tests)} cannot be run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


def main() -> None:
    if {"-h", "--help"} & set(sys.argv[1:]):
        sys.exit(__doc__)
    part = sys.argv[1] if len(sys.argv) > 1 else ""
    mutants = [mutant for mutant in read() if part in mutant["file"] or part in mutant["old"]]
    bad = [line for mutant in mutants for line in faults(mutant)]
    with tempfile.TemporaryDirectory(prefix="convtl-mutants-") as name:
        tree = Path(name)
        for item in COPIED if not bad else ():
            if (ROOT / item).is_dir():
                shutil.copytree(
                    ROOT / item, tree / item, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                shutil.copy(ROOT / item, tree / item)
        tests = sorted({test for mutant in mutants for test in mutant["tests"]})
        if not bad and not passes(tests, tree):
            bad.append("tests fail without any mutant")
        for mutant in mutants if not bad else ():
            path = tree / mutant["file"]
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace(mutant["old"], mutant["new"]), encoding="utf-8")
            survivors = [test for test in mutant["tests"] if passes([test], tree)]
            path.write_text(text, encoding="utf-8")
            print(
                f"{'SURVIVES' if survivors else 'noticed '} {mutant['file']}: {mutant['new']}",
                flush=True,
            )
            bad += [f"{mutant['file']}: {mutant['new']} passes {test}" for test in survivors]
    if bad:
        sys.exit("\n".join(bad))


if __name__ == "__main__":
    main()
