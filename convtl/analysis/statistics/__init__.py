"""Tests and intervals: exact over paired replicates, wherever that can be counted out.

Every function takes one number a replicate (or one row a replicate) and nothing else; values are in logits unless a
function says so. What the tests attain on simulated studies: experiments/calibration.
"""

from convtl.analysis.statistics.scores import EPSILON as EPSILON
from convtl.analysis.statistics.scores import DataEquivalent as DataEquivalent
from convtl.analysis.statistics.scores import data_equivalent as data_equivalent
from convtl.analysis.statistics.scores import data_equivalent_interval as data_equivalent_interval
from convtl.analysis.statistics.scores import depth_distribution as depth_distribution
from convtl.analysis.statistics.scores import logit_accuracy as logit_accuracy
from convtl.analysis.statistics.scores import regret_per_replicate as regret_per_replicate
from convtl.analysis.statistics.scores import slope_per_replicate as slope_per_replicate
from convtl.analysis.statistics.scores import slope_permutation as slope_permutation
from convtl.analysis.statistics.scores import student_interval as student_interval
from convtl.analysis.statistics.scores import sufficient_depth as sufficient_depth
from convtl.analysis.statistics.sign_flip import Direction as Direction
from convtl.analysis.statistics.sign_flip import Estimate as Estimate
from convtl.analysis.statistics.sign_flip import Interval as Interval
from convtl.analysis.statistics.sign_flip import equivalence_p as equivalence_p
from convtl.analysis.statistics.sign_flip import equivalent as equivalent
from convtl.analysis.statistics.sign_flip import estimate as estimate
from convtl.analysis.statistics.sign_flip import holm as holm
from convtl.analysis.statistics.sign_flip import max_t as max_t
from convtl.analysis.statistics.sign_flip import one_sided_p as one_sided_p
from convtl.analysis.statistics.sign_flip import replicates_to_decide as replicates_to_decide
from convtl.analysis.statistics.sign_flip import shifted_p as shifted_p
from convtl.analysis.statistics.sign_flip import sign_flip_interval as sign_flip_interval
from convtl.analysis.statistics.sign_flip import sign_flip_p as sign_flip_p
from convtl.analysis.statistics.sign_flip import sign_flip_ps as sign_flip_ps
