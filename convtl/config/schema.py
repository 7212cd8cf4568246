"""The whole vocabulary of a study: `Config`, and what happens around its trials."""

from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from convtl.config.domains import DomainConfig
from convtl.config.models import Model
from convtl.config.roles import Axis, Identity, Neutral, Registry, Runtime, dump, roles
from convtl.config.training import (
    AugmentConfig,
    NormMode,
    OptimConfig,
    Precision,
    PretrainConfig,
    RegimeConfig,
    ScheduleConfig,
    ShiftConfig,
)
from convtl.config.values import (
    STRICT,
    BatchSize,
    Classes,
    Count,
    Counts,
    Depths,
    Flag,
    Fractions,
    Labels,
    Name,
    Names,
    Natural,
    Naturals,
    NonNegative,
    Positive,
    Rates,
    RunsPerDevice,
    Text,
    Values,
    listed,
)
from convtl.config.weights import WeightsConfig
from convtl.keys import digest

RESULTS_VERSION = 4
"""Raised whenever code changes the numbers of a trial; part of every trial's identity."""


@dataclass(frozen=True, config=STRICT)
class DataConfig:
    """What reading pictures may cost; changes no image."""

    memory_gb: Positive = 4.0
    """memory that decoding may take (10^9 bytes); what is decoded lies on disk and is mapped"""
    workers: Count | None = None
    """threads that decode; null takes one for each core where there is enough to do"""


@dataclass(frozen=True, config=STRICT)
class TrackingConfig:
    mode: Literal["disabled", "offline", "online"] = "disabled"
    project: Text = "convtl"
    requeue: Flag = False
    """whether a run of a W&B agent that a signal stops is queued again: also one that W&B itself stops early"""


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


def _distributed(value: Any) -> Any:
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


def _devices(value: Any) -> Any:
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
    """The depth benefit grows with data, declared before any result is seen.

    One number a replicate: D(n_high) - D(n_low), D = logit acc(all) - logit acc(head).
    """

    statement: Text
    source: Text
    n_low: Count
    n_high: Count
    direction: Literal["positive", "negative"] = "positive"
    smallest_effect: Positive = 0.2
    """logits"""


Measurement = Literal["movement", "distances", "gradients"]
Measurements = Annotated[tuple[Measurement, ...], BeforeValidator(listed)]


@dataclass(frozen=True, config=STRICT)
class Config:
    """One study, resolved. Hashable by content, so that it can be the key of a cache."""

    # axes
    model: Annotated[Names, Axis()]
    source: Annotated[Names, Axis()]
    target: Annotated[Names, Axis()]
    regime: Annotated[Names, Axis()]
    depth: Annotated[Depths, Axis()]
    n_per_class: Annotated[Labels, Axis()]
    """labelled training images a class; all: as many as the largest class of a folder of pictures has"""
    updates: Annotated[Counts, Axis()]
    similarity: Annotated[Fractions | None, Axis()]
    """share of near classes, for sources of kind mixture only"""
    replicate: Annotated[Naturals | None, Axis()]
    """null: 0 to `replicates` - 1"""
    replicates: Annotated[Count, Runtime(varies=True)]
    axes: Annotated[dict[str, Values], Runtime()]
    """additional axes: dotted key -> values"""
    blocks: Annotated[dict[str, dict[str, Any]] | None, Runtime()]
    """parts of the study by name, each a product of its own: what differs from the keys beside it"""
    # registries
    models: Annotated[dict[Name, Model], Registry()]
    domains: Annotated[dict[Name, DomainConfig], Registry()]
    regimes: Annotated[dict[Name, RegimeConfig], Registry()]
    weights: Annotated[dict[Name, WeightsConfig], Registry()]
    # recipe
    seed: Annotated[Natural, Identity(varies=False)]
    classes: Annotated[Classes | None, Identity()]
    """classes drawn a replicate from every domain with more; null takes all"""
    batch_size: Annotated[BatchSize, Identity()]
    lr: Annotated[Rates, Identity()]
    """one rate, used as it is, or the grid from which each trial chooses on validation"""
    lr_extend: Annotated[Natural, Identity()]
    """steps by which a trial may extend its grid on a side while its best rate is at the edge"""
    class_balance: Annotated[Literal["equal", "at_most"], Identity(), Neutral("equal")]
    """equal: every class gives n_per_class images; at_most: a class that has fewer gives all it has"""
    class_draw: Annotated[Literal["random", "disjoint"], Identity()]
    """disjoint: replicates share no class of the target, as long as there are enough"""
    head_init: Annotated[Literal["zeros", "model", "source"], Identity()]
    """source: the source's head is kept, where its classes are the target's"""
    upper_init: Annotated[Literal["source", "fresh"], Identity()]
    """fresh: trained units start anew, as in Yosinski et al. (2014)"""
    n_transferred: Annotated[Count | None, Identity()]
    """with upper_init fresh: this many of the lowest weighted units come from the source, trained or not"""
    shift: Annotated[ShiftConfig, Identity()]
    optim: Annotated[OptimConfig, Identity()]
    schedule: Annotated[ScheduleConfig, Identity()]
    norm_mode: Annotated[NormMode, Identity(), Neutral("train")]
    augment: Annotated[AugmentConfig | None, Identity(), Neutral(None)]
    """only where no features are cached: cache_prefix=false, or everything is trained"""
    precision: Annotated[Precision, Identity(), Neutral("float32")]
    validation_per_class: Annotated[Count, Identity()]
    """images beside the n_per_class training images, whatever these are"""
    test_per_class: Annotated[Count, Identity()]
    pretrain: Annotated[PretrainConfig, Identity()]
    cache_prefix: Annotated[Flag, Identity()]
    runs_per_device: Annotated[RunsPerDevice, Identity()]
    """training runs that travel together on each device"""
    steps_per_call: Annotated[Count, Identity()]
    """updates in one call of a compiled program"""
    # around the trials
    study: Annotated[Name | None, Runtime()]
    question: Annotated[Text | None, Runtime()]
    """what the study asks, in a sentence for its report"""
    claims: Annotated[tuple[ClaimConfig, ...], Runtime()]
    scorecard: Annotated[tuple[Text, ...], Runtime()]
    """names of the principles (`analysis/declared`) whose declared claims are judged"""
    measure: Annotated[Measurements, Runtime(varies=True)]
    """beside accuracy: of every trial `movement` (how far each unit moved); of the study `distances` (of each source
    from each target, and how well its net should transfer) and `gradients` (of fresh nets, unit by unit)"""
    advice: Annotated[Flag, Runtime()]
    """say in the report, if it has no scorecard, how deep to fine-tune and what more images would bring"""
    save: Annotated[Literal["none", "best"], Runtime()]
    worker: Annotated[Natural | None, Runtime(), Neutral(None)]
    """one of several processes that share the work by their locks; with -m a job for each of its values"""
    out: Annotated[Text | None, Runtime()]
    cache: Annotated[Text | None, Runtime()]
    path: Annotated[Text | None, Runtime()]
    """a folder of pictures, for experiments on the user's own"""
    data: Annotated[DataConfig, Runtime()]
    """what reading pictures may cost"""
    devices: Annotated[DevicesConfig, BeforeValidator(_devices), Runtime()]
    """a number, `trials`, `batch`, or both as count and split"""
    distributed: Annotated[DistributedConfig | None, BeforeValidator(_distributed), Runtime()]
    """several processes on every run: auto, or where they meet; with devices=batch"""
    checkpoint_minutes: Annotated[NonNegative | None, Runtime()]
    """of training, after which runs in flight are kept on disk; null: only when the process is asked to stop"""
    dry_run: Annotated[Flag, Runtime()]
    tracking: Annotated[TrackingConfig, Runtime()]
    limits: Annotated[LimitsConfig, Runtime()]

    @cached_property
    def _hash(self) -> int:
        return int(digest(dump(self)), 16)

    def __hash__(self) -> int:
        return self._hash


ROLES = roles(Config)
AXES = tuple(key for key, role in ROLES.items() if isinstance(role, Axis))
REGISTRIES = tuple(key for key, role in ROLES.items() if isinstance(role, Registry))
RECIPE = tuple(key for key, role in ROLES.items() if isinstance(role, Identity))
"""Keys that the trials of a product share and that are part of their identities."""
PER_STUDY = tuple(key for key, role in ROLES.items() if not getattr(role, "varies", True))
"""Keys that hold for a whole study: no block may set them."""
VARIABLE = tuple(key for key in (*REGISTRIES, *RECIPE) if key not in PER_STUDY)
"""Keys that `axes` may vary."""
