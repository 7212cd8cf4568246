"""What the speed script measures, and for how long."""

from dataclasses import dataclass

MEASURES = (
    "lenet",
    "depths",
    "heads",
    "growth",
    "nets",
    "study",
    "decoding",
    "start",
    "accelerator",
)
"""Names that `measure=` takes, in the order in which they are measured."""


@dataclass(frozen=True)
class SpeedOptions:
    """What is timed, and for how long; nothing here changes any trial."""

    measure: tuple[str, ...] = MEASURES
    repeats: int = 7
    """rounds of each comparison: in each, both sides are timed once, one after the other"""
    updates: int = 100
    """updates of LeNet-5 in one timed run"""
    images: int = 512
    """photographs whose features are computed"""
    net_updates: int = 4
    """updates of a real net in one timed run"""
    pictures: int = 4000
    """JPEG files that are decoded"""
    processes: int = 30
    """trials that PyTorch is given a process of their own for"""
    share: int = 1
    """PyTorch runs every k-th trial of the study's first replicate; total time is extrapolated"""
