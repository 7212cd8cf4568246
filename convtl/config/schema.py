"""The whole vocabulary of a study: `Config`, and what happens around its trials."""

from dataclasses import MISSING, fields
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, Strict
from pydantic.dataclasses import dataclass

from convtl.config import training, values
from convtl.config.domains import DomainConfig
from convtl.config.models import Model
from convtl.config.roles import Axis, Identity, Neutral, Registry, Runtime, dump, roles
from convtl.config.values import STRICT, Count, Counts, Flag, ListOf, Name, Names, Natural, Text
from convtl.config.weights import WeightsConfig
from convtl.keys import digest

RESULTS_VERSION = 4
"""Raised whenever code or a default changes the numbers of a trial; part of every trial's identity."""


@dataclass(frozen=True, config=STRICT)
class DataConfig:
    """What reading pictures may cost; changes no image."""

    memory_gb: values.Positive = 4.0
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


def _devices(value: Any) -> Any:
    """`devices=4` and `devices=batch` are short for a node with one key."""
    if type(value) is int:
        return {"count": value}
    return {"split": value} if isinstance(value, str) else value


@dataclass(frozen=True, config=STRICT)
class DistributedConfig:
    """Several processes that train every run together, on all their devices (`jax.distributed`)."""

    coordinator: Text
    """host:port of process 0"""
    processes: Count
    process: Natural
    """the number of this one, from 0"""


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
    smallest_effect: values.Positive = 0.2
    """logits"""


Measurement = Literal["movement", "distances", "gradients"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Config:
    """One study, resolved. Hashable by content, so that it can be the key of a cache."""

    # axes
    model: Annotated[Names, Axis()]
    source: Annotated[Names, Axis()]
    target: Annotated[Names, Axis()]
    regime: Annotated[Names, Axis()]
    depth: Annotated[values.Several[Annotated[int, Strict()] | Text], Axis()]
    """number, name or stage of the lowest trained unit, or `all`: the network says which there are"""
    n_per_class: Annotated[values.Several[Count | Literal["all"]], Axis()]
    """labelled training images a class; all: as many as the largest class of a folder of pictures has"""
    updates: Annotated[Counts, Axis()]
    similarity: Annotated[values.Several[values.Fraction] | None, Axis()] = None
    """share of near classes, for sources of kind mixture only"""
    replicate: Annotated[values.Naturals | None, Axis()] = None
    """null: 0 to `replicates` - 1"""
    replicates: Annotated[Count, Runtime(varies=True)] = 6
    axes: Annotated[dict[str, ListOf[Any]], Runtime()]
    """additional axes: dotted key -> values, such as 'axes={models.lenet5.activation:[tanh,relu]}'"""
    blocks: Annotated[dict[str, dict[str, Any]] | None, Runtime()] = None
    """parts of the study by name, each a product of its own: what differs from the keys beside it"""
    # registries
    models: Annotated[dict[Name, Model], Registry()]
    domains: Annotated[dict[Name, DomainConfig], Registry()]
    regimes: Annotated[dict[Name, training.RegimeConfig], Registry()]
    weights: Annotated[dict[Name, WeightsConfig], Registry()]
    # recipe
    seed: Annotated[Natural, Identity(varies=False)] = 0
    classes: Annotated[Annotated[Count, Field(ge=2, le=100_000)] | None, Identity()] = 12
    """classes drawn a replicate from the target, and from every source with more; null takes all"""
    batch_size: Annotated[Count, Field(le=65_536), Identity()] = 32
    lr: Annotated[values.Several[values.Positive], Identity()] = (1e-3, 3.1623e-3, 1e-2)
    """one rate, used as it is, or the grid from which each trial chooses on validation"""
    lr_extend: Annotated[Natural, Identity()] = 2
    """steps by which a trial may extend its grid on a side while its best rate is at the edge"""
    class_balance: Annotated[Literal["equal", "at_most"], Identity(), Neutral()] = "equal"
    """equal: every class gives n_per_class images; at_most: a class that has fewer gives all it has"""
    class_draw: Annotated[Literal["random", "disjoint"], Identity()] = "random"
    """disjoint: replicates share no class of the target, as long as there are enough"""
    head_init: Annotated[Literal["zeros", "model", "source"], Identity()] = "zeros"
    """source: the source's head is kept, where its classes are the target's"""
    upper_init: Annotated[Literal["source", "fresh"], Identity()] = "source"
    """fresh: trained units start anew, as in Yosinski et al. (2014)"""
    n_transferred: Annotated[Count | None, Identity()] = None
    """with upper_init fresh: this many of the lowest weighted units come from the source, trained or not"""
    shift: Annotated[training.ShiftConfig, Identity()] = training.ShiftConfig()
    optim: Annotated[training.OptimConfig, Identity()] = training.OptimConfig()
    schedule: Annotated[training.ScheduleConfig, Identity()] = training.ScheduleConfig()
    norm_mode: Annotated[training.NormMode, Identity(), Neutral()] = "train"
    augment: Annotated[training.AugmentConfig | None, Identity(), Neutral()] = None
    """only where no features are cached: cache_prefix=false, or everything is trained"""
    precision: Annotated[training.Precision, Identity(), Neutral()] = "float32"
    validation_per_class: Annotated[Count, Identity()] = 20
    """images beside the n_per_class training images, whatever these are"""
    test_per_class: Annotated[Count, Identity()] = 100
    pretrain: Annotated[training.PretrainConfig, Identity()] = training.PretrainConfig()
    cache_prefix: Annotated[Flag, Identity()] = True
    runs_per_device: Annotated[Count, Field(le=1_024), Identity()] = 4
    """training runs that travel together on each device"""
    steps_per_call: Annotated[Count, Identity()] = 50
    """updates in one call of a compiled program"""
    # around the trials
    study: Annotated[Name | None, Runtime()] = None
    question: Annotated[Text | None, Runtime()] = None
    """what the study asks, in a sentence for its report"""
    claims: Annotated[tuple[ClaimConfig, ...], Runtime()] = ()
    scorecard: Annotated[tuple[Text, ...], Runtime()] = ()
    """names of the principles (`analysis/declared`) whose declared claims are judged"""
    measure: Annotated[ListOf[Measurement], Runtime(varies=True)] = ()
    """beside accuracy: of every trial `movement` (how far each unit moved); of the study `distances` (of each source
    from each target, and how well its net should transfer) and `gradients` (of fresh nets, unit by unit)"""
    advice: Annotated[Flag, Runtime()] = False
    """say in the report, if it has no scorecard, how deep to fine-tune and what more images would bring"""
    save: Annotated[Literal["none", "best"], Runtime()] = "none"
    worker: Annotated[Natural | None, Runtime()] = None
    """one of several processes that share the work by their locks; with -m a job for each of its values"""
    out: Annotated[Text | None, Runtime()] = None
    """null: outputs/<study>, outputs/trials without an experiment"""
    cache: Annotated[Text | None, Runtime()] = None
    """null: the user's cache folder"""
    path: Annotated[Text | None, Runtime()] = None
    """a folder of pictures, for experiments on the user's own"""
    data: Annotated[DataConfig, Runtime()] = DataConfig()
    devices: Annotated[DevicesConfig, BeforeValidator(_devices), Runtime()] = DevicesConfig()
    """a number, `trials`, `batch`, or both as count and split"""
    distributed: Annotated[Literal["auto"] | DistributedConfig | None, Runtime()] = None
    """several processes on every run, with devices=batch; auto: SLURM, Open MPI, Kubernetes or a TPU pod says where"""
    checkpoint_minutes: Annotated[values.NonNegative | None, Runtime()] = 5.0
    """of training, after which runs in flight are kept on disk; null: only when the process is asked to stop"""
    dry_run: Annotated[Flag, Runtime()] = False
    tracking: Annotated[TrackingConfig, Runtime()] = TrackingConfig()
    limits: Annotated[LimitsConfig, Runtime()] = LimitsConfig()

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
PER_STUDY = tuple(key for key, role in ROLES.items() if not role.varies)
"""Keys that hold for a whole study: no block may set them."""
VARIABLE = tuple(key for key in (*REGISTRIES, *RECIPE) if key not in PER_STUDY)
"""Keys that `axes` may vary."""
DEFAULTS = {item.name: dump(item.default) for item in fields(Config) if item.default is not MISSING}
"""Key -> plain default, for those that have one; what is under the YAML files."""
