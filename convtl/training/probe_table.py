"""The table of the probes: which configurations are missing, their rows on disk, gradients.csv."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from convtl.config.gradients import GradientsConfig
from convtl.config.schema import RESULTS_VERSION, Config
from convtl.data.domains import Domain, load_domain
from convtl.errors import StorageError, UserError, unknown_name
from convtl.keys import digest
from convtl.storage.cache import Cache
from convtl.storage.files import written
from convtl.training.probes import ProbeConfiguration, ProbeImages, configurations, draw_images

VERSION = 1
"""Raised whenever code changes the numbers of a probe."""

TABLE = "gradients.csv"
COLUMNS = (
    *("probe", "model", "activation", "initialiser", "hidden", "optimiser"),
    *("replicate", "update", "unit", "position", "quantity", "value"),
)
"""Of gradients.csv: one line a number. What does not apply, or is not defined, is empty."""


def run_gradients(config: Config, out: Path, cache: Cache, say: Callable[[str], None]) -> None:
    """Run every probe of `config.gradients` that `out` does not have, and write out/gradients.csv.

    Images are those of the study's (first) target. The rows of each configuration are a file of their own,
    out/probes/<probe>-<digest>.jsonl, so a killed run continues at the configuration at which it stopped.

    Args:
      say: takes a line before each configuration is run.

    Raises:
      UserError: no probes are asked for, the target has too few images, or `out` cannot be written to.
    """
    if config.gradients is None:
        raise UserError(
            "gradients: got null; accepted: keys of the probes, such as {replicates: 12}"
        )
    name = config.target[0]
    if name not in config.domains:
        raise unknown_name("target", name, config.domains)
    domain = load_domain(name, config.domains[name], cache.root, say)
    gradients = within_limits(config)
    listed = list(configurations(gradients))
    parts = [_part(out, configuration, config, gradients, domain) for configuration in listed]
    images: ProbeImages | None = None
    for number, (configuration, part) in enumerate(zip(listed, parts, strict=True), start=1):
        if part.exists():
            continue
        images = images or draw_images(domain, gradients, config.seed, config.classes)
        say(f"probe {number} of {len(listed)}: {configuration}")
        rows = _rows(configuration, images)
        _publish(part, "".join(f"{json.dumps(row, sort_keys=True)}\n" for row in rows))
    lines = [line for part in parts for line in part.read_text(encoding="utf-8").splitlines()]
    frame = pd.DataFrame([json.loads(line) for line in lines], columns=list(COLUMNS))
    whole = dict.fromkeys(("hidden", "replicate", "update", "position"), "Int64")
    _publish(out / TABLE, frame.astype(whole).to_csv(index=False))


def _part(
    out: Path,
    configuration: ProbeConfiguration,
    config: Config,
    gradients: GradientsConfig,
    domain: Domain,
) -> Path:
    """File of a configuration's rows, by all that its numbers depend on."""
    content = {
        "version": VERSION,
        "protocol": RESULTS_VERSION,
        "domain": domain.digest,
        "seed": config.seed,
        "classes": config.classes,
        "counts": [
            gradients.images_per_class,
            gradients.probe_per_class,
            gradients.test_per_class,
        ],
        "replicates": gradients.replicates,
        "setting": configuration.setting,
        "recipe": configuration.recipe,
    }
    return out / "probes" / f"{configuration.setting['probe']}-{digest(content)}.jsonl"


def _rows(configuration: ProbeConfiguration, images: ProbeImages) -> list[dict[str, Any]]:
    """Rows of the table; six digits are more than a measurement has."""
    return [
        {
            **configuration.setting,
            "replicate": replicate,
            "update": update,
            "unit": unit,
            "position": position,
            "quantity": quantity,
            "value": float(f"{float(value):.6g}") if math.isfinite(value) else None,
        }
        for update, unit, position, quantity, values in configuration.numbers(images)
        for replicate, value in enumerate(values)
    ]


def read_gradients(out: Path) -> pd.DataFrame:
    """The table of `out`, with `COLUMNS`.

    Raises:
      UserError: there is none, or it cannot be read.
    """
    path = out / TABLE
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"out: cannot read '{path}': {reason}") from None
    if missing := [column for column in COLUMNS if column not in frame]:
        raise UserError(f"out: '{path}' has no column {', '.join(missing)}")
    return frame


def _publish(path: Path, text: str) -> None:
    try:
        with written(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise StorageError(
            f"out: cannot write in '{path.parent}': {error.strerror or error}"
        ) from None


def within_limits(config: Config) -> GradientsConfig:
    """The probes of a study as its `limits` cut them; without any, those of the default config."""
    gradients, limits = config.gradients or GradientsConfig(), config.limits
    images = limits.images_per_class
    gradients = _shortened(gradients, limits.replicates, "replicates")
    for name in ("images_per_class", "probe_per_class", "test_per_class"):
        gradients = _shortened(gradients, images, name)
    updates, values = limits.updates, limits.values_per_axis
    half = None if updates is None else updates // 2
    profiles = _fewer(gradients.profiles, values, "activations", "initialisers", "hidden")
    convergence = _fewer(gradients.convergence, values, "activations")
    return replace(
        gradients,
        profiles=_shortened(profiles, updates, "updates", "lenet_updates"),
        convergence=_shortened(convergence, updates, "updates", "checkpoints"),
        freezing=_shortened(
            _shortened(_fewer(gradients.freezing, values, "pairs"), updates, "updates"), half, "at"
        ),
    )


def _fewer(config: Any, most: int | None, *names: str) -> Any:
    """At most `most` values of each tuple, the first and the last among them."""
    values = {name: getattr(config, name) for name in names}
    cut = {
        name: (*value[: most - 1], value[-1])
        for name, value in values.items()
        if most is not None and len(value) > most
    }
    return replace(config, **cut)


def _shortened(config: Any, most: int | None, *names: str) -> Any:
    """No number larger than `most`, alone or in a tuple."""
    if most is None:
        return config
    cut: dict[str, Any] = {}
    for name in names:
        value = getattr(config, name)
        if isinstance(value, int):
            cut[name] = min(value, most)
        else:
            cut[name] = tuple(dict.fromkeys(min(number, most) for number in value))
    return replace(config, **cut)
