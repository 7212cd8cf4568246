"""Measured similarity of every source and target of a study, beside the trials: `similarity.jsonl` in `out`.

Distances between the images of source and target, in a space that depends on no net; and estimators of how
well the source net should transfer, on target images of which no trial of the study makes use. Both are taken
once for each source, target and replicate, and looked up by the rows.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convtl.data.batches import standardise
from convtl.errors import UserError
from convtl.keys import digest
from convtl.study.grid import Trial
from convtl.study.group import describe
from convtl.study.materials import Materials
from convtl.study.similarity import PER_CLASS, data_distances, transferability_of, unused_images
from convtl.study.sources import source_name
from convtl.study.store import Row, accessible

FILE = "similarity.jsonl"
_PLACE = ("model", "source", "similarity", "target", "replicate")


def place_of(row: Mapping[str, Any]) -> str:
    """What a row's measures are found by: its protocol, source net and target draw, whatever was tuned how."""
    contents = {role: row["contents"][role] for role in ("model", "source", "target")}
    axes = {key: value for key, value in row.get("axes", {}).items() if key not in ("upper_init", "kept")}
    place = {key: row.get(key) for key in _PLACE}
    if source_name(str(row.get("source"))).base == "self":  # trained on as many images as the trial has
        place["n_per_class"] = row.get("n_per_class")
    return digest([row.get("config"), place, contents, axes])


def read_measured(out: Path) -> dict[str, dict[str, float]]:
    """Place -> its measures; empty where none were taken."""
    path = out / FILE
    if not path.exists():
        return {}
    with accessible(out, "read"):
        lines = path.read_text(encoding="utf-8").splitlines()
    found: dict[str, dict[str, float]] = {}
    for line in lines:
        try:
            entry = json.loads(line)
            found[entry["place"]] = entry["measures"]
        except (ValueError, KeyError, TypeError):  # a line torn by a kill
            continue
    return found


def with_measures(rows: Iterable[Row], measured: Mapping[str, Mapping[str, float]]) -> list[Row]:
    """Rows with the measures of their source and target as columns."""
    return [row | dict(measured.get(place_of(row), {})) if "contents" in row else row for row in rows]


def measure(
    trials: Sequence[Trial], materials: Materials, out: Path, working_on: Callable[[str], None]
) -> None:
    """Takes the measures that `out` does not hold yet; a kill loses at most the one at work."""
    known = read_measured(out)
    places: dict[str, list[Trial]] = {}
    for trial in trials:
        if not source_name(trial.source).fresh:
            places.setdefault(place_of(describe(trial)), []).append(trial)
    missing = {
        place: max(own, key=lambda t: t.n_per_class) for place, own in places.items() if place not in known
    }
    materials.sources.prepare(  # a finished study has asked for none
        missing.values(), lambda ready, of: working_on(f"fetching source nets ({ready} of {of} ready)")
    )
    for number, (place, trial) in enumerate(missing.items()):
        working_on(f"measuring similarity ({number} of {len(missing)} done)")
        entry = {"place": place, **{key: getattr(trial, key) for key in _PLACE}}
        line = json.dumps(entry | {"measures": _measures(trial, materials, _largest(trials, trial))})
        _append(out, line)


def _append(out: Path, line: str) -> None:
    """Adds a line of its own, also where a kill has left half of one."""
    path = out / FILE
    with accessible(out):
        torn = path.exists() and not path.read_bytes().endswith(b"\n")
        with path.open("a", encoding="utf-8") as file:
            file.write("\n" * torn + line + "\n")


def _largest(trials: Sequence[Trial], like: Trial) -> int:
    """The largest number of labels a class that any trial takes from this trial's target draw."""
    return max(
        t.n_per_class
        for t in trials
        if t.target == like.target and t.settings.classes == like.settings.classes
    )


def _measures(trial: Trial, materials: Materials, n_used: int) -> dict[str, float]:
    data = materials.target_data(trial)
    name = source_name(trial.source)
    try:
        positions = unused_images(data.draw.train, n_used, PER_CLASS)
    except UserError:  # every image is in use: nothing can be measured without looking at it twice
        return {}
    if name.base == "same_classes":  # trained on just these images
        return {}
    pixels = data.pixels("train", positions.ravel())
    labels = np.repeat(np.arange(data.classes), positions.shape[1])
    request = materials.sources.requests(trial)[0]
    found: dict[str, float] = {}
    if not name.variant:  # a control has the images of its source
        images, classes = request.images("train")
        found |= data_distances(images, classes, pixels, labels)
    variables = materials.sources.net(trial)
    return found | transferability_of(request.network(), variables, standardise(pixels), labels)
