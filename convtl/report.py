"""usage: python -m convtl.report out=DIR [replication=DIR] [publish=DIR]

Rebuilds results.csv, report.md, report.html and figures from the rows in DIR, with the config of its last run.
replication=DIR sets the same study, run with another seed, beside it (for studies with a scorecard): a table has each
primary and each strong claim in both runs, with its effects, the adjusted p of `out` and the unadjusted one of
`replication`; a result is replicated with the same sign and p at most .05.
publish=DIR also copies what is worth keeping with the code: README.md (the report), results.csv, figures.
"""

from convtl.entry import command, folder, keywords


def main(words: list[str]) -> int:
    """Rebuild the report of a folder."""
    defaults = {"out": None, "publish": "", "replication": ""}
    typed = keywords(words, defaults, "out=DIR of a run, [publish=DIR] [replication=DIR]")
    from convtl.analysis.record import newest_record
    from convtl.config.parsing import parse
    from convtl.errors import UserError
    from convtl.reporting.build import build
    from convtl.reporting.publishing import publish, published_figures
    from convtl.reporting.second import read_second
    from convtl.study.grid import apply_limits
    from convtl.study.store import RowStore

    store = RowStore(folder("out", typed["out"]))
    record = newest_record(store.out)
    try:
        config = apply_limits(parse(record["config"]))
    except UserError as error:
        raise UserError(
            f"out: the study in '{store.out}' cannot be reported again: {error}"
        ) from None
    beside, target = (
        folder(key, typed[key]) if typed[key] else None for key in ("replication", "publish")
    )
    second = None if beside is None else read_second(beside, config)
    if target is not None:
        published_figures(store.out, target)  # refuses a foreign folder before any work
    report, lines = build(store, config, record, second=second)
    print(f"{lines}\nreport: {report}")
    if target is not None:
        publish(store.out, target)
        print(f"published: {target}")
    return 0


if __name__ == "__main__":
    command(main)
