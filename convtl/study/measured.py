"""Measured similarity of every source and target of a study, beside the trials: `similarity.jsonl` in `out`.

Distances between the images of source and target, in a space that depends on no net; and estimators of how
well the source net should transfer, on target images of which no trial of the study makes use. Where there are
no such images, only the distances are taken. Both are taken once for each source, target and replicate, and
looked up by the rows.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from convtl.data.inputs import normalised
from convtl.keys import digest
from convtl.study.columns import Table, column_of
from convtl.study.grid import Trial
from convtl.study.materials import Materials
from convtl.study.rows import describe
from convtl.study.similarity import PER_CLASS, data_distances, transferability_of, unused_images
from convtl.study.sources import source_name
from convtl.study.store import Row, accessible
from convtl.training.pretrain import SourceRequest

FILE = "similarity.jsonl"
_FEWEST = 2
"""Images of a side that a distance wants at least."""
_PLACE = ("model", "source", "similarity", "target", "replicate")


def place_of(row: Mapping[str, Any]) -> str:
    """What a row's measures are found by: its protocol, source net and target draw, whatever was tuned how."""
    contents = {role: row["contents"][role] for role in ("model", "source", "target")}
    axes = {
        key: value
        for key, value in row.get("axes", {}).items()
        if key not in ("upper_init", "kept")
    }
    place = {key: row.get(key) for key in _PLACE}
    if (
        source_name(str(row.get("source"))).base == "self"
    ):  # trained on as many images as the trial has
        place["n_per_class"] = row.get("n_per_class")
    return digest([row.get("config"), place, contents, axes])


def read_measured(out: Path) -> dict[str, dict[str, float]]:
    """Place -> its measures; empty where none were taken."""
    return {place: entry["measures"] for place, entry in _entries(out).items()}


def not_measured(out: Path) -> list[str]:
    """What the trials left no images for, one line each."""
    wanting: dict[tuple[str, str], bool] = {}
    for entry in _entries(out).values():
        if _by_design(entry) or not _lacking(entry):
            continue
        given = ""
        if without := entry.get("without"):
            left = max(0, without["pool"] - without["n_used"])
            given = f", given {left} ({without['pool']} less n_per_class={without['n_used']})"
        place = str(entry["target"]), given
        wanting[place] = wanting.get(place, False) or bool(entry["measures"])
    return [
        f"transferability to {target} (distances=true): needed {PER_CLASS} train images a class that no trial "
        f"uses{given}; {'only distances between data sets were taken' if some else 'nothing was measured'}"
        for (target, given), some in wanting.items()
    ]


def _entries(out: Path) -> dict[str, dict[str, Any]]:
    """Place -> the last line that was written of it."""
    path = out / FILE
    if not path.exists():
        return {}
    with accessible(out, "read"):
        lines = path.read_text(encoding="utf-8").splitlines()
    found: dict[str, dict[str, Any]] = {}
    for line in lines:
        with suppress(ValueError, KeyError, TypeError):  # a line torn by a kill
            entry = json.loads(line)
            found[entry["place"]] = {**entry, "measures": dict(entry["measures"])}
    return found


def _by_design(entry: Mapping[str, Any]) -> bool:
    """A net that was trained on just the images that it would be measured on."""
    return source_name(str(entry["source"])).base == "same_classes"


def _lacking(entry: Mapping[str, Any]) -> bool:
    """Whether images were wanting; in a line from before that was noted, whether nothing was taken."""
    return "without" in entry or not entry["measures"]


def _open(entry: Mapping[str, Any] | None, n_used: int) -> bool:
    """Whether something is left to be measured, now that trials use `n_used` images a class."""
    if entry is None:
        return True
    if _by_design(entry) or not _lacking(entry):
        return False
    return "without" not in entry or n_used < int(entry["without"]["n_used"])


def with_measures(rows: Iterable[Row], measured: Mapping[str, Mapping[str, float]]) -> Table:
    """Rows with the measures of their source and target as columns."""
    table = Table.of(rows)
    if not measured:
        return table
    found = [measured.get(place_of(row), {}) if "contents" in row else {} for row in table]
    columns = {}
    for name in dict.fromkeys(name for own in measured.values() for name in own):
        before = table.column(name).objects()
        columns[name] = column_of(
            [own.get(name, old) for own, old in zip(found, before, strict=True)]
        )
    return table.with_columns(columns)


def measure(
    trials: Sequence[Trial], materials: Materials, out: Path, working_on: Callable[[str], None]
) -> None:
    """Takes the measures that `out` does not hold yet; a kill loses at most the one at work."""
    known = _entries(out)
    places: dict[str, list[Trial]] = {}
    for trial in trials:
        if not source_name(trial.source).fresh:
            places.setdefault(place_of(describe(trial)), []).append(trial)
    used = _largest(trials)
    asked = {place: max(own, key=lambda t: t.n_per_class) for place, own in places.items()}
    missing = {
        place: trial
        for place, trial in asked.items()
        if _open(known.get(place), used[_draw_of(trial)])
    }
    materials.sources.prepare(  # a finished study has asked for none
        missing.values(),
        lambda ready, of: working_on(f"fetching source nets ({ready} of {of} ready)"),
    )
    for number, (place, trial) in enumerate(missing.items()):
        working_on(f"measuring similarity ({number} of {len(missing)} done)")
        entry = {"place": place, **{key: getattr(trial, key) for key in _PLACE}}
        _append(out, json.dumps(entry | _measures(trial, materials, used[_draw_of(trial)])))


def _append(out: Path, line: str) -> None:
    """Adds a line of its own, also where a kill has left half of one."""
    path = out / FILE
    with accessible(out):
        torn = path.exists() and not path.read_bytes().endswith(b"\n")
        with path.open("a", encoding="utf-8") as file:
            file.write("\n" * torn + line + "\n")


def _draw_of(trial: Trial) -> tuple[str, int | None]:
    """Trials of one target draw, but for the replicate."""
    return trial.target, trial.settings.classes


def _largest(trials: Sequence[Trial]) -> dict[tuple[str, int | None], int]:
    """The largest number of labels a class that any trial takes from a target draw."""
    found: dict[tuple[str, int | None], int] = {}
    for trial in trials:
        place = _draw_of(trial)
        found[place] = max(found.get(place, 0), trial.n_per_class)
    return found


def _measures(trial: Trial, materials: Materials, n_used: int) -> dict[str, Any]:
    """`measures`, and `without` where there are too few images that no trial uses."""
    data, name = materials.target_data(trial), source_name(trial.source)
    pool = data.draw.train.shape[1]
    found: dict[str, Any] = {"measures": {}}
    if name.base == "same_classes":  # trained on just these images
        return found
    if enough := pool - n_used >= PER_CLASS:
        positions = unused_images(data.draw.train, n_used, PER_CLASS)
    else:  # a distance between data hangs on no net, so that it may look at what nets are trained on
        found["without"] = {"n_used": n_used, "pool": pool}
        positions = data.draw.train[:, -PER_CLASS:]
    if not enough and (name.variant or name.base == "self" or positions.size < _FEWEST):
        return found
    pixels = data.pixels("train", positions.ravel())
    labels = np.repeat(np.arange(data.classes), positions.shape[1])
    request = materials.sources.requests(trial)[0]
    # A control has the images of its source; those that imported weights were trained on are not at hand.
    if not name.variant and isinstance(request, SourceRequest):
        images, classes = request.images("train")
        found["measures"] |= data_distances(images, classes, pixels, labels)
    if enough:
        own, inputs = materials.sources.net(trial), normalised(pixels, data.normalisation)
        found["measures"] |= transferability_of(request.network(), own, inputs, labels)
    return found
