"""`python experiments/scale/run.py`: what a study of a million trials costs, measured with made-up rows.

Keys:
  rows: trials, about (default 1000000); writers: files that their rows are in (default 1000).
  out: where the rows are written (default outputs/scale): 1.5 kB each. Its rows and claims are replaced.
  publish: a folder to which the table and the page are copied, to be kept with the code.
"""

import csv
import json
import shutil
import sys
from pathlib import Path

from measuring import run_measured
from page import Line, page

from convtl.entry import folder, guarded
from convtl.errors import UserError
from convtl.runtime.cores import core_count
from convtl.study.store import accessible

TABLE = "scale.csv"
_KEYS = {"rows": "1000000", "writers": "1000", "out": "outputs/scale", "publish": ""}


def _main(words: list[str]) -> int:
    if {"-h", "--help"} & set(words):
        print(__doc__)
        return 0
    given = dict(word.split("=", 1) for word in words if "=" in word)
    if len(given) != len(words) or set(given) - set(_KEYS) or "" in given.values():
        raise UserError(
            f"got '{' '.join(words)}'; accepted: {', '.join(f'{key}=...' for key in _KEYS)}"
        )
    values = {**_KEYS, **given}
    for key in ("rows", "writers"):
        if not values[key].isdecimal() or int(values[key]) < 1:
            raise UserError(f"{key}: got '{values[key]}'; accepted: a whole number, 1 or more")
    out = folder("out", values["out"])
    if out.exists() and not (out / TABLE).exists() and any(out.iterdir()):
        raise UserError(
            f"out: got '{out}', which holds something else; accepted: a new folder, or one of this command"
        )
    with accessible(out):
        out.mkdir(parents=True, exist_ok=True)
        (out / TABLE).touch()
        for part in ("rows", "configs"):
            shutil.rmtree(out / part, ignore_errors=True)
    lines = _measured(values["rows"], values["writers"], out)
    text = page(
        lines, f"python experiments/scale/run.py rows={values['rows']} writers={values['writers']}"
    )
    with accessible(out):
        _write(lines, out / TABLE)
        (out / "scale.md").write_text(text, encoding="utf-8")
    for line in lines:
        print(f"{line.what:90} {line.figure:>14}  {line.goal}")
    if given.get("publish"):
        target = folder("publish", given["publish"])
        with accessible(target):
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(out / TABLE, target / TABLE)
            (target / "README.md").write_text(text, encoding="utf-8")
    return 0


def _measured(rows: str, writers: str, out: Path) -> list[Line]:
    place = str(out)
    plan = _step("plan", rows, place)
    made = _step("generate", rows, place, writers)
    table = _step("consolidate", place)
    report = _report(out)
    look = _step("look", place)
    lines = [
        Line("cores", "cores that were used", f"{core_count()}"),
        Line("trials", "trials of the study", f"{plan['trials']:,}"),
        Line("expand", "planning: axes to trials", _seconds(plan["expand"])),
        Line(
            "record",
            "planning: the record of what was asked for is written",
            _seconds(plan["record"]),
        ),
        Line("plan memory", "planning: memory", _gib(plan["gib"])),
        Line(
            "record size", "the record with every trial's place in the study", _size(plan["size"])
        ),
        Line("rows", "rows, with those of interrupted and repeated trials", f"{made['rows']:,}"),
        Line("files", "files of rows, one a writer", f"{made['files']:,}"),
        Line("row size", "a row", f"{made['size'] / made['rows']:,.0f} B"),
        Line("rows size", "all rows", _size(made["size"])),
        Line("read", "consolidating: rows are read", _seconds(table["read"])),
        Line(
            "consolidate",
            "consolidating: rows are read, results.csv is written",
            _seconds(table["all"]),
        ),
        Line("consolidate memory", "consolidating: memory", _gib(table["gib"])),
        Line("results size", "results.csv", _size(table["size"])),
        Line(
            "report",
            "`python -m convtl.report`: consolidating and reporting",
            _seconds(report[0]),
            report[0],
            120,
        ),
        Line("report memory", "the same: memory", _gib(report[1]), report[1], 4),
        Line("page size", "report.html", _size((out / "report.html").stat().st_size)),
        Line(
            "first look", "a process learns at its start what is finished", _seconds(look["first"])
        ),
        Line("look", "and at each look after that, nothing new", _milli(look["again"])),
    ]
    for number in ("1", "8", "32"):
        found = _step("append", place, number)["rows a second"]
        what = f"rows a second on disk, {number} {'processes' if number != '1' else 'process'} on one `out`"
        lines.append(Line(f"append {number}", what, f"{found:,.0f}"))
    for number in ("0", "1000", "20000"):
        each = _step("claim", place, number)["seconds"]
        lines.append(
            Line(f"claim {number}", f"a claim, while {int(number):,} others are held", _milli(each))
        )
    sizes = _step("cache", "")
    for name, size in sizes.items():
        if name not in ("wall", "gib"):
            what = (
                f"cache: {name} of an image, before the head"
                if "features" in name
                else f"cache: a {name} source net"
            )
            lines.append(Line(f"cache {name}", what, _size(size)))
    return lines


def _step(name: str, *arguments: str) -> dict[str, float]:
    print(f"{name} {' '.join(arguments)}".strip(), file=sys.stderr, flush=True)
    module = "writers" if name in ("append", "claim") else "steps"
    script = str(Path(__file__).with_name(f"{module}.py"))
    command = [sys.executable, script, name, *arguments]
    ended, said, _, held = run_measured(command)
    if ended:
        raise UserError(f"scale: the step '{name}' has failed (exit code {ended})")
    found: dict[str, float] = json.loads(said.splitlines()[-1])
    return found | {"gib": held}


def _report(out: Path) -> tuple[float, float]:
    """Seconds and GiB of the command as a user types it, with the processes that it starts."""
    print("report", file=sys.stderr, flush=True)
    ended, _, seconds, held = run_measured([sys.executable, "-m", "convtl.report", f"out={out}"])
    if ended:
        raise UserError(f"out: the report of '{out}' could not be made (exit code {ended})")
    return seconds, held


def _write(lines: list[Line], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["name", "what", "figure", "goal"])
        writer.writerows([line.name, line.what, line.figure, line.goal] for line in lines)


def _seconds(value: float) -> str:
    return f"{value:,.1f} s"


def _milli(value: float) -> str:
    return f"{1000 * value:.3g} ms"


def _gib(value: float) -> str:
    return f"{value:.2f} GiB"


def _size(value: float) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:.0f} B"


def main() -> None:
    sys.exit(guarded(_main))


if __name__ == "__main__":
    main()
