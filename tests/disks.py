"""The tiny study on disks that are full, can only be read, or go away while it runs: real ones, small and mounted.

    unshare -rm python disks.py FOLDER

For a mount namespace of its own, in which nobody else sees what is mounted. The last line printed is JSON: of each
case the exit code and what was said on stderr.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import jax
import tiny
from jax.experimental.compilation_cache import compilation_cache

from convtl import conduct
from convtl.analysis.frame import read_rows, write_results
from convtl.entry import guarded
from convtl.study.store import RowStore

WORDS = ("source=[latin,scratch]", "depth=[1,5]", "n_per_class=[2,4]", "replicates=2")
TRIALS = 12
_SAID = Path(sys.argv[-1]) / "said"
_build, _save_samples = conduct.build, conduct.save_samples


def mount(*words: object) -> None:
    subprocess.run(["mount", *map(str, words)], check=True)


def small(folder: Path, size: str) -> Path:
    """An empty disk."""
    folder.mkdir()
    mount("-t", "tmpfs", "-o", f"size={size}", "none", folder)
    return folder


def read_only(folder: Path, content: Path) -> Path:
    folder.mkdir()
    mount("--bind", content, folder)
    mount("-o", "remount,ro,bind", folder)
    return folder


def _table(out: Path, *given: object) -> SimpleNamespace:
    """What stands for a report: the table of rows only."""
    return SimpleNamespace(page=write_results(out, read_rows(out)), lines=lambda: "")


def run(out: Path, cache: Path, *words: str, report: bool = False) -> dict[str, object]:
    """Exit code, and what was said on stderr, of one run; programs are looked up on disk anew."""
    compilation_cache.reset_cache()
    jax.clear_caches()
    conduct.build = _build if report else _table
    conduct.save_samples = _save_samples if report else lambda *_: None
    sys.argv = ["convtl", *tiny.WORDS, *WORDS, *words, f"out={out}", f"cache={cache}"]
    said = _SAID
    before = os.dup(2)
    try:
        with said.open("wb") as file:
            os.dup2(file.fileno(), 2)
            code = guarded(conduct.conduct)  # type: ignore[arg-type]
            sys.stderr.flush()
    finally:
        os.dup2(before, 2)
        os.close(before)
    return {"code": code, "said": said.read_text(encoding="utf-8").splitlines(), "left": tree(out)}


def tree(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def after_rows(count: int, happens: Callable[[], object]) -> Callable[[], None]:
    """From now on something happens when so many rows are written; returns how to stop that."""
    append, seen = RowStore.append, []

    def watched(self: RowStore, row: dict) -> None:
        append(self, row)
        seen.append(row)
        if len(seen) == count:
            happens()

    RowStore.append = watched  # type: ignore[method-assign]
    return lambda: setattr(RowStore, "append", append)


def main(root: Path) -> None:
    found: dict[str, object] = {}
    whole, cache = root / "whole", root / "cache"
    found["whole"] = run(whole, cache)

    # The record of the study, and two pages of rows: not all of them.
    pages = sum(-(-path.stat().st_size // 4096) for path in (whole / "configs").iterdir())
    disk = small(root / "small", f"{4 * pages + 8}k")
    found["full"] = run(disk / "out", cache)
    found["full rows"] = tiny.row_lines(disk / "out")
    mount("-o", "remount,size=20m", disk)
    found["room again"] = run(disk / "out", cache)
    found["room again is whole"] = tiny.table(disk / "out") == tiny.table(whole)

    with (disk / "filler").open("wb", buffering=0) as filler:
        try:
            while filler.write(bytes(4096)):
                pass
        except OSError:
            pass
    found["no room for the report"] = run(disk / "out", cache, report=True)
    (disk / "filler").unlink()
    found["room for the report"] = run(disk / "out", cache, report=True)

    disk = small(root / "small cache", "64k")
    found["full cache"] = run(root / "a", disk / "c")
    mount("-o", "remount,size=100m", disk)
    found["room in the cache"] = run(root / "a", disk / "c")
    found["room in the cache is whole"] = tiny.table(root / "a") == tiny.table(whole)

    found["cache that is only read"] = run(root / "b", read_only(root / "read cache", cache))
    found["cache that is only read is whole"] = tiny.table(root / "b") == tiny.table(whole)
    (root / "nothing").mkdir()
    found["empty cache that is only read"] = run(
        root / "c", read_only(root / "empty cache", root / "nothing")
    )
    found["out that is only read"] = run(
        read_only(root / "read out", root / "nothing") / "o", cache
    )

    disk = small(root / "unmounted", "20m")
    stop = after_rows(4, lambda: subprocess.run(["umount", "-l", str(disk)], check=True))
    found["unmounted"] = run(disk / "out", cache)
    stop()
    stop = after_rows(4, lambda: (root / "d").rename(root / "elsewhere"))
    found["renamed"] = run(root / "d", cache)
    stop()
    found["renamed rows"] = tiny.row_lines(root / "elsewhere")
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
