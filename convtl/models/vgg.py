"""VGG (Simonyan & Zisserman 2015): 3x3 convolutions in five stages, each ended by 2x2 pooling.

As torchvision builds it, whose weights fit: `vgg11` (configuration A) and `vgg16` (D), without and with batch
normalisation after each convolution (which then keeps its bias). Weights for 1000 classes: 132,863,336 and
138,357,544; with normalisation 132,868,840 and 138,365,992.

torchvision's images are scaled to [0, 1], less (0.485, 0.456, 0.406), over (0.229, 0.224, 0.225).
`fc6` sees height, width, channels in that order; PyTorch flattens channels first, so an importer permutes.
"""

import flax.linen as nn

from convtl.config.models import VggConfig
from convtl.models.layers import Head
from convtl.models.network import Network
from convtl.models.units import ConvUnit, DenseUnit, MaxPoolUnit, check_images

_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 16: (2, 2, 3, 3, 3)}
"""Layers with weights -> convolutions of each stage."""
_WIDTHS = (1, 2, 4, 8, 8)  # in units of the first stage's
_SMALLEST_SIDE = 32  # the smallest image of which five poolings leave a pixel
_POOLED_SIDE = 7  # of `pool5`, whatever the image


def vgg(config: VggConfig, input_shape: tuple[int, ...], classes: int) -> Network:
    """Builds VGG for images of any size from 32x32: other sizes than 224x224 are averaged to 7x7 at `pool5`.

    Raises:
      UserError: the images are too small.
    """
    check_images("vgg", input_shape, _SMALLEST_SIDE)
    norm = None if config.norm == "none" else config.norm
    units: list[tuple[str, nn.Module]] = []
    for stage, (count, width) in enumerate(
        zip(_CONVOLUTIONS[config.layers], _WIDTHS, strict=True), 1
    ):
        unit = ConvUnit(width * config.width, 3, padding=1, norm=norm, use_bias=True)
        units += [(f"conv{stage}_{place}", unit) for place in range(1, count + 1)]
        units.append(
            (f"pool{stage}", MaxPoolUnit(2, adapt_to=_POOLED_SIDE if stage == 5 else None))
        )
    hidden = DenseUnit(64 * config.width, config.dropout, "output")
    units += [("fc6", hidden), ("fc7", hidden), ("fc8", Head(classes))]
    return Network(tuple(units), tuple(input_shape))
