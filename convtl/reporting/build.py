"""From the rows of a folder to its table and report."""

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from convtl.analysis.advised import advise
from convtl.analysis.arms import LONG, blocks, frame
from convtl.analysis.columns import Table
from convtl.analysis.reading import read_rows
from convtl.analysis.results import with_similarity, write_table
from convtl.config.domains import ImageFolderConfig, TfdsConfig, TypedScriptConfig
from convtl.config.roles import dump
from convtl.config.schema import Config
from convtl.data.domains import Domain
from convtl.keys import digest
from convtl.reporting import advice
from convtl.reporting.comparable import comparable
from convtl.reporting.costs import uncached
from convtl.reporting.document import headline, results_of, write_report
from convtl.reporting.principles import write_report as write_scorecard
from convtl.reporting.protocol import commits_said, facts, unfinished
from convtl.reporting.replication import Second
from convtl.reporting.ways import setting_name
from convtl.storage.files import written
from convtl.study.grid import Trial
from convtl.study.materials import Materials
from convtl.study.names import source_name
from convtl.study.rows import commit, short
from convtl.study.similarity import read_similarity
from convtl.study.store import RowStore, accessible
from convtl.training.devices import peak_memory_gib
from convtl.training.pretrain import SourceRequest
from convtl.training.probes import TABLE, read_gradients

_SAMPLES = 12  # pictures of each domain

Samples = dict[str, tuple[np.ndarray, list[str]]]


def build(
    store: RowStore,
    config: Config,
    record: Mapping[str, Any],
    wall: float | None = None,
    second: Second | None = None,
) -> tuple[Path, str]:
    """Writes results.csv and the report of the study that a record is of; the study's data are not needed.

    Args:
      record: what `convtl.study.store` keeps of the invocation.
      wall: seconds that the run took; None when only the report is rebuilt.
      second: the same study under another seed, to be set beside this one; for studies with a scorecard.

    Returns:
      The path of report.html, and the headline to be printed.
    """
    everything = read_rows(store.out)
    made_by = dict(zip(everything, everything.table.objects("commit"), strict=True))
    measured = read_similarity(store.out)
    write_table(store.out, with_similarity(everything.table, measured))
    rows, left_out = comparable(everything, config, record)
    program = {
        "rows made by": commits_said(made_by, everything),
        "commit of this report": short(commit() or ""),
    }
    scope = _scope(config, record, rows, wall) | {
        name: text for name, text in program.items() if text
    }
    not_run = unfinished(record, everything) if config.scorecard else []
    del everything, made_by  # of a million trials each is hundreds of megabytes
    if late := _added_later(config, rows):
        scope["claims added later"] = late
    rows = rows.only(*(name for name in rows.names if name not in LONG))
    asks = "claims and verdicts" if config.scorecard else "how many layers to fine-tune"
    title = f"{config.study or 'trials'}: {asks}"
    if config.limits.suffix:
        title += " (cut short to try the way through: its numbers mean nothing)"
    question = config.question or "How does accuracy depend on how many layers are fine-tuned?"
    shared: dict[str, Any] = {
        "title": title,
        "question": question,
        "samples": _read_samples(store.out),
    }
    with accessible(store.out):
        if not config.scorecard:
            given = advise(blocks(frame(rows), config.source)) if config.advice else []
            if config.advice:
                shared["opening"] = advice.section(given, config, store.out)
            results = results_of(rows, config.claims, scope)
            path = write_report(results, store.out, scope=scope, left_out=left_out, **shared)
            lines = [headline(results)]
            lines += [advice.console(given, config, store.out)] if config.advice else []
            return path, "\n\n".join(lines)
        rows = with_similarity(rows, measured)
        return write_scorecard(
            rows,
            store.out,
            names=config.scorecard,
            targets=config.target,
            scope=facts(config, scope, frame(rows)),
            left_out=[*not_run, *left_out],
            probes=read_gradients(store.out) if (store.out / TABLE).exists() else None,
            uncached=partial(_uncached, config, shared["samples"]),
            seed=config.seed,
            second=second,
            **shared,
        )


def _uncached(
    config: Config, samples: Samples | None, units: Mapping[int, str]
) -> dict[int, float]:
    """What frozen layers cost where their outputs are not kept; empty where no image tells their size."""
    images = next((images for images, _ in (samples or {}).values() if len(images)), None)
    return {} if images is None else uncached(config, (*images.shape[1:3], 1), units)


def _added_later(config: Config, rows: Table) -> list[str]:
    """Claims that some of the rows were run without: for those it is not known that they came first."""
    return [
        claim.statement
        for claim in config.claims
        if any(digest(dump(claim)) not in declared for declared in rows.distinct("declared", []))
    ]


def _scope(
    config: Config, record: Mapping[str, Any], rows: Table, wall: float | None
) -> dict[str, Any]:
    faces, sources = set[str](), _sources(config, rows)
    for name in config.target:
        domain = config.domains.get(name)
        if isinstance(domain, TypedScriptConfig):
            faces |= set(domain.faces)
    scope: dict[str, Any] = {
        "command": record.get("command"),
        "sources": sources,
        "classes a replicate": f"{config.classes}, or all where there are no more"
        if config.classes
        else "all",
        "batch size": config.batch_size,
        "updates": ", ".join(map(str, config.updates)),
        "schedule": f"{config.schedule.kind}, warm-up {config.schedule.warmup:.0%}, last weights",
        "optimiser": config.optim.kind,
        "learning rates": f"{', '.join(f'{rate:g}' for rate in config.lr)}, "
        f"extended by up to {config.lr_extend} steps while the best is at the edge",
        "validation": f"oracle, {config.validation_per_class} images a class",
        "test": f"{config.test_per_class} images a class, read once",
        "head": config.head_init,
        "movement": "of every unit, in every trial" if "movement" in config.measure else None,
        "source nets": _source_nets(config, sources),
        "seed": config.seed,
        "device": record.get("device"),
        "versions": ", ".join(
            f"{name} {number}" for name, number in record.get("versions", {}).items()
        ),
        "training time, all trials (s)": round(
            sum(float(own or 0) for own in rows.objects("seconds")), 1
        ),
    }
    if unmatched := _unmatched(config, rows):
        scope["sources are not matched"] = unmatched
    if resized := "; ".join(_resized(config, sources)):
        scope["pictures are resized"] = resized
    if faces:
        scope["faces"] = ", ".join(sorted(faces))
    if wall is not None:
        scope["this run (s)"] = round(wall, 1)
        scope["peak memory of this run (GiB)"] = round(peak_memory_gib(), 2)
    return {key: value for key, value in scope.items() if value is not None}


def _sources(config: Config, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Those that trials have, which with blocks need not be those beside them; in the config's order first."""
    there = dict.fromkeys(map(str, Table.of(rows).distinct("source")))
    return [
        *(name for name in config.source if name in there),
        *(n for n in there if n not in config.source),
    ]


def _source_nets(config: Config, sources: Sequence[str]) -> str | None:
    names = [source_name(source) for source in sources]
    recipe, said = config.pretrain, []
    if imported := list(dict.fromkeys(name.base for name in names if name.base in config.weights)):
        said.append(f"{', '.join(imported)}: imported, the same for each replicate")
    if not sources or any(not name.fresh and name.base not in config.weights for name in names):
        said.append(
            f"{recipe.updates} updates, {recipe.images_per_class} images a class, rate {recipe.lr:g}; new for "
            "each replicate"
        )
    return "; ".join(said) or None


def _resized(config: Config, sources: Sequence[str]) -> list[str]:
    """Where pictures are not cut as the net's own images were."""
    said = []
    for target in config.target:
        domain = config.domains.get(target)
        if not isinstance(domain, ImageFolderConfig | TfdsConfig):
            continue
        for source in sources:
            weights = config.weights.get(source_name(source).base)
            if weights and (domain.crop, domain.interpolation) != (
                weights.crop,
                weights.interpolation,
            ):
                said.append(
                    f"{target} is resized with crop {domain.crop:g}, {domain.interpolation}, and {source} was made "
                    f"for crop {weights.crop:g}, {weights.interpolation}: that may cost accuracy"
                )
    return said


def _unmatched(config: Config, rows: Table) -> str:
    """Sources with other numbers of classes or images than the recipe asks for, or than most of them have.

    `self` is one by design.
    """
    columns = [rows.objects(name) for name in ("source", "source_classes", "source_images")]
    sizes = {
        str(source): (int(classes), int(images))
        for source, classes, images in dict.fromkeys(zip(*columns, strict=True))
        if images and source_name(str(source)).base != "self"
    }
    asked = config.pretrain.images_per_class
    usual = Counter(classes for classes, _ in sizes.values()).most_common(1)
    wanted = config.classes or (usual[0][0] if usual else 0)
    return "; ".join(
        f"{name} has {classes} classes and {images:,} images, not {wanted} and {wanted * asked:,}"
        for name, (classes, images) in sorted(sizes.items())
        if (classes, images) != (wanted, wanted * asked)
    )


def save_samples(out: Path, trials: Sequence[Trial], materials: Materials) -> None:
    """Keeps a few training pictures of each domain, so that a report can be rebuilt without the data.

    Targets as the first trial sees them that uses them, in each way in which the study changes their images;
    sources as they are, with the classes of the first trial.
    """
    arrays: dict[str, np.ndarray] = {}
    for trial in trials:
        if f"{_seen_as(trial)}/images" not in arrays:
            data = materials.target_data(trial)
            positions = data.positions("train", 1)[:_SAMPLES]
            labels = data.splits["train"].labels[positions]
            _keep(arrays, _seen_as(trial), data.pixels("train", positions), data.domain, labels)
        requests = () if f"{trial.source}/images" in arrays else materials.sources.requests(trial)
        # Pictures that imported weights were trained on are not at hand.
        if (
            requests
            and isinstance(requests[0], SourceRequest)
            and not source_name(trial.source).variant
        ):
            domain, draw = requests[0].parts[0]
            splits = domain.splits(requests[0].seed, trial.replicate)
            split, chosen = splits["train"], np.asarray(draw.classes)[:_SAMPLES]
            first = [int(np.argmax(split.labels == label)) for label in chosen]
            _keep(arrays, trial.source, split.images[first], domain, chosen)
    with accessible(out), written(out / "samples.npz") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _keep(
    arrays: dict[str, np.ndarray],
    name: str,
    images: np.ndarray,
    domain: Domain,
    labels: Iterable[int],
) -> None:
    arrays[f"{name}/images"] = np.asarray(images)
    arrays[f"{name}/labels"] = np.asarray([domain.class_names[label] for label in labels])


def _seen_as(trial: Trial) -> str:
    """`cyrillic`, `cyrillic, inversion`: a target, and how the trial's images of it are changed."""
    changes = {
        f"axes.{key}": str(value) for key, value in trial.axes.items() if key.startswith("shift.")
    }
    said = setting_name(changes, {})
    return trial.target if said in ("", "no shift") else f"{trial.target}, {said}"


def lacks_samples(out: Path, trials: Sequence[Trial], domains: Container[str]) -> bool:
    """Whether pictures are missing of a target or of a source domain: what other processes ran had fewer."""
    wanted = {_seen_as(trial) for trial in trials} | {
        t.source for t in trials if t.source in domains
    }
    return not wanted <= (_read_samples(out) or {}).keys()


def _read_samples(out: Path) -> Samples | None:
    path = out / "samples.npz"
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        names = dict.fromkeys(key.rpartition("/")[0] for key in arrays.files)
        return {
            name: (
                _shown(arrays[f"{name}/images"]),
                [str(label) for label in arrays[f"{name}/labels"]],
            )
            for name in names
        }


def _shown(images: np.ndarray) -> np.ndarray:
    """(k, h, w), or (k, h, w, 3) in colour."""
    return images[..., 0] if images.ndim == 4 and images.shape[-1] == 1 else images
