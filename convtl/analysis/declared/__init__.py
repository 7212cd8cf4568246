"""The claims, declared before any result is seen: what is measured, how, and what would refute it.

Each claim is one number per replicate (a difference or a slope, in logits if nothing else is said). The
*weak* reading asks for a direction, the *strong* one for what the lecture literally says; it is tested only
where the weak one is supported. What D, G, L, k and z are is said in `study/contrasts.py`.
"""

from collections.abc import Collection, Sequence

from convtl.analysis.declared.claim import DELTA, Claim, Paper, Part
from convtl.analysis.declared.layers import GRADIENTS, INPUT_SHIFT, LAYER_TRANSFER, OPTIONS, WAYS
from convtl.analysis.declared.rules import (
    DATA_SIZE,
    DISSIMILARITY,
    LADDER,
    RULE_OF_THUMB,
    SIMILARITY,
)
from convtl.errors import unknown_name

__all__ = [
    "CLAIMS",
    "DELTA",
    "LADDER",
    "PRINCIPLES",
    "Claim",
    "Paper",
    "Part",
    "check_scorecard",
    "claims_of",
]

CLAIMS: tuple[Claim, ...] = (
    *SIMILARITY,
    *DATA_SIZE,
    *DISSIMILARITY,
    *RULE_OF_THUMB,
    *GRADIENTS,
    *LAYER_TRANSFER,
    *OPTIONS,
    *WAYS,
    *INPUT_SHIFT,
)
PRINCIPLES = tuple(dict.fromkeys(claim.principle for claim in CLAIMS))


def check_scorecard(names: Collection[str]) -> None:
    """Checks the key `scorecard`.

    Raises:
      UserError: a name that is no principle's.
    """
    for name in names:
        if name not in PRINCIPLES:
            raise unknown_name("scorecard", name, PRINCIPLES)


def claims_of(names: Sequence[str]) -> tuple[Claim, ...]:
    """The declared claims of some principles, in the order of `CLAIMS`."""
    check_scorecard(names)
    return tuple(claim for claim in CLAIMS if claim.principle in names)
