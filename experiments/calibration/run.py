"""Error rates, coverage and power of the studies' tests on simulated studies."""

import sys
from pathlib import Path

import pandas as pd
from calibration import calibration_table
from power import power_table
from studies import STUDIES

from convtl.errors import UserError

HELP = """usage: python experiments/calibration/run.py [out=DIR] [studies=N]

Error rates, coverage and power of the study's tests on simulated studies; out=DIR also writes
results.csv and power.csv there."""


def _main(words: list[str]) -> None:
    if {"-h", "--help"} & set(words):
        print(HELP)
        return
    given = dict(word.partition("=")[::2] for word in words)
    wrong = [
        word
        for word in words
        if word.partition("=")[0] not in ("out", "studies") or not word.partition("=")[2]
    ]
    if wrong:
        raise UserError(f"got '{wrong[0]}'; accepted: out=DIR, studies=N")
    count = given.get("studies", str(STUDIES))
    if not count.isdecimal() or int(count) < 100:
        raise UserError(f"studies: got '{count}'; accepted: a whole number from 100")
    tables = {"results": calibration_table(int(count)), "power": power_table(int(count) // 2)}
    with pd.option_context(
        "display.width", 200, "display.max_rows", None, "display.max_columns", None
    ):
        for table in tables.values():
            print(table.to_string(index=False, float_format="{:.3f}".format))
            print()
    if "out" in given:
        folder = Path(given["out"]).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in tables.items():
            table.to_csv(
                folder / f"{name}.csv", index=False, float_format="%.4f", lineterminator="\n"
            )
        print(f"written: {folder / 'results.csv'}, {folder / 'power.csv'}")


def main() -> int:
    """Prints the tables; 2 with one plain line where a word of the command is wrong."""
    try:
        _main(sys.argv[1:])
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
