"""Kind `image_folder`: `path/CLASS/*` or `path/{train,val,test}/CLASS/*`."""

import functools
import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from convtl import keys
from convtl.config.domains import ImageFolderConfig
from convtl.config.values import content
from convtl.data import pictures
from convtl.data.images import Pool, SplitBuilder
from convtl.data.splits import Domain, Store, listed
from convtl.errors import UserError

VERSION = 2
"""Raised when code changes the images or their splits."""
_NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "validate", "eval", "dev"),
    "test": ("test", "testing"),
}
"""Split -> names of its folder, in any case, with or without `_set`."""
SHARES = {"validation": 0.15, "test": 0.25}
"""Share of each class for a split without a folder; caps leave more to training."""
_LAYOUTS = "PATH/CLASS/* or PATH/train/CLASS/*"
_IGNORED = frozenset(
    {"$RECYCLE.BIN", "@eaDir", "System Volume Information", "__MACOSX", "__pycache__", "lost+found"}
)
"""Folders that systems and programs leave behind; Jupyter's `.ipynb_checkpoints` is hidden."""


def _refused(given: str, accepted: str) -> UserError:
    return UserError(f"path: got {given}; accepted: {accepted}")


def files_below(folder: Path) -> list[Path]:
    """Return sorted paths of all files that are not hidden or the system's.

    Links are followed, in circles only once; a file that several paths reach is listed once, under its own name rather
    than a link's. A UserError where a folder may not be read.
    """
    visited: set[str] = set()
    folders, linked, files = [folder], list[Path](), list[Path]()
    while folders or linked:
        here = (folders or linked).pop(0)
        if (real := os.path.realpath(here)) in visited:
            continue
        visited.add(real)
        for path in _entries(here):
            if path.is_dir():
                (linked if path.is_symlink() else folders).append(path)
            elif path.is_file():
                files.append(path)
    by_place: dict[str, Path] = {}
    for path in sorted(files, key=Path.is_symlink):
        by_place.setdefault(os.path.realpath(path), path)
    return sorted(by_place.values())


def subfolders(folder: Path) -> list[Path]:
    """Return sorted folders, and links to folders, not hidden nor the system's."""
    return [path for path in _entries(folder) if path.is_dir()]


def _entries(folder: Path) -> list[Path]:
    """Return the entries of a folder that are not ignored, by name."""
    try:
        paths = sorted(folder.iterdir())
    except PermissionError:
        given = f"'{folder}', which cannot be read (no permission)"
        raise _refused(given, "folders that may be read") from None
    return [path for path in paths if path.name[0] != "." and path.name not in _IGNORED]


def _examined(path: Path) -> tuple[str | None, str | None]:
    """Return a file's SHA-256 and Pillow mode; None if unreadable or no picture.

    A file is read again only if its size or times have changed (programs cannot set its ctime).
    """
    try:
        facts = path.stat()
        return _read(path, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)
    except OSError:
        return None, None


@functools.cache
def _read(path: Path, *facts: int) -> tuple[str, str | None]:
    del facts
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return digest, pictures.mode_of(path)


@dataclass(frozen=True)
class Tree:
    """The files of a folder of pictures, before any is decoded."""

    config: ImageFolderConfig
    class_names: tuple[str, ...]
    files: Mapping[str, Sequence[tuple[Path, int]]]  # split -> (file, class), by name
    unused: Sequence[str]  # lines about pictures that are in no class folder

    @property
    def drawn(self) -> list[str]:
        """Splits that are drawn from the training pictures."""
        return [split for split in SHARES if split not in self.files]

    def readable(self) -> np.ndarray:
        """Count the training pictures of each class, by their headers."""
        labels = [label for path, label in self.files["train"] if _examined(path)[1] is not None]
        return np.bincount(labels, minlength=len(self.class_names))

    def refuse_small_classes(self, counts: np.ndarray, needed: int) -> None:
        """Raise a UserError for a class with fewer than `needed` training pictures."""
        if counts.min() >= needed:
            return
        drawn = (
            f", as {' and '.join(self.drawn)} pictures are drawn from them" if self.drawn else ""
        )
        raise _refused(
            f"'{self.config.path}', whose class '{self.class_names[int(np.argmin(counts))]}' has too few readable "
            "pictures in the folder for training",
            f"at least {1 + len(self.drawn)} different JPEG or PNG pictures a class{drawn}",
        )


def scan(config: ImageFolderConfig) -> Tree:
    """List classes and files; UserError if the folder holds no classes or splits."""
    root = Path(os.path.expanduser(config.path))  # noqa: PTH111  # leaves a user who is not there as typed
    if not root.is_dir():
        raise _refused(f"'{root}', where there is no folder", f"one with {_LAYOUTS}")
    parts = _split_folders(root)
    classes = {split: _class_folders(folder) for split, folder in parts.items()}
    names = tuple(classes["train"])
    if len(names) < 2:
        inside = [path for path in subfolders(parts["train"]) if len(subfolders(path)) > 1]
        hint = f"; did you mean '{inside[0]}'?" if inside else ""
        given = f"'{parts['train']}' with {len(names)} class folder{'s' * (len(names) != 1)}"
        raise _refused(given, f"with at least 2, as in {_LAYOUTS}{hint}")
    files: dict[str, list[tuple[Path, int]]] = {}
    unused = []
    for split, folder in parts.items():
        by_name = {name: files_below(path) for name, path in classes[split].items()}
        if unknown := [name for name, inside in by_name.items() if inside and name not in names]:
            given = f"classes that '{parts['train']}' does not have ({listed(unknown)})"
            raise _refused(f"'{folder}' with {given}", "those of the train folder")
        listing = [(path, i) for i, name in enumerate(names) for path in by_name.get(name, [])]
        if listing or split == "train":  # an empty folder is no split: it is drawn
            files[split] = listing
        if loose := sum(
            path.is_file() and pictures.mode_of(path) is not None for path in _entries(folder)
        ):
            unused.append(f"{loose} pictures in '{folder}' are in no class folder and not used")
    tree = Tree(config, names, files, unused)
    tree.refuse_small_classes(tree.readable(), 1 + len(tree.drawn))
    return tree


def _class_folders(folder: Path) -> dict[str, Path]:
    """Return class name (in Unicode's form NFC) -> folder, in order."""
    paths = subfolders(folder)
    names = [unicodedata.normalize("NFC", path.name) for path in paths]
    if len(set(names)) < len(names):
        raise _refused(f"'{folder}' with two folders '{max(names, key=names.count)}'", "one")
    return dict(zip(names, paths, strict=True))


def _split_folders(root: Path) -> dict[str, Path]:
    """Return split -> its folder; the root is the train folder where it holds classes."""
    inside = {folder: {path.name for path in subfolders(folder)} for folder in subfolders(root)}
    parts, others, unclear = dict[str, Path](), list[str](), ""
    for folder in inside:
        plain = re.sub(r"[ _-]?set$", "", folder.name.casefold())
        split = next((split for split, names in _NAMES.items() if plain in names), None)
        if split is None:
            others.append(folder.name)
        elif split in parts:
            unclear = f"two {split} folders, '{parts[split].name}' and '{folder.name}'"
        else:
            parts[split] = folder
    if "train" in parts and others:
        unclear = f"'{parts['train'].name}' beside folders that are no split ({listed(others)})"
    elif "train" not in parts and parts:
        if not others or any(inside[folder] for folder in parts.values()):
            splits = listed([folder.name for folder in parts.values()])
            unclear = f"folders of splits ({splits}) and none for training"
    elif "train" not in parts and len(inside) > 1 and len(set.intersection(*inside.values())) > 1:
        unclear = f"folders that hold the same folders ({listed(others)})"
    if unclear:
        known = "; ".join(", ".join(names) for names in _NAMES.values())
        accepted = (
            f"one folder for each split, of training at least ({known}), or folders of classes only"
        )
        raise _refused(f"'{root}' with {unclear}", accepted)
    return parts if "train" in parts else {"train": root}  # a single class may be called 'test'


def identity(config: ImageFolderConfig) -> dict[str, Any]:
    """Return parameters and digests of class names, file names and contents."""
    tree, root = scan(config), Path(config.path).expanduser()
    written = {key: value for key, value in content(config).items() if key != "path"}
    paths = [path for files in tree.files.values() for path, _ in files]
    listing = [[path.relative_to(root).as_posix(), _examined(path)[0]] for path in paths]
    if any(_examined(path)[1] in pictures.DEEP_MODES for path in paths):
        written["deep_grey"] = 1  # as VERSION, of such data sets only
    classes = keys.digest(list(tree.class_names))  # labels count them
    return {**written, "classes": classes, "files": keys.digest(listing), "version": VERSION}


def load(config: ImageFolderConfig, store: Store) -> Domain:
    """Return the domain, decoded now unless cached; UserErrors as in `scan`."""
    tree, root = scan(config), Path(config.path).expanduser()
    for line in tree.unused:
        store.say(f"{store.name}: {line}")

    def build(folder: Path) -> None:
        paths = (path for files in tree.files.values() for path, _ in files)
        levels = _levels(paths, store.memory)
        fit = pictures.Fit(config.size, config.grey, config.crop, config.interpolation, levels)
        pools = {split: _pool(files, root) for split, files in tree.files.items()}
        rng = keys.generator(
            0, "folder", 1
        )  # not VERSION: pictures stay where they were when it is raised
        origin, caps = ("path", config.path), config.per_class
        SplitBuilder(folder, store, caps, origin, pools, fit, SHARES, rng).build()

    domain = store.decoded(tree.class_names, build)
    trained = domain.splits(0, 0)["train"].labels
    tree.refuse_small_classes(np.bincount(trained, minlength=len(tree.class_names)), 1)
    return domain


def _pool(files: Sequence[tuple[Path, int]], root: Path) -> Pool:
    paths = [path for path, _ in files]
    return Pool(
        [path.relative_to(root).as_posix() for path in paths],
        np.array([label for _, label in files], np.int32),
        [_examined(path)[0] for path in paths],
        lambda index: pictures.opened(paths[index]),
    )


def _levels(paths: Iterable[Path], memory: float) -> pictures.Levels | None:
    """Return the black and white levels of the files' deep grey pictures, or None."""
    ranges = []
    for path in paths:
        if _examined(path)[1] in pictures.DEEP_MODES:
            with (
                suppress(Exception),
                Image.open(path) as picture,
            ):  # faults are told when it is decoded
                if pictures.Fit(1).memory(picture) < memory:
                    ranges.append(pictures.extremes(picture))
                picture.close()  # frees its pixels
    return pictures.common_levels(ranges)


def largest_class(config: ImageFolderConfig) -> int:
    """Return the number of training pictures of the largest class."""
    tree = scan(config)
    largest = left = int(tree.readable().max())
    for split in tree.drawn:
        drawn, cap = max(1, round(SHARES[split] * largest)), getattr(config.per_class, split)
        left -= drawn if cap is None else min(drawn, cap)
    return max(1, min(left, config.per_class.train or left))
