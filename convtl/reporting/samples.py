"""Sample pictures of domains, stored for reports without data; their figures."""

from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import figure as mpl
from scipy.ndimage import gaussian_filter

from convtl.data.splits import Domain
from convtl.reporting.figures.drawing import canvas, figure, named
from convtl.reporting.figures.series import moves, shift_name
from convtl.storage.files import written
from convtl.study.grid import Trial
from convtl.study.materials import Materials
from convtl.study.measurements import read_maps
from convtl.study.names import source_name
from convtl.study.store import accessible
from convtl.training.pretrain import SourceRequest

Rows = list[tuple[str, np.ndarray, Sequence[str]]]
"""Name of a row, its pictures (k, height, width, 3) in [0, 1], and the labels above them."""
_FILE, _PICTURES = "samples.npz", 12  # of each domain
_ACROSS = 8
_NOISY = 0.12
"""Correlation of neighbouring pixels below which noise hides the content of a picture."""


def read_samples(out: Path) -> dict[str, tuple[np.ndarray, list[str]]]:
    """Return images, uint8 (k, height, width, 1 or 3), and labels by domain."""
    if not (out / _FILE).exists():
        return {}
    with np.load(out / _FILE, allow_pickle=False) as arrays:
        names = dict.fromkeys(key.rpartition("/")[0] for key in arrays.files)
        return {n: (arrays[f"{n}/images"], arrays[f"{n}/labels"].tolist()) for n in names}


def save_samples(out: Path, trials: Sequence[Trial], materials: Materials) -> None:
    """Save training pictures of each domain.

    Of targets as their first trial has them, for each shift of images; of sources unchanged, with the classes of the
    first trial.
    """
    arrays: dict[str, np.ndarray] = {}
    for trial in trials:
        if f"{_seen_as(trial)}/images" not in arrays:
            data = materials.target_data(trial)
            positions = data.positions("train", 1)[:_PICTURES]
            labels = data.splits["train"].labels[positions]
            images = data.pixels("train", positions)
            arrays |= _arrays(_seen_as(trial), images, data.domain, labels)
        if f"{trial.source}/images" in arrays or source_name(trial.source).variant:
            continue
        request = materials.request(trial)
        if isinstance(request, SourceRequest):  # what imported weights have seen is not at hand
            domain, draw = request.parts[0]
            split = domain.splits(request.seed, trial.replicate)["train"]
            classes = np.asarray(draw.classes)[:_PICTURES]
            first = [int(np.argmax(split.labels == label)) for label in classes]
            arrays |= _arrays(trial.source, split.images[first], domain, classes)
    with accessible(out), written(out / _FILE) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def lacks_samples(out: Path, trials: Sequence[Trial], domains: Container[str]) -> bool:
    """Return whether pictures of a target or of a source in `domains` are missing."""
    needed = {_seen_as(trial) for trial in trials}
    needed |= {trial.source for trial in trials if trial.source in domains}
    return not needed <= read_samples(out).keys()


def _seen_as(trial: Trial) -> str:
    return ", ".join(part for part in (trial.target, shift_name(trial.axes)) if part)


def _arrays(
    name: str, images: np.ndarray, domain: Domain, labels: Iterable[int]
) -> dict[str, np.ndarray]:
    names = np.asarray([domain.class_names[label] for label in labels])
    return {f"{name}/images": np.asarray(images), f"{name}/labels": names}


def _draw_rows(rows: Rows) -> mpl.Figure:
    drawing, axes = canvas(len(rows), 1, 0.9 if any(len(labels) for *_, labels in rows) else 0.6)
    for axis, (name, pictures, labels) in zip(axes, rows, strict=True):
        tall, wide = pictures.shape[1:3]
        gap = max(1, wide // 14)
        spaced = np.pad(pictures, ((0, 0), (0, 0), (0, gap), (0, 0)), constant_values=1.0)
        extent = (-0.5, len(pictures) - 0.5, tall / (wide + gap), 0.0)
        axis.imshow(np.concatenate(list(spaced), axis=1), extent=extent, interpolation="nearest")
        axis.set_xlim(-0.5, _ACROSS - 0.5)
        axis.xaxis.tick_top()
        named(axis.xaxis, [label if len(label) < 9 else f"{label[:8]}…" for label in labels])
        axis.set_yticks([tall / (wide + gap) / 2], [name])
        axis.grid(False)
        axis.tick_params(length=0, labelsize=10)
        axis.spines[:].set_visible(False)
    return drawing


@figure(
    "The pictures",
    "Pictures of each domain and their classes, as nets get them. Where it says so they are smoothed and "
    "their contrast is stretched, as noise would hide from the eye what is on them; nets get the noise.",
    _draw_rows,
)
def samples(report: Any) -> Rows:
    rows: Rows = []
    for name, (images, labels) in read_samples(report.folder).items():
        shown = images[:_ACROSS] / 255
        if hidden := _hides_content(shown):
            shown = np.stack([_smoothed(image) for image in shown])
        colours = np.broadcast_to(shown, (*shown.shape[:3], 3))
        rows.append((f"{name}\n(smoothed)" if hidden else name, colours, labels[:_ACROSS]))
    return rows


def _hides_content(images: np.ndarray) -> bool:
    """Return whether noise hides the content of grey pictures."""
    varying = images - images.mean((1, 2), keepdims=True)
    alike = (varying[:, :, 1:] * varying[:, :, :-1]).mean() / max(np.square(varying).mean(), 1e-12)
    return bool(images.shape[-1] == 1 and alike < _NOISY)


def _smoothed(image: np.ndarray) -> np.ndarray:
    smooth = gaussian_filter(image, (1.2, 1.2, 0))
    low, high = np.quantile(smooth, [0.02, 0.98])
    return np.clip((smooth - low) / max(high - low, 1e-9), 0, 1)


@figure(
    "What the layers compute",
    "Filters of the first layer, and outputs of channels of the convolutional layers for one picture, "
    "before and after all layers were tuned (red: positive, blue: negative). Where before and after look "
    "the same, what the source had taught was of use as it was.",
    _draw_rows,
)
def feature_maps(report: Any) -> Rows:
    rows: Rows = []
    table = moves(report.conditions)
    table = table[~table["source"].str.contains(":")].sort_values("replicate", kind="stable")
    first = table.drop_duplicates("source")[["source", "trial"]]
    for source, trial in first.itertuples(index=False, name=None):
        if (maps := read_maps(report.folder, trial)) is None:
            continue
        pairs = {name: [np.moveaxis(x[0], -1, 0) for x in pair] for name, pair in maps.maps.items()}
        pairs = ({"filters": list(maps.kernels)} if maps.kernels else {}) | pairs
        for name, pair in pairs.items():
            limit = max(float(np.abs(pair).max()), 1e-9)
            for when, tiles in zip((f"{source}\n{name}", "after"), pair, strict=True):
                colours = matplotlib.colormaps["RdBu_r"](tiles[:_ACROSS] / limit / 2 + 0.5)
                rows.append((when, colours[..., :3], ()))
    return rows
