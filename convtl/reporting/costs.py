"""What frozen layers cost when their outputs are not kept."""

from collections.abc import Mapping

from convtl.config.schema import Config
from convtl.models.registry import build_network
from convtl.training.cost import multiply_adds


def uncached(
    config: Config, shape: tuple[int, int, int], units: Mapping[int, str]
) -> dict[int, float]:
    """Depth -> FLOPs an update of a forward pass through all that is frozen below it.

    Args:
      shape: of one image: height, width, channels.
      units: depth -> the lowest unit that is trained.
    """
    if not config.cache_prefix or len(config.model) != 1:
        return {}
    network = build_network(config.models[config.model[0]], shape, config.classes or 10, plain=True)
    counts = multiply_adds(network)
    return {
        depth: 2.0
        * config.batch_size
        * sum(counts[name] for name in network.names[: network.index(unit)])
        for depth, unit in units.items()
        if unit in network.names and network.index(unit) > 0
    }
