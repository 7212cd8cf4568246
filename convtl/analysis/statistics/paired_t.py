"""Student's intervals over replicates, for decisions that few replicates must do for.

The sign-flip tests of the other files assume less, and with fewer than six replicates they settle nothing
at .05 (p is at least 2 / 2^m). Where advice has to be given from two to five, normal errors are assumed.
"""

import math

from numpy.typing import ArrayLike
from scipy import stats

from convtl.analysis.statistics.sign_flip import Interval, vector


def mean_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Interval of the mean of m values: mean +- t s / sqrt(m), with m - 1 degrees of freedom.

    Raises:
      ValueError: fewer than two values, which tell no spread.
    """
    x = vector(values)
    if len(x) < 2:
        raise ValueError(f"two or more replicates are needed, got {len(x)}")
    half = float(stats.t.ppf((1 + level) / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    return Interval(float(x.mean()) - half, float(x.mean()) + half, level)
