"""usage: python -m convtl.predict net=DIR images=PATH [top=3]

Prints labels and probabilities of pictures as CSV, by a net that a run with save=best has kept in nets/.
images=PATH is a picture or a folder (with all folders in it); what cannot be read is named on stderr and left out.
Example:
  python -m convtl.predict net=outputs/my_pictures/nets/NAME 'images=~/new pictures' > labels.csv
"""

import csv
import sys
from itertools import chain

from convtl.entry import command, folder, is_read, keywords
from convtl.errors import UserError


def main(words: list[str]) -> int:
    """Label pictures."""
    defaults = {"net": None, "images": None, "top": "3"}
    typed = keywords(words, defaults, "net=DIR images=PATH [top=3]")
    if not (typed["top"].isdecimal() and int(typed["top"]) > 0):
        raise UserError(f"top: got '{typed['top']}'; accepted: a whole number from 1")
    from convtl.runtime.backend import prepare_jax  # JAX: not for wrong words
    from convtl.study.nets import load_net, pictures_of, predictions

    prepare_jax()
    net = load_net(folder("net", typed["net"]))
    files = pictures_of(folder("images", typed["images"]))
    rows = predictions(net, files)
    if (first := next(rows, None)) is None:
        raise UserError(
            f"images: got '{typed['images']}'; accepted: pictures (of {len(files)} files none is one)"
        )
    top = min(int(typed["top"]), len(net.classes))
    columns = [f"{name}_{n}" for n in range(1, top + 1) for name in ("label", "probability")]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["image", *(name.removesuffix("_1") for name in columns)])
    for file, shares in chain([first], rows):
        likely = (-shares).argsort(kind="stable")[:top]  # of equal ones the first class comes first
        cells = [cell for i in likely for cell in (net.classes[i], f"{shares[i]:.6f}")]
        writer.writerow([file, *cells])
        sys.stdout.flush()
        if not is_read():  # `predict ... | head`: the other pictures need not be decoded
            break
    return 0


if __name__ == "__main__":
    command(main)
