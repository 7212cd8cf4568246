"""Files of weights -> name -> NumPy array. The only door to torch and safetensors.

Formats are recognised by their first bytes, never by suffix. Nothing is unpickled but by torch's `weights_only`
loader, which builds tensors and plain containers only.
"""

import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np

from convtl.errors import UserError

Arrays = dict[str, np.ndarray]

_TORCH_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""Of a zip archive, and of a bare pickle of protocol 2 to 5."""
_STATE_KEYS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts keep the weights beside other things."""
_INSTEAD = "save the weights alone: torch.save(model.state_dict(), PATH)"


def read(path: Path, key: str = "weights") -> Arrays:
    """Read all tensors of a file, by their names in it, as float32.

    Args:
      path: a safetensors file, or what `torch.save` wrote (a state dict, also inside a checkpoint).
      key: config key that error messages name.

    Raises:
      UserError: missing, of another format, damaged, or no mapping of names to plain tensors.
    """
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise _unreadable(path, key, error) from None
    if start[8:] == b"{":  # safetensors: 8 bytes of header length, then JSON
        arrays = _safetensors(path, key)
    elif start.startswith(_TORCH_STARTS):
        arrays = _torch(path, key)
    else:
        raise UserError(
            f"{key}: {path} is damaged or of no known format; accepted: safetensors, or what torch.save writes"
        )
    if not arrays:
        raise UserError(f"{key}: {path} holds no weights")
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise UserError(f"{key}: {path} is damaged: {name} has values that are not finite")
    return arrays


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


def _damaged(path: Path, key: str, kind: str, error: Exception) -> UserError:
    reason = shorten(str(error), 120, placeholder="...") or type(error).__name__
    return UserError(f"{key}: {path} is damaged or no {kind} file ({reason})")


def _safetensors(path: Path, key: str) -> Arrays:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return {name: np.asarray(array, np.float32) for name, array in load_file(path).items()}
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
        kept_out = re.search(r"(?:GLOBAL|global|class):? (\w+\.[\w.]+)|(TorchScript)", str(error))
        if kept_out is None:
            raise _damaged(path, key, "PyTorch", error) from None
        raise UserError(
            f"{key}: {path} holds a program or Python object ({kept_out[1] or kept_out[2]}), which could run "
            f"code and is not loaded; {_INSTEAD}"
        ) from None
    arrays = {}
    for name, tensor in state_dict(content, path, key).items():
        try:
            arrays[name] = tensor.detach().float().numpy()
        except (AttributeError, TypeError, RuntimeError):  # no tensor, or sparse, or quantised
            raise UserError(f"{key}: {path}: {name} is not a plain tensor") from None
    return arrays


def state_dict(content: Any, path: Path, key: str) -> Mapping[str, Any]:
    """The state dict of a checkpoint: under a usual key, or the only nested mapping of tensors.

    Raises:
      UserError: there is none, or more than one.
    """
    for name in _STATE_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    items = content.items() if isinstance(content, Mapping) else ()
    if not any(_is_tensor(value) and value.ndim for _, value in items):
        nested = {
            str(name): value
            for name, value in items
            if isinstance(value, Mapping) and value and all(map(_is_tensor, value.values()))
        }
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
