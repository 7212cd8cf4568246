"""Domains by name: the identity and loading of each kind.

A kind has a module with `identity(config)`, all that determines its images, and `load(config, store)`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from convtl import keys
from convtl.config.domains import DomainConfig, ImageFolderConfig, MadeConfig, TypedScriptConfig
from convtl.config.schema import DataConfig
from convtl.data import folder, tfds, typed_script, untyped
from convtl.data.splits import Domain, Store, named
from convtl.errors import UserError
from convtl.storage.cache import Cache

KINDS: Mapping[str, ModuleType] = {
    "typed_script": typed_script,
    "digits": untyped,
    "patches": untyped,
    "noise": untyped,
    "tfds": tfds,
    "image_folder": folder,
}


def identity(config: DomainConfig) -> dict[str, Any]:
    """Return plain content that determines a domain's images, without paths.

    Raises:
      UserError: the data cannot be found or used; the message names the key.
    """
    if config.kind not in KINDS:
        raise UserError("kind: 'mixture' has classes only beside a target; accepted: as source")
    content: dict[str, Any] = KINDS[config.kind].identity(config)
    return content


def load_domain(
    name: str,
    config: DomainConfig,
    cache_dir: Path,
    say: Callable[[str], None] | None = None,
    data: DataConfig | None = None,
) -> Domain:
    """Load the domain `name`; made pictures are made when read, others decoded now.

    Args:
      say: takes progress lines while pictures are decoded.
      data: limits on decoding; they change no image.
    """
    cache = Cache(cache_dir, say) if say else Cache(cache_dir)
    memory = (data or DataConfig()).memory_gb * 1e9
    with named(name):
        digest = keys.digest(identity(config))
        store = Store(name, config, digest, cache, say or (lambda line: None), memory)
        domain: Domain = KINDS[config.kind].load(config, store)
    return domain


def eligible_classes(source: Domain, target: Domain) -> tuple[int, ...]:
    """Return the source's classes that resemble no class of the target's pool.

    Typed scripts are compared by their letters, pictures of one made kind by the names of classes. Of any other
    source all classes are eligible.
    """
    ours, theirs = source.config, target.config
    if isinstance(ours, TypedScriptConfig) and isinstance(theirs, TypedScriptConfig):
        return typed_script.unlike_letters(ours, theirs)
    same = type(ours) is type(theirs) and isinstance(ours, MadeConfig)
    names = enumerate(source.class_names)
    return tuple(index for index, name in names if not (same and name in target.class_names))


def largest_class(config: DomainConfig) -> int:
    """Return the largest class's number of training images (`n_per_class=all`).

    Raises:
      UserError: it is not known before images of this kind are decoded; or as `folder.scan`.
    """
    if isinstance(config, ImageFolderConfig):
        return folder.largest_class(config)
    if isinstance(config, MadeConfig):
        return config.per_class.train
    raise UserError(
        f"n_per_class: got 'all' with a target of kind {config.kind}; accepted: numbers, or a folder as target"
    )
