"""Tuned nets on disk (`save=best`): writing, loading, and use on pictures."""

import hashlib
import json
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from flax import traverse_util
from jaxtyping import Float, UInt8
from PIL import Image
from pydantic import TypeAdapter

from convtl.config.models import Model, ModelConfig
from convtl.config.values import dump
from convtl.data.folder import files_below
from convtl.data.inputs import Normalisation, normalised
from convtl.data.pictures import Fit
from convtl.errors import UserError, printable
from convtl.keys import digest
from convtl.models.network import Network, Variables
from convtl.models.registry import build_network
from convtl.storage.files import replace_folder, storage_errors, sync, temporary_folder
from convtl.study.grid import Trial
from convtl.study.materials import Materials
from convtl.study.names import normalisation_of
from convtl.study.rows import Row
from convtl.training.features import Forward, rows_at_once

_KIND, _WEIGHTS, _RECORD = "convtl net 1", "weights.safetensors", "net.json"
_ACCEPTED = "accepted: a folder in nets/ of a run with save=best"
_WRONG = FileNotFoundError, ValueError, TypeError, KeyError, RecursionError, MemoryError


@dataclass(frozen=True)
class SavedNet:
    """A tuned net, names of its outputs, and how pictures become its inputs."""

    network: Network
    variables: Variables
    classes: tuple[str, ...]
    row: Row
    fit: Fit
    normalisation: Normalisation | None

    def logits(
        self, images: UInt8[np.ndarray, "n height width channels"]
    ) -> Float[np.ndarray, "n classes"]:
        """Unnormalised log-probabilities of images as they are stored (uint8)."""
        if images.shape[1:] != (shape := self.network.input_shape):
            accepted = ", ".join(map(str, shape))
            raise UserError(f"images: got shape {images.shape}; accepted: (n, {accepted})")
        return self._forward(self.variables, normalised(images, self.normalisation))

    @cached_property
    def _forward(self) -> Forward:
        return Forward(self.network, 0)


def net_name(trial: Trial) -> str:
    """Name of a net's folder: readable, and unique as it ends with the trial's id."""
    share = "" if trial.similarity is None else f"{trial.similarity:g}"
    return (
        f"{trial.source.replace(':', '-')}{share}_to_{trial.target}_{trial.model}_{trial.regime}"
        f"_depth{trial.depth}_n{trial.n_per_class}_replicate{trial.replicate}_{trial.id}"
    )


def net_of(folder: Path, trial: str) -> Path | None:
    """Path of a trial's saved net; None if the folder has none."""
    return next(iter(sorted(folder.glob(f"[!.]*_{trial}"))), None)


def save_net(
    folder: Path, trial: Trial, materials: Materials, variables: Variables, row: Row
) -> Path:
    """Write a tuned net with all that its use needs, atomically."""
    path, settings = folder / net_name(trial), trial.settings
    domain = materials.domain(settings, trial.target)
    size, _, channels = domain.image_shape
    chosen = {n: getattr(domain.config, n, getattr(Fit, n)) for n in ("crop", "interpolation")}
    metadata = {
        "model": dump(settings.models[trial.model]),
        "input_shape": list(domain.image_shape),
        "classes": row["classes"],
        "fit": dump(Fit(size, channels == 1, levels=domain.levels, **chosen)),
        "normalisation": dump(normalisation_of(settings, trial.source)),
        "row": row,
    }
    write_net(path, variables, metadata)
    return path


def write_net(path: Path, variables: Variables, metadata: Mapping[str, Any]) -> None:
    """Write weights as safetensors and the rest as JSON, atomically."""
    leaves = traverse_util.flatten_dict(dict(variables), sep="/")
    arrays = {name: np.asarray(leaf, order="C") for name, leaf in leaves.items()}
    weights = safetensors.numpy.save(arrays)
    record = {**metadata, "kind": _KIND, "sha256": hashlib.sha256(weights).hexdigest()}
    text = json.dumps(record | {"digest": digest(record, length=32)}, indent=1)
    with storage_errors("out", path.parent), temporary_folder(path) as folder:
        for name, content in ((_WEIGHTS, weights), (_RECORD, text.encode())):
            (folder / name).write_bytes(content)
            sync(folder / name)
        replace_folder(folder, path)


def load_net(path: Path | str) -> SavedNet:
    """Load a net written by `save=best`; UserError if none or damaged."""
    path = Path(path).expanduser()
    if not (path / _RECORD).is_file():
        orbax = (path / "metadata.json").is_file()
        earlier = ", kept as an earlier version did, by Orbax" if orbax else ""
        files = [*path.glob(f"[!.]*/{_RECORD}"), *path.glob(f"nets/[!.]*/{_RECORD}")]
        names = ", ".join(sorted(str(file.parent.relative_to(path)) for file in files)[:20])
        raise UserError(f"net: got '{path}'{earlier}; {_ACCEPTED}{names and f', such as {names}'}")
    try:
        record = dict(json.loads((path / _RECORD).read_text(encoding="utf-8")))
        weights, checksum = (path / _WEIGHTS).read_bytes(), record.pop("digest")
        sums = digest(record, length=32), hashlib.sha256(weights).hexdigest()
        if record["kind"] != _KIND or sums != (checksum, record["sha256"]):
            raise UserError(f"'{path}' is damaged")
        config: ModelConfig = TypeAdapter(Model).validate_python(record["model"])
        shape, classes = tuple(record["input_shape"]), tuple(record["classes"])
        fit = TypeAdapter(Fit).validate_python(record["fit"])
        how = TypeAdapter(Normalisation | None).validate_python(record["normalisation"])
        network = build_network(config, shape, len(classes))
        leaves = safetensors.numpy.load(weights)
        shapes = traverse_util.flatten_dict(network.abstract_variables, True, sep="/")
        nodes = {name: leaves.get(name, traverse_util.empty_node) for name in [*shapes, *leaves]}
        variables = traverse_util.unflatten_dict(nodes, sep="/")
        facts = partial(jax.tree.map, lambda leaf: (leaf.dtype, leaf.shape))
        if facts(variables) != facts(network.abstract_variables):
            raise UserError(f"the weights of '{path}' are not those of its model")
        return SavedNet(network, variables, classes, record["row"], fit, how)
    except (UserError, safetensors.SafetensorError, *_WRONG) as error:
        reason = error if isinstance(error, UserError) else f"'{path}' is no tuned net of convtl"
        raise UserError(f"net: {reason}; {_ACCEPTED}") from None


def pictures_of(path: Path) -> list[Path]:
    """List a picture, or the pictures of a folder as in training; UserError if none."""
    files = files_below(path) if path.is_dir() else [path] if path.is_file() else []
    if not files:
        raise UserError(
            f"images: got '{path}', which holds or names no file; accepted: a picture or a folder"
        )
    return files


def predictions(
    net: SavedNet, files: Sequence[Path]
) -> Iterator[tuple[Path, Float[np.ndarray, "classes"]]]:
    """Yield (file, probabilities) of readable pictures; name the others on stderr."""
    readable = _images(net, files)
    while batch := list(islice(readable, rows_at_once(net.network.input_shape))):
        logits = net.logits(np.stack([image for _, image in batch])).astype(float)
        if not np.isfinite(logits).all():
            raise UserError(
                "net: its outputs are not finite; accepted: a net of a trial that is done"
            )
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        yield from zip((file for file, _ in batch), shares, strict=True)


def _images(
    net: SavedNet, files: Sequence[Path]
) -> Iterator[tuple[Path, UInt8[np.ndarray, "height width channels"]]]:
    for file in files:
        try:
            with warnings.catch_warnings(), Image.open(file) as picture:
                warnings.simplefilter("ignore")  # of Pillow, about odd tags
                image = net.fit(picture)
            if image.shape != net.network.input_shape:
                raise ValueError
        except MemoryError:
            raise
        except Exception as error:  # decoders of damaged files raise nearly anything
            reason = f"no picture that can be read ({type(error).__name__})"
            print(f"convtl: left out {printable(str(file))}: {reason}", file=sys.stderr)
            continue
        yield file, image
