"""Sample pictures of the domains of a study."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from convtl.reporting.figures import Figure, canvas, drawable, styled


@styled
def samples(pictures: Mapping[str, tuple[np.ndarray, Sequence[str]]], most: int = 12) -> Figure:
    """Pictures of each domain with their labels; a row per domain.

    Args:
      pictures: domain -> (uint8 images (k, height, width) or (k, height, width, channels), k labels).
      most: pictures of a domain that are shown.
    """
    figure, lines = canvas(most, rows=max(1, len(pictures)), columns=most, width=0.78, height=1.35)
    for axes, name in zip(lines, [*pictures, *[""] * 2], strict=False):
        images, labels = pictures.get(name, (np.zeros((0, 1, 1)), ()))
        for index, axis in enumerate(axes):
            axis.set_axis_off()
            if index < len(images):
                image = np.asarray(images[index]).squeeze()
                axis.imshow(image, cmap="gray" if image.ndim == 2 else None, vmin=0, vmax=255)
                label = drawable(str(labels[index]).replace("_", "\n", 1)[:20])
                axis.set_title(label, fontsize=9 if len(label) <= 8 else 6.5)
        if len(images):
            heading = axes[0].text(
                0,
                1.38,
                drawable(name),
                transform=axes[0].transAxes,
                fontsize=10.5,
                fontweight="bold",
            )
            heading.set_in_layout(False)  # it may run over the columns beside it
    engine: Any = figure.get_layout_engine()
    if engine is not None:  # room for the first heading
        engine.set(rect=(0, 0, 1, 1 - 0.3 / figure.get_figheight()))
    return figure
