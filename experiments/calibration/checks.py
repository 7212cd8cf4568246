"""Checks of tests, intervals and verdicts on studies drawn from rows."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from convtl.analysis.claims import decide
from convtl.analysis.conditions import Conditions, MissingCondition
from convtl.analysis.contrasts import Contrast, contrasts_of
from convtl.analysis.replication import effect_of
from convtl.analysis.statistics import equivalent, sign_flip_interval, sign_flip_ps
from convtl.config.claims import ClaimConfig

LEVEL, ALPHA = 0.95, 0.05
OUTCOMES = ("supported", "contradicted", "below", "mixed", "inconclusive")
Measured = dict[str, list[Contrast]]


@dataclass(frozen=True)
class Population:
    """Many drawn replicates: of each claim its contrasts, one number a replicate.

    Attributes:
      claims: all of the families of Holm, drawn or not.
      judged: claims with no condition at an edge, at floor or at ceiling.
      edges: share of conditions and replicates whose rate is at the edge of those tried.
    """

    claims: Mapping[str, ClaimConfig]
    contrasts: Measured
    judged: frozenset[str]
    edges: float

    @classmethod
    def of(
        cls,
        claims: Mapping[str, ClaimConfig],
        frame: pd.DataFrame,
        targets: Sequence[str],
        registry: Mapping[str, ClaimConfig] | None = None,
    ) -> "Population":
        """Measure claims; others of the registry only count in the families."""
        conditions, contrasts = Conditions(frame, main_targets=targets), {}
        for name, claim in claims.items():
            try:
                contrasts[name] = contrasts_of(claim, conditions)
            except MissingCondition:  # a view of the study, or a claim on gradients
                continue
        judged = frozenset(
            name for name, each in contrasts.items() if not any(one.marks for one in each)
        )
        return cls(
            {**(registry or {}), **claims}, contrasts, judged, float(frame["lr_at_edge"].mean())
        )

    def __len__(self) -> int:
        return min(len(one.table) for each in self.contrasts.values() for one in each)

    def all(self) -> Iterator[tuple[str, Contrast]]:
        return ((name, one) for name, each in self.contrasts.items() for one in each)


def studies_of(pool: Population, m: int, count: int, draws: np.random.Generator) -> np.ndarray:
    """Draw replicates of `count` studies (studies x m), none twice in a study."""
    rounds = -(-count * m // (len(pool) // m * m))
    orders = [
        draws.permutation(len(pool))[: len(pool) // m * m].reshape(-1, m) for _ in range(rounds)
    ]
    return np.concatenate(orders)[:count]


def line(
    check: str, claim: str, part: str, m: int, hits: float, of: int, expected: str = ""
) -> dict[str, object]:
    """A line of the table: a share of studies with its exact 95 % interval."""
    low, high = stats.binomtest(round(hits * of), of).proportion_ci(0.95)
    place = {"check": check, "claim": claim, "part": part, "m": m, "studies": of}
    return {**place, "value": hits, "low": low, "high": high, "expected": expected}


def parts(pool: Population, studies: np.ndarray) -> Iterator[dict[str, object]]:
    """Yield false positives, coverage and errors of equivalence of every contrast.

    False positives are those of a mean at the null value; an error of equivalence is to call an effect smaller than the
    smallest of interest that is just as large.
    """
    of, m = studies.shape
    floor = 2.0 ** (1 - m)
    for claim, one in pool.all():
        values, delta = one.values.to_numpy(), pool.claims[claim].smallest_effect
        centred = values[studies] - values.mean()
        wrong, expected = float((sign_flip_ps(centred) <= ALPHA).mean()), int(ALPHA / floor) * floor
        yield line("false positives", claim, one.name, m, wrong, of, f"{expected:.3f}")
        ends = [sign_flip_interval(x, LEVEL) for x in centred]
        covered = float(np.mean([end.low <= 0 <= end.high for end in ends]))
        level = f"{np.mean([end.level for end in ends]):.3f}"
        yield line("coverage", claim, one.name, m, covered, of, level)
        same = float(np.mean([equivalent(x + delta, delta) for x in centred]))
        yield line("equivalence errors", claim, one.name, m, same, of, "at most 0.05")


def verdicts(pool: Population, studies: np.ndarray) -> Iterator[dict[str, object]]:
    """Yield each verdict's share at the rows' effects, and errors at the margins."""
    of, m = studies.shape
    judged = {name: pool.claims[name] for name in pool.claims if name in pool.judged}
    measured = {name: pool.contrasts[name] for name in judged}
    at_margin = {
        name: [_moved(one, judged[name]) for one in each] for name, each in measured.items()
    }
    true, null = (
        [_outcomes(pool.claims, contrasts, rows) for rows in studies]
        for contrasts in (measured, at_margin)
    )
    for name in judged:
        for outcome in OUTCOMES:
            share = float(np.mean([one[name] == outcome for one in true]))
            yield line(outcome, name, "", m, share, of)
    primary = [name for name, claim in judged.items() if claim.rank == "primary"]
    wrong = [any(one[name] in ("supported", "contradicted") for name in primary) for one in null]
    share, check = float(np.mean(wrong)), "any primary claim settled wrongly"
    yield line(check, "all", "", m, share, of, "at most 0.05")


def _moved(one: Contrast, claim: ClaimConfig) -> Contrast:
    shift = one.margin(claim.smallest_effect) - one.effect
    return replace(one, table=one.table + shift)


def _outcomes(
    claims: Mapping[str, ClaimConfig], contrasts: Measured, rows: np.ndarray
) -> dict[str, str]:
    drawn = {
        name: [replace(one, table=one.table.iloc[rows]) for one in each]
        for name, each in contrasts.items()
    }
    return {name: verdict.verdict for name, verdict in decide(claims, drawn).items()}


def squared_differences(
    pool: Population, judged: Collection[str], studies: np.ndarray
) -> np.ndarray:
    """Mean z2 of successive studies, over effects in logits that vary, as `replication.mean_z2`."""
    squares = []
    studies = studies[: len(studies) // 2 * 2]
    names = {name for name in judged if pool.claims[name].unit == "logit"}
    for one in {effect_of(one): one for name, one in pool.all() if name in names}.values():
        drawn = one.values.to_numpy()[studies]
        means, variances = drawn.mean(axis=1), drawn.var(axis=1, ddof=1) / studies.shape[1]
        differences, variances = means[::2] - means[1::2], variances[::2] + variances[1::2]
        squares.append(differences**2 / np.where(variances > 0, variances, np.nan))
    return np.nanmean(squares, axis=0)


def envelope(
    check: str, pool: Population, judged: Collection[str], studies: np.ndarray
) -> dict[str, object]:
    """A line of the table: mean z2 over effects of claims, and its central 95 %."""
    z2 = squared_differences(pool, judged, studies)
    low, high = np.quantile(z2, [0.025, 0.975])
    last = line(check, "all", "", studies.shape[1], 0.0, len(z2))
    return last | {"value": float(z2.mean()), "low": float(low), "high": float(high)}
