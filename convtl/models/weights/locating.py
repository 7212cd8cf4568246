"""Where a file of weights is: inside an installed package, at a path, or on the Hugging Face hub."""

import os
import socket
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from convtl.config.weights import FileWeights, HubWeights, PackageWeights, WeightsConfig
from convtl.errors import UserError

_PATIENCE = 5.0
"""seconds after which there is no network"""


def find(config: WeightsConfig, key: str = "weights") -> Path:
    """The file of a config; fetched where it is on the hub and not on this machine.

    Raises:
      UserError: there is none, with what to do about it.
    """
    match config:
        case PackageWeights():
            return _in_package(config, key)
        case FileWeights():
            return _at_path(config, key)
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


def _in_package(config: PackageWeights, key: str) -> Path:
    install = config.install or f"pip install {config.package}"
    try:
        path = Path(str(metadata.distribution(config.package).locate_file(config.file)))
    except metadata.PackageNotFoundError:
        raise UserError(f"{key}: package {config.package} is not installed; {install}") from None
    if not path.is_file():
        raise UserError(
            f"{key}.file: package {config.package} has no file {config.file}; reinstall it ({install})"
        )
    return path


def _at_path(config: FileWeights, key: str) -> Path:
    try:
        path = Path(config.path).expanduser().absolute()
    except RuntimeError:
        raise UserError(f"{key}.path: got '{config.path}'; there is no such home folder") from None
    if not path.is_file():
        install = f"; {config.install}" if config.install else ""
        raise UserError(f"{key}.path: there is no file {path}{install}")
    return path


def _from_hub(config: HubWeights, key: str) -> Path:
    try:
        import huggingface_hub
    except ImportError:
        raise UserError(
            f"{key}: {described(config)} needs huggingface_hub, which is not installed; pip install 'convtl[hub]'"
        ) from None
    cached = huggingface_hub.try_to_load_from_cache(
        config.repo, config.filename, revision=config.revision
    )
    if isinstance(cached, str):
        return Path(cached)
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    if not _reachable(endpoint):
        raise UserError(
            f"{key}: {described(config)} is not on this machine, and {endpoint} is not reachable"
        )
    try:
        fetched = huggingface_hub.hf_hub_download(
            config.repo, config.filename, revision=config.revision, etag_timeout=_PATIENCE
        )
        return Path(str(fetched))
    except Exception as error:  # its own, the HTTP library's, the file system's: by version
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(f"{key}: {described(config)} cannot be fetched ({reason})") from None


def _reachable(endpoint: str) -> bool:
    """Whether the hub answers within seconds; its own client retries for minutes."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    if any(
        os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
    ):
        return True  # no direct connection is possible
    parts = urlsplit(endpoint)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 443), timeout=_PATIENCE):
            return True
    except OSError:
        return False
