"""All keys of a study's config: axes, registries, recipe and run settings."""

from dataclasses import MISSING, fields
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, Strict
from pydantic.dataclasses import dataclass

from convtl.config import training, values
from convtl.config.claims import Claims
from convtl.config.domains import DomainConfig
from convtl.config.models import Model, WeightsConfig
from convtl.config.values import Axis, Identity, Neutral, Registry, Role, Runtime, Several, Text
from convtl.keys import digest

RESULTS_VERSION = 5
"""Raised when code or a default changes the numbers of a trial; part of every trial's id."""


@dataclass(frozen=True, config=values.STRICT)
class DataConfig(values.Node):
    """Limits on reading pictures; they change no image."""

    memory_gb: values.Positive = 4.0  # that decoding may take, 10^9 bytes


@dataclass(frozen=True, config=values.STRICT)
class TrackingConfig(values.Node):
    mode: Literal["disabled", "offline", "online"] = "disabled"
    project: Text = "convtl"
    requeue: values.Flag = False  # queue again what a signal stops under an agent


@dataclass(frozen=True, config=values.STRICT)
class DevicesConfig(values.Node):
    """Devices for training; they change last bits at most, and no trial's id."""

    count: values.Count | None = None  # null: all there are, on a CPU one for each core
    split: Literal["trials", "batch"] = "trials"
    """trials: each device trains its share of the runs; batch: all train each run together"""


def _devices(value: Any) -> Any:
    """Expand `devices=4` and `devices=batch` to a node with one key."""
    if type(value) is int:
        return {"count": value}
    return {"split": value} if isinstance(value, str) else value


@dataclass(frozen=True, config=values.STRICT)
class DistributedConfig(values.Node):
    """Processes that train every run together, on all devices (`jax.distributed`)."""

    coordinator: Text  # host:port of process 0
    processes: values.Count
    process: values.Natural  # the number of this one, from 0


@dataclass(frozen=True, config=values.STRICT)
class LimitsConfig(values.Node):
    """Limits that `debug=` sets on the composed config; null: none."""

    suffix: Annotated[str, Field(pattern=r"^[\w.-]*$")] = ""  # appended to the study's name
    replicates: values.Count | None = None
    values_per_axis: values.Count | None = None
    updates: values.Count | None = None
    pretrain_updates: values.Count | None = None
    images_per_class: values.Count | None = None  # of each split, in domains that are made


@dataclass(frozen=True, config=values.STRICT, kw_only=True)
class Config(training.UpdateConfig):
    """One study, resolved; hashable by content."""

    # axes
    model: Axis[values.Names]
    source: Axis[values.Names]
    target: Axis[values.Names]
    regime: Axis[values.Names]
    depth: Axis[Several[Annotated[int, Strict()] | Text]]  # number, unit, stage or `all`
    n_per_class: Axis[Several[values.Count | Literal["all"]]]  # labelled training images a class
    updates: Axis[Several[values.Count]]
    similarity: Axis[Several[values.Fraction] | None] = None  # of mixtures: share of near classes
    replicate: Axis[Several[values.Natural] | None] = None  # null: 0 to `replicates` - 1
    replicates: Annotated[values.Count, Role.BLOCK] = 6
    axes: Runtime[dict[str, values.ListOf[Any]]]  # additional ones: dotted key -> values
    blocks: Runtime[dict[str, dict[str, Any]] | None] = None  # parts: what differs in each
    # registries
    models: Registry[dict[values.Name, Model]]
    domains: Registry[dict[values.Name, DomainConfig]]
    regimes: Registry[dict[values.Name, training.RegimeConfig]]
    weights: Registry[dict[values.Name, WeightsConfig]]
    claims: Registry[Claims]
    # recipe
    seed: Annotated[values.Natural, Role.SEED] = 0
    classes: Identity[Annotated[values.Count, Field(ge=2, le=100_000)] | None] = 12
    """classes drawn a replicate from every domain with more; null takes all"""
    lr: Identity[Several[values.Positive]] = (1e-3, 3.1623e-3, 1e-2)  # one, or those to choose from
    lr_extend: Identity[values.Natural] = 2  # steps by which a grid grows at an edge
    validation: Annotated[Literal["beside", "within"], Role.IDENTITY, Neutral()] = "beside"
    """pictures to choose a rate by. beside: validation_per_class more; within: the n_per_class labels,
    cross-validated, before the net is trained on all of them at the chosen rate"""
    class_balance: Annotated[Literal["equal", "at_most"], Role.IDENTITY, Neutral()] = "equal"
    """equal: n_per_class images of every class; at_most: all images of a class that has fewer"""
    class_draw: Identity[Literal["random", "disjoint"]] = "random"
    """disjoint: replicates share no class of the target while there are enough"""
    head_init: Identity[Literal["zeros", "source"]] = "zeros"  # source: the head is kept
    upper_init: Identity[Literal["source", "fresh"]] = "source"  # fresh: trained units start anew
    n_transferred: Identity[values.Count | None] = None
    """with upper_init fresh: how many of the lowest weighted units come from the source"""
    shift: Identity[training.ShiftConfig] = training.ShiftConfig()
    validation_per_class: Identity[values.Count] = 20
    test_per_class: Identity[values.Count] = 100
    pretrain: Identity[training.PretrainConfig] = training.PretrainConfig()
    cache_prefix: Identity[values.Flag] = True
    runs_per_device: Annotated[values.Count, Field(le=1_024), Role.IDENTITY] = 4  # trained together
    steps_per_call: Identity[values.Count] = 50  # updates in one call of a program
    # around the trials
    study: Runtime[values.Name | None] = None
    question: Runtime[Text | None] = None  # that the study asks, for its report
    scorecard: Runtime[values.ListOf[Text]] = ()  # names of the claims that are judged
    measure: Annotated[
        values.ListOf[Literal["movement", "distances", "gradients"]], Role.BLOCK
    ] = ()
    """beside accuracy: `movement` of each unit, per trial; per study `distances` (sources to targets,
    transferability) and `gradients` (of fresh nets, by unit)"""
    advice: Runtime[values.Flag] = False  # report how deep to fine-tune and what more images bring
    save: Runtime[Literal["none", "best"]] = "none"
    worker: Runtime[values.Natural | None] = None  # one of several processes that share the work
    out: Runtime[Text | None] = None  # null: outputs/<study>, or outputs/trials
    cache: Runtime[Text | None] = None  # null: the user's cache folder
    path: Runtime[Text | None] = None  # a folder of the user's own pictures
    data: Runtime[DataConfig] = DataConfig()
    devices: Annotated[DevicesConfig, BeforeValidator(_devices), Role.RUNTIME] = DevicesConfig()
    distributed: Runtime[Literal["auto"] | DistributedConfig | None] = None
    """processes of every run, with devices=batch; auto: from SLURM, Open MPI, Kubernetes, a TPU pod"""
    checkpoint_minutes: Runtime[values.NonNegative | None] = 5.0  # null: only on a request to stop
    dry_run: Runtime[values.Flag] = False
    tracking: Runtime[TrackingConfig] = TrackingConfig()
    limits: Runtime[LimitsConfig] = LimitsConfig()

    def __hash__(self) -> int:
        return int(digest(values.dump(self)), 16)


ROLES = {
    item.name: mark
    for item in fields(Config)
    for mark in get_args(item.type)
    if isinstance(mark, Role)
}
AXES = tuple(key for key, role in ROLES.items() if role is Role.AXIS)
REGISTRIES = tuple(key for key, role in ROLES.items() if role is Role.REGISTRY)
RECIPE = tuple(key for key, role in ROLES.items() if role in (Role.IDENTITY, Role.SEED))
"""Keys that a product's trials share and that are part of their ids."""
PER_STUDY = tuple(key for key, role in ROLES.items() if role in (Role.SEED, Role.RUNTIME))
"""Keys of a whole study, which no block may set."""
VARIABLE = tuple(key for key, role in ROLES.items() if role in (Role.REGISTRY, Role.IDENTITY))
"""Keys that `axes` may vary."""
DEFAULTS = {
    item.name: values.dump(item.default) for item in fields(Config) if item.default is not MISSING
}
"""Key -> plain default, if it has one; YAML files override it."""
