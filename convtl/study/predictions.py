"""What a tuned net takes pictures for."""

import csv
import glob
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, UnidentifiedImageError

from convtl.data.folder import files_below
from convtl.errors import UserError, printable
from convtl.study.nets import SavedNet, load_net
from convtl.training.features import rows_at_once

Prediction = tuple[Path, Float[np.ndarray, "classes"]]


def net_in(folder: Path) -> SavedNet:
    """Load a tuned net.

    Raises:
      UserError: the folder is no net, holds several, or is damaged.
    """
    accepted = "accepted: a folder in nets/ of a run with save=best"
    if not (folder / "metadata.json").is_file():
        inside = [path for path in (folder, folder / "nets") if path.is_dir()]
        names = [net.parent for path in inside for net in sorted(path.glob("*/metadata.json"))]
        listed = ", ".join(f"'{net}'" for net in names[:5]) + ", ..." * (len(names) > 5)
        raise UserError(f"net: got '{folder}'; {accepted}{f', such as {listed}' if names else ''}")
    try:
        return load_net(folder)
    except UserError as error:
        raise UserError(f"net: {error}") from None
    except (ValueError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise UserError(
            f"net: '{folder}' is damaged ({type(error).__name__}); {accepted}"
        ) from None


def pictures_of(path: Path, typed: str) -> list[Path]:
    """List the files of a picture, of a folder as training lists it, or of a pattern, by name.

    What exists by that name is not taken for a pattern.

    Raises:
      UserError: there is none.
    """
    shown = path if typed.startswith("~") else Path(typed)  # relative ones are nicer to read back
    pattern = [] if path.exists() else glob.glob(_pattern(shown), recursive=True)  # noqa: PTH207
    matches = [shown] if path.exists() else [Path(name) for name in sorted(pattern)]
    files = [
        file
        for match in matches
        for file in (files_below(match) if match.is_dir() else [match] if match.is_file() else [])
    ]
    if not files:
        raise UserError(
            f"images: got '{typed}', which holds or names no file; accepted: a picture, a folder or a pattern"
        )
    return list(dict.fromkeys(files))


def _pattern(path: Path) -> str:
    """Brackets in the names of folders that exist are taken as they are; what follows is a pattern."""
    existing = next(parent for parent in path.parents if parent.exists())
    return str(Path(glob.escape(str(existing))) / path.relative_to(existing))


def predictions(net: SavedNet, files: Sequence[Path]) -> Iterator[Prediction]:
    """Yield (file, probabilities) of every picture that can be read, a batch in memory at a time.

    Other files are named on stderr.

    Raises:
      UserError: the net's outputs are no numbers.
    """
    readable = _images(net, files)
    while batch := list(islice(readable, rows_at_once(net.network.input_shape))):
        logits = net.logits(np.stack([image for _, image in batch])).astype(float)
        if not np.isfinite(logits).all():
            raise UserError(
                "net: its outputs are not finite; accepted: a net of a trial that is done"
            )
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        yield from zip((file for file, _ in batch), shares, strict=True)


def _images(
    net: SavedNet, files: Sequence[Path]
) -> Iterator[tuple[Path, UInt8[np.ndarray, "height width channels"]]]:
    for file in files:
        try:
            with warnings.catch_warnings(), Image.open(file) as picture:
                warnings.simplefilter("ignore")  # of Pillow, about odd tags
                image = net.image(picture)
        except (UserError, MemoryError):
            raise
        except Exception as error:  # decoders of damaged files raise nearly anything
            print(f"convtl: left out {_shown(file)}: {_reason(error)}", file=sys.stderr)
            continue
        yield file, image


def _reason(error: Exception) -> str:
    kinds: dict[type[Exception], str] = {
        UnidentifiedImageError: "no picture of a format that can be read",
        Image.DecompressionBombError: "too large",
        PermissionError: "may not be read",
    }
    return next((text for kind, text in kinds.items() if isinstance(error, kind)), "damaged")


def as_text(prediction: Prediction, classes: Sequence[str], top: int) -> None:
    """Print a line: the file, and its most probable labels."""
    file, shares = prediction
    likely = (f"{printable(classes[i])} {shares[i]:.3f}" for i in _largest(shares, top))
    print(f"{_shown(file)}: {', '.join(likely)}", flush=True)


def as_csv(prediction: Prediction, classes: Sequence[str], top: int) -> None:
    """Print a line of a table."""
    file, shares = prediction
    cells = ((classes[i], f"{shares[i]:.6f}") for i in _largest(shares, top))
    csv.writer(sys.stdout, lineterminator="\n").writerow(
        [os.fsencode(file).decode("utf-8", "replace"), *(cell for pair in cells for cell in pair)]
    )


def csv_header(classes: Sequence[str], top: int) -> str:
    """Return the names of the table's columns."""
    places = ["", *(f"_{place}" for place in range(2, min(top, len(classes)) + 1))]
    return ",".join(["image", *(f"label{place},probability{place}" for place in places)])


def _shown(file: Path) -> str:
    """A path as one line that can be printed, whatever bytes its name has."""
    return printable(os.fsencode(file).decode("utf-8", "replace"))


def _largest(shares: Float[np.ndarray, "classes"], top: int) -> Sequence[int]:
    """Places of the largest, that of the first class where two are equal."""
    return [int(index) for index in np.argsort(-shares, kind="stable")[:top]]
