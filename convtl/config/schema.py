"""The whole vocabulary of a study: `Config`, and what happens around its trials."""

from dataclasses import MISSING, fields
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, Strict
from pydantic.dataclasses import dataclass

from convtl.config import training, values
from convtl.config.claims import Claims
from convtl.config.domains import DomainConfig
from convtl.config.models import Model, WeightsConfig
from convtl.config.values import (
    STRICT,
    Count,
    Flag,
    ListOf,
    Name,
    Names,
    Natural,
    Neutral,
    Role,
    Several,
    Text,
    dump,
    roles,
)
from convtl.keys import digest

RESULTS_VERSION = 5
"""Raised whenever code or a default changes the numbers of a trial; part of every trial's identity."""


@dataclass(frozen=True, config=STRICT)
class DataConfig:
    """What reading pictures may cost; changes no image."""

    memory_gb: values.Positive = 4.0  # that decoding may take, 10^9 bytes


@dataclass(frozen=True, config=STRICT)
class TrackingConfig:
    mode: Literal["disabled", "offline", "online"] = "disabled"
    project: Text = "convtl"
    requeue: Flag = False  # queue again what a signal stops under an agent, also if W&B sent it


@dataclass(frozen=True, config=STRICT)
class DevicesConfig:
    """On what runs are trained; changes numbers in their last bits at most, and no trial's identity."""

    count: Count | None = None  # null: all there are, on a CPU one for each core
    split: Literal["trials", "batch"] = "trials"
    """trials: each device trains its share of the runs; batch: all train each run together, for nets too big for one"""


def _devices(value: Any) -> Any:
    """`devices=4` and `devices=batch` are short for a node with one key."""
    if type(value) is int:
        return {"count": value}
    return {"split": value} if isinstance(value, str) else value


@dataclass(frozen=True, config=STRICT)
class DistributedConfig:
    """Several processes that train every run together, on all their devices (`jax.distributed`)."""

    coordinator: Text  # host:port of process 0
    processes: Count
    process: Natural  # the number of this one, from 0


@dataclass(frozen=True, config=STRICT)
class LimitsConfig:
    """What `debug=` cuts, after everything else is composed; null cuts nothing."""

    suffix: Annotated[str, Field(pattern=r"^[\w.-]*$")] = ""
    """appended to the study's name, so that cut results never mix with real ones"""
    replicates: Count | None = None
    values_per_axis: Count | None = None
    updates: Count | None = None
    pretrain_updates: Count | None = None
    images_per_class: Count | None = None  # of each split, in domains that are made on demand


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Config(training.UpdateConfig):
    """One study, resolved. Hashable by content, so that it can be the key of a cache."""

    # axes
    model: Annotated[Names, Role.AXIS]
    source: Annotated[Names, Role.AXIS]
    target: Annotated[Names, Role.AXIS]
    regime: Annotated[Names, Role.AXIS]
    depth: Annotated[Several[Annotated[int, Strict()] | Text], Role.AXIS]
    """number, name or stage of the lowest trained unit, or `all`: the network says which there are"""
    n_per_class: Annotated[Several[Count | Literal["all"]], Role.AXIS]
    """labelled training images a class; all: as many as the largest class of a folder of pictures has"""
    updates: Annotated[Several[Count], Role.AXIS]
    similarity: Annotated[Several[values.Fraction] | None, Role.AXIS] = None
    """share of near classes, for sources of kind mixture only"""
    replicate: Annotated[Several[Natural] | None, Role.AXIS] = None  # null: 0 to `replicates` - 1
    replicates: Annotated[Count, Role.BLOCK] = 6
    axes: Annotated[dict[str, ListOf[Any]], Role.RUNTIME]
    """additional axes: dotted key -> values, such as 'axes={models.lenet5.activation:[tanh,relu]}'"""
    blocks: Annotated[dict[str, dict[str, Any]] | None, Role.RUNTIME] = None
    """parts of the study by name, each a product of its own: what differs from the keys beside it"""
    # registries
    models: Annotated[dict[Name, Model], Role.REGISTRY]
    domains: Annotated[dict[Name, DomainConfig], Role.REGISTRY]
    regimes: Annotated[dict[Name, training.RegimeConfig], Role.REGISTRY]
    weights: Annotated[dict[Name, WeightsConfig], Role.REGISTRY]
    claims: Annotated[Claims, Role.REGISTRY]
    # recipe
    seed: Annotated[Natural, Role.SEED] = 0
    classes: Annotated[Annotated[Count, Field(ge=2, le=100_000)] | None, Role.IDENTITY] = 12
    """classes drawn a replicate from every domain with more; null takes all"""
    lr: Annotated[Several[values.Positive], Role.IDENTITY] = (1e-3, 3.1623e-3, 1e-2)
    """one rate, used as it is, or the grid from which each trial chooses on validation"""
    lr_extend: Annotated[Natural, Role.IDENTITY] = 2
    """steps by which a trial may extend its grid on a side while its chosen rate is at the edge"""
    validation: Annotated[Literal["beside", "within"], Role.IDENTITY, Neutral()] = "beside"
    """pictures that a rate is chosen by. beside: validation_per_class more; within: no more, the n_per_class labels are
    cross-validated, and the net is trained on all of them at the chosen rate"""
    class_balance: Annotated[Literal["equal", "at_most"], Role.IDENTITY, Neutral()] = "equal"
    """equal: every class gives n_per_class images; at_most: a class that has fewer gives all it has"""
    class_draw: Annotated[Literal["random", "disjoint"], Role.IDENTITY] = "random"
    """disjoint: replicates share no class of the target, as long as there are enough"""
    head_init: Annotated[Literal["zeros", "model", "source"], Role.IDENTITY] = "zeros"
    """source: the source's head is kept, where its classes are the target's"""
    upper_init: Annotated[Literal["source", "fresh"], Role.IDENTITY] = "source"
    """fresh: trained units start anew, as in Yosinski et al. (2014)"""
    n_transferred: Annotated[Count | None, Role.IDENTITY] = None
    """with upper_init fresh: this many of the lowest weighted units come from the source, trained or not"""
    shift: Annotated[training.ShiftConfig, Role.IDENTITY] = training.ShiftConfig()
    validation_per_class: Annotated[Count, Role.IDENTITY] = 20
    test_per_class: Annotated[Count, Role.IDENTITY] = 100
    pretrain: Annotated[training.PretrainConfig, Role.IDENTITY] = training.PretrainConfig()
    cache_prefix: Annotated[Flag, Role.IDENTITY] = True
    runs_per_device: Annotated[Count, Field(le=1_024), Role.IDENTITY] = 4  # trained together
    steps_per_call: Annotated[Count, Role.IDENTITY] = 50  # updates in one call of a program
    # around the trials
    study: Annotated[Name | None, Role.RUNTIME] = None
    question: Annotated[Text | None, Role.RUNTIME] = None  # that the study asks, for its report
    scorecard: Annotated[ListOf[Text], Role.RUNTIME] = ()  # names of the claims that are judged
    measure: Annotated[ListOf[Literal["movement", "distances", "gradients"]], Role.BLOCK] = ()
    """beside accuracy: of every trial `movement` (how far each unit moved); of the study `distances` (of each source
    from each target, and how well its net should transfer) and `gradients` (of fresh nets, unit by unit)"""
    advice: Annotated[Flag, Role.RUNTIME] = False
    """say in the report, if it has no scorecard, how deep to fine-tune and what more images would bring"""
    save: Annotated[Literal["none", "best"], Role.RUNTIME] = "none"
    worker: Annotated[Natural | None, Role.RUNTIME] = None
    """one of several processes that share the work by their locks; with -m a job for each of its values"""
    out: Annotated[Text | None, Role.RUNTIME] = None  # null: outputs/<study>, or outputs/trials
    cache: Annotated[Text | None, Role.RUNTIME] = None  # null: the user's cache folder
    path: Annotated[Text | None, Role.RUNTIME] = None  # a folder of the user's own pictures
    data: Annotated[DataConfig, Role.RUNTIME] = DataConfig()
    devices: Annotated[DevicesConfig, BeforeValidator(_devices), Role.RUNTIME] = DevicesConfig()
    """a number, `trials`, `batch`, or both as count and split"""
    distributed: Annotated[Literal["auto"] | DistributedConfig | None, Role.RUNTIME] = None
    """several processes on every run, with devices=batch; auto: SLURM, Open MPI, Kubernetes or a TPU pod says where"""
    checkpoint_minutes: Annotated[values.NonNegative | None, Role.RUNTIME] = 5.0
    """of training, after which runs in flight are kept on disk; null: only when the process is asked to stop"""
    dry_run: Annotated[Flag, Role.RUNTIME] = False
    tracking: Annotated[TrackingConfig, Role.RUNTIME] = TrackingConfig()
    limits: Annotated[LimitsConfig, Role.RUNTIME] = LimitsConfig()

    def __hash__(self) -> int:
        return int(digest(dump(self)), 16)


ROLES = roles(Config)
AXES = tuple(key for key, role in ROLES.items() if role is Role.AXIS)
REGISTRIES = tuple(key for key, role in ROLES.items() if role is Role.REGISTRY)
RECIPE = tuple(key for key, role in ROLES.items() if role in (Role.IDENTITY, Role.SEED))
"""Keys that the trials of a product share and that are part of their identities."""
PER_STUDY = tuple(key for key, role in ROLES.items() if role in (Role.SEED, Role.RUNTIME))
"""Keys that hold for a whole study: no block may set them."""
VARIABLE = tuple(key for key, role in ROLES.items() if role in (Role.REGISTRY, Role.IDENTITY))
"""Keys that `axes` may vary."""
DEFAULTS = {item.name: dump(item.default) for item in fields(Config) if item.default is not MISSING}
"""Key -> plain default, for those that have one; what is under the YAML files."""
