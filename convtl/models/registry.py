"""Model name -> network. A new architecture is a builder here and a dataclass in `convtl.config`."""

from dataclasses import replace

from convtl.config import LeNet5Config, ModelConfig
from convtl.models.lenet import lenet5
from convtl.models.network import Network


def build_network(config: ModelConfig, input_shape: tuple[int, ...], classes: int) -> Network:
    """Builds the network of a model config for images of `input_shape` (height, width, channels).

    Raises:
      UserError: the model does not take images of this shape.
    """
    builders = {LeNet5Config: lenet5}
    return builders[type(config)](config, input_shape, classes)


def with_plain_lowering(config: ModelConfig) -> ModelConfig:
    """The same model with `lax` operations only, whose arithmetic is the algorithm's own."""
    return replace(config, lowering="lax")
