"""Foreign weights: files of PyTorch, torchvision and timm -> variables of a `Network`."""

from convtl.models.weights.importing import (
    Imported,
    check,
    import_weights,
    imported,
    imported_key,
    network_of,
    origin_identity,
)

__all__ = [
    "Imported",
    "check",
    "import_weights",
    "imported",
    "imported_key",
    "network_of",
    "origin_identity",
]
