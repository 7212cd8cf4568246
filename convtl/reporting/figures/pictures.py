"""Figures made of pictures: samples of domains, filters, and what layers compute."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import figure as mpl
from matplotlib.axes import Axes
from scipy.ndimage import gaussian_filter

from convtl.reporting.figures.drawing import canvas, figure, named
from convtl.reporting.figures.series import moves
from convtl.study.measurements.movement import FeatureMaps

Rows = dict[str, dict[str, Sequence[np.ndarray]]]
"""Title -> name of a row -> its pictures."""
_ACROSS, _MOST_SOURCES, _TILE = 8, 3, 48
_NOISY = 0.25
"""Correlation of neighbouring pixels below which noise hides from the eye what is on a picture."""


def _samples(domains: Mapping[str, tuple[np.ndarray, list[str]]]) -> mpl.Figure:
    drawing, axes = canvas(len(domains), 1, 0.92)
    for axis, (name, (images, labels)) in zip(axes, domains.items(), strict=True):
        hidden = hides_content(images)
        shown = [_visible(image) if hidden else image / 255 for image in images[:_ACROSS]]
        tiles = [image if image.ndim == 3 else np.repeat(image[..., None], 3, 2) for image in shown]
        gap = np.ones((len(tiles[0]), max(1, len(tiles[0]) // 14), 3))
        row = np.concatenate([part for tile in tiles for part in (tile, gap)], axis=1)
        axis.imshow(row, interpolation="nearest")
        step = tiles[0].shape[1] + gap.shape[1]
        texts = [label if len(label) < 9 else f"{label[:8]}…" for label in labels[:_ACROSS]]
        axis.xaxis.tick_top()
        named(axis.xaxis, [step * (place + 0.45) for place in range(len(tiles))], texts)
        named(axis.yaxis, [len(row) / 2], [f"{name}\n(smoothed)" if hidden else name])
        axis.set_xlim(-0.5, step * _ACROSS)
        _bare(axis)
    return drawing


@figure(
    "The pictures",
    _samples,
    "Pictures of each domain and their classes, as nets get them. Where it says so they are smoothed and "
    "their contrast is stretched, as noise would hide from the eye what is on them; nets get the noise.",
)
def samples(report: Any) -> Mapping[str, tuple[np.ndarray, list[str]]]:
    return report.samples.pictures if report.samples is not None else {}


def hides_content(images: np.ndarray) -> bool:
    """Return whether noise hides what is on grey pictures: neighbouring pixels hardly agree."""
    if images.ndim != 3:
        return False
    grey = images.astype(float) - images.mean((1, 2), keepdims=True)
    return bool((grey[:, :, 1:] * grey[:, :, :-1]).mean() < _NOISY * np.square(grey).mean())


def _visible(image: np.ndarray) -> np.ndarray:
    smooth = gaussian_filter(image.astype(float), 1.2)
    low, high = np.quantile(smooth, [0.02, 0.98])
    return np.clip((smooth - low) / max(high - low, 1e-9), 0, 1)


def _kept(report: Any) -> dict[str, FeatureMaps]:
    """Source -> what is kept of its net, where all layers were tuned on most images."""
    table = moves(report.conditions)
    if report.samples is None or table.empty:
        return {}
    pairs = table[["source", "trial"]].drop_duplicates().itertuples(index=False, name=None)
    kept = {source: maps for source, trial in pairs if (maps := report.samples.maps(trial))}
    return dict(list(kept.items())[:_MOST_SOURCES])


def _tiles(parts: Rows) -> mpl.Figure:
    """Draw rows of pictures, those of a part on one scale; red is positive."""
    height = max(0.3 + 0.5 * len(rows) for rows in parts.values())
    drawing, axes = canvas(len(parts), 1, height)
    size = _TILE + 4
    for axis, (title, rows) in zip(axes, parts.items(), strict=True):
        whole = np.full((size * len(rows), size * max(map(len, rows.values()))), np.nan)
        for y, row in enumerate(rows.values()):
            for x, tile in enumerate(row):
                down, right = (np.arange(_TILE) * side // _TILE for side in tile.shape)
                area = slice(y * size, y * size + _TILE), slice(x * size, x * size + _TILE)
                whole[area] = tile[down][:, right]
        limit = float(np.nanmax(np.abs(whole))) or 1.0
        axis.imshow(np.ma.masked_invalid(whole), cmap="RdBu_r", vmin=-limit, vmax=limit)
        named(axis.yaxis, [size * (y + 0.45) for y in range(len(rows))], list(rows))
        named(axis.xaxis, [], [])
        axis.set_title(title)
        _bare(axis)
    return drawing


def _bare(axis: Axes) -> None:
    axis.grid(False)
    axis.tick_params(length=0, labelsize=10)
    axis.spines[:].set_visible(False)


@figure(
    "What the layers compute",
    _tiles,
    "Filters of the first layer, and outputs of channels of the convolutional layers for one picture, "
    "before and after all layers were tuned (red: positive, blue: negative). Where before and after look "
    "the same, what the source had taught was of use as it was.",
)
def feature_maps(report: Any) -> Rows:
    return {
        f"{name}, from {source}": {
            when: list(np.moveaxis(outputs[0], -1, 0)[:12]) if outputs.ndim == 4 else list(outputs)
            for when, outputs in zip(("before", "after"), pair, strict=True)
        }
        for source, maps in _kept(report).items()
        for name, pair in (("filters", maps.kernels), *maps.maps.items())
        if pair is not None
    }
