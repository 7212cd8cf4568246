"""`python -m convtl.report out=outputs/finetune_depth`: rebuilds table and report from all rows found."""

import sys

from convtl.cli import folder, guarded
from convtl.errors import UserError
from convtl.parsing import parse
from convtl.reporting.build import build
from convtl.study.limits import apply_limits
from convtl.study.record import newest_record
from convtl.study.store import RowStore

HELP = """usage: python -m convtl.report out=DIR

Rebuilds results.csv, report.md, report.html and figures from the rows in DIR, with the config of its last run.
"""


def _main(words: list[str]) -> int:
    if {"-h", "--help"} & set(words):
        print(HELP)
        return 0
    if len(words) != 1 or not words[0].startswith("out=") or len(words[0]) == 4:
        raise UserError(f"got '{' '.join(words)}'; accepted: out=DIR, a folder that convtl.run has written")
    store = RowStore(folder("out", words[0].removeprefix("out=")))
    record = newest_record(store.out)
    try:
        config = apply_limits(parse(record["config"]))
    except UserError as error:
        raise UserError(f"out: the study in '{store.out}' cannot be reported again: {error}") from None
    report, lines = build(store, config, record)
    print(f"{lines}\nreport: {report}")
    return 0


def main() -> None:
    """Entry point of `convtl-report`."""
    sys.exit(guarded(_main))


if __name__ == "__main__":
    main()
