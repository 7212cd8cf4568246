"""Imported nets in the cache: brought in once, kept by what they were made of, verified when they are read."""

from pathlib import Path
from typing import Any

from convtl.config.models import ModelConfig
from convtl.config.roles import content
from convtl.config.weights import WeightsConfig
from convtl.keys import digest
from convtl.models.network import Network
from convtl.models.registry import build_network
from convtl.models.weights import locating
from convtl.models.weights.importing import Imported, Report, import_weights
from convtl.models.weights.naming import VERSION
from convtl.storage import checkpoint
from convtl.storage.cache import Cache

KIND = "imported"
_NET = "net"


def origin_identity(config: WeightsConfig, key: str = "weights") -> str:
    """Digest of what decides about the numbers: the file's content, the rules, and the images that it expects.

    The file itself is looked at only where the config does not say its SHA-256. Where it lies does not count.

    Raises:
      UserError: the file is needed and not there.
    """
    return digest(
        {
            "sha256": _sha256(config, key),
            "naming": config.naming,
            "version": VERSION,
            "channels": config.channels,
            "classes": config.classes,
            "images": [config.size, config.crop, config.interpolation, *config.mean, *config.std],
        }
    )


def imported_key(config: WeightsConfig, model: ModelConfig, key: str = "weights") -> str:
    """What an imported net is kept by in the cache.

    Raises:
      UserError: as `origin_identity`.
    """
    parts = [
        _sha256(config, key),
        config.naming,
        VERSION,
        config.channels,
        config.size,
        config.classes,
    ]
    return digest([*parts, content(model)])


def imported(
    config: WeightsConfig, model: ModelConfig, cache: Cache, key: str = "weights"
) -> Imported:
    """The net of a config, from the cache if it has been imported before.

    Args:
      model: of which `config.model` is the name; the net is built for the weights' own images and classes.
      key: what the error messages call the config.

    Raises:
      UserError: as `importing.import_weights`.
    """
    network = network_of(config, model)

    def build(folder: Path) -> None:
        made = import_weights(config, network, key)
        checkpoint.save(
            folder / _NET, made.variables, {"digest": made.digest, "report": made.report.plain()}
        )

    entry = cache.get_or_build(KIND, imported_key(config, model, key), build)
    variables, metadata = checkpoint.load(entry / _NET, network.abstract_variables)
    ordered: dict[str, Any] = {name: variables[name] for name in network.names}
    return Imported(ordered, Report(**metadata["report"]), metadata["digest"])


def locate(config: WeightsConfig, model: ModelConfig, cache: Cache, key: str = "weights") -> None:
    """Makes sure that a net can be brought in: it is in the cache, or its file is at hand.

    Raises:
      UserError: neither; with what to do about it.
    """
    if not cache.path(KIND, imported_key(config, model, key)).exists():
        locating.find(config, key)


def network_of(config: WeightsConfig, model: ModelConfig) -> Network:
    """The net for which the weights were published: their images, their classes."""
    return build_network(model, (config.size, config.size, 3), config.classes)


def _sha256(config: WeightsConfig, key: str) -> str:
    return config.sha256 or locating.verified_sha256(config, locating.find(config, key), key)
