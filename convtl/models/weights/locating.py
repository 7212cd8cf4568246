"""Where a file of weights is: inside an installed package, at a path, or on the Hugging Face hub."""

import os
import socket
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from convtl.config.weights import FileWeights, HubWeights, PackageWeights, WeightsConfig
from convtl.errors import UserError
from convtl.models.weights import readers

_PATIENCE = 5.0
"""seconds after which there is no network"""


def find(config: WeightsConfig, key: str = "weights") -> Path:
    """The file (or folder, or tarball) of a config.

    Raises:
      UserError: it is not there, with what to do about it.
    """
    match config:
        case PackageWeights():
            return _in_package(config, key)
        case FileWeights():
            return _at_path(config, key)
        case HubWeights():
            return _from_hub(config, key)


def verified_sha256(config: WeightsConfig, path: Path, key: str = "weights") -> str:
    """SHA-256 of the file, which is the one that the config names if it names one.

    Raises:
      UserError: it is another file.
    """
    found = readers.sha256(path, key)
    if config.sha256 not in (None, found):
        raise UserError(
            f"{key}.sha256: {path} is not the file that is meant: its SHA-256 is {found}, not {config.sha256} "
            "(sha256=null takes any file)"
        )
    return found


def described(config: WeightsConfig) -> str:
    """The place of a config's file, in words."""
    match config:
        case PackageWeights():
            return f"{config.file} of package {config.package}"
        case FileWeights():
            return config.path
        case HubWeights():
            return f"{config.filename} of hub repository {config.repo}"


def _in_package(config: PackageWeights, key: str) -> Path:
    how = config.install or f"pip install {config.package}"
    try:
        place = metadata.distribution(config.package).locate_file(config.file)
    except metadata.PackageNotFoundError:
        raise UserError(f"{key}: package {config.package} is not installed; {how}") from None
    path = Path(str(place))
    if not path.is_file():
        raise UserError(
            f"{key}.file: package {config.package} has no file {config.file}; reinstall it ({how})"
        )
    return path


def _at_path(config: FileWeights, key: str) -> Path:
    try:
        path = Path(config.path).expanduser().absolute()
    except RuntimeError:
        raise UserError(f"{key}.path: got '{config.path}'; there is no such home folder") from None
    if not path.exists():
        how = f"; {config.install}" if config.install else ""
        raise UserError(f"{key}.path: there is no file {path}{how}")
    return path


def _from_hub(config: HubWeights, key: str) -> Path:
    try:
        import huggingface_hub
    except ImportError:
        raise UserError(
            f"{key}: {described(config)} needs huggingface_hub, which is not installed; pip install 'convtl[hub]'"
        ) from None
    kept = huggingface_hub.try_to_load_from_cache(
        config.repo, config.filename, revision=config.revision
    )
    if isinstance(kept, str):
        return Path(kept)
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
    except (
        Exception
    ) as error:  # errors of its own, of the HTTP library and of the file system, by version
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(f"{key}: {described(config)} cannot be fetched ({reason})") from None


def _reachable(endpoint: str) -> bool:
    """Whether there is a network, decided at once: the hub's own client tries again for minutes."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    if any(
        os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
    ):
        return True  # what is behind a proxy cannot be asked for directly
    parts = urlsplit(endpoint)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 443), timeout=_PATIENCE):
            return True
    except OSError:
        return False
