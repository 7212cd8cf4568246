"""Foreign weights in: files of PyTorch, timm and Keras -> variables of a `Network`, every leaf accounted for."""

from convtl.models.weights.importing import Imported, Report, import_weights
from convtl.models.weights.stored import imported, imported_key, locate, network_of, origin_identity

__all__ = [
    "Imported",
    "Report",
    "import_weights",
    "imported",
    "imported_key",
    "locate",
    "network_of",
    "origin_identity",
]
