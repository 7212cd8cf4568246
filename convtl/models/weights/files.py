"""Finding and reading files of weights; only here are torch and the hub imported.

Formats are recognised by their first bytes. Nothing is unpickled but by torch's `weights_only` loader, which builds
tensors and plain containers only. A file that is not what it should be is a `UserError` that names the config `key`.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np

from convtl.config.models import FileWeights, HubWeights, PackageWeights, WeightsConfig
from convtl.errors import UserError

Arrays = dict[str, np.ndarray]

_TORCH_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""First bytes of a zip archive, and of a bare pickle of protocol 2 to 5."""
_STATE_KEYS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts keep the weights beside other things."""
_INSTEAD = "save the weights alone: torch.save(model.state_dict(), PATH)"


def find(config: WeightsConfig, key: str = "weights") -> Path:
    """Return a config's file, fetched from the hub if it is not on this machine."""
    match config:
        case PackageWeights():
            install = config.install or f"pip install {config.package}"
            try:
                located = metadata.distribution(config.package).locate_file(config.file)
            except metadata.PackageNotFoundError:
                raise UserError(
                    f"{key}: package {config.package} is not installed; {install}"
                ) from None
            if not (path := Path(str(located))).is_file():
                raise UserError(
                    f"{key}.file: package {config.package} has no file {config.file}; reinstall it ({install})"
                )
            return path
        case FileWeights():
            path = Path(os.path.expanduser(config.path)).absolute()  # noqa: PTH111  # takes any name
            if not path.is_file():
                install = f"; {config.install}" if config.install else ""
                raise UserError(f"{key}.path: there is no file {path}{install}")
            return path
        case HubWeights():
            return _from_hub(config, key)


def described(config: WeightsConfig) -> str:
    """Name of a config's file, for messages."""
    match config:
        case PackageWeights():
            return f"{config.file} of package {config.package}"
        case FileWeights():
            return config.path
        case HubWeights():
            return f"{config.filename} of hub repository {config.repo}"


def _from_hub(config: HubWeights, key: str) -> Path:
    try:
        import huggingface_hub
    except ImportError:
        raise UserError(
            f"{key}: {described(config)} needs huggingface_hub, which is not installed; pip install 'convtl[hub]'"
        ) from None
    file = {"repo_id": config.repo, "filename": config.filename, "revision": config.revision}
    cached = huggingface_hub.try_to_load_from_cache(**file)
    if isinstance(cached, str):
        return Path(cached)
    try:
        return Path(str(huggingface_hub.hf_hub_download(**file, etag_timeout=5.0)))
    except Exception as error:  # the client's, the HTTP library's, the file system's: by version
        reason = shorten(str(error), 160, placeholder="...") or type(error).__name__
        raise UserError(
            f"{key}: {described(config)} is not on this machine and cannot be fetched ({reason})"
        ) from None


def read(path: Path, key: str = "weights") -> Arrays:
    """Read all tensors of a file, by their names in it, as float32."""
    with _readable(path, key), path.open("rb") as file:
        start = file.read(9)
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
    """Hex SHA-256 of a file, computed again only if size or time of change differ."""
    with _readable(path, key):
        status = path.stat()
        return _sha256(path, status.st_size, status.st_mtime_ns)


@contextmanager
def _readable(path: Path, key: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"{key}: {path} cannot be read ({reason})") from None


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    """Return a checkpoint's state dict: by a usual key, or the only one nested."""
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
