"""Domains: labelled image data sets."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from convtl.config import values
from convtl.config.values import STRICT, Count, Flag, Fraction, Neutral, Node, NonNegative, Text


@dataclass(frozen=True, config=STRICT)
class PerClass(Node):
    """Images per class in each split of a domain made on demand."""

    train: Count = 400
    validation: Count = 80
    test: Count = 400


@dataclass(frozen=True, config=STRICT)
class Jitter(Node):
    """Jitter of made pictures; for geometry, half-widths of uniform draws."""

    rotation: NonNegative = 15.0  # degrees
    shift: NonNegative = 3.0  # pixels, on each axis
    scale: NonNegative = 0.2  # relative change of size
    shear: NonNegative = 0.2  # horizontal displacement per unit of height
    noise: NonNegative = 0.4  # standard deviation of Gaussian noise, in units of full ink
    inverted: Fraction = 0.0  # share of images with paper and ink exchanged


@dataclass(frozen=True, config=STRICT, kw_only=True)
class MadeConfig(Node):
    """Base of domains whose images are made on demand."""

    size: Count = 28  # side of the square images, pixels
    per_class: PerClass = PerClass()
    jitter: Jitter = Jitter()
    channels: Annotated[Literal[1, 3], Neutral()] = 1  # 3: grey three times, for nets of colours


@dataclass(frozen=True, config=STRICT, kw_only=True)
class TypedScriptConfig(MadeConfig):
    """Letters of one script, drawn from fonts that come with matplotlib."""

    kind: Literal["typed_script"] = "typed_script"
    script: Text
    faces: values.Names = tuple(
        f"DejaVu Sans{style}" for style in ("", " Bold", " Oblique", " Bold Oblique")
    )
    lookalike: Fraction = 0.8  # letters whose glyphs correlate so much are one class


@dataclass(frozen=True, config=STRICT, kw_only=True)
class DigitsConfig(MadeConfig):
    """Handwritten digits of scikit-learn (8x8, 1,797 images), enlarged."""

    kind: Literal["digits"] = "digits"
    per_class: PerClass = PerClass(train=50, validation=24, test=100)


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PatchesConfig(MadeConfig):
    """Patches of scikit-image's photographs, each a class; splits share no region."""

    kind: Literal["patches"] = "patches"


@dataclass(frozen=True, config=STRICT, kw_only=True)
class NoiseConfig(MadeConfig):
    """Random fields: a class is a narrow band of wavelengths and directions."""

    kind: Literal["noise"] = "noise"


@dataclass(frozen=True, config=STRICT, kw_only=True)
class MixtureConfig(Node):
    """A source with a share `similarity` of classes of `near`, the rest of `far`."""

    kind: Literal["mixture"] = "mixture"
    near: Text  # `own` (the target's domain, without its classes) or a name in `domains`
    far: Text  # a name in `domains`


@dataclass(frozen=True, config=STRICT)
class Caps(Node):
    """Largest number of pictures per class in each split; null sets no limit."""

    train: Count | None = None
    validation: Count | None = None
    test: Count | None = None


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PicturesConfig(Node):
    """Base of domains whose pictures are read."""

    size: Count = 28  # side of the square images, pixels
    crop: Annotated[values.Share, Neutral()] = 1.0
    """share of the short side that the centre crop takes: the short side is resized to size / crop"""
    interpolation: Annotated[Literal["bilinear", "bicubic"], Neutral()] = "bilinear"
    per_class: Annotated[Caps, Neutral()] = Caps()


@dataclass(frozen=True, config=STRICT, kw_only=True)
class TfdsConfig(PicturesConfig):
    """A classification data set of TensorFlow Datasets, prepared as array_record."""

    kind: Literal["tfds"] = "tfds"
    name: Text
    data_dir: Text | None = None
    grey: Flag = False
    image_key: Text = "image"  # feature that holds the image
    label_key: Text = "label"


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ImageFolderConfig(PicturesConfig):
    """Pictures in `path/CLASS/*` or `path/{train,val,test}/CLASS/*`."""

    kind: Literal["image_folder"] = "image_folder"
    path: Text
    grey: Flag = True


Made = TypedScriptConfig | PatchesConfig | NoiseConfig | DigitsConfig
DomainConfig = Annotated[
    Made | MixtureConfig | TfdsConfig | ImageFolderConfig, Field(discriminator="kind")
]
