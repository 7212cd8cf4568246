"""Tuned nets on disk (`save=best`): written, loaded, and used on images."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from convtl.config.models import Model, ModelConfig
from convtl.config.roles import dump
from convtl.data.inputs import LazyRows, Normalisation, normalised
from convtl.data.pictures import Fit, Levels
from convtl.errors import UserError
from convtl.models.network import Network, Variables
from convtl.models.registry import build_network
from convtl.storage import checkpoint
from convtl.study.grid import Trial
from convtl.study.sources import normalisation_of
from convtl.training.features import Forward


@dataclass(frozen=True)
class Preparation:
    """How a picture becomes what a net takes.

    Attributes:
      crop, interpolation, levels: see `convtl.data.pictures.Fit`.
      normalisation: None standardises each image by itself.
    """

    crop: float = 1.0
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    normalisation: Normalisation | None = None
    levels: Levels | None = None


@dataclass(frozen=True)
class SavedNet:
    """A tuned net.

    Attributes:
      classes: what output i stands for.
      row: the trial's row, with its accuracies.
    """

    network: Network
    variables: Variables
    classes: tuple[str, ...]
    row: Mapping[str, Any]
    preparation: Preparation = field(default_factory=Preparation)

    def image(self, picture: Image.Image) -> UInt8[np.ndarray, "height width channels"]:
        """Cut and resize a picture as the images were that the net was tuned on.

        Raises:
          UserError: those were not square, so that it is not known how.
        """
        height, width, channels = self.network.input_shape
        if height != width:
            raise UserError(
                f"net: takes images of {height}x{width} pixels; accepted for pictures: square ones"
            )
        how = self.preparation
        return Fit(height, channels == 1, how.crop, how.interpolation, how.levels)(picture)

    def logits(
        self, images: UInt8[np.ndarray, "n height width channels"]
    ) -> Float[np.ndarray, "n classes"]:
        """Unnormalised log-probabilities of images as they are stored (uint8).

        Raises:
          UserError: the images are not of the shape that the net was trained on.
        """
        shape = self.network.input_shape
        if images.shape[1:] != shape:
            accepted = ", ".join(map(str, shape))
            raise UserError(f"images: got shape {images.shape}; accepted: (n, {accepted})")
        how = self.preparation.normalisation
        inputs = LazyRows(lambda at: normalised(images[at], how), np.arange(len(images)), shape)
        return self._forward(self.variables, inputs)

    def predict(self, images: UInt8[np.ndarray, "n height width channels"]) -> Int[np.ndarray, "n"]:
        """Index into `classes` of the most probable class of each image."""
        return self.logits(images).argmax(-1)

    @cached_property
    def _forward(self) -> Forward:
        return Forward(self.network, 0)


def net_name(trial: Trial) -> str:
    """Name of a net's folder: readable, and unique as it ends with the trial's id."""
    source = trial.source.replace(":", "-")
    if trial.similarity is not None:
        source += f"{trial.similarity:g}"
    return (
        f"{source}_to_{trial.target}_{trial.model}_{trial.regime}_depth{trial.depth}"
        f"_n{trial.n_per_class}_replicate{trial.replicate}_{trial.id}"
    )


def net_of(folder: Path, trial: str) -> Path | None:
    """The saved net of a trial, by its id; None if there is none in the folder."""
    return next(iter(sorted(folder.glob(f"[!.]*_{trial}"))), None)


def save_net(
    folder: Path,
    trial: Trial,
    network: Network,
    variables: Variables,
    row: Mapping[str, Any],
    levels: Levels | None = None,
) -> Path:
    """Write a tuned net with all that its use needs; a kill leaves all or nothing.

    Args:
      levels: black and white of the target's deep grey pictures.
    """
    path = folder / net_name(trial)
    metadata = {
        "model": dump(trial.settings.models[trial.model]),
        "input_shape": list(network.input_shape),
        "classes": row["classes"],
        "preparation": dump(_preparation(trial, levels)),
        "row": row,
    }
    checkpoint.save(path, variables, metadata)
    return path


def _preparation(trial: Trial, levels: Levels | None) -> Preparation:
    """How the trial's images were made."""
    domain, settings = trial.settings.domains[trial.target], trial.settings
    return Preparation(
        getattr(domain, "crop", Preparation.crop),
        getattr(domain, "interpolation", Preparation.interpolation),
        normalisation_of(settings, trial.source),
        levels,
    )


def load_net(path: Path | str) -> SavedNet:
    """Load a net that `save=best` has written.

    Raises:
      UserError: there is none, or it is damaged or of another make.
    """
    path = Path(path).expanduser()
    variables, metadata = checkpoint.load(path)
    try:
        config: ModelConfig = TypeAdapter(Model).validate_python(metadata["model"])
        shape, classes = tuple(metadata["input_shape"]), tuple(metadata["classes"])
        preparation = TypeAdapter(Preparation).validate_python(metadata["preparation"])
    except (KeyError, TypeError, ValidationError):
        raise UserError(
            f"'{path}' is no tuned net of convtl; accepted: a folder in nets/ of a run"
        ) from None
    network = build_network(config, shape, len(classes))
    checkpoint.load(path, network.abstract_variables)
    return SavedNet(network, variables, classes, metadata["row"], preparation)
