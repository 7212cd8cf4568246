"""Time training, studies, features and decoding, beside PyTorch where it is installed.

usage: python experiments/speed/run.py [measure=lenet,depths] [debug=smoke] [out=DIR] [publish=DIR] [KEY=N]

About 20 minutes on 2 cores. Exits with 1 only where sides that should agree do not. KEY is one of repeats, updates,
images, net_updates, pictures, processes, share (see options.py). publish=DIR also writes README.md and speed.csv there.
"""

import importlib.util
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import accelerator
import decoding
import growth
import jax
import lenet
import nets
import start
import whole_study
from context import CPUS_ONLY, NEEDS_TORCH, Context
from machine import measure_machine
from options import MEASURES, SpeedOptions
from result import Result
from table import SPEED, lines, page, write_csv

from convtl.cli import compose
from convtl.config.parsing import parse
from convtl.config.schema import Config
from convtl.entry import folder, guarded
from convtl.errors import UserError
from convtl.storage.cache import Cache, default_root
from convtl.study.grid import expand
from convtl.study.record import versions, without_paths
from convtl.study.store import accessible
from convtl.training.devices import device_line, use_all_cores

QUESTION = (
    "How fast are training runs, studies, features of real nets and decoding, against PyTorch on the same "
    "machine and against what the machine can do?"
)
FUNCTIONS: Mapping[str, Callable[[Context], list[Result]]] = {
    "lenet": lenet.full_fine_tuning,
    "depths": lenet.depths,
    "heads": lenet.heads,
    "growth": growth.growth,
    "nets": nets.real_nets,
    "study": whole_study.default_study,
    "decoding": decoding.decoding,
    "start": start.starting,
    "accelerator": accelerator.accelerator,
}
_KEYS = {field.name for field in fields(SpeedOptions)} | {"debug", "out", "publish"}


def main(words: list[str]) -> int:
    """Measure what the words ask for; write speed.csv and report.md; return the exit code.

    Raises:
      UserError: a word is not accepted, or `out` cannot be written.
    """
    if {"-h", "--help"} & set(words):
        print(__doc__)
        return 0
    given = dict(word.split("=", 1) for word in words if "=" in word)
    if len(given) != len(words) or set(given) - _KEYS or "" in given.values():
        raise UserError(
            f"got '{' '.join(words)}'; accepted: {', '.join(f'{k}=' for k in sorted(_KEYS))}"
        )
    use_all_cores()
    limits = [f"debug={given['debug']}"] if "debug" in given else []
    content = compose(["+experiment=finetune_depth", "study=speed", *limits])
    settings, _ = expand(parse(content))
    options = _options(given, settings)
    out = folder("out", given.get("out", "outputs/speed"))
    with accessible(out):
        out.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    machine = measure_machine(device_line(), options.repeats)
    known = ", ".join(
        f"{name} {number}" for name, number in (versions() | _torch_version()).items()
    )
    command = without_paths(shlex.join(["python", "experiments/speed/run.py", *words]))
    with tempfile.TemporaryDirectory(prefix="convtl-speed-") as scratch:
        cache = Cache(default_root())
        context = Context(
            settings, dict(content), options, machine, cache, Path(scratch), _no_torch(), _say
        )
        for name in options.measure:
            _say(name)
            results += FUNCTIONS[name](context)
            text = page(results, machine, QUESTION, command, known)
            with accessible(out):  # what is measured stays, whatever comes after it
                write_csv(results, out / SPEED)
                (out / "report.md").write_text(text, encoding="utf-8")
    print(f"{lines(results)}\nreport: {out / 'report.md'}")
    if "publish" in given:
        target = folder("publish", given["publish"])
        with accessible(target):
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(out / SPEED, target / SPEED)
            shutil.copyfile(out / "report.md", target / "README.md")
    return 1 if any(result.wrong for result in results) else 0


def _options(given: Mapping[str, str], settings: Config) -> SpeedOptions:
    """Read the options; cut them by the limits of `debug=`."""
    names = tuple(given.get("measure", ",".join(MEASURES)).strip("[]").split(","))
    if wrong := [name for name in names if name not in FUNCTIONS]:
        raise UserError(f"measure: got '{wrong[0]}'; accepted: {', '.join(MEASURES)}")
    counts = {
        key: value
        for key, value in given.items()
        if key not in ("measure", "debug", "out", "publish")
    }
    for key, value in counts.items():
        if not value.isdecimal() or int(value) < 1:
            raise UserError(f"{key}: got '{value}'; accepted: a whole number, 1 or more")
    options = SpeedOptions(measure=names)
    limits = settings.limits
    if limits.updates is not None:
        updates = min(options.updates, limits.updates)
        options = replace(options, updates=updates, net_updates=1, repeats=1, processes=1)
    if limits.images_per_class is not None:
        most = limits.images_per_class
        options = replace(
            options, images=min(options.images, most), pictures=min(options.pictures, most)
        )
    return replace(options, **{key: int(value) for key, value in counts.items()})


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _no_torch() -> str | None:
    """Why PyTorch cannot be timed beside us, if it cannot."""
    if jax.default_backend() != "cpu":
        return CPUS_ONLY
    return NEEDS_TORCH if importlib.util.find_spec("torch") is None else None


def _torch_version() -> dict[str, str]:
    try:
        return {"torch": version("torch")}
    except PackageNotFoundError:
        return {}


if __name__ == "__main__":
    sys.exit(guarded(main))
