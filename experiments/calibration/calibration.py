"""Error rates of the study's tests and coverage of its intervals, counted in simulated studies."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy import stats
from studies import (
    ALPHA,
    SD,
    STUDIES,
    Shape,
    attainable,
    contrasts,
    equivalence_ps,
    ladders,
    sign_flip_ps_of_claims,
)

from convtl.analysis.statistics import (
    binomial_interval,
    holm,
    max_t,
    sign_flip_interval,
    sign_flip_ps,
    slope_per_replicate,
    source_permutation_p,
)
from convtl.keys import generator


@dataclass(frozen=True)
class Check:
    """How often something happened in simulated studies, and what was expected of it.

    Attributes:
      rate, low, high: share of studies with its exact 99.9 % binomial interval.
      relation: `=`: the expected rate lies in the interval; `<=`: it is not below it; `<` and `>`: the
        interval lies wholly on that side of it; empty: shown only.
    """

    check: str
    m: int
    setting: str
    studies: int
    rate: float
    low: float
    high: float
    relation: Literal["=", "<=", "<", ">", ""]
    expected: float

    @property
    def holds(self) -> bool | None:
        return {
            "=": self.low <= self.expected <= self.high,
            "<=": self.low <= self.expected,
            "<": self.high < self.expected,
            ">": self.low > self.expected,
        }.get(self.relation)


def checked(
    check: str,
    m: int,
    setting: str,
    happened: ArrayLike,
    relation: Literal["=", "<=", "<", ">", ""] = "",
    expected: float = float("nan"),
) -> Check:
    """A `Check` from one yes or no a study."""
    yes = np.asarray(happened, bool)
    hits = int(yes.sum())
    interval = binomial_interval(hits, len(yes), 0.999)
    rate = hits / len(yes)
    return Check(check, m, setting, len(yes), rate, interval.low, interval.high, relation, expected)


def one_contrast(studies: int) -> Iterator[Check]:
    """False positives of the sign-flip test, and coverage of its interval and of bootstrap intervals."""
    shapes: tuple[Shape, ...] = ("normal", "heavy", "skewed")
    for shape in shapes:
        fair = shape != "skewed"
        for m in (6, 12):
            x = contrasts(np.zeros(1), m, studies, shape=shape, stream=("one", m))[:, 0]
            level = attainable(m)
            rejected = sign_flip_ps(x) <= ALPHA
            yield checked(
                "false positives, sign flip", m, shape, rejected, "=" if fair else "", level
            )
            inside = [each.low <= 0 <= each.high for each in map(sign_flip_interval, x)]
            text = "coverage, sign-flip interval"
            yield checked(text, m, shape, np.array(inside), "=" if fair else "", 1 - level)
            for method in ("percentile", "BCa"):
                covered = bootstrap_covers(x[: studies // 2], 0.0, method)
                text = f"coverage, {method} bootstrap of level .95"
                yield checked(text, m, shape, covered, "<", 0.95)


def bootstrap_covers(
    x: Float[np.ndarray, "studies replicates"], mean: float, method: str, draws: int = 1_000
) -> np.ndarray:
    """Whether the 95 % bootstrap interval of the mean covers a mean, for each study."""
    interval = stats.bootstrap(
        (x,),
        np.mean,
        axis=1,
        vectorized=True,
        n_resamples=draws,
        batch=100,
        method=method,
        rng=generator(0, "bootstrap covers", method, *x.shape),
    ).confidence_interval
    return (interval.low <= mean) & (mean <= interval.high)


def several_claims(studies: int) -> Iterator[Check]:
    """Family-wise errors of Holm and of step-down max-T over null claims, and Holm's floor at m = 6."""
    for m, claims in ((6, 1), (6, 2), (12, 2), (12, 10)):
        x = contrasts(np.zeros(claims), m, studies, stream=("several", m, claims))
        adjusted = np.array([holm(p) for p in sign_flip_ps_of_claims(x)])
        text = f"{claims} null claim{'s' if claims > 1 else ''}"
        rejected = (adjusted <= ALPHA).any(axis=1)
        yield checked("any false positive, Holm", m, text, rejected, "<=", ALPHA)
    for m, claims in ((6, 6), (12, 10)):
        rejected = max_t_rejects(
            contrasts(np.zeros(claims), m, studies // 4, stream=("max-T", m, claims))
        )
        text = f"{claims} null claims"
        yield checked("any false positive, step-down max-T", m, text, rejected, "<=", ALPHA)
    sure = contrasts(np.full(2, 5.0), 6, studies, stream=("sure",))
    rejected = np.array([(holm(p) <= ALPHA).any() for p in sign_flip_ps_of_claims(sure)])
    yield checked("any rejection, Holm", 6, "2 claims of 5 logits each", rejected, "=", 0.0)
    alone = max_t_rejects(sure[: studies // 4])
    yield checked("any rejection, step-down max-T", 6, "2 claims of 5 logits each", alone, "=", 1.0)


def max_t_rejects(x: Float[np.ndarray, "studies claims replicates"]) -> np.ndarray:
    """Whether step-down max-T rejects any claim, for each study."""
    return np.array([bool((max_t(study) <= ALPHA).any()) for study in x])


def source_ladders(studies: int) -> Iterator[Check]:
    """Two tests of a trend over six sources whose true slope is 0."""
    for m in (6, 12):
        for source_sd in (0.0, 0.1, 0.2, 0.3):
            x = ladders(0.0, m, studies, source_sd=source_sd, stream=(m, str(source_sd)))
            slopes = np.array([slope_per_replicate(np.arange(6), study) for study in x])
            text = f"6 sources, sd of a source {source_sd:g}, of a cell {SD:g}"
            rejected = sign_flip_ps(slopes) <= ALPHA
            relation: Literal["=", ">"] = ">" if source_sd else "="
            level = ALPHA if source_sd else attainable(m)
            yield checked(
                "false positives, sign flip of slopes", m, text, rejected, relation, level
            )
            ps = np.array(
                [source_permutation_p(study.mean(0), np.arange(6)).p for study in x[: studies // 2]]
            )
            yield checked("false positives, source permutation", m, text, ps <= ALPHA, "<=", ALPHA)


def equivalences(studies: int) -> Iterator[Check]:
    """How often an effect of 0 is found practically null, and one of delta wrongly so."""
    for m in (6, 12, 16):
        for delta in (0.1, 0.2):
            for effect in (0.0, delta):
                x = contrasts(
                    np.full(1, effect), m, studies // 2, stream=("null", m, str(delta), str(effect))
                )
                null = equivalence_ps(x[:, 0], delta) <= ALPHA
                relation: Literal["<=", ""] = "<=" if effect else ""
                text = f"effect {effect:g}, delta {delta:g}, sd {SD:g}"
                yield checked(
                    "practically null", m, text, null, relation, ALPHA if effect else float("nan")
                )


def calibration_table(studies: int = STUDIES) -> pd.DataFrame:
    """All checks, one a row, with the columns of `Check` and `holds`."""
    parts = (one_contrast, several_claims, source_ladders, equivalences)
    checks = [check for part in parts for check in part(studies)]
    return pd.DataFrame([{**vars(check), "holds": check.holds} for check in checks])
