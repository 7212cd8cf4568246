"""Power: how often a declared claim gets which verdict, by design and true effect."""

import numpy as np
import pandas as pd
from jaxtyping import Float
from studies import (
    ALPHA,
    STUDIES,
    contrasts,
    equivalence_ps,
    sign_flip_ps_of_claims,
)

from convtl.analysis.statistics import holm

DESIGNS = {"default": (6, 1), "desk": (12, 10)}
"""Name -> replicates, declared claims."""


def power_table(
    studies: int = STUDIES // 2,
    effects: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6),
    spreads: tuple[float, ...] = (0.2, 0.35),
    delta: float = 0.2,
) -> pd.DataFrame:
    """How often one declared claim gets each verdict, by design, spread and true effect (logits).

    Verdicts as in `convtl.analysis.principles`: practically null within +-delta first, then supported at
    Holm-adjusted p <= .05 in the declared direction. `others`: the other claims of the family are null
    (the least that Holm gives) or of the same effect. Not simulated: that targets must agree in sign.

    Returns:
      Columns design, m, claims, others, sd, effect, supported, practically_null, contradicted, inconclusive.
    """
    rows = []
    for design, (m, claims) in DESIGNS.items():
        for others in ("null", "same") if claims > 1 else ("",):
            for sd in spreads:
                for effect in effects:
                    true = np.full(claims, effect if others == "same" else 0.0)
                    true[0] = effect
                    x = contrasts(
                        true, m, studies, sd=sd, stream=("power", design, others, str(sd))
                    )
                    place = {"design": design, "m": m, "claims": claims, "others": others, "sd": sd}
                    rows.append({**place, "effect": effect, **_verdicts(x, delta)})
    return pd.DataFrame(rows)


def _verdicts(x: Float[np.ndarray, "studies claims replicates"], delta: float) -> dict[str, float]:
    """Shares of studies by the verdict on their first claim."""
    small = equivalence_ps(x[:, 0], delta) <= ALPHA
    sure = np.array([holm(p)[0] for p in sign_flip_ps_of_claims(x)]) <= ALPHA
    up = x[:, 0].sum(axis=1) > 0
    supported, contradicted = ~small & sure & up, ~small & sure & ~up
    return {
        "supported": float(supported.mean()),
        "practically_null": float(small.mean()),
        "contradicted": float(contradicted.mean()),
        "inconclusive": float((~small & ~sure).mean()),
    }
