"""Files of weights -> name -> NumPy array. The only door to torch and safetensors.

Nothing is ever unpickled but by torch's `weights_only` loader, which builds tensors and plain containers only.
"""

import hashlib
import pickle
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from convtl.errors import UserError
from convtl.models.weights import shards

Arrays = dict[str, np.ndarray]

ACCEPTED = ".safetensors, .pth or .pt, or Keras shards (model.json, its folder, or a .tgz with it)"
_TORCH = (".pth", ".pt", ".bin", ".th", ".ckpt", ".pth.tar")
_WRAPPERS = ("state_dict", "model_state_dict", "model")
"""keys under which training scripts keep the weights beside other things"""
_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.")
"""what wrappers put before the name of every leaf"""


def read(path: Path, key: str = "weights") -> Arrays:
    """Reads all leaves of a file, by their names in it.

    Args:
      path: a file, or a folder with Keras shards.
      key: what the error messages call it.

    Returns:
      float32 for numbers with a fraction (whatever they were stored as), integers as they are.

    Raises:
      UserError: it is missing, of no known kind, damaged, or holds something that is not a weight.
    """
    path = Path(path)
    _require(path, key)
    if shards.recognised(path):
        arrays = shards.read(path, key)
    elif path.suffix == ".safetensors":
        arrays = _safetensors(path, key)
    else:
        arrays = _torch(path, key)
    if not arrays:
        raise UserError(f"{key}: {path} holds no weights")
    arrays = _without_wrappers(arrays)
    return {name: _checked(array, name, path, key) for name, array in arrays.items()}


def sha256(path: Path, key: str = "weights") -> str:
    """Hex SHA-256 of a file (Keras shards: of model.json and the shards, one after another).

    Computed once in a process for a path, size and time of change.

    Raises:
      UserError: it is missing or cannot be read.
    """
    path = Path(path)
    _require(path, key)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    if path.name == shards.TOPOLOGY:
        files = sorted(path.parent.iterdir())
    stamps = tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    return _sha256(path, stamps, key)


@lru_cache(maxsize=64)
def _sha256(path: Path, stamps: tuple[tuple[str, int, int], ...], key: str) -> str:
    if shards.recognised(path):
        return shards.sha256(path, key)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(
            f"{key}: {path} cannot be read ({(error.strerror or str(error)).lower()})"
        ) from None


def _require(path: Path, key: str) -> None:
    if not path.exists():
        raise UserError(f"{key}: there is no file {path}")
    if not (shards.recognised(path) or path.name.endswith((".safetensors", *_TORCH))):
        raise UserError(f"{key}: {path} is of no known kind; accepted: {ACCEPTED}")


def _checked(array: np.ndarray, name: str, path: Path, key: str) -> np.ndarray:
    if array.dtype.kind in "iub":
        return array
    if array.dtype != np.float32:
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise UserError(f"{key}: {path} is damaged: {name} has values that are no finite numbers")
    return array


def _safetensors(path: Path, key: str) -> Arrays:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(key, path, "safetensors", error) from None


def _torch(path: Path, key: str) -> Arrays:
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{key}: {path} needs PyTorch to be read, which is not installed; pip install 'convtl[torch]'"
        ) from None
    errors = (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
    )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (*errors, KeyError, IndexError, AttributeError, TypeError, UnicodeDecodeError) as error:
        raise _damaged(key, path, "PyTorch", error) from None
    state = _unwrapped(content)
    if state is None:
        raise UserError(
            f"{key}: {path} is no state dict: a mapping from names to tensors is accepted"
        )
    arrays = {}
    for name, tensor in state.items():
        if (
            not isinstance(tensor, torch.Tensor)
            or tensor.layout != torch.strided
            or tensor.is_quantized
        ):
            raise UserError(f"{key}: {path}: {name} is not a plain tensor")
        tensor = tensor.detach()
        arrays[name] = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return arrays


def _unwrapped(content: Any) -> Mapping[str, Any] | None:
    """The state dict inside a training script's file; None where there is none, or more than one.

    The usual keys are looked up first; otherwise the only entry that is a mapping of names to tensors.
    """
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        return None
    if not any(_is_tensor(value) and getattr(value, "ndim", 0) for value in content.values()):
        nested = [value for value in content.values() if _is_state(value)]
        content = nested[0] if len(nested) == 1 else content
    if not all(isinstance(name, str) for name in content):
        return None
    return content


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(map(_is_tensor, value.values()))


def _without_wrappers(arrays: Arrays) -> Arrays:
    """The leaves without the prefixes that all of them share: of DDP, `torch.compile` and Lightning."""
    while prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in arrays)), ""):
        arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
    return arrays


def _damaged(key: str, path: Path, kind: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:120].strip() or type(error).__name__
    return UserError(f"{key}: {path} is damaged or no {kind} file ({reason})")
