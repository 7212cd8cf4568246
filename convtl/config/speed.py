"""What `+experiment=speed` measures."""

from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from convtl.config.values import STRICT, Count, listed

Measured = Literal[
    "lenet", "depths", "heads", "growth", "nets", "study", "decoding", "start", "accelerator"
]
MEASURED: tuple[Measured, ...] = get_args(Measured)


@dataclass(frozen=True, config=STRICT)
class SpeedConfig:
    """What is timed, and for how long; nothing here changes any trial."""

    measure: Annotated[tuple[Measured, ...], BeforeValidator(listed), Field(min_length=1)] = (
        MEASURED
    )
    repeats: Count = 7
    """rounds of each comparison: in each, both sides are timed once, one after the other"""
    updates: Count = 100
    """updates of LeNet-5 in one timed run"""
    images: Count = 512
    """photographs whose features are computed"""
    net_updates: Count = 4
    """updates of a real net in one timed run"""
    pictures: Count = 4000
    """JPEG files that are decoded"""
    processes: Count = 30
    """trials that PyTorch is given a process of their own for"""
    share: Count = 1
    """every how manyth trial of the study's first replicate PyTorch runs; what it takes is scaled up"""
