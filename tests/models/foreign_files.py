"""Files of weights as others write them, small and random, from listings of real ones.

`listings/MODEL_NAMING.txt` has the name and shape of every leaf, in the order of the original: of the state dicts of
torchvision 0.28, timm 1.0.31 and efficientnet_lite_pytorch 0.1.0.
"""

from pathlib import Path

import numpy as np

from convtl.keys import generator

LISTINGS = Path(__file__).parent / "listings"
NAMINGS = ("efficientnet_lite_pytorch", "torchvision", "timm")

Shapes = dict[str, tuple[int, ...]]


def listings() -> dict[str, tuple[str, str]]:
    """Listing -> (model, naming)."""
    found = {}
    for path in sorted(LISTINGS.glob("*.txt")):
        naming = next(naming for naming in NAMINGS if path.stem.endswith(f"_{naming}"))
        model = path.stem.removesuffix(f"_{naming}")
        found[path.stem] = (model, naming)
    return found


def shapes(listing: str, width: int = 64) -> Shapes:
    """Shape of every leaf of a listing, with all widths as if the first were `width` instead of 64."""
    found = {}
    for line in (LISTINGS / f"{listing}.txt").read_text(encoding="utf-8").splitlines():
        name, text = line.split(" ")
        sides = () if text == "scalar" else tuple(map(int, text.split("x")))
        found[name] = tuple(
            side * width // 64 if side >= 64 and side != 1000 else side for side in sides
        )
    return found


def drawn(leaves: Shapes, seed: int = 0) -> dict[str, np.ndarray]:
    """Random values for every leaf; variances are positive, counts are integers."""
    rng = generator(seed, "foreign leaves")
    arrays: dict[str, np.ndarray] = {}
    for name, shape in leaves.items():
        if name.endswith("num_batches_tracked"):
            arrays[name] = np.asarray(7, np.int64)
        else:
            values = rng.standard_normal(shape, np.float32)
            arrays[name] = np.abs(values) + 0.5 if name.endswith("var") else values
    return arrays
