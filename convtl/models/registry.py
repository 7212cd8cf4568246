"""Model name -> network. A new architecture is a builder here and a dataclass in `convtl.config`."""

from dataclasses import replace

from convtl.config import LeNet5Config, ModelConfig, PlainConfig
from convtl.models.lenet import lenet5
from convtl.models.network import Network
from convtl.models.plain import plain


def build_network(config: ModelConfig, input_shape: tuple[int, ...], classes: int) -> Network:
    """Builds the network of a model config for images of `input_shape` (height, width, channels).

    Raises:
      UserError: the model does not take images of this shape.
    """
    match config:
        case LeNet5Config():
            return lenet5(config, input_shape, classes)
        case PlainConfig():
            return plain(config, input_shape, classes)


def with_plain_lowering(config: ModelConfig) -> ModelConfig:
    """The same model with `lax` operations only, whose arithmetic is the algorithm's own."""
    return replace(config, lowering="lax") if isinstance(config, LeNet5Config) else config
