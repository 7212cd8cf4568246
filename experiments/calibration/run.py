"""Check tests and verdicts on studies simulated from a study's rows.

usage: python experiments/calibration/run.py out=DIR [to=DIR] [studies=N]

Draws studies of 12 and 6 replicates from the rows of the study in `out` (whole validation curves, rates chosen anew).
Writes into `to` (default: this folder) results.csv: false positives, coverage and errors of equivalence of every part
of its claims, power, and the 95 % envelope of the mean z2 of two seeds; and README.md, from page.md.j2.
"""

import time
from pathlib import Path

import numpy as np
import pandas as pd
from checks import Population, envelope, parts, studies_of, verdicts
from curves import draw, read_curves
from jinja2 import Environment, StrictUndefined

from convtl.analysis.claims import claims_of
from convtl.analysis.record import newest_record
from convtl.config.parsing import parse
from convtl.entry import command, folder, keywords
from convtl.errors import UserError
from convtl.keys import generator
from convtl.study.grid import apply_limits
from convtl.study.store import POINT

HERE = Path(__file__).parent
SIZES = (12, 6)
VERDICTS = 400
"""Most studies of which all claims are judged, as this takes longer than the rest."""


def main(words: list[str]) -> int:
    """Write the table and the page."""
    defaults = {"out": None, "to": str(HERE), "studies": "2000"}
    typed = keywords(words, defaults, "out=DIR of a study, [to=DIR] [studies=N]")
    if not typed["studies"].isdecimal() or int(typed["studies"]) < 40:
        raise UserError(f"studies: got '{typed['studies']}'; accepted: a whole number from 40")
    began, to = time.perf_counter(), folder("to", typed["to"])
    out = folder("out", typed["out"])
    table = tabulate(out, int(typed["studies"]))
    to.mkdir(parents=True, exist_ok=True)
    table.to_csv(to / "results.csv", index=False, float_format="%.4f", lineterminator="\n")
    (to / "README.md").write_text(page(pd.read_csv(to / "results.csv"), out.name), encoding="utf-8")
    print(f"{to / 'results.csv'}: {len(table)} lines, {time.perf_counter() - began:.0f} s")
    return 0


def tabulate(out: Path, count: int) -> pd.DataFrame:
    """Run every check, for both numbers of replicates."""
    record = newest_record(out)
    config = apply_limits(parse(record["config"]))
    points = pd.DataFrame(record["points"], columns=list(POINT))
    claims, draws = claims_of(config), generator(0, "calibration")
    if not claims:
        raise UserError(f"out: the study in '{out}' has no claims (scorecard)")
    curves = read_curves(out, config, points)
    size = max(SIZES) * min(count, 250)
    every = config.claims
    pool = Population.of(claims, draw(curves, size, draws), config.target, every)
    if not pool.judged:
        raise UserError(f"out: no claim of the study in '{out}' can be judged by its rows")
    lines = []
    for m in SIZES:
        studies = studies_of(pool, m, count, draws)
        lines += [*parts(pool, studies), *verdicts(pool, studies[:VERDICTS])]
        lines.append(envelope("mean z2", pool, pool.judged, studies))
        drawn = draw(curves, size, draws, together=m)
        shared = Population.of(claims, drawn, config.target, every)
        fixed = np.arange(size // m * m).reshape(-1, m)  # the replicates that share their rates
        check = "mean z2, rates chosen once a study"
        lines.append(envelope(check, shared, pool.judged, fixed))
    return pd.DataFrame(lines)


def page(table: pd.DataFrame, study: str) -> str:
    """Fill in the page from results.csv."""
    template = (HERE / "page.md.j2").read_text(encoding="utf-8")
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(study=study, of=_Numbers(table)) + "\n"


class _Numbers:
    """Numbers of the table for the page."""

    def __init__(self, table: pd.DataFrame) -> None:
        self._table = table

    def lines(self, check: str, m: int) -> pd.DataFrame:
        chosen = (self._table["check"] == check) & (self._table["m"] == m)
        return self._table[chosen]

    def span(self, check: str, m: int) -> str:
        """Median, smallest and largest share over the parts of all claims."""
        values = self.lines(check, m)["value"]
        return f"{values.median():.3f} ({values.min():.3f} to {values.max():.3f})"

    def worst(self, check: str, m: int) -> dict[str, str]:
        """Claim, part and value of the largest share, and the value of the next."""
        first, second = self.lines(check, m).nlargest(2, "value").to_dict("records")
        values = {"value": f"{first['value']:.2f}", "next": f"{second['value']:.3f}"}
        return {"claim": first["claim"], "part": first["part"], **values}

    def one(self, check: str, m: int) -> str:
        """The only line of a check, with its interval."""
        row = self.lines(check, m).iloc[0]
        return f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"

    def shares(self, claim: str, m: int) -> str:
        """Shares of a claim's verdicts, without those that it hardly gets."""
        rows = self._table[
            (self._table["claim"] == claim) & (self._table["m"] == m) & self._table["part"].isna()
        ]
        likely = rows[rows["value"] >= 0.005].sort_values("value", ascending=False)
        return ", ".join(f"{row.check} {row.value:.2f}" for row in likely.itertuples())


if __name__ == "__main__":
    command(main)
