"""Regimes, augmentation, optimisation, schedules, pretraining, shifts."""

from dataclasses import fields
from typing import Annotated, Literal, get_args

from pydantic import Field, Strict
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from convtl.config import values
from convtl.config.values import STRICT, Flag, Fraction, Identity, Neutral, Node, NonNegative, Role


@dataclass(frozen=True, config=STRICT)
class RegimeConfig(Node):
    """Training of the trained part; `transfer.plan.make_plan` describes each kind."""

    kind: Literal["fine_tune", "lp_ft", "gradual", "discriminative", "surgical", "l2_sp"]
    # Keys of one kind only, which is named beside their type:
    probe_share: Annotated[values.OpenShare, "lp_ft", Neutral()] = 0.5  # of updates, for the head
    rate_factor: Annotated[values.Factor, "discriminative", Neutral()] = 2.6  # from unit to unit
    units: Annotated[values.ListOf[values.Text], "surgical", Neutral()] = ()  # names, or `first`
    head: Annotated[Flag, "surgical", Neutral()] = True  # trained too; else the source's is kept
    alpha: Annotated[NonNegative, "l2_sp", Neutral()] = 0.01
    """alpha/2 ||w - w0||^2 of trained units below the head is added; 0.1 costs LeNet-5 6 points"""
    beta: Annotated[NonNegative, "l2_sp", Neutral()] = 0.01  # and beta/2 ||w||^2 of the head

    def __post_init__(self) -> None:
        for item in fields(self)[1:]:
            kind = next(mark for mark in get_args(item.type) if isinstance(mark, str))
            if self.kind != kind and getattr(self, item.name) != item.default:
                raise PydanticCustomError("key", f"no {item.name}, which is for kind {kind}")


@dataclass(frozen=True, config=STRICT)
class AugmentConfig(Node):
    """Random changes of training images, drawn anew each update, in this order."""

    crop: tuple[values.Share, values.Share] | None = None
    """smallest and largest share of the area of a random part, which is resized (Szegedy et al. 2015)"""
    flip: Flag = False  # left and right exchanged in half of the images; not for letters
    colour: Fraction = 0.0  # strength of random brightness, contrast and saturation
    mixup: NonNegative = 0.0  # alpha of MixUp (Zhang et al. 2018); 0 blends no images

    def __post_init__(self) -> None:
        if self.crop and self.crop[0] > self.crop[1]:
            raise PydanticCustomError("crop", "crop as [smallest, largest] share of the area")


@dataclass(frozen=True, config=STRICT)
class OptimConfig(Node):
    kind: Literal["adam", "adamw", "sgd"] = "adam"
    momentum: Fraction = 0.9  # sgd only
    weight_decay: NonNegative = 0.0  # adamw only: decoupled, on trained weights, not on biases
    clip: values.Positive | None = None  # largest global norm of the trained units' gradients
    ema: Annotated[values.OpenShare | None, Neutral()] = None
    """decay of a moving average of the trained weights, which is then evaluated and saved"""


@dataclass(frozen=True, config=STRICT)
class ScheduleConfig(Node):
    kind: Literal["warmup_cosine", "constant", "staircase"] = "warmup_cosine"
    """staircase: divided by 10 after 30, 60 and 90 % of a phase's updates (Kolesnikov et al. 2020)"""
    warmup: Fraction = 0.1  # share of a phase's updates in which the rate rises; not with constant


@dataclass(frozen=True, config=STRICT, kw_only=True)
class UpdateConfig(Node):
    """Keys of an update, in fine-tuning and in pretraining."""

    batch_size: Annotated[values.Count, Field(le=65_536), Role.IDENTITY] = 32
    optim: Identity[OptimConfig] = OptimConfig()
    schedule: Identity[ScheduleConfig] = ScheduleConfig()
    norm_mode: Annotated[Literal["train", "frozen"], Role.IDENTITY, Neutral()] = "train"
    """batch normalisation in trained units: by the batch, or as in frozen units by the source"""
    augment: Annotated[AugmentConfig | None, Role.IDENTITY, Neutral()] = None
    """only where no features are cached: cache_prefix=false, or everything is trained"""
    precision: Annotated[Literal["float32", "bfloat16"], Role.IDENTITY, Neutral()] = "float32"
    """of weights and activations in an update; stored weights, statistics, loss, optimiser: float32"""


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PretrainConfig(UpdateConfig):
    """Recipe of every source net, apart from the recipe of fine-tuning."""

    classes: Annotated[values.Count, Field(ge=2)] | None = None  # null: as many as the target has
    images_per_class: values.Count = 300
    updates: values.Count = 900
    lr: values.Positive = 3e-3
    norm_mode: Annotated[Literal["train"], Role.IDENTITY, Neutral()] = "train"  # has no statistics


@dataclass(frozen=True, config=STRICT)
class ShiftConfig(Node):
    """Shift of every target image, in this order, before standardisation."""

    rotation: Annotated[float, Strict(), Field(ge=-180, le=180)] = 0.0  # degrees, for every image
    blur: NonNegative = 0.0  # standard deviation of a Gaussian, in pixels
    inversion: Flag = False  # light and dark exchanged
    noise: NonNegative = 0.0  # standard deviation of added Gaussian noise, in grey levels of 0 to 1
