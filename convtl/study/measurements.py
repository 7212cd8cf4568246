"""Measurements (`measure=`): similarity of sources, movement of units.

Distances between images need no net, and may test claims about similarity; estimators from the source net's features,
which predict the accuracy of a tuned head, may not, and need target images that no trial uses. Both are taken once
for each source, target and replicate (`similarity.json` in `out`).
"""

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Integer, UInt8
from threadpoolctl import threadpool_limits

from convtl.data.inputs import normalised, standardise
from convtl.data.subsets import first_of_each
from convtl.keys import digest
from convtl.measure import transferability
from convtl.measure.distance import mmd2_unbiased, pixel_space
from convtl.measure.representation import linear_cka, weight_displacement
from convtl.models.network import Network, Variables
from convtl.runtime.backend import broadcast_from_primary, is_primary
from convtl.storage.files import written
from convtl.study.grid import Trial
from convtl.study.materials import Materials
from convtl.study.names import source_name
from convtl.study.store import accessible
from convtl.training.features import Forward, chunks, rows_at_once
from convtl.training.pretrain import SourceRequest

FILE = "similarity.json"
PER_CLASS = 20  # images, at most: 240 for 12 classes, which one chunk of a forward pass holds
MOST = 600  # images of a side

FOLDER = "feature_maps"
IMAGES = 240  # validation images that outputs are compared on: one chunk of a forward pass
PICTURES = 3  # images of which feature maps are kept, each of another class
_CHANNELS, _SIDE = 16, 64  # at most kept of a unit's maps: channels, pixels of a side

Pair = tuple[np.ndarray, np.ndarray]  # before and after tuning
Outputs = dict[str, Float[np.ndarray, "n ..."]]
"""Unit with weights -> its outputs: feature maps or vectors."""


def data_distance(
    source_images: UInt8[np.ndarray, "n height width channels"],
    source_labels: Integer[np.ndarray, " n"],
    target_images: UInt8[np.ndarray, "m rows columns depth"],
    target_labels: Integer[np.ndarray, " m"],
) -> float:
    """Unbiased squared MMD between two data sets in `pixel_space`; larger is farther.

    Of both sides the first `PER_CLASS` images of each class, equally many, at most `MOST`.
    """
    sides = [(source_images, source_labels), (target_images, target_labels)]
    chosen = [first_of_each(labels, PER_CLASS, MOST) for _, labels in sides]
    count = min(map(len, chosen))
    source, target = (
        standardise(images[rows[:count]]) for (images, _), rows in zip(sides, chosen, strict=True)
    )
    with threadpool_limits(1):  # more take up to 100 times as long here, and change the last bits
        return mmd2_unbiased(pixel_space(source), pixel_space(target))


def transferability_of(
    network: Network,
    variables: Variables,
    images: Float[np.ndarray, "n height width channels"],
    labels: Integer[np.ndarray, " n"],
) -> dict[str, float]:
    """Estimate transferability of a source net to images, from its head's inputs."""
    rows = first_of_each(labels, PER_CLASS, MOST)
    labels = np.asarray(labels)[rows]
    body = Forward(network, 0, len(network.units) - 1)
    features = body(variables, np.asarray(images)[rows]).reshape(len(rows), -1)
    with threadpool_limits(1):
        return {
            "logme": transferability.logme(features, labels),
            "knn": transferability.knn_accuracy(features, labels),
            "linear_probe": transferability.linear_probe_accuracy(features, labels),
        }


class Similarity(NamedTuple):
    """The content of `similarity.json`: trial id -> place, place -> its measures."""

    trials: dict[str, str]
    measures: dict[str, dict[str, float]]


def measure_similarity(
    trials: Sequence[Trial], materials: Materials, out: Path, say: Callable[[str], None]
) -> None:
    """Take the measures that `out` does not hold; call on all processes."""
    measured = [trial for trial in trials if not source_name(trial.source).fresh]
    place_by_id = {trial.id: _place_of(trial) for trial in measured}
    places = {place_by_id[trial.id]: trial for trial in measured}
    missing = broadcast_from_primary(
        lambda: sorted(places.keys() - read_similarity(out).measures.keys())
    )
    materials.prepare([places[place] for place in missing])
    if not is_primary():
        return
    for number, place in enumerate(missing):
        say(f"measuring similarity ({number} of {len(missing)} done)")
        trial = places[place]
        draw = (trial.target, trial.settings.classes)
        n_used = max(t.n_per_class for t in trials if (t.target, t.settings.classes) == draw)
        _add(out, Similarity({}, {place: _measures(trial, materials, n_used)}))
    _add(out, Similarity(place_by_id, {}))


def _add(out: Path, new: Similarity) -> None:
    """Add places and measures to the file, which may hold those of other studies."""
    old = read_similarity(out)
    both = Similarity(old.trials | new.trials, old.measures | new.measures)
    if both != old:
        with accessible(out), written(out / FILE) as file:
            file.write(json.dumps(both._asdict(), indent=1).encode())


def _measures(trial: Trial, materials: Materials, n_used: int) -> dict[str, float]:
    """Return the distance, and estimators if `n_used` a class leave enough images."""
    measures: dict[str, float] = {}
    data, name = materials.target_data(trial), source_name(trial.source)
    pool, positions = data.draw.train.shape[1], data.draw.train[:, -PER_CLASS:]
    unused = pool - n_used >= PER_CLASS
    # A distance between data needs no net, so it may look at images that nets are trained on; but
    # `same_classes` is pretrained on just these images, and `self` on those of the trial.
    if name.base == "same_classes" or (name.base == "self" and not unused) or positions.size < 2:
        return measures
    pixels = data.pixels("train", positions.ravel())
    labels = np.repeat(np.arange(len(positions)), positions.shape[1])
    request = materials.request(trial)
    assert request is not None
    # A control has the images of its source; those that imported weights were trained on are not at hand.
    if not name.variant and isinstance(request, SourceRequest):
        measures["mmd2"] = data_distance(*request.images("train"), pixels, labels)
    if unused:
        net = materials.source_variables(request, name.variant)
        inputs = normalised(pixels, data.normalisation)
        measures |= transferability_of(request.network(), net, inputs, labels)
    return measures


def _place_of(trial: Trial) -> str:
    """Digest of what a trial's measures depend on: recipe, source net, target draw."""
    contents = {role: trial.contents[role] for role in ("model", "source", "target")}
    axes = {k: v for k, v in trial.axes.items() if k not in ("upper_init", "n_transferred")}
    place = {
        "model": trial.model,
        "source": trial.source,
        "similarity": trial.similarity,
        "target": trial.target,
        "replicate": trial.replicate,
    }
    if source_name(trial.source).base == "self":  # trained on the trial's images
        place["n_per_class"] = trial.n_per_class
    return digest([trial.config, place, contents, axes])


def read_similarity(out: Path) -> Similarity:
    """Read what was measured; empty where nothing was, or the file is damaged."""
    if not (out / FILE).exists():
        return Similarity({}, {})
    try:
        with accessible(out, "read"):
            content = json.loads((out / FILE).read_text(encoding="utf-8"))
        if "measures" not in content:  # of earlier commits: no trials
            content = {"trials": {}, "measures": content}
        trials = {trial: str(place) for trial, place in content["trials"].items()}
        return Similarity(trials, {k: {**taken} for k, taken in content["measures"].items()})
    except (ValueError, TypeError, AttributeError, KeyError):
        return Similarity({}, {})


def measure_movement(
    out: Path, trial: Trial, materials: Materials, tuned: Variables
) -> dict[str, list[float | None]]:
    """Measure the movement of a trial's net (`moved`) on validation images.

    Of the lowest replicate, outputs for a few images are kept in `feature_maps/TRIAL.npz`.
    """
    network, data = materials.network(trial), materials.target_data(trial)
    images, labels = data.examples("validation")
    rows = first_of_each(labels, PER_CLASS, IMAGES)  # one of each class is first
    nets = (materials.start(trial).variables, tuned)
    before, after = (unit_outputs(network, net, images[rows]) for net in nets)
    if trial.replicate == min(trial.settings.replicate or (0,)):
        pairs = {"kernels": [_kernels(net[network.weighted[0]]) for net in nets]}
        for unit, outputs in before.items():
            if outputs.ndim == 4:
                pairs[f"maps/{unit}"] = [_thinned(outputs), _thinned(after[unit])]
        arrays: dict[str, Any] = {n: np.asarray(pair, np.float16) for n, pair in pairs.items()}
        with accessible(out):
            (out / FOLDER).mkdir(exist_ok=True)
            with written(out / FOLDER / f"{trial.id}.npz") as file:
                np.savez_compressed(file, **arrays)
    return moved(nets, (before, after))


def moved(
    variables: tuple[Variables, Variables], outputs: tuple[Outputs, Outputs]
) -> dict[str, list[float | None]]:
    """Unit -> [|w - w0| / |w0|, linear CKA of its outputs]; None if not finite."""
    old, new = outputs
    steps = weight_displacement(*({unit: net[unit] for unit in old} for net in variables))
    with threadpool_limits(1):
        pairs = {unit: (steps[unit], linear_cka(old[unit], new[unit])) for unit in old}
    return {u: [x if np.isfinite(x) else None for x in pair] for u, pair in pairs.items()}


def unit_outputs(
    network: Network, variables: Variables, images: Float[np.ndarray, "n height width channels"]
) -> Outputs:
    """Outputs of units with weights, in inference mode, for normalised images."""
    on_device = jax.device_put({unit: variables[unit] for unit in network.names})
    pieces = [
        {unit: np.asarray(x)[:count] for unit, x in _outputs(network, on_device, piece).items()}
        for piece, count in chunks(images, rows_at_once(network.input_shape))
    ]
    return {unit: np.concatenate([piece[unit] for piece in pieces]) for unit in network.weighted}


@partial(jax.jit, static_argnums=0)
def _outputs(network: Network, variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
    return network.apply(variables, images, taps=network.weighted)[2]


@dataclass(frozen=True)
class FeatureMaps:
    """Feature maps and kernels of one trial, in pairs (before, after)."""

    kernels: Pair | None  # (filters, height, width) of the first unit, averaged over input channels
    maps: dict[str, Pair]  # by unit: thinned outputs (k, height, width, channels) of some pictures


def read_maps(out: Path, trial: str) -> FeatureMaps | None:
    """Read the feature maps of a trial; None if nothing can be read."""
    try:
        with (out / FOLDER / f"{trial}.npz").open("rb") as raw, np.load(raw) as file:
            pairs = {name: tuple(pair.astype(np.float32)) for name, pair in file.items()}
        kernels = pairs.pop("kernels")
        maps = {
            name.removeprefix("maps/"): (before, after) for name, (before, after) in pairs.items()
        }
        return FeatureMaps((kernels[0], kernels[1]) if kernels[0].size else None, maps)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _thinned(outputs: Float[np.ndarray, "n height width channels"]) -> np.ndarray:
    step = -(-max(outputs.shape[1:3]) // _SIDE)
    return outputs[:PICTURES, ::step, ::step, :_CHANNELS]


def _kernels(variables: Mapping[str, Any]) -> np.ndarray:
    """(filters, height, width) of a convolution's weights; empty for other units."""
    for leaf in map(np.asarray, jax.tree.leaves(variables.get("params", {}))):
        if leaf.ndim == 4:
            return np.moveaxis(leaf.mean(2), -1, 0)[:_CHANNELS]
    return np.empty(0)
