"""Models by kind; importing every file of this folder registers them."""

from functools import lru_cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from convtl.config.models import ModelConfig
from convtl.errors import UserError
from convtl.models.network import Network

for _module in iter_modules([str(Path(__file__).parent)]):
    if not _module.ispkg:
        import_module(f"convtl.models.{_module.name}")


@lru_cache(maxsize=512)
def build_network(config: ModelConfig, input_shape: tuple[int, ...], classes: int) -> Network:
    """Build a model's network for images of `input_shape` (height, width, channels).

    Equal arguments give the same object, so that its shapes and weighted units are traced once.

    Raises:
      UserError: the model does not take images of this shape.
    """
    side = config.smallest_side
    if len(input_shape) != 3 or min(input_shape[:2]) < side:
        raise UserError(
            f"model {config.kind}: got images of shape {tuple(input_shape)}; "
            f"accepted: height x width x channels of at least {side}x{side}"
        )
    network: Network = config.build(tuple(input_shape), classes)
    return network
