"""Pictures in folders: `path/CLASS/*`, or `path/{train,val,test}/CLASS/*`."""

import functools
import hashlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from convtl import keys
from convtl.config import roles as vocabulary
from convtl.config.domains import ImageFolderConfig
from convtl.data.building import Pool, Recipe, build_splits, load_pictures
from convtl.data.decoding import Means
from convtl.data.formats import (
    is_raw,
    looks_like_a_picture,
    may_be_a_picture,
    unread_files,
    unread_format,
)
from convtl.data.listing import files_below, subfolders
from convtl.data.pictures import Fit
from convtl.data.splits import Domain, Split, Store
from convtl.errors import UserError

VERSION = 2
"""Raised whenever code changes the images or who goes where."""
_DRAW = 1
"""In the key of the draw of splits, so that pictures stay where they were when VERSION is raised."""
_NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "eval", "dev"),
    "test": ("test", "testing"),
}
"""Split -> what its folder may be called, in any case."""
_SPLIT_OF = {name: split for split, names in _NAMES.items() for name in names}
_LISTED = 5
"""Folders that are named in a message."""
SHARES = {"validation": 0.15, "test": 0.25}
"""Of each class, where there is no folder for the split; caps leave more to training."""
_SETTLED_NS = 2_000_000_000
"""A file that was changed this short a time ago may change again without a sign of it."""


@dataclass(frozen=True)
class _Files:
    """Pictures in files, a `convtl.data.decoding.Source`."""

    paths: tuple[str, ...]
    fit: Fit

    def ahead(self, indices: Sequence[int]) -> None:
        pass

    def open(self, index: int) -> Image.Image:
        if is_raw(self.paths[index]):
            raise UnidentifiedImageError("raw data of a camera")
        return Image.open(self.paths[index])

    def looks_like_a_picture(self, index: int) -> bool:
        return looks_like_a_picture(self.paths[index])


@dataclass(frozen=True)
class Tree:
    """The files of a folder of pictures, before any is opened."""

    config: ImageFolderConfig
    class_names: tuple[str, ...]
    files: Mapping[str, Sequence[tuple[Path, int]]]
    """split -> (file, class) in the order of their names; only train where the folder has no splits"""

    def build(self, folder: Path, name: str, means: Means) -> None:
        """Decodes all splits into a folder (`convtl.data.building.build_splits`).

        Raises:
          UserError: no room on the disk, a class of too few files, or a picture that cannot be read where this
            is an error.
        """
        config = self.config
        self._refuse_few()
        fit = Fit(config.size, 1 if config.grey else 3, config.crop, config.interpolation)
        root = Path(config.path).expanduser()
        pools = {
            split: Pool(
                _Files(tuple(str(path) for path, _ in files), fit),
                np.array([label for _, label in files], np.int32),
                [path.relative_to(root).as_posix() for path, _ in files],
                [_content(path) for path, _ in files],
            )
            for split, files in self.files.items()
        }
        recipe = Recipe(
            name=name,
            where=config.path,
            shape=(config.size, config.size, fit.channels),
            shares=SHARES,
            rng=keys.generator(0, "folder", _DRAW),
            caps=config.per_class,
            broken=config.broken,
        )
        build_splits(folder, pools, recipe, means)

    def check(self, train: Split) -> None:
        """Refuses classes that nothing can be learnt of.

        Raises:
          UserError: a class has no readable training picture.
        """
        counts = np.bincount(train.labels, minlength=len(self.class_names))
        if not counts.all():
            raise self._too_few(int(np.argmin(counts)))

    @property
    def _needed(self) -> int:
        """Pictures that each class needs in the train folder: one for each split that is drawn from it."""
        return 1 + sum(split not in self.files for split in SHARES)

    def _refuse_few(self) -> None:
        """As `check`, as far as the names of the files tell it, which costs no decoding."""
        counts = Counter(
            label for path, label in self.files["train"] if may_be_a_picture(path.name)
        )
        for label in range(len(self.class_names)):
            if counts[label] < self._needed:
                raise self._too_few(label)

    def _too_few(self, label: int) -> UserError:
        files = self._training_files(label)
        counted = f"{len(files)} file{'s' * (len(files) != 1)}"
        unread = Counter(suffix for path in files if (suffix := unread_format(path.name)))
        told = "; ".join(
            [counted, *(unread_files(suffix, count) for suffix, count in sorted(unread.items()))]
        )
        taken = [split for split in SHARES if split not in self.files]
        drawn = f", as {' and '.join(taken)} pictures are drawn from them" if taken else ""
        return UserError(
            f"path: got '{self.config.path}', whose class '{self.class_names[label]}' has too few readable pictures "
            f"in the folder for training ({told}); accepted: at least {self._needed} different "
            f"one{'s' * (self._needed != 1)} a class{drawn}"
        )

    def _training_files(self, label: int) -> list[Path]:
        return [path for path, own in self.files["train"] if own == label]


def scan(config: ImageFolderConfig) -> Tree:
    """Lists classes and files.

    Raises:
      UserError: the folder does not exist, holds fewer than two classes or an empty one, has folders of which it
        is not clear whether they are splits, or has classes in other splits that train does not have.
    """
    root = Path(config.path).expanduser()
    if not root.is_dir():
        raise UserError(
            f"path: got '{root}', where there is no folder; accepted: one with PATH/CLASS/* or PATH/train/CLASS/*"
        )
    parts = _split_folders(root)
    classes = tuple(folder.name for folder in subfolders(parts["train"]))
    if len(classes) < 2:
        raise UserError(
            f"path: got '{parts['train']}' with {len(classes)} class folder{'s' * (len(classes) != 1)}; accepted: "
            "with at least 2, as in PATH/CLASS/* or PATH/train/CLASS/*"
        )
    files = {}
    for split, folder in parts.items():
        own = {path.name: files_below(path) for path in subfolders(folder)}
        if unknown := [name for name, found in own.items() if found and name not in classes]:
            raise UserError(
                f"path: got '{folder}' with classes that '{parts['train']}' does not have ({_listed(unknown)}); "
                "accepted: those of the train folder"
            )
        if split == "train":
            _refuse_empty(folder, own)
        listed = [(path, label) for label, name in enumerate(classes) for path in own.get(name, [])]
        if (
            listed or split == "train"
        ):  # an empty folder is no split: it is drawn as if it were not there
            files[split] = listed
    return Tree(config, classes, files)


def load(config: ImageFolderConfig, store: Store) -> Domain:
    """Return the domain; its pictures are decoded now where they are not in the cache.

    Raises:
      UserError: as `scan`, or pictures cannot be used.
    """
    tree = scan(config)
    domain = load_pictures(store, tree.class_names, tree.build)
    tree.check(domain.split("train"))
    return domain


def largest_class(config: ImageFolderConfig) -> int:
    """Return how many training pictures the largest class has, by the names of the files.

    Raises:
      UserError: as `scan`.
    """
    tree = scan(config)
    readable = [
        label
        for path, label in tree.files["train"]
        if may_be_a_picture(path.name) and unread_format(path.name) is None
    ]
    largest = int(np.max(np.bincount(readable, minlength=len(tree.class_names))))
    left = largest
    for split, share in SHARES.items():
        if split not in tree.files:
            drawn, cap = max(1, round(share * largest)), getattr(config.per_class, split)
            left -= drawn if cap is None else min(drawn, cap)
    return max(1, min(left, config.per_class.train or left))


def _refuse_empty(folder: Path, files: Mapping[str, Sequence[Path]]) -> None:
    """Refuses class folders without a file that may be a picture, before anything is decoded for the others."""
    if empty := [
        name for name, own in files.items() if not any(may_be_a_picture(path.name) for path in own)
    ]:
        raise UserError(
            f"path: got '{folder}' with class folders that hold no picture ({_listed(empty)}); accepted: at least "
            "one picture in each"
        )


def _split_folders(root: Path) -> dict[str, Path]:
    """Split -> its folder; the root is the train folder where it holds classes."""
    folders = subfolders(root)
    parts: dict[str, Path] = {}
    for folder in folders:
        split = _SPLIT_OF.get(folder.name.casefold())
        if split in parts:
            raise UserError(
                f"path: got '{root}' with two {split} folders, '{parts[split].name}' and '{folder.name}'; "
                "accepted: one for each split"
            )
        if split:
            parts[split] = folder
    others = [folder.name for folder in folders if folder not in parts.values()]
    if "train" in parts:
        if others:
            raise UserError(
                f"path: got '{root}' with '{parts['train'].name}' beside folders that are no split "
                f"({_listed(others)}); accepted: {_known_splits()}, or class folders only, with other names"
            )
        return parts
    if parts and (not others or any(subfolders(folder) for folder in parts.values())):
        names = [folder.name for folder in parts.values()]
        raise UserError(
            f"path: got '{root}' with folders of splits ({_listed(names)}) and none for training; accepted: "
            f"{' or '.join(_NAMES['train'])} beside them, or class folders only, with other names"
        )
    return {"train": root}  # a single class may be called 'test'


def _known_splits() -> str:
    return "; ".join(", ".join(names) for names in _NAMES.values())


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + ", ..." * (len(names) > _LISTED)


def identity(config: ImageFolderConfig) -> dict[str, Any]:
    """Parameters, and digests of classes and of the names and contents of files; where they lie is left out.

    Raises:
      UserError: as `scan`.
    """
    tree = scan(config)
    content = {key: value for key, value in vocabulary.content(config).items() if key != "path"}
    root = Path(config.path).expanduser()
    listing = [
        [path.relative_to(root).as_posix(), _content(path)]
        for files in tree.files.values()
        for path, _ in files
    ]
    classes = keys.digest(list(tree.class_names))  # labels count them
    return {**content, "classes": classes, "files": keys.digest(listing), "version": VERSION}


def _content(path: Path) -> str | None:
    """SHA-256 of a file, None if it cannot be read; a file is read again only if it has been changed.

    The time of the last change of the file's record (`st_ctime`) cannot be set by programs, but clocks of
    files tick slowly: of a file changed just now, a second change might go unseen.
    """
    try:
        facts = path.stat()
        if time.time_ns() - max(facts.st_mtime_ns, facts.st_ctime_ns) < _SETTLED_NS:
            return _sha256(path)
        return _remembered(path, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)
    except OSError:
        return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def _remembered(path: Path, *facts: int) -> str:
    """The digest of a file about which these facts hold; one process asks for it for every trial."""
    del facts
    return _sha256(path)
