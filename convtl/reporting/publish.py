"""Publish a study in a folder kept with the code: a short page, the long report, and the tables of both.

Both texts are made from the published, rounded tables and never from the rows, so that anybody can make
them again: `published` reads such a folder back.
"""

import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from convtl.analysis.frame import read_results, write_results
from convtl.config.parsing import parse
from convtl.errors import UserError
from convtl.reporting.report import Report, make_report, render, write_text
from convtl.secrets import redact
from convtl.storage.files import temporary_folder
from convtl.study.grid import apply_limits
from convtl.study.store import accessible

RECORD = "record.yaml"
"""What a published folder holds beside its tables, so that its pages can be made again."""
PAGE = "page.md.j2"
"""The template of the short page, in the published folder if the study has its own, else in this package."""
_MARK = "# Written by convtl.report publish=; README.md and report.md are made of this and of the tables.\n"
_GIVEN = (PAGE, "rows")
"""What may lie in a folder before anything was published to it."""
_DROPPED = ("study", "trained_units", "moved", "subset_digest", "commit")
_LONG = re.compile(r"-?\d+\.\d{5,}(e-?\d+)?")
"""A number with more digits than a table needs."""
_KEPT = (
    "results_version",
    "command",
    "commit",
    "device",
    "versions",
    "made_by",
    "seconds",
    "left_out",
)


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
        names = _figures(target)
        if names is None:
            raise UserError(f"publish: got '{target}', which holds other files; {accepted}")
    return [path for name in names if (path := target / "figures" / f"{name}.png").is_file()]


def _figures(target: Path) -> list[str] | None:
    """Names of the figures that were published to a folder; None if nothing was."""
    record, page = target / RECORD, target / "README.md"
    if record.is_file():
        text = record.read_text(encoding="utf-8")
        return list(yaml.safe_load(text)["figures"]) if text.startswith(_MARK) else None
    tables = [
        path for name in ("results", "gradients") if (path := target / f"{name}.csv").is_file()
    ]
    heads = [path.read_text(encoding="utf-8")[:6] for path in tables]
    if not page.is_file() or not any(head in ("trial,", "probe,") for head in heads):
        return None  # the first version left these, and no record
    return re.findall(r"\(figures/([\w.-]+)\.png\)", page.read_text(encoding="utf-8"))


def publish(report: Report, target: Path) -> Path:
    """Write a report's tables, pages and figures to `target`, and remove figures that it has no more.

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
            (target / "figures").mkdir(exist_ok=True)
            for name in report.drawn:
                shutil.copyfile(report.folder / "figures" / f"{name}.png", part / f"{name}.png")
            for path in part.iterdir():
                path.replace(target / ("figures" if path.suffix == ".png" else "") / path.name)
        for path in outdated:
            if path.stem not in report.drawn:
                path.unlink()
    return target / "README.md"


def page_of(report: Report, target: Path) -> str:
    """Return the short page, from the study's own template if its folder has one."""
    own = target / PAGE
    return render(report, own.read_text(encoding="utf-8") if own.is_file() else PAGE)


def published(folder: Path) -> Report:
    """Make the report of a published folder from its tables and its record.

    Raises:
      UserError: no study of this version was published to it.
    """
    with accessible(folder, "read"):
        try:
            text = (folder / RECORD).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise UserError(
                f"publish: '{folder}' has no {RECORD}; accepted: a published folder"
            ) from None
        record = yaml.safe_load(text)
        second = record.pop("replication", None)
        if second:
            second = _read(folder, second, "replication.csv", "replication_gradients.csv")
        return _read(folder, record, "results.csv", "gradients.csv", replication=second)


def _read(folder: Path, record: dict[str, Any], results: str, probes: str, **others: Any) -> Report:
    gradients = pd.read_csv(folder / probes) if (folder / probes).exists() else None
    return make_report(
        read_results(folder / results),
        apply_limits(parse(record["config"])),
        record,
        folder,
        gradients,
        drawn=tuple(record["figures"]),
        **others,
    )


def _write_tables(report: Report, folder: Path) -> None:
    record = _record(report)
    if report.replication is not None:  # first: every table is first written as results.csv
        _table(report.replication, folder, "replication.csv", "replication_gradients.csv")
        record["replication"] = _record(report.replication)
    _table(report, folder, "results.csv", "gradients.csv")
    text = yaml.safe_dump(redact(record), sort_keys=False, allow_unicode=True, width=110)
    (folder / RECORD).write_text(_MARK + text, encoding="utf-8")


def _record(report: Report) -> dict[str, Any]:
    """What of a study's record its pages need."""
    content = {**report.record["config"], "out": None, "cache": None, "worker": None}
    content["claims"] = {name: content["claims"][name] for name in report.config.scorecard}
    facts = {key: report.record[key] for key in _KEPT if key in report.record}
    facts["command"] = report.command
    return facts | {"figures": list(report.drawn), "config": content}


def _table(report: Report, folder: Path, results: str, probes: str) -> None:
    """Write rows without what only says how they were run, and with numbers of four digits."""
    path = write_results(folder, report.conditions.frame)
    table = pd.read_csv(path, dtype=str, keep_default_na=False).drop(columns=list(_DROPPED))
    path.unlink()
    for name in table:
        table[name] = [
            f"{float(text):.4g}" if _LONG.fullmatch(text) else text for text in table[name]
        ]
    table.to_csv(folder / results, index=False)
    if report.conditions.gradients is not None:
        report.conditions.gradients.to_csv(folder / probes, index=False, float_format="%.5g")
