"""Kind `image_folder`: pictures in `path/CLASS/*` or `path/{train,val,test}/CLASS/*`."""

import functools
import hashlib
import os
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from convtl import keys
from convtl.config.domains import ImageFolderConfig
from convtl.config.roles import content
from convtl.data.images import Pool, SplitBuilder, listed, load_pictures
from convtl.data.pictures import (
    DEEP_MODES,
    Fit,
    Levels,
    common_levels,
    extremes,
    is_picture,
    is_raw,
    may_be_a_picture,
    may_be_deep,
    unread_format,
    unread_reason,
)
from convtl.data.splits import Domain, Store
from convtl.errors import UserError

VERSION = 2
"""Raised whenever code changes the images or who goes where."""
_DEEP = 1
"""As VERSION, of data sets with grey levels of more than 8 bits only."""
_DRAW = 1
"""In the key of the draw of splits, so that pictures stay where they were when VERSION is raised."""
_NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "validate", "eval", "dev"),
    "test": ("test", "testing"),
}
"""Split -> what its folder may be called, in any case, with or without `_set`."""
SHARES = {"validation": 0.15, "test": 0.25}
"""Of each class, where there is no folder for the split; caps leave more to training."""
_LAYOUTS = "PATH/CLASS/* or PATH/train/CLASS/*"
_IGNORED = frozenset(
    {"$RECYCLE.BIN", "@eaDir", "System Volume Information", "__MACOSX", "__pycache__", "lost+found"}
)
"""Folders that systems and programs leave behind; Jupyter's `.ipynb_checkpoints` is hidden."""


def _refused(given: str, accepted: str) -> UserError:
    return UserError(f"path: got {given}; accepted: {accepted}")


# --- files -------------------------------------------------------------------------------------------


def files_below(folder: Path) -> list[Path]:
    """Return the sorted paths of all files that are not hidden and lie in no hidden or system folder.

    Links to files and folders are followed. What can be reached in several ways is listed once, under its own
    name rather than a link's; so links that lead in circles end. Links to nothing are left out.

    Raises:
      UserError: a folder may not be read.
    """
    by_place: dict[str, Path] = {}
    visited: set[str] = set()
    folders, linked_folders, linked_files = [folder], list[Path](), list[Path]()
    while folders or linked_folders:
        here = (folders or linked_folders).pop(0)
        real = os.path.realpath(here)
        if real in visited:
            continue
        visited.add(real)
        for entry in _entries(here):
            path = here / entry.name
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
            elif entry.is_file(follow_symlinks=False):
                by_place.setdefault(f"{real}{os.sep}{entry.name}", path)
            elif path.is_dir():
                linked_folders.append(path)
            elif path.is_file():
                linked_files.append(path)
    for path in linked_files:
        by_place.setdefault(os.path.realpath(path), path)
    return sorted(by_place.values())


def subfolders(folder: Path) -> list[Path]:
    """Return sorted folders, and links to folders, that are not hidden and not the system's."""
    return [folder / entry.name for entry in _entries(folder) if entry.is_dir()]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder that are not ignored, by name."""
    try:
        with os.scandir(folder) as entries:
            shown = [e for e in entries if not e.name.startswith(".") and e.name not in _IGNORED]
    except PermissionError:
        given = f"'{folder}', which cannot be read (no permission)"
        raise _refused(given, "folders that may be read") from None
    return sorted(shown, key=lambda entry: entry.name)


def _examined(path: Path) -> tuple[str | None, bool]:
    """Return the SHA-256 of a file, None if it cannot be read, and whether it holds deep grey levels.

    A file is read again in this process only if its record has changed, of which programs cannot set the time.
    """
    try:
        facts = path.stat()
        return _read(path, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)
    except OSError:
        return None, False


@functools.cache
def _read(path: Path, *facts: int) -> tuple[str, bool]:
    del facts
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not may_be_deep(path.name):
        return digest, False
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as picture:
            return digest, picture.mode in DEEP_MODES
    except Exception:  # no picture, or a damaged one
        return digest, False


# --- layout -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tree:
    """The files of a folder of pictures, before any is opened.

    Attributes:
      files: split -> (file, class) in the order of their names; only train where the folder has no splits.
      unused: what to say of pictures that are in no class folder.
    """

    config: ImageFolderConfig
    class_names: tuple[str, ...]
    files: Mapping[str, Sequence[tuple[Path, int]]]
    unused: Sequence[str] = ()

    def refuse_few(self, labels: Iterable[int], needed: int) -> None:
        """Refuse a class of which fewer than `needed` training pictures have its label.

        Raises:
          UserError: there is one.
        """
        counts = np.bincount([*labels], minlength=len(self.class_names))
        if counts.min() >= needed:
            return
        label = int(np.argmin(counts))
        files = [path for path, its_label in self.files["train"] if its_label == label]
        unread = Counter(filter(None, (unread_format(path.name) for path in files)))
        counted = [f"{len(files)} file{'s' * (len(files) != 1)}"]
        counted += [f"{unread[suffix]} {unread_reason(f'x{suffix}')}" for suffix in sorted(unread)]
        drawn = [split for split in SHARES if split not in self.files]
        reason = f", as {' and '.join(drawn)} pictures are drawn from them" if drawn else ""
        name, files_counted = self.class_names[label], "; ".join(counted)
        raise _refused(
            f"'{self.config.path}', whose class '{name}' has too few readable pictures in the folder for "
            f"training ({files_counted})",
            f"at least {1 + len(drawn)} different one{'s' * bool(drawn)} a class{reason}",
        )


def scan(config: ImageFolderConfig) -> Tree:
    """List classes and files.

    Raises:
      UserError: the folder does not exist, holds fewer than two classes or one of too few files, has folders
        that may or may not be splits, or has classes in other splits that train does not have.
    """
    root = Path(config.path).expanduser()
    if not root.is_dir():
        raise _refused(f"'{root}', where there is no folder", f"one with {_LAYOUTS}")
    parts = _split_folders(root)
    classes = {split: _class_folders(folder) for split, folder in parts.items()}
    names = tuple(classes["train"])
    if len(names) < 2:
        inside = [path for path in subfolders(parts["train"]) if len(subfolders(path)) > 1]
        hint = f"; did you mean '{inside[0]}'?" if len(inside) == 1 else ""
        given = f"'{parts['train']}' with {len(names)} class folder{'s' * (len(names) != 1)}"
        raise _refused(given, f"with at least 2, as in {_LAYOUTS}{hint}")
    files: dict[str, list[tuple[Path, int]]] = {}
    unused = []
    for split, folder in parts.items():
        by_name = {name: files_below(path) for name, path in classes[split].items()}
        if unknown := [name for name, inside in by_name.items() if inside and name not in names]:
            given = (
                f"'{folder}' with classes that '{parts['train']}' does not have ({listed(unknown)})"
            )
            raise _refused(given, "those of the train folder")
        listing = [(path, i) for i, name in enumerate(names) for path in by_name.get(name, [])]
        if listing or split == "train":  # an empty folder is no split: it is drawn
            files[split] = listing
        if loose := [e for e in _entries(folder) if e.is_file() and is_picture(e.name)]:
            unused.append(
                f"{len(loose)} pictures in '{folder}' are in no class folder and not used"
            )
    tree = Tree(config, names, files, unused)
    possible = (label for path, label in files["train"] if may_be_a_picture(path.name))
    tree.refuse_few(possible, 1 + sum(split not in files for split in SHARES))
    return tree


def _class_folders(folder: Path) -> dict[str, Path]:
    """Return class name -> folder, in order; names that Unicode holds equal are one."""
    named: dict[str, Path] = {}
    for path in subfolders(folder):
        name = unicodedata.normalize("NFC", path.name)
        if name in named:
            raise _refused(f"'{folder}' with two folders '{name}'", "one")
        named[name] = path
    return named


def _split_of(name: str) -> str | None:
    plain = re.sub(r"[ _-]?set$", "", name.casefold())
    return next((split for split, names in _NAMES.items() if plain in names), None)


def _split_folders(root: Path) -> dict[str, Path]:
    """Return split -> its folder; the root is the train folder where it holds classes."""
    folders = subfolders(root)
    parts: dict[str, Path] = {}
    for folder in folders:
        if (split := _split_of(folder.name)) in parts:
            given = f"'{root}' with two {split} folders, '{parts[split].name}' and '{folder.name}'"
            raise _refused(given, "one for each split")
        if split:
            parts[split] = folder
    others = [folder.name for folder in folders if folder not in parts.values()]
    inside = {folder: {path.name for path in subfolders(folder)} for folder in folders}
    classes_only = "or class folders only, with other names"
    known = "; ".join(", ".join(names) for names in _NAMES.values())
    if "train" in parts:
        if others:
            beside = f"beside folders that are no split ({listed(others)})"
            given = f"'{root}' with '{parts['train'].name}' {beside}"
            raise _refused(given, f"{known}, {classes_only}")
        return parts
    if parts and (not others or any(inside[folder] for folder in parts.values())):
        splits = listed([folder.name for folder in parts.values()])
        given = f"'{root}' with folders of splits ({splits}) and none for training"
        raise _refused(given, f"{' or '.join(_NAMES['train'])} beside them, {classes_only}")
    if len(inside) > 1 and len(set.intersection(*inside.values())) > 1:
        given = f"'{root}' with folders that hold the same folders ({listed(others)})"
        raise _refused(given, f"folders of splits called {known}, {classes_only}")
    return {"train": root}  # a single class may be called 'test'


# --- domain -------------------------------------------------------------------------------------------


def identity(config: ImageFolderConfig) -> dict[str, Any]:
    """Return parameters, and digests of classes and of names and contents of files, but no place.

    Raises:
      UserError: as `scan`.
    """
    tree, root = scan(config), Path(config.path).expanduser()
    written = {key: value for key, value in content(config).items() if key != "path"}
    paths = [path for files in tree.files.values() for path, _ in files]
    examined = [_examined(path) for path in paths]
    listing = [
        [path.relative_to(root).as_posix(), digest]
        for path, (digest, _) in zip(paths, examined, strict=True)
    ]
    if any(deep for _, deep in examined):
        written["deep_grey"] = _DEEP
    classes = keys.digest(list(tree.class_names))  # labels count them
    return {**written, "classes": classes, "files": keys.digest(listing), "version": VERSION}


def load(config: ImageFolderConfig, store: Store) -> Domain:
    """Return the domain; its pictures are decoded now where they are not in the cache.

    Raises:
      UserError: as `scan`, no room on the disk, a class of too few pictures, or a picture that cannot be read
        where this is an error.
    """
    tree = scan(config)
    for line in tree.unused:
        store.say(f"{store.name}: {line}")
    domain = load_pictures(
        store, tree.class_names, lambda place: _build(place, tree, config, store)
    )
    tree.refuse_few(domain.split("train").labels, 1)
    return domain


def _build(folder: Path, tree: Tree, config: ImageFolderConfig, store: Store) -> None:
    paths = (path for files in tree.files.values() for path, _ in files)
    levels = _levels(paths, store.data.memory_gb * 1e9)
    channels = 1 if config.grey else 3
    fit = Fit(config.size, channels, config.crop, config.interpolation, levels)
    shape = (config.size, config.size, channels)
    pools = {split: _pool(files, config) for split, files in tree.files.items()}
    rng = keys.generator(0, "folder", _DRAW)
    SplitBuilder(folder, store, config, config.path, pools, fit, shape, SHARES, rng).build()


def _pool(files: Sequence[tuple[Path, int]], config: ImageFolderConfig) -> Pool:
    root = Path(config.path).expanduser()

    def open_picture(index: int) -> Image.Image:
        path = files[index][0]
        if is_raw(path.name):
            raise UnidentifiedImageError("raw data of a camera")
        return Image.open(path)

    return Pool(
        names=[path.relative_to(root).as_posix() for path, _ in files],
        labels=np.array([label for _, label in files], np.int32),
        contents=[_examined(path)[0] for path, _ in files],
        open=open_picture,
        unread=unread_reason,
    )


def _levels(paths: Iterable[Path], memory: float) -> Levels | None:
    """Return black and white of the deep grey pictures among the files; None where there are none.

    Args:
      memory: bytes; larger pictures are refused when they are decoded.
    """
    ranges = []
    for path in paths:
        if _examined(path)[1]:
            with suppress(Exception), Image.open(path) as picture:  # told when it is decoded
                if Fit(None).memory(picture) < memory:
                    ranges.append(extremes(picture))
                picture.close()  # frees its pixels
    return common_levels(ranges)


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
    largest = left = int(np.max(np.bincount(readable, minlength=len(tree.class_names))))
    for split, share in SHARES.items():
        if split not in tree.files:
            drawn, cap = max(1, round(share * largest)), getattr(config.per_class, split)
            left -= drawn if cap is None else min(drawn, cap)
    return max(1, min(left, config.per_class.train or left))
