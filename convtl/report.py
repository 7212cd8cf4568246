"""usage: python -m convtl.report out=DIR [replication=DIR] [publish=DIR]

Rebuilds results.csv, report.md, report.html and figures from the rows in DIR, with the config of its last run.
replication=DIR sets the same study, run with another seed, beside it: which effects of its claims are found again.
publish=DIR also writes what is worth keeping with the code: README.md (a short page, from DIR/page.md.j2 if that is
there), report.md, the tables that both are made of (results.csv, gradients.csv.gz, record.yaml) and figures.
"""

from convtl.entry import command, folder, keywords
from convtl.errors import UserError


def main(words: list[str]) -> int:
    """Rebuild the report of a folder."""
    defaults = {"out": None, "publish": "", "replication": ""}
    typed = keywords(words, defaults, "out=DIR of a run, [publish=DIR] [replication=DIR]")
    from convtl.analysis.record import newest_record
    from convtl.config.parsing import parse
    from convtl.reporting.publish import check_folder, publish
    from convtl.reporting.report import build, read_replication
    from convtl.study.grid import apply_limits

    out = folder("out", typed["out"])
    record = newest_record(out)
    try:
        config = apply_limits(parse(record["config"]))
    except UserError as error:  # written before a key was renamed
        raise UserError(f"out: the study in '{out}' cannot be reported again: {error}") from None
    other, target = (
        folder(key, typed[key]) if typed[key] else None for key in ("replication", "publish")
    )
    replication = None if other is None else read_replication(other, config)
    if target is not None:
        check_folder(out, target)  # refuses a foreign folder before any work
    report = build(out, config, record, replication=replication)
    print(f"{report.lines()}\nreport: {report.page}")
    if target is not None:
        publish(report, target)
        print(f"published: {target}")
    return 0


if __name__ == "__main__":
    command(main)
