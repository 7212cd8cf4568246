"""The whole vocabulary of a study: frozen dataclasses with types and ranges.

`convtl.parsing.parse` turns plain data (what Hydra composed, or any dictionary) into a `Config`. Nothing
here knows Hydra.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, Strict, TypeAdapter
from pydantic.dataclasses import dataclass

from convtl.config.around import (
    ClaimConfig,
    DevicesConfig,
    DistributedConfig,
    LimitsConfig,
    TrackingConfig,
    devices_of,
    distributed_of,
)
from convtl.config.data import DataConfig
from convtl.config.domains import (
    Caps,
    DigitsConfig,
    DomainConfig,
    ImageFolderConfig,
    Jitter,
    MixtureConfig,
    NoiseConfig,
    PatchesConfig,
    PerClass,
    TfdsConfig,
    TypedScriptConfig,
)
from convtl.config.gradients import GradientsConfig
from convtl.config.models import (
    AlexNetConfig,
    CifarResNetConfig,
    ConvNeXtConfig,
    EfficientNetLiteConfig,
    LeNet5Config,
    MobileNetV2Config,
    ModelConfig,
    PlainConfig,
    ResNetConfig,
    VggConfig,
)
from convtl.config.training import (
    AugmentConfig,
    DiscriminativeConfig,
    FineTuneConfig,
    GradualConfig,
    L2SpConfig,
    LpFtConfig,
    NormMode,
    OptimConfig,
    Precision,
    PretrainConfig,
    RegimeConfig,
    ScheduleConfig,
    ShiftConfig,
    SurgicalConfig,
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
    Rates,
    Text,
    Values,
    listed,
)
from convtl.config.weights import FileWeights, HubWeights, PackageWeights, WeightsConfig

__all__ = [
    "PROTOCOL",
    "AlexNetConfig",
    "Caps",
    "CifarResNetConfig",
    "ClaimConfig",
    "ConvNeXtConfig",
    "DataConfig",
    "DevicesConfig",
    "DigitsConfig",
    "DiscriminativeConfig",
    "DistributedConfig",
    "DomainConfig",
    "EfficientNetLiteConfig",
    "FileWeights",
    "FineTuneConfig",
    "GradientsConfig",
    "GradualConfig",
    "HubWeights",
    "ImageFolderConfig",
    "Jitter",
    "L2SpConfig",
    "LeNet5Config",
    "LimitsConfig",
    "LpFtConfig",
    "MixtureConfig",
    "MobileNetV2Config",
    "ModelConfig",
    "NoiseConfig",
    "NormMode",
    "OptimConfig",
    "PackageWeights",
    "PatchesConfig",
    "PerClass",
    "PlainConfig",
    "Precision",
    "PretrainConfig",
    "RegimeConfig",
    "ResNetConfig",
    "ScheduleConfig",
    "ShiftConfig",
    "SurgicalConfig",
    "TfdsConfig",
    "TrackingConfig",
    "TypedScriptConfig",
    "ValidationConfig",
    "VggConfig",
    "WeightsConfig",
    "content",
    "dump",
]

PROTOCOL = 3
"""Raised whenever code changes the numbers of a trial; part of every trial's identity."""


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


def dump(value: Any) -> Any:
    """The plain, JSON-like content of a config dataclass."""
    return TypeAdapter(type(value)).dump_python(value, mode="json")


def content(value: Any) -> Any:
    """As `dump`, for identities: without the keys that came later, where they change nothing.

    A class says in `neutral` which value of a later key leaves everything as it was before there was that key;
    what was identified then keeps its identity.
    """
    return _said(value, dump(value))


def _said(value: Any, plain: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _said(own, plain[key]) for key, own in value.items()}
    if isinstance(value, tuple):
        return [_said(own, there) for own, there in zip(value, plain, strict=True)]
    if not is_dataclass(value):
        return plain
    neutral = getattr(value, "neutral", {})
    return {
        item.name: _said(getattr(value, item.name), plain[item.name])
        for item in fields(value)
        if item.name not in neutral or getattr(value, item.name) != neutral[item.name]
    }
