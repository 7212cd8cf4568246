"""Copy a report and its tables to a folder that is kept with the code."""

import re
import shutil
from pathlib import Path

import pandas as pd

from convtl.analysis.record import without_paths
from convtl.errors import UserError
from convtl.study.store import accessible

_LONG = re.compile(r"-?\d+\.\d{5,}(e-?\d+)?")
"""A number with more digits than a table needs."""
_OF_THE_RUN = (
    "study",
    "config",
    "subset_digest",
    "trained_units",
    "moved",
    "seconds",
    "commit",
)
"""Columns of results.csv that a published table does without; the report says what of them matters."""


def published_figures(out: Path, target: Path) -> list[Path]:
    """Return the figures that an earlier publish has written to `target`.

    Raises:
      UserError: it is the study's own folder, or holds something that no publish has written.
    """
    accepted = "accepted: a new or empty folder, or one that was published to before"
    if target.resolve() == out.resolve() or (target / "figures").is_symlink():
        raise UserError(f"publish: got '{target}', the study's own or a linked folder; {accepted}")
    with accessible(target, "read"):
        if not target.exists() or not any(target.iterdir()):
            return []
        page, tables = target / "README.md", [target / "results.csv", target / "gradients.csv"]
        heads = [path.read_text(encoding="utf-8")[:6] for path in tables if path.is_file()]
        if not page.is_file() or not any(head in ("trial,", "probe,") for head in heads):
            raise UserError(f"publish: got '{target}', which holds other files; {accepted}")
        names = re.findall(r"\(figures/([\w.-]+\.png)\)", page.read_text(encoding="utf-8"))
    return [path for name in dict.fromkeys(names) if (path := target / "figures" / name).is_file()]


def publish(out: Path, target: Path) -> None:
    """Copy report, tables and the figures that the report shows to a folder that is kept with the code.

    Raises:
      UserError: the folder is not for publishing (`published_figures`), or cannot be written to.
    """
    outdated = published_figures(out, target)
    text = (out / "report.md").read_text(encoding="utf-8")
    text = without_paths(text)
    with accessible(target):
        (target / "figures").mkdir(parents=True, exist_ok=True)
        for path in outdated:
            path.unlink()
        for figure in sorted((out / "figures").glob("*.png")):
            if f"(figures/{figure.name})" in text:
                shutil.copyfile(figure, target / "figures" / figure.name)
        _rounded(out / "results.csv").to_csv(target / "results.csv", index=False)
        if (out / "gradients.csv").exists():
            _over_replicates(out / "gradients.csv").to_csv(target / "gradients.csv", index=False)
        (target / "README.md").write_text(text, encoding="utf-8")


def _rounded(table: Path) -> pd.DataFrame:
    """The trials with numbers to four digits, without what only says how they were run: small enough to keep."""
    frame = pd.read_csv(table, dtype=str, keep_default_na=False).drop(
        columns=[*_OF_THE_RUN], errors="ignore"
    )
    for name in frame.columns:
        frame[name] = [
            f"{float(text):.4g}" if _LONG.fullmatch(text) else text for text in frame[name]
        ]
    return frame


def _over_replicates(table: Path) -> pd.DataFrame:
    """The table of the probes with mean, standard deviation and count over replicates: small enough to keep."""
    frame = pd.read_csv(table)
    keys = [name for name in frame.columns if name not in ("replicate", "value")]
    found = frame.groupby(keys, dropna=False, sort=False)["value"].agg(["mean", "std", "count"])
    return found.reset_index().round(6)
