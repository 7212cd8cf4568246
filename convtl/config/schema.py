"""The whole vocabulary of a study: `Config`, and what happens around its trials."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, Strict
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from convtl.config.domains import DomainConfig
from convtl.config.gradients import GradientsConfig
from convtl.config.models import ModelConfig
from convtl.config.training import (
    AugmentConfig,
    NormMode,
    OptimConfig,
    Precision,
    PretrainConfig,
    RegimeConfig,
    ScheduleConfig,
    ShiftConfig,
    ValidationConfig,
)
from convtl.config.values import (
    STRICT,
    Count,
    Counts,
    Depths,
    Flag,
    Fraction,
    Labels,
    Name,
    Names,
    Natural,
    NonNegative,
    Positive,
    Rates,
    Text,
    Values,
    listed,
)
from convtl.config.weights import WeightsConfig

RESULTS_VERSION = 3
"""Raised whenever code changes the numbers of a trial; part of every trial's identity."""


@dataclass(frozen=True, config=STRICT)
class DataConfig:
    """What reading pictures may cost; changes no image."""

    memory_gb: Positive = 4.0
    """memory that decoding may take (10^9 bytes), and by which a dry run says how many lanes there could be; what
    is decoded lies on disk and is mapped"""
    workers: Count | None = None
    """processes that decode; null takes one for each core where there is enough to do"""


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


@dataclass(frozen=True, config=STRICT)
class Config:
    """One study, resolved."""

    # axes
    model: Names
    source: Names
    target: Names
    regime: Names
    depth: Depths
    n_per_class: Labels
    """labelled training images a class; all: as many as the largest class of a folder of pictures has"""
    updates: Counts
    similarity: Annotated[tuple[Fraction, ...], BeforeValidator(listed), Field(min_length=1)] | None
    """share of near classes, for sources of kind mixture only"""
    replicates: Count
    replicate: Annotated[tuple[Natural, ...], BeforeValidator(listed), Field(min_length=1)] | None
    axes: dict[str, Values]
    blocks: dict[str, dict[str, Any]] | None
    """parts of the study by name, each a product of its own: what differs from the keys beside it"""
    # registries
    models: dict[str, ModelConfig]
    domains: dict[str, DomainConfig]
    regimes: dict[str, RegimeConfig]
    weights: dict[str, WeightsConfig]
    # protocol
    study: Name | None
    seed: Natural
    classes: Annotated[int, Strict(), Field(ge=2)] | None
    """classes drawn a replicate from every domain with more; null takes all"""
    batch_size: Count
    lr: Rates
    """one rate, used as it is, or the grid from which each trial chooses on validation"""
    lr_extend: Natural
    """steps by which a trial may extend its grid on a side while its best rate is at the edge"""
    class_balance: Literal["equal", "at_most"]
    """equal: every class gives n_per_class images; at_most: a class that has fewer gives all it has"""
    class_draw: Literal["random", "disjoint"]
    """disjoint: replicates share no class of the target, as long as there are enough"""
    head_init: Literal["zeros", "model", "source"]
    """source: the source's head is kept, where its classes are the target's"""
    upper_init: Literal["source", "fresh"]
    """fresh: trained units start anew, as in Yosinski et al. (2014)"""
    kept: Count | None
    """with upper_init fresh: this many of the lowest weighted units come from the source, trained or not"""
    shift: ShiftConfig
    optim: OptimConfig
    schedule: ScheduleConfig
    norm_mode: NormMode
    augment: AugmentConfig | None
    """only where no features are cached: cache_prefix=false, or everything is trained"""
    precision: Precision
    validation: ValidationConfig
    test_per_class: Count
    pretrain: PretrainConfig
    cache_prefix: Flag
    lanes: Count
    """training runs that travel together on each device"""
    chunk: Count
    """updates in one call of a compiled program"""
    gradients: GradientsConfig | None
    # around the trials: not part of any trial's identity
    question: Text | None
    """what the study asks, in a sentence for its report"""
    claims: tuple[ClaimConfig, ...]
    scorecard: tuple[Text, ...]
    """names of the principles (`study/declared`) whose declared claims are judged"""
    movement: Flag
    """measure how far each unit moved (weights, representation), for every trial"""
    advice: Flag
    """say in the report, if it has no scorecard, how deep to fine-tune and what more images would bring"""
    distances: Flag
    """measure how far each source's images are from each target's, and how well its net should transfer"""
    save: Literal["none", "best"]
    shards: Annotated[int, Strict(), Field(ge=1, le=10_000)]
    """shares of the trials, for as many processes; the study, its rows and its report are the same"""
    shard: Natural | None
    """which share this process runs, from 0; null: all, or with -m one job for each"""
    out: Text | None
    cache: Text | None
    data: DataConfig
    """what reading pictures may cost"""
    devices: Annotated[DevicesConfig, BeforeValidator(devices_of)]
    """a number, `trials`, `batch`, or both as count and split"""
    distributed: Annotated[DistributedConfig | None, BeforeValidator(distributed_of)]
    """several processes on every run: auto, or where they meet; with devices=batch"""
    checkpoint_minutes: NonNegative | None
    """of training, after which what has come of it is kept on disk; null: only when the process is asked to stop"""
    dry_run: Flag
    tracking: TrackingConfig
    limits: LimitsConfig

    path: Text | None
    """a folder of pictures, for experiments on the user's own"""
    neutral: ClassVar[Mapping[str, Any]] = {
        "class_balance": "equal",
        "norm_mode": "train",
        "augment": None,
        "precision": "float32",
    }
    """see `content`"""
