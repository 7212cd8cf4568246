"""Which of a study's trials are another study's: rows that were taken over are no evidence of their own."""

from collections.abc import Collection
from pathlib import Path

from convtl.config import Config
from convtl.errors import UserError
from convtl.reporting import numbers
from convtl.study.record import newest_record
from convtl.study.store import RowStore


def shared_said(config: Config, planned: Collection[str]) -> str:
    """How many trials are those of each study in `rows_from`, in a sentence; empty where none is.

    A trial that several of them have counts for the first. Studies are called by their own names.

    Args:
      planned: ids of this study's trials that have a row.
    """
    left, said, lost = set(planned), [], 0
    for path in map(Path, config.rows_from):
        found = _study(path)
        if found is None:
            lost += 1
            continue
        name, trials = found
        if taken := left & trials:
            left -= taken
            said.append(f"{len(taken):,} are those of `{name}`")
    text = ""
    if said:
        text = (
            f"Of {numbers.plural(len(set(planned)), 'trial')}, {numbers.listed(said)} (the same rows): what is found "
            "here on them is no independent evidence."
        )
    if lost:
        others = "another study" if lost == 1 else f"{lost} other studies"
        text += f" Rows may also be those of {others} whose folder is not at hand."
    return text.strip()


def _study(folder: Path) -> tuple[str, set[str]] | None:
    """Name and finished trials of the study in a folder; None where it is not at hand."""
    if not (folder / "rows").is_dir():
        return None
    try:
        name = newest_record(folder)["config"].get("study")
        return str(name or "another study"), RowStore(folder).finished()
    except UserError:
        return None
