"""Pictures in folders: `path/CLASS/*`, or `path/{train,val,test}/CLASS/*`."""

import functools
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from convtl import config as vocabulary
from convtl import keys
from convtl.config import ImageFolderConfig
from convtl.data.building import Pool, Recipe, build_splits
from convtl.data.decoding import Means
from convtl.data.listing import files_below, subfolders
from convtl.data.pictures import Fit
from convtl.data.split import Split
from convtl.errors import UserError

VERSION = 1
"""Raised whenever code changes the images or who goes where."""
_FOLDERS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
SHARES = {"validation": 0.15, "test": 0.25}
"""Of each class, where there is no folder for the split."""
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
        return Image.open(self.paths[index])

    def looks_like_a_picture(self, index: int) -> bool:
        """By its name: one that is not readable is missed, a text file beside the pictures is not."""
        Image.init()
        return Image.registered_extensions().get(Path(self.paths[index]).suffix.lower()) in Image.OPEN


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
          UserError: no room on the disk, or a picture that cannot be read where this is an error.
        """
        config = self.config
        fit = Fit(config.size, 1 if config.grey else 3, config.crop, config.interpolation)
        root = Path(config.path).expanduser()
        pools = {
            split: Pool(
                _Files(tuple(str(path) for path, _ in files), fit),
                np.array([label for _, label in files], np.int32),
                [path.relative_to(root).as_posix() for path, _ in files],
            )
            for split, files in self.files.items()
        }
        recipe = Recipe(
            name=name,
            where=config.path,
            shape=(config.size, config.size, fit.channels),
            shares=SHARES,
            rng=keys.generator(0, "folder", VERSION),
            caps=config.per_class,
            broken=config.broken,
        )
        build_splits(folder, pools, recipe, means)

    def check(self, train: Split) -> None:
        """Refuses classes that nothing can be learnt of.

        Raises:
          UserError: a class has no training picture.
        """
        counts = np.bincount(train.labels, minlength=len(self.class_names))
        if not counts.all():
            empty = self.class_names[int(np.argmin(counts))]
            raise UserError(
                f"path: got '{self.config.path}', whose class '{empty}' has no readable picture for the train "
                "split; accepted: at least one a class"
            )


def scan(config: ImageFolderConfig) -> Tree:
    """Lists classes and files.

    Raises:
      UserError: the folder does not exist, holds fewer than two classes, or has classes in other splits that
        train does not have.
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
                f"path: got '{folder}' with classes that '{parts['train']}' does not have "
                f"({', '.join(unknown[:5])}{', ...' * (len(unknown) > 5)}); accepted: those of the train folder"
            )
        listed = [(path, label) for label, name in enumerate(classes) for path in own.get(name, [])]
        if listed or split == "train":  # an empty folder is no split: it is drawn as if it were not there
            files[split] = listed
    return Tree(config, classes, files)


def _split_folders(root: Path) -> dict[str, Path]:
    """Split -> its folder; the root is the train folder where it holds classes."""
    folders = subfolders(root)
    if not any(folder.name == "train" for folder in folders):
        return {"train": root}
    parts: dict[str, Path] = {}
    for folder in folders:
        split = _FOLDERS.get(folder.name)
        if split in parts:
            raise UserError(
                f"path: got '{root}' with two {split} folders, '{parts[split].name}' and '{folder.name}'; "
                "accepted: one for each split"
            )
        if split:
            parts[split] = folder
    return parts


def folder_identity(config: ImageFolderConfig) -> dict[str, Any]:
    """Parameters, and a digest of the names and contents of the files; where they lie is left out.

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
    return {**content, "files": keys.digest(listing), "version": VERSION}


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
