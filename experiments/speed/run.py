"""Time training, features and the default study, also of PyTorch if installed.

usage: python experiments/speed/run.py [measure=lenet,nets,study,start] [debug=smoke] [out=DIR] [KEY=N]

About 20 minutes on 2 cores. Writes speed.csv and README.md into out (default outputs/speed). KEY is one of rounds (7),
updates (100, of LeNet-5), images (512, whose features are computed). PyTorch's side is for CPUs; it takes
`pip install 'convtl[foreign]'`. Exits with 1 only where losses or features differ that should agree.
"""

import shlex
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import jax
from comparing import Result, write
from studies import start, study
from training import Amounts, lenet, nets

from convtl.analysis.record import without_paths
from convtl.entry import folder, guarded
from convtl.errors import UserError
from convtl.study.store import versions
from convtl.training.devices import device_line, use_all_cores

MEASURES = {"lenet": lenet, "nets": nets, "study": study, "start": start}
_AMOUNTS = {"rounds": 7, "updates": 100, "images": 512}
_SMOKE = {"rounds": 1, "updates": 4, "images": 32}


def main(words: list[str]) -> int:
    """Take the chosen measurements and write the table; return the exit code.

    Raises:
      UserError: a word is not accepted.
    """
    if {"-h", "--help"} & set(words):
        print(__doc__)
        return 0
    given = dict(word.partition("=")[::2] for word in words)
    accepted = {"measure", "debug", "out", *_AMOUNTS}
    if set(given) - accepted or "" in given.values() or given.get("debug", "smoke") != "smoke":
        raise UserError(f"got '{' '.join(words)}'; accepted: {', '.join(sorted(accepted))}=...")
    names = given.get("measure", ",".join(MEASURES)).split(",")
    if set(names) - set(MEASURES):
        raise UserError(f"measure: got '{given['measure']}'; accepted: {', '.join(MEASURES)}")
    numbers = dict(_SMOKE if "debug" in given else _AMOUNTS)
    for key in set(given) & set(numbers):
        if not given[key].isdecimal() or int(given[key]) < 1:
            raise UserError(f"{key}: got '{given[key]}'; accepted: a whole number from 1")
        numbers[key] = int(given[key])
    out = folder("out", given.get("out", "outputs/speed"))
    use_all_cores()
    torch = find_spec("torchvision") is not None and jax.default_backend() == "cpu"
    page = {
        "command": without_paths(shlex.join(["python", "experiments/speed/run.py", *words])),
        "machine": device_line(),
        "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
    }
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="convtl-speed-") as scratch:
        amounts = Amounts(**numbers, scratch=Path(scratch), smoke="debug" in given)
        for name in names:
            print(name, file=sys.stderr)
            for result in MEASURES[name](amounts, torch):
                print(*result.cells, sep=" | ", flush=True)
                results.append(result)
            write(results, out, **page)  # a figure stays, whatever happens to later ones
    return int(any(result.wrong for result in results))


if __name__ == "__main__":
    sys.exit(guarded(main))
