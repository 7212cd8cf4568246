"""Rows of the probes on disk, one file a configuration, and gradients.csv."""

import json
import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from convtl.config.gradients import GradientsConfig
from convtl.config.schema import RESULTS_VERSION, Config
from convtl.data.domains import Domain, load_domain
from convtl.errors import UserError, unknown_name
from convtl.keys import digest
from convtl.storage.cache import Cache
from convtl.storage.files import storage_errors, written
from convtl.training.probes import (
    ProbeConfiguration,
    ProbeImages,
    configurations,
    draw_images,
    replicate_layout,
)

VERSION = 1
"""Raised whenever code changes the numbers of a probe."""

TABLE = "gradients.csv"
COLUMNS = (
    *("probe", "model", "activation", "initialiser", "hidden", "optimiser"),
    *("replicate", "update", "unit", "position", "quantity", "value"),
)
"""Of gradients.csv: one line a number. What does not apply, or is not defined, is empty."""


def run_gradients(config: Config, out: Path, cache: Cache, say: Callable[[str], None]) -> None:
    """Run the probes that `out` does not have, and write out/gradients.csv.

    Images are those of the study's (first) target. The rows of each configuration are a file of their own,
    out/probes/<probe>-<digest>.jsonl, so a killed run continues at the configuration at which it stopped.

    Args:
      say: takes a line before each configuration is run.

    Raises:
      UserError: the target has too few images, or `out` cannot be written to.
    """
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
        "devices": len(replicate_layout(gradients.replicates).devices),
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
    with storage_errors("out", path.parent), written(path) as file:
        file.write(text.encode())


def within_limits(config: Config) -> GradientsConfig:
    """Return the probes of a study as its `limits` cut them."""
    limits = config.limits
    images, updates = limits.images_per_class, limits.updates
    most = {"replicates": limits.replicates, "images_per_class": images, "probe_per_class": images}
    most |= {"test_per_class": images, "at": None if updates is None else updates // 2}
    most |= dict.fromkeys(("updates", "lenet_updates", "checkpoints"), updates)

    def cut(name: str, value: Any) -> Any:
        if is_dataclass(value) and not isinstance(value, type):
            changes = {key.name: cut(key.name, getattr(value, key.name)) for key in fields(value)}
            return replace(value, **changes)
        limit = most.get(name, limits.values_per_axis)
        if limit is None:
            return value
        if isinstance(value, tuple) and name in most:  # numbers of updates
            return tuple(dict.fromkeys(min(number, limit) for number in value))
        if isinstance(value, tuple) and len(value) > limit:  # its first values and the last
            return (*value[: limit - 1], value[-1])
        return min(value, limit) if name in most else value

    cut_config: GradientsConfig = cut("gradients", config.gradients)
    return cut_config
