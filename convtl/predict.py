"""usage: python -m convtl.predict net=DIR images=PATH [top=3] [format=text|csv]

Prints labels and probabilities of pictures, by a net that a run with save=best has kept in nets/.
images=PATH is a picture, a folder (with all folders in it) or a pattern, as typed, ~, spaces and brackets included;
what cannot be read is named on stderr and left out.
Example:
  python -m convtl.predict net=outputs/my_pictures/nets/NAME 'images=~/new pictures/*.jpg'
"""

from itertools import chain

from convtl.entry import command, folder, keywords
from convtl.errors import UserError


def main(words: list[str]) -> int:
    """Label pictures."""
    defaults = {"net": None, "images": None, "top": "3", "format": "text"}
    typed = keywords(words, defaults, "net=DIR images=PATH [top=3] [format=text|csv]")
    if not (typed["top"].isdecimal() and int(typed["top"]) > 0):
        raise UserError(f"top: got '{typed['top']}'; accepted: a whole number from 1")
    if typed["format"] not in ("text", "csv"):
        raise UserError(f"format: got '{typed['format']}'; accepted: text or csv")
    from convtl.runtime.backend import prepare_jax  # JAX: not for wrong words
    from convtl.study import predictions as work

    prepare_jax()
    net, top = work.net_in(folder("net", typed["net"])), int(typed["top"])
    files = work.pictures_of(folder("images", typed["images"]), typed["images"])
    rest = work.predictions(net, files)
    if (first := next(rest, None)) is None:
        raise UserError(
            f"images: got '{typed['images']}'; accepted: pictures (of {len(files)} files none is one)"
        )
    if typed["format"] == "csv":
        print(work.csv_header(net.classes, top))
    show = work.as_csv if typed["format"] == "csv" else work.as_text
    for prediction in chain([first], rest):
        show(prediction, net.classes, top)
    return 0


if __name__ == "__main__":
    command(main)
