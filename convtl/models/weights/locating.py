"""Where a file of weights is: inside an installed package, at a path, or on the Hugging Face hub."""

import os
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from textwrap import shorten
from urllib.error import HTTPError
from urllib.request import Request, urlopen

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
    path = Path(os.path.expanduser(config.path)).absolute()  # noqa: PTH111  # takes any name
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
    file = {"repo_id": config.repo, "filename": config.filename, "revision": config.revision}
    cached = huggingface_hub.try_to_load_from_cache(**file)
    if isinstance(cached, str):
        return Path(cached)
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        # Any answer will do. Without one, the hub's client tries for half a minute.
        with suppress(HTTPError):
            urlopen(Request(endpoint, method="HEAD"), timeout=_PATIENCE).close()
        return Path(str(huggingface_hub.hf_hub_download(**file, etag_timeout=_PATIENCE)))
    except Exception as error:  # the client's, the HTTP library's, the file system's: by version
        reason = shorten(str(error), 160, placeholder="...") or type(error).__name__
        raise UserError(
            f"{key}: {described(config)} is not on this machine and cannot be fetched from {endpoint} ({reason})"
        ) from None
