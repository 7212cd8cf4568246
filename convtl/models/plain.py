"""A chain of dense units of equal width: nothing but the distance from the output differs between units.

For gradients by depth. A convolutional net would confound the size of a gradient with pooling, with the
number of places that share a weight, and with units of different sizes.
"""

from convtl.config.models import PlainConfig
from convtl.models.lenet import DenseUnit
from convtl.models.network import Network


def plain(config: PlainConfig, input_shape: tuple[int, ...], classes: int) -> Network:
    """Builds the chain: `fc1` ... `fcN`, each `width` wide, then the head `out`."""
    hidden = tuple(
        (f"fc{place}", DenseUnit(config.width, config.activation, config.initialiser))
        for place in range(1, config.hidden + 1)
    )
    return Network(
        (*hidden, ("out", DenseUnit(classes, None, config.initialiser))), tuple(input_shape)
    )
