"""Source nets: trained once by one recipe, kept in the cache by content."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np

from convtl.config.models import ModelConfig
from convtl.config.roles import content
from convtl.config.schema import RESULTS_VERSION
from convtl.config.training import FineTuneConfig, PretrainConfig
from convtl.data.domains import Domain
from convtl.data.inputs import batch_indices, standardise
from convtl.data.subsets import SourceDraw, relabel, subset_digest
from convtl.errors import UserError
from convtl.keys import digest, digest_arrays, generator, key
from convtl.models.network import Network, Variables
from convtl.models.registry import build_network
from convtl.runtime import stopping
from convtl.runtime.processes import any_process, broadcast_from_primary, is_primary
from convtl.storage import checkpoint
from convtl.storage.cache import Cache
from convtl.training.checkpoints import Checkpoints, Kept
from convtl.training.features import Forward
from convtl.training.loop import Trainer
from convtl.training.runs import Recipe, Run, RunResult, RunState, TrainState
from convtl.transfer.graft import fresh_variables
from convtl.transfer.plan import make_plan

KIND = "sources"
"""Folder of source nets in the cache."""


@dataclass(frozen=True)
class SourceRequest:
    """One source net: everything that its weights depend on.

    Attributes:
      parts: what it is trained on; the classes of the parts follow one another (a mixture has two).
      random_labels: whether the training labels are permuted once, so that only the images are learned.
    """

    model: ModelConfig
    parts: tuple[tuple[Domain, SourceDraw], ...]
    recipe: PretrainConfig
    seed: int
    replicate: int
    lanes: int
    chunk: int
    random_labels: bool = False

    def content(self) -> dict[str, Any]:
        return {
            "protocol": RESULTS_VERSION,
            "model": content(self.model),
            "parts": [
                {
                    "domain": domain.digest,
                    "classes": [domain.class_names[index] for index in draw.classes],
                    "draw": digest_arrays(draw.train, draw.validation),
                }
                for domain, draw in self.parts
            ],
            "random_labels": self.random_labels,
            "recipe": content(self.recipe),
            "seed": self.seed,
            "replicate": self.replicate,
            "lanes": self.lanes,
            "chunk": self.chunk,
        }

    @property
    def classes(self) -> tuple[str, ...]:
        """What the outputs of the net's head stand for."""
        return tuple(
            domain.class_names[index] for domain, draw in self.parts for index in draw.classes
        )

    def images(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Images (uint8) and labels (int32) of "train" or "validation"; labels count through the parts."""
        found, first = [], 0
        for domain, draw in self.parts:
            chosen = draw.train if split == "train" else draw.validation
            pool = domain.split(split)
            found.append(
                (pool.images[chosen], relabel(pool.labels[chosen], draw.classes) + np.int32(first))
            )
            first += len(draw.classes)
        images, labels = zip(*found, strict=True)
        return np.concatenate(images), np.concatenate(labels)

    @cached_property
    def key(self) -> str:
        return digest(self.content())

    def network(self) -> Network:
        return build_network(self.model, self.parts[0][0].image_shape, len(self.classes))


@dataclass(frozen=True)
class Source:
    """A pretrained net: its variables (NumPy) and what is known of it (`accuracy` on its own validation)."""

    variables: Variables
    metadata: dict[str, Any]


def ensure_sources(
    requests: Sequence[SourceRequest],
    cache: Cache,
    on_trained: Callable[[int], None] | None = None,
    checkpoints: Checkpoints | None = None,
) -> dict[str, Source]:
    """Source nets by key, trained now where the cache does not have them.

    Several processes share the work: each takes as many nets at a time as its program has runs, leaves
    those alone that another is training, and waits for them at last; a net whose trainer died is trained by
    whoever waited.

    Args:
      on_trained: told how many nets are ready, after each batch of them.
      checkpoints: where nets on their way are kept; None keeps none.
    """
    wanted = {request.key: request for request in requests}
    ready: dict[str, Source] = {}

    def collect() -> list[SourceRequest]:
        there = broadcast_from_primary(
            lambda: [name for name in wanted if name not in ready and cache.get(KIND, name)]
        )
        ready.update({name: _load(cache.path(KIND, name)) for name in there})
        if checkpoints is not None and is_primary():
            for name in there:  # left by who was killed when it had published the net
                checkpoints.remove(name)
        if on_trained is not None:
            on_trained(len(ready))
        return [request for name, request in wanted.items() if name not in ready]

    missing = collect()
    while missing:
        trained = [
            _train_group(group, cache, collect, checkpoints) for group in _by_program(missing)
        ]
        missing = collect()
        if missing and not any(trained):
            broadcast_from_primary(partial(_wait, cache, missing[0].key))
            missing = collect()
    return ready


def _wait(cache: Cache, key: str) -> None:
    """Until whoever trains that net has done so, or died."""
    with cache.lock(KIND, key, blocking=True):
        return


def _save(variables: Variables, metadata: dict[str, Any], folder: Path) -> None:
    checkpoint.save(folder / "net", variables, metadata)


def _load(entry: Path) -> Source:
    return Source(*checkpoint.load(entry / "net", None))


def _by_program(requests: Sequence[SourceRequest]) -> list[list[SourceRequest]]:
    groups: dict[Any, list[SourceRequest]] = {}
    for request in requests:
        groups.setdefault(_recipe(request), []).append(request)
    return list(groups.values())


def _recipe(request: SourceRequest) -> Recipe:
    network = request.network()
    plan = make_plan(network, FineTuneConfig(), len(network.weighted), request.recipe.updates)
    try:
        return Recipe(
            network=network,
            start=0,
            plan=plan,
            optim=request.recipe.optim,
            schedule=request.recipe.schedule,
            batch_size=request.recipe.batch_size,
            runs_per_device=request.lanes,
            steps_per_call=request.chunk,
        )
    except UserError as error:  # a recipe does not know that it is a source's
        raise UserError(f"pretrain.{error}") from None


def _train_group(
    group: Sequence[SourceRequest],
    cache: Cache,
    after_batch: Callable[[], Any],
    checkpoints: Checkpoints | None,
) -> int:
    """Trains what no other process is training, a program's width at a time; returns how many that were."""
    recipe = _recipe(group[0])
    trainer, forward = Trainer(recipe), Forward(recipe.network, 0)
    left, count = iter(group), 0
    while True:
        with ExitStack() as locks:
            batch = list(islice(_claimed(left, cache, locks), trainer.width))
            if not batch:
                return count
            for together in _equally_far(
                [(request, _begun(request, trainer, checkpoints)) for request in batch]
            ):
                requests, runs = zip(*together, strict=True)
                with stopping.held_back():
                    trained = trainer.train(runs, partial(_between, requests, checkpoints))
                    for request, result in zip(requests, trained, strict=True):
                        if is_primary():
                            _publish(request, result, forward, cache, checkpoints)
        count += len(batch)
        after_batch()


def _publish(
    request: SourceRequest,
    result: RunResult,
    forward: Forward,
    cache: Cache,
    checkpoints: Checkpoints | None,
) -> None:
    metadata = _describe(request, result.variables, forward) | {"diverged": not result.finite}
    cache.publish(KIND, request.key, partial(_save, result.variables, metadata))
    if checkpoints is not None:
        checkpoints.remove(request.key)


def _equally_far(
    begun: Sequence[tuple[SourceRequest, Run]],
) -> list[list[tuple[SourceRequest, Run]]]:
    """What can travel together: fresh ones, and those that were kept after the same update."""
    groups: dict[int, list[tuple[SourceRequest, Run]]] = {}
    for request, run in begun:
        groups.setdefault(run.update, []).append((request, run))
    return list(groups.values())


def _between(
    requests: Sequence[SourceRequest], checkpoints: Checkpoints | None, end: TrainState
) -> None:
    stop = any_process(stopping.requested())
    if checkpoints is not None and (stop or broadcast_from_primary(checkpoints.due)):
        kept = {
            request.key: Kept(paused.arrays(), {"update": paused.update})
            for request, paused in zip(requests, end.states(), strict=True)
        }
        if is_primary():
            checkpoints.write(kept, wait=stop)
    stopping.obey(stop)


def _claimed(
    requests: Iterable[SourceRequest], cache: Cache, locks: ExitStack
) -> Iterator[SourceRequest]:
    """Those of the requests that are ours to train; `locks` takes the lock of each."""
    for request in requests:
        if broadcast_from_primary(partial(_take, request.key, cache, locks)):
            yield request


def _take(key: str, cache: Cache, locks: ExitStack) -> bool:
    with ExitStack() as own:
        held = own.enter_context(cache.lock(KIND, key, blocking=False))
        # Somebody may have published between the look and the lock.
        if not held or cache.get(KIND, key) is not None:
            return False
        locks.push(own.pop_all())
    return True


def _run(request: SourceRequest, trainer: Trainer, checkpoints: Checkpoints | None) -> Run:
    """The run that makes a net: a fresh one, or one that goes on where it was kept."""
    fresh = _fresh(request)
    found = None if checkpoints is None else checkpoints.read(request.key)
    if found is None:
        return fresh
    paused = RunState.of(found.metadata["update"], found.arrays)
    return replace(fresh, state=paused) if trainer.resumes(paused) else fresh


def _begun(request: SourceRequest, trainer: Trainer, checkpoints: Checkpoints | None) -> Run:
    """As `_run`, the same on all processes."""
    run = _run(request, trainer, checkpoints)
    if broadcast_from_primary(lambda: run.update) != run.update:
        raise UserError(
            "cache: process 0 has found checkpoints there that this one has not; accepted: a folder that all processes "
            "share"
        )
    return run


def _fresh(request: SourceRequest) -> Run:
    pixels, labels = request.images("train")
    images = standardise(pixels)
    if request.random_labels:
        labels = generator(request.seed, "random-labels", request.replicate).permutation(labels)
    init = key(request.seed, "source-init", request.replicate)
    variables = jax.tree.map(
        np.asarray, fresh_variables(request.network(), init, request.recipe.head_init)
    )

    def batches(first: int, stop: int, own: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        stream = ("source-order", request.replicate)
        index = batch_indices(
            request.seed, stream, len(images), request.recipe.batch_size, first, stop
        )
        return images[index[:, own]], labels[index[:, own]]

    return Run(variables, request.recipe.lr, batches)


def _describe(request: SourceRequest, variables: Variables, forward: Forward) -> dict[str, Any]:
    pixels, labels = request.images("validation")
    right = forward(variables, standardise(pixels)).argmax(-1) == labels
    last = np.cumsum([len(draw.classes) for _, draw in request.parts])
    part = np.searchsorted(last, labels, side="right")
    return {
        "content": request.content(),
        "domain": "+".join(domain.name for domain, _ in request.parts),
        "classes": list(request.classes),
        "images": sum(len(draw.train) for _, draw in request.parts),
        "data_digest": digest(
            [subset_digest(domain.split("train"), draw.train) for domain, draw in request.parts]
        ),
        "accuracy": float(right.mean()),
        "accuracy_by_part": [
            float(right[part == index].mean()) for index in range(len(request.parts))
        ],
        "n_validation": len(labels),
    }
