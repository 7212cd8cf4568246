"""Publishing of a study with the code: short page, long report and tables.

Both texts are made from the published, rounded tables alone, so that they can be made again: `published` reads such
a folder back.
"""

import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from convtl.analysis.frame import read_results, write_results
from convtl.config.parsing import parse
from convtl.errors import UserError, redact
from convtl.reporting.report import Report, make_report, render, write_text
from convtl.storage.files import temporary_folder
from convtl.study.grid import apply_limits
from convtl.study.store import accessible

RECORD = "record.yaml"
"""File of a published folder from which, with its tables, its pages can be made again."""
PAGE = "page.md.j2"
"""Template of a study's own short page, in the published folder."""
_MARK = "# Written by convtl.report publish=; README.md and report.md are made of this and of the tables.\n"
_GIVEN = (PAGE, "rows")
"""Names that a folder may hold before anything is published to it."""
_GRADIENTS = "gradients.csv.gz"
_SECOND = "replication"
"""Folder, in the published one, of the tables of another seed."""
_DROPPED = ["study", "trained_units", "moved", "subset_digest", "commit"]
_LONG = re.compile(r"-?\d+\.\d{5,}(e-?\d+)?")
"""A number with more digits than a table needs."""


def check_folder(out: Path, target: Path) -> list[Path]:
    """Return the figures of an earlier publishing to `target`.

    Raises:
      UserError: it is the study's own folder, or holds something that no publishing has written.
    """
    accepted = "accepted: a new or empty folder, or one that was published to before"
    if target.resolve() == out.resolve() or (target / "figures").is_symlink():
        raise UserError(f"publish: got '{target}', the study's own or a linked folder; {accepted}")
    with accessible(target, "read"):
        if not target.exists() or all(path.name in _GIVEN for path in target.iterdir()):
            return []
        names = _published_figures(target)
    if names is None:
        raise UserError(f"publish: got '{target}', which holds other files; {accepted}")
    return [path for name in names if (path := target / "figures" / f"{name}.png").is_file()]


def _published_figures(target: Path) -> list[str] | None:
    """Names of the figures that were published to a folder; None if nothing was."""
    paths = (target / name for name in (RECORD, "README.md", "results.csv", "gradients.csv"))
    record, page, *tables = (path.read_text("utf-8") if path.is_file() else "" for path in paths)
    if record:
        return list(yaml.safe_load(record)["figures"]) if record.startswith(_MARK) else None
    if page and any(text.startswith(("trial,", "probe,")) for text in tables):  # the first version
        return re.findall(r"\(figures/([\w.-]+)\.png\)", page)
    return None


def publish(report: Report, target: Path) -> Path:
    """Publish tables, pages and figures to `target`; remove outdated figures.

    Raises:
      UserError: the folder is not for publishing (`check_folder`), or cannot be written to.
    """
    outdated = check_folder(report.folder, target)
    with accessible(target):
        target.mkdir(parents=True, exist_ok=True)
        with temporary_folder(target / "published") as part:
            _write_tables(report, part)
            again = published(part)
            write_text(part / "report.md", render(again, "report.md.j2"))
            write_text(part / "README.md", page_of(again, target))
            (part / "figures").mkdir()
            for name in report.drawn:
                shutil.copy(report.folder / "figures" / f"{name}.png", part / "figures")
            for path in [path for path in part.rglob("*") if path.is_file()]:
                place = target / path.relative_to(part)
                place.parent.mkdir(exist_ok=True)
                path.replace(place)
        for path in outdated:
            if path.stem not in report.drawn:
                path.unlink()
    return target / "README.md"


def page_of(report: Report, target: Path) -> str:
    """Return the short page, from the study's own template if its folder has one."""
    if (target / PAGE).is_file():
        return render(report, (target / PAGE).read_text(encoding="utf-8"))
    return render(report, "report.md.j2", short=True)


def published(folder: Path) -> Report:
    """Make the report of a published folder from its tables and its record.

    Raises:
      UserError: no study of this version was published to it.
    """
    if not (folder / RECORD).is_file():
        raise UserError(f"publish: '{folder}' has no {RECORD}; accepted: a published folder")
    with accessible(folder, "read"):
        record = yaml.safe_load((folder / RECORD).read_text(encoding="utf-8"))
        probes, second = folder / _GRADIENTS, folder / _SECOND
        return make_report(
            read_results(folder / "results.csv"),
            apply_limits(parse(record["config"])),
            record,
            folder,
            pd.read_csv(probes) if probes.exists() else None,
            replication=published(second) if (second / RECORD).exists() else None,
            drawn=tuple(record["figures"]),
        )


def _write_tables(report: Report, folder: Path) -> None:
    """Write the record, and rows without their running, to four digits."""
    path = write_results(folder, report.conditions.frame)
    table = pd.read_csv(path, dtype=str, keep_default_na=False).drop(columns=_DROPPED)
    for name in table:
        table[name] = [f"{float(t):.4g}" if _LONG.fullmatch(t) else t for t in table[name]]
    table.to_csv(path, index=False)
    if report.conditions.gradients is not None:
        packed: Any = {"method": "gzip", "mtime": 0}  # the same bytes each time
        report.conditions.gradients.to_csv(
            folder / _GRADIENTS, index=False, float_format="%.5g", compression=packed
        )
    content = {**report.record["config"], "out": None, "cache": None, "worker": None}
    content["claims"] = {name: content["claims"][name] for name in report.config.scorecard}
    record = {key: value for key, value in report.record.items() if key != "points"}
    record |= {"command": report.command, "figures": list(report.drawn), "config": content}
    text = yaml.safe_dump(redact(record), sort_keys=False, allow_unicode=True, width=110)
    (folder / RECORD).write_text(_MARK + text, encoding="utf-8")
    if report.replication is not None:
        (folder / _SECOND).mkdir()
        _write_tables(report.replication, folder / _SECOND)
