"""Tuned nets on disk (`save=best`), and the few lines that load one and use it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from pydantic import TypeAdapter, ValidationError

from convtl import checkpoint
from convtl.config import ModelConfig, dump
from convtl.data.batches import standardise
from convtl.errors import UserError
from convtl.models.network import Network, Variables
from convtl.models.registry import build_network
from convtl.study.grid import Trial
from convtl.study.store import Row
from convtl.training.features import Forward


@dataclass(frozen=True)
class SavedNet:
    """A tuned net: `predict` maps images as they are stored (uint8) to labels.

    Attributes:
      classes: what output i stands for.
      row: the trial's row, with its accuracies.
    """

    network: Network
    variables: Variables
    classes: tuple[str, ...]
    row: Mapping[str, Any]

    def logits(self, images: UInt8[np.ndarray, "n height width channels"]) -> Float[np.ndarray, "n classes"]:
        """Unnormalised log-probabilities; each image is standardised as in training.

        Raises:
          UserError: the images are not of the shape that the net was trained on.
        """
        if images.shape[1:] != self.network.input_shape:
            raise UserError(
                f"images: got shape {images.shape}; accepted: (n, {', '.join(map(str, self.network.input_shape))})"
            )
        return Forward(self.network, 0)(self.variables, standardise(images))

    def predict(self, images: UInt8[np.ndarray, "n height width channels"]) -> Int[np.ndarray, "n"]:
        """Index into `classes` of the most probable class of each image."""
        return self.logits(images).argmax(-1)


def net_name(trial: Trial) -> str:
    """Folder name that a person can read and that no two trials share."""
    source = trial.source.replace(":", "-")
    if trial.similarity is not None:
        source += f"{trial.similarity:g}"
    return (
        f"{source}_to_{trial.target}_{trial.model}_{trial.regime}_depth{trial.depth}"
        f"_n{trial.n_per_class}_replicate{trial.replicate}_{trial.id}"
    )


def save_net(folder: Path, trial: Trial, network: Network, variables: Variables, row: Row) -> Path:
    """Writes a tuned net with all that its use needs; a kill leaves a whole net or none."""
    path = folder / net_name(trial)
    metadata = {
        "model": dump(trial.settings.models[trial.model]),
        "input_shape": list(network.input_shape),
        "classes": row["classes"],
        "row": row,
    }
    checkpoint.save(path, variables, metadata)
    return path


def load_net(path: Path | str) -> SavedNet:
    """Loads a net that `save=best` has written.

    Raises:
      UserError: there is none, or it is damaged or of another make.
    """
    path = Path(path).expanduser()
    variables, metadata = checkpoint.load(path)
    try:
        config = TypeAdapter(ModelConfig).validate_python(metadata["model"])
        shape, classes = tuple(metadata["input_shape"]), tuple(metadata["classes"])
    except (KeyError, TypeError, ValidationError):
        raise UserError(f"'{path}' is no tuned net of convtl; accepted: a folder in nets/ of a run") from None
    network = build_network(config, shape, len(classes))
    checkpoint.load(path, network.abstract_variables)
    return SavedNet(network, variables, classes, metadata["row"])
