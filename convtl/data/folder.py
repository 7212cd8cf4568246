"""Pictures in folders: `path/CLASS/*`, or `path/{train,val,test}/CLASS/*`."""

import functools
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from convtl import config as vocabulary
from convtl import keys
from convtl.config import ImageFolderConfig
from convtl.data import pictures
from convtl.data.split import SPLITS, Split, stratified_parts
from convtl.data.stored import Progress
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
_SHARES = {"validation": 0.15, "test": 0.25}
"""Of each class, where there is no folder for the split."""
_SETTLED_NS = 2_000_000_000
"""A file that was changed this short a time ago may change again without a sign of it."""
_BROKEN = (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError)
"""What Pillow raises for files that are no pictures, or are damaged."""


@dataclass(frozen=True)
class Tree:
    """The files of a folder of pictures, before any is opened."""

    config: ImageFolderConfig
    class_names: tuple[str, ...]
    files: Mapping[str, Sequence[tuple[Path, int]]]
    """split -> (file, class) in the order of their names; only train where the folder has no splits"""

    def decode(self, name: str, progress: Progress | None = None) -> dict[str, Split]:
        """All splits. Files that are no pictures are left out, and how many is told through `progress`.

        Raises:
          UserError: a class has no picture that can be read.
        """
        splits, broken = {}, 0
        for split, files in self.files.items():
            splits[split], skipped = self._read(split, files, progress)
            broken += skipped
        if broken and progress:
            progress(f"{name}: {broken} files below {self.config.path} are no readable pictures; left out")
        lacking: dict[str, float | int] = {
            split: share for split, share in _SHARES.items() if split not in splits
        }
        train = splits["train"]
        # Files are divided by name, so that who goes where does not depend on the machine.
        parts = stratified_parts(train.labels, {"train": 0, **lacking}, keys.generator(0, "folder", VERSION))
        for split, part in parts.items():
            splits[split] = Split(train.images[part], train.labels[part], train.strata[part])
        for split in SPLITS:
            counts = np.bincount(splits[split].labels, minlength=len(self.class_names))
            if not counts.all():
                empty = self.class_names[int(np.argmin(counts))]
                raise UserError(
                    f"path: got '{self.config.path}', whose class '{empty}' has no readable picture for the {split} "
                    "split; accepted: at least one a class and split"
                )
        return splits

    def _read(
        self, name: str, files: Sequence[tuple[Path, int]], progress: Progress | None
    ) -> tuple[Split, int]:
        images, labels = [], []
        for index, (path, label) in enumerate(files):
            if progress and index % 500 == 0:
                progress(f"decoding pictures ({name}): {index} of {len(files)}")
            try:
                with Image.open(path) as picture:
                    images.append(pictures.fit(picture, self.config.size, self.config.grey))
            except _BROKEN:
                continue
            labels.append(label)
        channels = 1 if self.config.grey else 3
        empty = np.empty((0, self.config.size, self.config.size, channels), np.uint8)
        read = Split(
            np.stack(images) if images else empty,
            np.array(labels, np.int32),
            np.zeros(len(labels), np.int32),
        )
        return read, len(files) - len(labels)


def scan(config: ImageFolderConfig) -> Tree:
    """Lists classes and files.

    Raises:
      UserError: the folder does not exist, or holds fewer than two classes.
    """
    root = Path(config.path).expanduser()
    if not root.is_dir():
        raise UserError(
            f"path: got '{root}', where there is no folder; accepted: one with PATH/CLASS/* or PATH/train/CLASS/*"
        )
    folders = _subfolders(root)
    if any(folder.name == "train" for folder in folders):
        parts = {_FOLDERS[folder.name]: folder for folder in folders if folder.name in _FOLDERS}
    else:
        parts = {"train": root}
    classes = tuple(folder.name for folder in _subfolders(parts["train"]))
    if len(classes) < 2:
        raise UserError(
            f"path: got '{parts['train']}' with {len(classes)} class folder{'s' * (len(classes) != 1)}; accepted: "
            "with at least 2, as in PATH/CLASS/* or PATH/train/CLASS/*"
        )
    files = {
        split: [
            (path, label)
            for label, name in enumerate(classes)
            for path in sorted((folder / name).rglob("*"))
            if path.is_file() and not path.name.startswith(".")
        ]
        for split, folder in parts.items()
    }
    return Tree(config, classes, files)


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


def _subfolders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
