"""Model name -> network. A new architecture is a builder here and a dataclass in `convtl.config`."""

from dataclasses import replace
from functools import lru_cache

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
from convtl.models.alexnet import alexnet
from convtl.models.convnext import convnext_tiny
from convtl.models.efficientnet import SIZES, efficientnet_lite
from convtl.models.lenet import lenet5
from convtl.models.mobilenet import mobilenet_v2
from convtl.models.network import Network
from convtl.models.plain import plain as plain_chain
from convtl.models.resnet import cifar_resnet, resnet
from convtl.models.vgg import vgg


@lru_cache(maxsize=512)
def build_network(
    config: ModelConfig, input_shape: tuple[int, ...], classes: int, *, plain: bool = False
) -> Network:
    """Build the network of a model config for images of `input_shape`.

    Args:
      input_shape: height, width, channels.
      plain: compute with XLA's own convolutions, whose arithmetic is the algorithm's; to count cost.

    Equal arguments give the same object, so that what it knows of itself (shapes, weighted units) is traced once.

    Raises:
      UserError: the model does not take images of this shape.
    """
    if plain:
        return replace(build_network(config, input_shape, classes), plain=True)
    match config:
        case LeNet5Config():
            return lenet5(config, input_shape, classes)
        case PlainConfig():
            return plain_chain(config, input_shape, classes)
        case AlexNetConfig():
            return alexnet(config, input_shape, classes)
        case VggConfig():
            return vgg(config, input_shape, classes)
        case ResNetConfig():
            return resnet(config, input_shape, classes)
        case CifarResNetConfig():
            return cifar_resnet(config, input_shape, classes)
        case MobileNetV2Config():
            return mobilenet_v2(config, input_shape, classes)
        case EfficientNetLiteConfig():
            return efficientnet_lite(config, input_shape, classes)
        case ConvNeXtConfig():
            return convnext_tiny(config, input_shape, classes)


def usual_images(config: ModelConfig) -> tuple[int, int, int]:
    """Height, width and channels of the images that a model was made for."""
    match config:
        case LeNet5Config() | PlainConfig():
            return (28, 28, 1)
        case CifarResNetConfig():
            return (32, 32, 3)
        case EfficientNetLiteConfig():
            return (SIZES[config.variant], SIZES[config.variant], 3)
        case _:
            return (224, 224, 3)


def usual_classes(config: ModelConfig) -> int:
    """Classes that a model was made for: ImageNet's 1000, or 10."""
    return 10 if isinstance(config, LeNet5Config | PlainConfig | CifarResNetConfig) else 1000
