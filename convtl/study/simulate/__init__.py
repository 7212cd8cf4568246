"""What the study's tests do on simulated studies: error rates, coverage and power.

`python -m convtl.study.simulate [out=DIR] [studies=N]` prints both tables and, given a folder, writes them
there as results.csv and power.csv.
"""

from convtl.study.simulate.calibration import Check, bootstrap_covers, calibration_table, checked
from convtl.study.simulate.power import DESIGNS, power_table
from convtl.study.simulate.studies import (
    ALPHA,
    SD,
    SHARED,
    STUDIES,
    Shape,
    attainable,
    contrasts,
    equivalence_ps,
    ladders,
)

__all__ = [
    "ALPHA",
    "DESIGNS",
    "SD",
    "SHARED",
    "STUDIES",
    "Check",
    "Shape",
    "attainable",
    "bootstrap_covers",
    "calibration_table",
    "checked",
    "contrasts",
    "equivalence_ps",
    "ladders",
    "power_table",
]
