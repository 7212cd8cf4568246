"""`+experiment=speed`: measures, prints the table, and fails only where a result is wrong."""

import importlib.util
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from convtl.config import Config
from convtl.config.speed import Measured, SpeedConfig
from convtl.speed import accelerator, decoding, growth, lenet, nets, start, whole_study
from convtl.speed.context import CPUS_ONLY, NEEDS_TORCH, Context
from convtl.speed.machine import measure_machine
from convtl.speed.result import Result
from convtl.speed.table import SPEED, lines, page, write_csv
from convtl.storage.cache import Cache
from convtl.study.record import versions
from convtl.study.store import accessible
from convtl.training.devices import device_line

MEASURES: Mapping[Measured, Callable[[Context], list[Result]]] = {
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


def run_speed(
    settings: Config,
    content: Mapping[str, Any],
    command: str,
    out: Path,
    cache: Cache,
    say: Callable[[str], None],
) -> int:
    """Measures what `settings.speed` asks for; writes out/speed.csv and out/report.md.

    Returns:
      The exit code: 1 where sides that should agree do not, whatever the speed.

    Raises:
      UserError: `out` cannot be written to.
    """
    assert settings.speed is not None
    speed = within_limits(settings.speed, settings)
    with accessible(out):
        out.mkdir(parents=True, exist_ok=True)
    say("the machine")
    machine = measure_machine(device_line(), speed.repeats)
    results: list[Result] = []
    known = ", ".join(
        f"{name} {number}" for name, number in {**versions(), **_torch_version()}.items()
    )
    with tempfile.TemporaryDirectory(prefix="convtl-speed-") as scratch:
        context = Context(
            settings,
            dict(content),
            speed,
            machine,
            cache,
            Path(scratch),
            _no_torch(),
            say,
        )
        for name in speed.measure:
            say(name)
            results += MEASURES[name](context)
            text = page(results, machine, settings.question or "", command, known)
            with accessible(out):  # what is measured stays, whatever comes after it
                write_csv(results, out / SPEED)
                (out / "report.md").write_text(text, encoding="utf-8")
    print(f"{lines(results)}\nreport: {out / 'report.md'}")
    return 1 if any(result.wrong for result in results) else 0


def within_limits(speed: SpeedConfig, settings: Config) -> SpeedConfig:
    """As `debug=` cuts it: few of everything."""
    limits = settings.limits
    if limits.updates is not None:
        speed = replace(
            speed, updates=min(speed.updates, limits.updates), net_updates=1, repeats=1, processes=1
        )
    if limits.images_per_class is not None:
        most = limits.images_per_class
        speed = replace(speed, images=min(speed.images, most), pictures=min(speed.pictures, most))
    return speed


def _no_torch() -> str | None:
    """Why PyTorch cannot be timed beside us, if it cannot."""
    if jax.default_backend() != "cpu":
        return CPUS_ONLY
    return NEEDS_TORCH if importlib.util.find_spec("torch") is None else None


def _torch_version() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return {"torch": version("torch")}
    except PackageNotFoundError:
        return {}
