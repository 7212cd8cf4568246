"""Domains: what a name in the config stands for.

A domain knows its classes and counts at once; images are drawn or decoded when a split is first asked for,
kept below the cache folder and memory-mapped from then on.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convtl import keys
from convtl.config import roles as vocabulary
from convtl.config.domains import (
    DigitsConfig,
    DomainConfig,
    ImageFolderConfig,
    MixtureConfig,
    NoiseConfig,
    PatchesConfig,
    TfdsConfig,
    TypedScriptConfig,
)
from convtl.config.schema import DataConfig
from convtl.data.split import SPLITS, Split, in_channels
from convtl.data.stored import Progress, cache_at, stored, stored_files
from convtl.data.typed import letters_of, strangers, typed_identity
from convtl.errors import UserError
from convtl.storage.cache import Cache

__all__ = ["SPLITS", "Domain", "Split", "eligible_classes", "identity", "load_domain"]


@dataclass(frozen=True, eq=False)
class Domain:
    """A labelled image data set that can be a source or a target."""

    name: str
    config: DomainConfig
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    """height, width, channels"""
    digest: str
    """of all that determines the images"""
    counts: Mapping[str, int]
    """split -> smallest number of images of any class"""
    load: Callable[[], Mapping[str, Split]] = field(repr=False)
    """all splits; drawn or decoded on the first call"""

    def split(self, name: str) -> Split:
        """Images and labels of "train", "validation" or "test"."""
        return self.load()[name]


_Keep = Callable[[Callable[[], Mapping[str, Split]]], dict[str, Split]]
"""Reads splits from the cache, where they are built first if they are not there."""


_COMPARED_BY_NAME = (PatchesConfig, NoiseConfig)
"""Kinds of which a class is the same thing in two domains where it has the same name."""


@dataclass(frozen=True)
class _Contents:
    """What a kind of domain tells about itself."""

    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    counts: Mapping[str, int]
    load: Callable[[], Mapping[str, Split]]


def identity(config: DomainConfig) -> dict[str, Any]:
    """Plain content that determines a domain's images; holds no path of this machine.

    Raises:
      UserError: the domain's content cannot be found or is not understood.
    """
    match config:
        case TypedScriptConfig():
            return typed_identity(config)
        case PatchesConfig():
            from convtl.data import patches

            return {
                **vocabulary.content(config),
                "photographs": list(patches.PHOTOGRAPHS),
                "version": patches.VERSION,
            }
        case NoiseConfig():
            from convtl.data import noise

            return {
                **vocabulary.content(config),
                "classes": list(noise.CLASSES),
                "version": noise.VERSION,
            }
        case MixtureConfig():
            raise _no_domain(config)
        case DigitsConfig():
            from convtl.data import digits

            return {**vocabulary.dump(config), "version": digits.VERSION}
        case TfdsConfig():
            from convtl.data import tfds

            return tfds.tfds_identity(config)
        case ImageFolderConfig():
            from convtl.data import folder

            return folder.folder_identity(config)


def load_domain(
    name: str,
    config: DomainConfig,
    cache_dir: Path,
    progress: Progress | None = None,
    data: DataConfig | None = None,
) -> Domain:
    """The domain called `name` in the registry.

    Args:
      name: used in messages only.
      config: what the name stands for.
      cache_dir: where images are kept; created when first needed.
      progress: called with a line now and then while images are drawn or decoded.
      data: what decoding may cost; changes no image.

    Raises:
      UserError: the data cannot be found or used; the message names the key.
    """
    with _named(name):
        digest = keys.digest(identity(config))
        contents = _contents(
            name, config, cache_at(Path(cache_dir), progress), digest, progress, data
        )

    @functools.cache
    def load() -> Mapping[str, Split]:
        with _named(name):
            return contents.load()

    return Domain(
        name=name,
        config=config,
        class_names=contents.class_names,
        image_shape=contents.image_shape,
        digest=digest,
        counts=contents.counts,
        load=load,
    )


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Puts the registry's key in front of what the user is told."""
    try:
        yield
    except UserError as error:
        if str(error).startswith("cache: "):
            raise
        raise UserError(f"domains.{name}.{error}") from None


def eligible_classes(source: Domain, target: Domain) -> tuple[int, ...]:
    """Classes of a source that are and look like no class in the target's whole pool.

    Typed scripts are compared by their letters (size-normalised glyphs, largest correlation over the faces),
    patches by their photographs (what is a test region at one scale is in a training region at another),
    noise by its spectra. Of any other source all classes are eligible. Deterministic; no image is loaded.
    """
    if isinstance(source.config, TypedScriptConfig) and isinstance(
        target.config, TypedScriptConfig
    ):
        return strangers(source.config, target.config)
    if any(
        isinstance(source.config, kind) and isinstance(target.config, kind)
        for kind in _COMPARED_BY_NAME
    ):
        return tuple(
            i for i, name in enumerate(source.class_names) if name not in target.class_names
        )
    return tuple(range(len(source.class_names)))


def _contents(
    name: str,
    config: DomainConfig,
    cache: Cache,
    digest: str,
    progress: Progress | None,
    data: DataConfig | None,
) -> _Contents:
    keep = functools.partial(stored, cache, digest)
    match config:
        case TypedScriptConfig():
            return _typed(config, cache, keep, progress)
        case PatchesConfig():
            return _patches(config, keep, progress)
        case NoiseConfig():
            return _noise(config, keep, progress)
        case MixtureConfig():
            raise _no_domain(config)
        case DigitsConfig():
            from convtl.data import digits

            return _decoded(keep(functools.partial(digits.load_digits, config.size)), digits.NAMES)
        case TfdsConfig():
            from convtl.data import tfds

            opened = tfds.open_dataset(config)
            return _pictures(name, cache, digest, opened, progress, data)
        case ImageFolderConfig():
            from convtl.data import folder

            tree = folder.scan(config)
            contents = _pictures(name, cache, digest, tree, progress, data)
            tree.check(contents.load()["train"])
            return contents


def _pictures(
    name: str,
    cache: Cache,
    digest: str,
    made_of: Any,
    progress: Progress | None,
    data: DataConfig | None,
) -> _Contents:
    """A data set of pictures, which are decoded now if they are not in the cache.

    Args:
      made_of: has class names, and builds its splits in a folder.
    """
    from convtl.data.decoding import Means

    means = Means(data or DataConfig(), progress)
    splits = stored_files(cache, digest, lambda folder: made_of.build(folder, name, means))
    contents = _decoded(splits, made_of.class_names)
    for split in SPLITS:
        there = set(splits[split].labels.tolist())
        lacking = [own for label, own in enumerate(contents.class_names) if label not in there]
        if lacking:
            named = ", ".join(lacking[:5]) + ", ..." * (len(lacking) > 5)
            means.tell(
                f"{name}: no {split} pictures of {len(lacking)} of {len(contents.class_names)} classes ({named})"
            )
    return contents


def _typed(
    config: TypedScriptConfig, cache: Cache, keep: _Keep, progress: Progress | None
) -> _Contents:
    def build() -> Mapping[str, Split]:
        from convtl.data import prepared  # TFDS is wanted only where nothing is cached

        return prepared.typed_script(config, cache, progress)

    return _Contents(
        class_names=letters_of(config),
        image_shape=(config.size, config.size, config.channels),
        counts=vocabulary.dump(config.per_class),
        load=lambda: in_channels(keep(build), config.channels),
    )


def _patches(config: PatchesConfig, keep: _Keep, progress: Progress | None) -> _Contents:
    from convtl.data import patches

    counts = vocabulary.dump(config.per_class)

    def build() -> Mapping[str, Split]:
        if progress:
            progress(f"cutting patches of {len(patches.PHOTOGRAPHS)} photographs")
        return patches.draw_patches(config.collection, config.size, counts)

    return _Contents(
        class_names=tuple(patches.PHOTOGRAPHS),
        image_shape=(config.size, config.size, config.channels),
        counts=counts,
        load=lambda: in_channels(keep(build), config.channels),
    )


def _noise(config: NoiseConfig, keep: _Keep, progress: Progress | None) -> _Contents:
    from convtl.data import noise

    counts = vocabulary.dump(config.per_class)

    def build() -> Mapping[str, Split]:
        if progress:
            progress(f"drawing random fields of {len(noise.CLASSES)} spectra")
        return noise.draw_noise(config.size, config.noise, counts)

    return _Contents(
        class_names=tuple(noise.CLASSES),
        image_shape=(config.size, config.size, config.channels),
        counts=counts,
        load=lambda: in_channels(keep(build), config.channels),
    )


def _no_domain(config: MixtureConfig) -> UserError:
    return UserError(
        f"kind: 'mixture' (of '{config.near}' and '{config.far}') has classes only beside a target; accepted: "
        "as source"
    )


def _decoded(splits: Mapping[str, Split], class_names: tuple[str, ...]) -> _Contents:
    """A domain whose counts are known only when it is decoded, which has been done."""
    shape = splits["train"].images.shape[1:]
    return _Contents(
        class_names=class_names,
        image_shape=(int(shape[0]), int(shape[1]), int(shape[2])),
        counts={split: splits[split].smallest_class(len(class_names)) for split in SPLITS},
        load=lambda: splits,
    )
