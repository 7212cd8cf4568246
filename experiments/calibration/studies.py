"""Simulated studies: one number per replicate and contrast, in logits.

Replicates share a part of their noise across contrasts; a source may have something peculiar to it that
no further replicate averages out.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float

from convtl.analysis.statistics import sign_flip_ps
from convtl.keys import generator

Shape = Literal["normal", "heavy", "skewed"]

ALPHA = 0.05
SD = 0.25
"""Spread of a contrast over replicates (logits) where nothing else is said (finetune_depth: 0.19)."""
SHARED = 0.3
"""Correlation of two contrasts over replicates: what a draw of classes, images and source does to both."""
STUDIES = 4_000


def contrasts(
    effects: Float[np.ndarray, "claims"],
    m: int,
    studies: int,
    *,
    sd: float = SD,
    shared: float = SHARED,
    shape: Shape = "normal",
    stream: tuple[str | int, ...] = (),
) -> Float[np.ndarray, "studies claims replicates"]:
    """Contrasts of simulated studies (logits): effect + noise of the replicate + noise.

    Args:
      sd: spread over replicates; shared: share of its variance that all claims of a replicate have alike.
      shape: of both noises, scaled to variance 1: normal, `heavy` (t with 5 degrees of freedom) or
        `skewed` (exponential: what the test's assumption of symmetry excludes).
    """
    draw = generator(0, "simulate", *stream, shape)

    def noise(size: tuple[int, ...]) -> np.ndarray:
        if shape == "heavy":
            return draw.standard_t(5, size) / np.sqrt(5 / 3)
        return draw.standard_normal(size) if shape == "normal" else draw.exponential(1, size) - 1

    common, separate = noise((studies, 1, m)), noise((studies, len(effects), m))
    return np.asarray(effects)[:, None] + sd * (
        np.sqrt(shared) * common + np.sqrt(1 - shared) * separate
    )


def ladders(
    slope: float,
    m: int,
    studies: int,
    *,
    sources: int = 6,
    sd: float = SD,
    source_sd: float = SD,
    stream: tuple[str | int, ...] = (),
) -> Float[np.ndarray, "studies replicates sources"]:
    """D on a ladder of sources: slope x place + effect of the source + noise.

    The effect of a source (logits, spread `source_sd`) is the same in all replicates of a study: replicates draw
    nets and images anew, not scripts.
    """
    draw = generator(0, "ladder", *stream)
    peculiar = source_sd * draw.standard_normal((studies, 1, sources))
    return slope * np.arange(sources) + peculiar + sd * draw.standard_normal((studies, m, sources))


# --- levels, and p values of many studies ------------------------------------------------------------


def attainable(m: int, alpha: float = ALPHA) -> float:
    """Largest two-sided level up to alpha that the sign-flip test of m replicates has."""
    return np.floor(alpha * 2 ** (m - 1)) / 2 ** (m - 1)


def sign_flip_ps_of_claims(
    x: Float[np.ndarray, "studies claims replicates"],
) -> Float[np.ndarray, "studies claims"]:
    """`statistics.sign_flip_ps` of every claim of many studies."""
    return sign_flip_ps(x.reshape(-1, x.shape[2])).reshape(x.shape[:2])


def equivalence_ps(
    x: Float[np.ndarray, "studies replicates"], delta: float
) -> Float[np.ndarray, "studies"]:
    """`statistics.equivalence_p` of many studies."""
    return np.maximum(sign_flip_ps(x + delta, "greater"), sign_flip_ps(delta - x, "greater"))
