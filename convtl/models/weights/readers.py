"""Files of weights -> name -> NumPy array. The only door to torch and safetensors.

Formats are recognised by their first bytes, never by suffix. Nothing is unpickled but by torch's `weights_only`
loader, which builds tensors and plain containers only.
"""

import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from convtl.errors import UserError

Arrays = dict[str, np.ndarray]

_STATE_KEYS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts keep the weights beside other things."""
_INSTEAD = "save the weights alone: torch.save(model.state_dict(), PATH)"


def read(path: Path, key: str = "weights") -> Arrays:
    """Read all tensors of a file, by their names in it.

    Args:
      path: a safetensors file, or what `torch.save` wrote (a state dict, also inside a checkpoint).
      key: config key that error messages name.

    Returns:
      float32 for floating-point tensors, whatever they were stored as; integers as they are.

    Raises:
      UserError: missing, of another format, damaged, or no mapping of names to plain tensors.
    """
    kind = _format(path, key)
    arrays = _safetensors(path, key) if kind == "safetensors" else _torch(path, key)
    if not arrays:
        raise UserError(f"{key}: {path} holds no weights")
    return {name: _as_float32(array, name, path, key) for name, array in arrays.items()}


def sha256(path: Path, key: str = "weights") -> str:
    """Hex SHA-256 of a file, computed once in a process while size and time of change are the same.

    Raises:
      UserError: the file cannot be read.
    """
    try:
        status = path.stat()
        return _sha256(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise _unreadable(path, key, error) from None


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unreadable(path: Path, key: str, error: OSError) -> UserError:
    return UserError(f"{key}: {path} cannot be read ({(error.strerror or str(error)).lower()})")


def _format(path: Path, key: str) -> str:
    """Format of a file by its first bytes: `safetensors` or `torch` (zip archive or bare pickle).

    https://huggingface.co/docs/safetensors: 8 bytes of header length, then a JSON object.
    """
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise _unreadable(path, key, error) from None
    if start[8:] == b"{":
        return "safetensors"
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        return "torch"
    raise UserError(
        f"{key}: {path} is damaged or of no known format; accepted: safetensors, or what torch.save writes"
    )


def _as_float32(array: np.ndarray, name: str, path: Path, key: str) -> np.ndarray:
    if array.dtype.kind in "iub":
        return array
    array = np.asarray(array, np.float32)
    if not np.isfinite(array).all():
        raise UserError(f"{key}: {path} is damaged: {name} has values that are not finite")
    return array


def _safetensors(path: Path, key: str) -> Arrays:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, key, "safetensors", error) from None


def _torch(path: Path, key: str) -> Arrays:
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{key}: {path} needs PyTorch to be read, which is not installed; pip install 'convtl[torch]'"
        ) from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of pickle, zipfile and torch, by version and by damage
        if "TorchScript" in str(error):
            raise UserError(f"{key}: {path} is a TorchScript program; {_INSTEAD}") from None
        if objects := re.search(r"(?:GLOBAL|global|class):? (\w+\.[\w.]+)", str(error)):
            raise UserError(
                f"{key}: {path} holds a Python object ({objects[1]}), which could run code and is not "
                f"loaded; {_INSTEAD}"
            ) from None
        raise _damaged(path, key, "PyTorch", error) from None
    arrays = {}
    for name, tensor in state_dict(content, path, key).items():
        if (
            not isinstance(tensor, torch.Tensor)
            or tensor.layout != torch.strided
            or tensor.is_quantized
        ):
            raise UserError(f"{key}: {path}: {name} is not a plain tensor")
        tensor = tensor.detach()
        arrays[name] = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return arrays


def state_dict(content: Any, path: Path, key: str) -> Mapping[str, Any]:
    """The state dict of a checkpoint: under a usual key, or the only nested mapping of tensors.

    Raises:
      UserError: there is none, or more than one.
    """
    for name in _STATE_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if isinstance(content, Mapping) and not any(
        _is_tensor(value) and value.ndim for value in content.values()
    ):
        nested = {str(name): value for name, value in content.items() if _holds_tensors(value)}
        if len(nested) > 1:
            raise UserError(
                f"{key}: {path} holds several state dicts: {', '.join(sorted(nested))}; save one of them"
            )
        content = next(iter(nested.values()), content)
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        raise UserError(
            f"{key}: {path} is no state dict, a mapping of names to tensors; {_INSTEAD}"
        )
    return content


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(map(_is_tensor, value.values()))


def _damaged(path: Path, key: str, kind: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:120].strip() or type(error).__name__
    return UserError(f"{key}: {path} is damaged or no {kind} file ({reason})")
