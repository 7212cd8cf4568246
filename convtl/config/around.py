"""What happens around the trials: claims, tracking, limits."""

from typing import Any, Literal

from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from convtl.config.values import STRICT, Count, Natural, Positive, Text


@dataclass(frozen=True, config=STRICT)
class TrackingConfig:
    mode: Literal["disabled", "offline", "online"] = "disabled"
    project: Text = "convtl"
    entity: Text | None = None
    group: Text | None = None


@dataclass(frozen=True, config=STRICT)
class DevicesConfig:
    """On what runs are trained; changes numbers in their last bits at most, and no trial's identity."""

    count: Count | None = None
    """null: all that there are, on a CPU one for each core"""
    split: Literal["trials", "batch"] = "trials"
    """trials: each device trains its share of the runs; batch: all devices train every run together, each on its
    share of every batch, for nets that are too big for one"""


@dataclass(frozen=True, config=STRICT)
class DistributedConfig:
    """Several processes that train every run together, on all their devices (`jax.distributed`)."""

    coordinator: Text | None = None
    """host:port of process 0; null: where and how many they are is told by SLURM, Open MPI, Kubernetes or a TPU pod"""
    processes: Count | None = None
    process: Natural | None = None
    """the number of this one, from 0"""


def distributed_of(value: Any) -> Any:
    """`distributed=auto` has JAX find the other processes."""
    if value == "auto":
        return {}
    whole = (
        value is None
        or not isinstance(value, dict)
        or set(value) == {"coordinator", "processes", "process"}
    )
    if not whole:
        raise PydanticCustomError(
            "distributed", "auto, or {coordinator: 'HOST:PORT', processes: COUNT, process: NUMBER}"
        )
    return value


def devices_of(value: Any) -> Any:
    """`devices=4` and `devices=batch` are short for a node with one key."""
    if type(value) is int:
        return {"count": value}
    return {"split": value} if isinstance(value, str) else value


@dataclass(frozen=True, config=STRICT)
class LimitsConfig:
    """What `debug=` cuts, after everything else is composed; null cuts nothing."""

    suffix: str = ""
    """appended to the study's name, so that cut results never mix with real ones"""
    replicates: Count | None = None
    values_per_axis: Count | None = None
    updates: Count | None = None
    pretrain_updates: Count | None = None
    images_per_class: Count | None = None
    """of each split, in domains that are made on demand"""


@dataclass(frozen=True, config=STRICT)
class ClaimConfig:
    """One number per replicate, declared before any result is seen (one of `study/principles.py`)."""

    statement: Text
    estimand: Literal["depth_benefit_growth"]
    """depth_benefit_growth: D(n_high) - D(n_low), D = logit acc(all) - logit acc(head)"""
    source: Text
    n_low: Count
    n_high: Count
    direction: Literal["positive", "negative"] = "positive"
    smallest_effect: Positive = 0.2
    """logits"""
