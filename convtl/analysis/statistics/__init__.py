"""The tests and intervals of a study: exact over paired replicates, wherever that can be counted out.

Every function takes one number per replicate (or one row per replicate) and nothing else: how the
numbers come about is in `arms.py` and `principles.py`. Values are in logits unless a function says so.
What they attain on simulated studies: `python experiments/calibration/run.py`.
"""

from convtl.analysis.statistics.choices import (
    BOOTSTRAP,
    EPSILON,
    bootstrap_interval,
    depth_distribution,
    half_split_depths,
    half_splits,
    regret,
    regret_per_replicate,
    resamples,
    sufficient_depth,
)
from convtl.analysis.statistics.equivalents import (
    DataEquivalent,
    data_equivalent,
    data_equivalent_interval,
)
from convtl.analysis.statistics.ordering import (
    Censored,
    Crossing,
    PageTrend,
    SourcePermutation,
    crossing,
    monotone_share,
    page_trend,
    slope_per_replicate,
    source_permutation_p,
)
from convtl.analysis.statistics.scores import (
    binomial_interval,
    interquartile_mean,
    logit_accuracy,
    normalised,
    performance_profile,
    probability_of_improvement,
)
from convtl.analysis.statistics.several import holm, intersection_union, max_t
from convtl.analysis.statistics.sign_flip import (
    DRAWS,
    EXACT,
    Estimate,
    Interval,
    equivalence_p,
    equivalent,
    estimate,
    estimates,
    replicates_to_decide,
    shifted_p,
    sign_flip_interval,
    sign_flip_p,
    sign_flip_ps,
)

__all__ = [
    "BOOTSTRAP",
    "DRAWS",
    "EPSILON",
    "EXACT",
    "Censored",
    "Crossing",
    "DataEquivalent",
    "Estimate",
    "Interval",
    "PageTrend",
    "SourcePermutation",
    "binomial_interval",
    "bootstrap_interval",
    "crossing",
    "data_equivalent",
    "data_equivalent_interval",
    "depth_distribution",
    "equivalence_p",
    "equivalent",
    "estimate",
    "estimates",
    "half_split_depths",
    "half_splits",
    "holm",
    "interquartile_mean",
    "intersection_union",
    "logit_accuracy",
    "max_t",
    "monotone_share",
    "normalised",
    "page_trend",
    "performance_profile",
    "probability_of_improvement",
    "regret",
    "regret_per_replicate",
    "replicates_to_decide",
    "resamples",
    "shifted_p",
    "sign_flip_interval",
    "sign_flip_p",
    "sign_flip_ps",
    "slope_per_replicate",
    "source_permutation_p",
    "sufficient_depth",
]
