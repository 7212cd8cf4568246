"""`python -m convtl.predict net=PATH images=PATH`: what a tuned net takes pictures for.

Keys:
  net: a folder in nets/ of a run (`save=best`).
  images: a picture, a folder (with all folders in it), or a pattern such as `photos/*.jpg`; as typed, `~`,
    spaces and brackets included. What exists by that name is not taken for a pattern.
  top: how many labels of each picture are printed, the most probable first.
  format: `text`, a line a picture, or `csv`, with a header.
"""

import csv
import glob
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TextIO

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, UnidentifiedImageError

from convtl.entry import folder, guarded
from convtl.errors import UserError
from convtl.runtime.programs import keep_programs
from convtl.study.nets import SavedNet, load_net
from convtl.training.features import rows_at_once

HELP = """usage: python -m convtl.predict net=DIR images=PATH [top=3] [format=text|csv]

Prints labels and probabilities of pictures, by a net that a run with save=best has kept in nets/.
images=PATH is a picture, a folder or a pattern; what cannot be read is named on stderr and left out.
Example:
  python -m convtl.predict net=outputs/my_pictures/nets/NAME 'images=~/new pictures/*.jpg'
"""
_KEYS = {"net": "", "images": "", "top": "3", "format": "text"}
_FORMATS = ("text", "csv")


def asked(words: Sequence[str]) -> dict[str, str]:
    """The keys as typed, with their defaults.

    Raises:
      UserError: a key is unknown or missing, or a value is not accepted.
    """
    given = {key: value for key, _, value in (word.partition("=") for word in words)}
    unknown = [word for word in words if "=" not in word or word.partition("=")[0] not in _KEYS]
    if unknown:
        raise UserError(f"got '{unknown[0]}'; accepted: {', '.join(f'{key}=...' for key in _KEYS)}")
    for key in ("net", "images"):
        if not given.get(key):
            raise UserError(
                f"{key}: missing; accepted: net=DIR images=PATH [top=3] [format=text|csv]"
            )
    known = _KEYS | given
    if not (known["top"].isdecimal() and int(known["top"]) > 0):
        raise UserError(f"top: got '{known['top']}'; accepted: a whole number from 1")
    if known["format"] not in _FORMATS:
        raise UserError(f"format: got '{known['format']}'; accepted: {' or '.join(_FORMATS)}")
    return known


def files_of(typed: str) -> list[Path]:
    """The files that `images` names, in the order of their names; hidden ones in folders are left out.

    Raises:
      UserError: there is none.
    """
    path = folder("images", typed)
    shown = path if typed.startswith("~") else Path(typed)  # relative ones are nicer to read back
    matches = [str(shown)] if path.exists() else sorted(glob.glob(_pattern(shown), recursive=True))  # noqa: PTH207
    found = [Path(match) for match in matches]
    files = [file for one in found for file in _in(one)]
    if not files:
        what = (
            "holds no file"
            if path.is_dir()
            else "is no file and no folder, and matches none as a pattern"
        )
        raise UserError(
            f"images: got '{typed}', which {what}; accepted: a picture, a folder or a pattern"
        )
    return list(dict.fromkeys(files))


def _pattern(path: Path) -> str:
    """Brackets in the names of folders that exist are taken as they are; what follows is a pattern."""
    there = next(parent for parent in path.parents if parent.exists())
    return str(Path(glob.escape(str(there))) / path.relative_to(there))


def _in(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    inside = [file for file in path.rglob("*") if file.is_file()]
    return sorted(
        f for f in inside if not any(part.startswith(".") for part in f.relative_to(path).parts)
    )


def predictions(
    net: SavedNet, files: Sequence[Path], errors: TextIO
) -> Iterator[tuple[Path, Float[np.ndarray, "classes"]]]:
    """(file, probabilities of the classes) of every picture that can be read, a batch in memory at a time.

    Args:
      errors: is told of every other file, a line each.
    """
    readable = _images(net, files, errors)
    while batch := list(islice(readable, rows_at_once(net.network.input_shape))):
        logits = net.logits(np.stack([image for _, image in batch])).astype(float)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        yield from zip((file for file, _ in batch), shares, strict=True)


def _images(
    net: SavedNet, files: Sequence[Path], errors: TextIO
) -> Iterator[tuple[Path, UInt8[np.ndarray, "height width channels"]]]:
    for file in files:
        try:
            with warnings.catch_warnings(), Image.open(file) as picture:
                warnings.simplefilter("ignore")  # of Pillow, about odd tags
                image = net.image(picture)
        except (UserError, MemoryError):
            raise
        except Exception as error:  # decoders of damaged files raise nearly anything
            print(f"convtl: left out {_shown(file)}: {_reason(error)}", file=errors)
            continue
        yield file, image


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "no picture of a format that can be read"
    if isinstance(error, Image.DecompressionBombError):
        return "too large"
    if isinstance(error, PermissionError):
        return "may not be read"
    return "damaged"


def _text(found: Iterable[tuple[Path, np.ndarray]], classes: Sequence[str], top: int) -> None:
    for file, shares in found:
        likely = [f"{classes[index]} {shares[index]:.3f}" for index in _first(shares, top)]
        print(f"{_shown(file)}: {', '.join(likely)}", flush=True)


def _csv(found: Iterable[tuple[Path, np.ndarray]], classes: Sequence[str], top: int) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    places = ["", *(f"_{place}" for place in range(2, min(top, len(classes)) + 1))]
    writer.writerow(
        ["image", *(f"{name}{place}" for place in places for name in ("label", "probability"))]
    )
    for file, shares in found:
        likely = [(classes[index], f"{shares[index]:.6f}") for index in _first(shares, top)]
        writer.writerow([_shown(file), *(cell for pair in likely for cell in pair)])


def _shown(file: Path) -> str:
    """A path that can be printed, whatever bytes its name has."""
    return os.fsencode(file).decode("utf-8", "replace")


def _first(shares: Float[np.ndarray, "classes"], top: int) -> Sequence[int]:
    """Places of the largest, that of the first class where two are equal."""
    return [int(index) for index in np.argsort(-shares, kind="stable")[:top]]


def _main(words: list[str]) -> int:
    if {"-h", "--help"} & set(words):
        print(HELP)
        return 0
    known = asked(words)
    path = folder("net", known["net"])
    if not path.is_dir():
        raise UserError(
            f"net: got '{known['net']}'; accepted: a folder in nets/ of a run with save=best"
        )
    files = files_of(known["images"])
    keep_programs()
    try:
        net = load_net(path)
    except UserError as error:
        raise UserError(f"net: {error}") from None
    found = predictions(net, files, sys.stderr)
    if (first := next(found, None)) is None:
        raise UserError(
            f"images: got '{known['images']}'; accepted: pictures (of {len(files)} files none is one)"
        )
    write = _csv if known["format"] == "csv" else _text
    write(chain([first], found), net.classes, int(known["top"]))
    return 0


def main() -> None:
    """Entry point of `convtl-predict`."""
    sys.exit(guarded(_main))


if __name__ == "__main__":
    main()
