"""The whole vocabulary of a study: frozen dataclasses with types and ranges.

`convtl.parsing.parse` turns plain data (what Hydra composed, or any dictionary) into a `Config`. Nothing
here knows Hydra.
"""

from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, Strict, TypeAdapter
from pydantic.dataclasses import dataclass

PROTOCOL = 1
"""Raised whenever code changes the numbers of a trial; part of every trial's identity."""

_STRICT = ConfigDict(extra="forbid")


def _listed(value: Any) -> Any:
    """One value stands for a list of one."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


Count = Annotated[int, Strict(), Field(ge=1)]
Natural = Annotated[int, Strict(), Field(ge=0)]
Positive = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Strict(), Field(ge=0, le=1)]
Flag = Annotated[bool, Strict()]
Text = Annotated[str, Strict(), Field(min_length=1)]
Names = Annotated[tuple[Text, ...], BeforeValidator(_listed), Field(min_length=1)]
Counts = Annotated[tuple[Count, ...], BeforeValidator(_listed), Field(min_length=1)]
Rates = Annotated[tuple[Positive, ...], BeforeValidator(_listed), Field(min_length=1)]
Depth = Annotated[int, Strict()] | Text  # which of them there are is for the network to say
Depths = Annotated[tuple[Depth, ...], BeforeValidator(_listed), Field(min_length=1)]
Values = Annotated[tuple[Any, ...], BeforeValidator(_listed)]


# --- models -----------------------------------------------------------------------------------------


@dataclass(frozen=True, config=_STRICT)
class LeNet5Config:
    """LeNet-5 as lectures draw it today (LeCun et al. 1998; full connectivity, pooling without weights)."""

    kind: Literal["lenet5"] = "lenet5"
    activation: Literal["tanh", "relu", "sigmoid"] = "tanh"
    pooling: Literal["average", "max"] = "average"
    initialiser: Literal["lecun_normal", "glorot_uniform", "he_normal", "normal_0.01"] = "lecun_normal"
    lowering: Literal["auto", "lax", "banded"] = "auto"


ModelConfig = LeNet5Config


# --- domains ----------------------------------------------------------------------------------------


@dataclass(frozen=True, config=_STRICT)
class PerClass:
    """Images a class in each split of a domain that is made on demand."""

    train: Count = 400
    validation: Count = 80
    test: Count = 400


@dataclass(frozen=True, config=_STRICT)
class Jitter:
    """How a typed letter is disturbed before it is drawn; each amount is the half-width of a uniform draw.

    The defaults were set once, on development draws (`seed=1`) of nets trained from scratch only: about
    30, 47 and 69 % with 2, 10 and 50 letters a class of 12, so that no arm sits at floor or ceiling.
    """

    rotation: NonNegative = 15.0
    """degrees"""
    shift: NonNegative = 3.0
    """pixels, on each axis"""
    scale: NonNegative = 0.2
    """relative change of size"""
    shear: NonNegative = 0.2
    """horizontal displacement per unit of height"""
    noise: NonNegative = 0.4
    """standard deviation of Gaussian noise, in units of full ink"""
    inverted: Fraction = 0.0
    """share of images with paper and ink exchanged"""


@dataclass(frozen=True, config=_STRICT)
class TypedScriptConfig:
    """Letters of one script, drawn from fonts that come with matplotlib."""

    script: Text
    kind: Literal["typed_script"] = "typed_script"
    faces: Names = ("DejaVu Sans", "DejaVu Sans Bold", "DejaVu Sans Oblique", "DejaVu Sans Bold Oblique")
    letters: Text | None = None
    """Only these characters of the script; null takes all that every face can draw."""
    lookalike: Fraction = 0.9
    """Letters whose size-normalised glyphs correlate at least this much are one class."""
    size: Count = 28
    per_class: PerClass = field(default_factory=PerClass)
    jitter: Jitter = field(default_factory=Jitter)


@dataclass(frozen=True, config=_STRICT)
class DigitsConfig:
    """Handwritten digits of scikit-learn (8x8, 1,797 images), enlarged."""

    kind: Literal["digits"] = "digits"
    size: Count = 28


@dataclass(frozen=True, config=_STRICT)
class PatchesConfig:
    """Patches of scikit-image's photographs; a class is one photograph, splits are disjoint regions."""

    collection: Literal["textures", "photographs"]
    kind: Literal["patches"] = "patches"
    size: Count = 28
    per_class: PerClass = field(default_factory=PerClass)


@dataclass(frozen=True, config=_STRICT)
class TfdsConfig:
    """Any classification data set of TensorFlow Datasets that is prepared as array_record."""

    name: Text
    kind: Literal["tfds"] = "tfds"
    data_dir: Text | None = None
    size: Count | None = None
    """Square side to resize to; null keeps the images as they are (all must then be of one size)."""
    grey: Flag = False
    image_key: Text = "image"
    label_key: Text = "label"


@dataclass(frozen=True, config=_STRICT)
class ImageFolderConfig:
    """Pictures in `path/CLASS/*` or `path/{train,val,test}/CLASS/*`."""

    path: Text
    kind: Literal["image_folder"] = "image_folder"
    size: Count = 28
    grey: Flag = True


DomainConfig = Annotated[
    TypedScriptConfig | DigitsConfig | PatchesConfig | TfdsConfig | ImageFolderConfig,
    Field(discriminator="kind"),
]


# --- regimes, optimisation --------------------------------------------------------------------------


@dataclass(frozen=True, config=_STRICT)
class RegimeConfig:
    """How the trained part is trained."""

    kind: Literal["fine_tune", "lp_ft", "discriminative", "surgical"] = "fine_tune"
    probe_share: Annotated[float, Strict(), Field(gt=0, lt=1)] = 0.5
    """lp_ft: share of the updates given to the head alone, first (Kumar et al. 2022)."""
    rate_factor: Annotated[float, Strict(), Field(ge=1)] = 2.6
    """discriminative: a unit's rate is that of the unit above divided by this (Howard & Ruder 2018)."""
    units: Annotated[tuple[Text, ...], BeforeValidator(_listed)] = ()
    """surgical: the units that are trained, beside the fresh head (Lee et al. 2022)."""


@dataclass(frozen=True, config=_STRICT)
class OptimConfig:
    kind: Literal["adam", "adamw", "sgd"] = "adam"
    b1: Fraction = 0.9
    b2: Fraction = 0.999
    eps: Positive = 1e-8
    momentum: Fraction = 0.9
    """sgd only"""
    weight_decay: NonNegative = 0.0
    """adamw only: decoupled, on the weights of trained units (not on biases)"""
    clip: Positive | None = None
    """largest global norm of the trained units' gradients; null does not clip"""


@dataclass(frozen=True, config=_STRICT)
class ScheduleConfig:
    kind: Literal["warmup_cosine", "constant"] = "warmup_cosine"
    warmup: Fraction = 0.1
    """share of a phase's updates in which the rate rises from 0"""


@dataclass(frozen=True, config=_STRICT)
class ValidationConfig:
    regime: Literal["oracle"] = "oracle"
    """oracle: a fixed number a class beside the n_per_class training images"""
    per_class: Count = 20


@dataclass(frozen=True, config=_STRICT)
class PretrainConfig:
    """The recipe of every source net; the same for all sources, so that they are matched."""

    images_per_class: Count = 300
    updates: Count = 900
    lr: Positive = 3e-3
    # Of their own, so that an axis over how nets are fine-tuned leaves the source nets as they are.
    batch_size: Count = 32
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    head_init: Literal["zeros", "model"] = "zeros"


# --- what happens around the trials -----------------------------------------------------------------


@dataclass(frozen=True, config=_STRICT)
class TrackingConfig:
    mode: Literal["disabled", "offline", "online"] = "disabled"
    project: Text = "convtl"
    entity: Text | None = None
    group: Text | None = None


@dataclass(frozen=True, config=_STRICT)
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


@dataclass(frozen=True, config=_STRICT)
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


@dataclass(frozen=True, config=_STRICT)
class Config:
    """One study, resolved."""

    # axes
    model: Names
    source: Names
    target: Names
    regime: Names
    depth: Depths
    n_per_class: Counts
    updates: Counts
    replicates: Count
    replicate: Annotated[tuple[Natural, ...], BeforeValidator(_listed), Field(min_length=1)] | None
    axes: dict[str, Values]
    # registries
    models: dict[str, ModelConfig]
    domains: dict[str, DomainConfig]
    regimes: dict[str, RegimeConfig]
    # protocol
    study: Text | None
    seed: Natural
    classes: Annotated[int, Strict(), Field(ge=2)] | None
    """classes drawn a replicate from every domain with more; null takes all"""
    batch_size: Count
    lr: Rates
    """one rate, used as it is, or the grid from which each trial chooses on validation"""
    lr_extend: Natural
    """steps by which a trial may extend its grid on a side while its best rate is at the edge"""
    head_init: Literal["zeros", "model"]
    optim: OptimConfig
    schedule: ScheduleConfig
    validation: ValidationConfig
    test_per_class: Count
    pretrain: PretrainConfig
    cache_prefix: Flag
    lanes: Count
    """training runs that travel together on each device"""
    chunk: Count
    """updates in one call of a compiled program"""
    # around the trials: not part of any trial's identity
    question: Text | None
    """what the study asks, in a sentence for its report"""
    claims: tuple[ClaimConfig, ...]
    save: Literal["none", "best"]
    out: Text | None
    cache: Text | None
    dry_run: Flag
    tracking: TrackingConfig
    limits: LimitsConfig


def dump(value: Any) -> Any:
    """The plain, JSON-like content of a config dataclass."""
    return TypeAdapter(type(value)).dump_python(value, mode="json")
