"""Pretraining of source nets, each kept in the cache by its content."""

from collections.abc import Callable, Iterator, Sequence
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
from convtl.config.training import PretrainConfig, RegimeConfig
from convtl.data.domains import Domain
from convtl.data.inputs import batch_indices, standardise
from convtl.data.subsets import SourceDraw, relabel, subset_digest
from convtl.errors import UserError
from convtl.keys import digest, digest_arrays, generator, key
from convtl.models.network import Network, Variables
from convtl.models.registry import build_network
from convtl.runtime import stopping
from convtl.runtime.processes import any_process, broadcast_from_primary, is_primary, obey_together
from convtl.storage import checkpoint
from convtl.storage.cache import Cache
from convtl.training.checkpoints import CheckpointContent, Checkpoints
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
      runs_per_device, steps_per_call: which last bits may depend on.
      random_labels: whether the training labels are permuted once, so that only the images are learned.
    """

    model: ModelConfig
    parts: tuple[tuple[Domain, SourceDraw], ...]
    recipe: PretrainConfig
    seed: int
    replicate: int
    runs_per_device: int
    steps_per_call: int
    random_labels: bool = False

    def content(self) -> dict[str, Any]:
        """The same, as plain data: its digest is the net's key in the cache."""
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
            "runs_per_device": self.runs_per_device,
            "steps_per_call": self.steps_per_call,
        }

    @cached_property
    def key(self) -> str:
        return digest(self.content())

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the head's outputs."""
        return tuple(
            domain.class_names[index] for domain, draw in self.parts for index in draw.classes
        )

    def network(self) -> Network:
        return build_network(self.model, self.parts[0][0].image_shape, len(self.classes))

    def images(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Images (uint8) and labels (int32) of "train" or "validation"."""
        images, labels, first = [], [], 0
        for domain, draw in self.parts:
            chosen = draw.train if split == "train" else draw.validation
            pool = domain.split(split)
            images.append(pool.images[chosen])
            labels.append(relabel(pool.labels[chosen], draw.classes) + np.int32(first))
            first += len(draw.classes)
        return np.concatenate(images), np.concatenate(labels)


@dataclass(frozen=True)
class SourceNet:
    """A pretrained net: its variables (NumPy) and metadata (`accuracy`, ...)."""

    variables: Variables
    metadata: dict[str, Any]


def ensure_sources(
    requests: Sequence[SourceRequest],
    cache: Cache,
    on_trained: Callable[[int], None] | None = None,
    checkpoints: Checkpoints | None = None,
) -> dict[str, SourceNet]:
    """Source nets by key, trained now where the cache does not have them.

    Several processes share the work: each takes as many nets at a time as its program has runs, leaves
    those alone that another is training, and waits for them at last; a net whose trainer died is trained by
    whoever waited.

    Args:
      on_trained: takes how many nets are ready, after each batch of them.
      checkpoints: where nets on their way are kept; None keeps none.
    """
    by_key = {request.key: request for request in requests}
    ready: dict[str, SourceNet] = {}

    def collect() -> list[SourceRequest]:
        """Load what the cache has by now; return what is missing."""
        new = broadcast_from_primary(
            lambda: [name for name in by_key if name not in ready and cache.get(KIND, name)]
        )
        for name in new:
            ready[name] = SourceNet(*checkpoint.load(cache.path(KIND, name) / "net"))
            if checkpoints is not None and is_primary():
                checkpoints.remove(name)  # left by a process that was killed when it had published
        if on_trained is not None:
            on_trained(len(ready))
        return [request for name, request in by_key.items() if name not in ready]

    while missing := collect():
        programs: dict[Recipe, list[SourceRequest]] = {}
        for request in missing:
            programs.setdefault(_recipe(request), []).append(request)
        trained = 0
        for recipe, group in programs.items():
            for batch in _train_group(recipe, group, cache, checkpoints):
                trained += batch
                collect()
        if not trained and (missing := collect()):
            broadcast_from_primary(partial(_wait, cache, missing[0].key))
    return ready


def _wait(cache: Cache, key: str) -> None:
    """Until the process that trains that net has done so, or died."""
    with cache.lock(KIND, key, blocking=True):
        return


def _recipe(request: SourceRequest) -> Recipe:
    network, pretrain = request.network(), request.recipe
    try:
        return Recipe(
            network=network,
            start=0,
            plan=make_plan(
                network, RegimeConfig("fine_tune"), len(network.weighted), pretrain.updates
            ),
            optim=pretrain.optim,
            schedule=pretrain.schedule,
            batch_size=pretrain.batch_size,
            runs_per_device=request.runs_per_device,
            steps_per_call=request.steps_per_call,
        )
    except UserError as error:  # a recipe does not know that it is a source's
        raise UserError(f"pretrain.{error}") from None


def _train_group(
    recipe: Recipe,
    group: Sequence[SourceRequest],
    cache: Cache,
    checkpoints: Checkpoints | None,
) -> Iterator[int]:
    """Train what no other process trains; yield the size of each batch of nets."""
    trainer, forward = Trainer(recipe), Forward(recipe.network, 0)
    left = iter(group)
    while True:
        with ExitStack() as locks:
            claimed = (
                request
                for request in left
                if broadcast_from_primary(partial(_take, request.key, cache, locks))
            )
            batch = list(islice(claimed, trainer.width))
            by_update: dict[int, list[tuple[SourceRequest, Run]]] = {}
            for request in batch:
                run = _begin(request, trainer, checkpoints)
                by_update.setdefault(run.update, []).append((request, run))
            for together in by_update.values():
                _train(together, trainer, forward, cache, checkpoints)
        if not batch:
            return
        yield len(batch)


def _take(key: str, cache: Cache, locks: ExitStack) -> bool:
    """Whether this process is to train a net; `locks` then holds its lock."""
    with ExitStack() as taken:
        held = taken.enter_context(cache.lock(KIND, key, blocking=False))
        # Another process may have published between the look and the lock.
        if not held or cache.get(KIND, key) is not None:
            return False
        locks.push(taken.pop_all())
    return True


def _begin(request: SourceRequest, trainer: Trainer, checkpoints: Checkpoints | None) -> Run:
    """The run that makes a net, from its checkpoint if there is one."""
    run = _fresh(request)
    stored = None if checkpoints is None else checkpoints.read(request.key)
    if stored is not None:
        state = RunState.of(stored.metadata["update"], stored.arrays)
        run = replace(run, state=state) if trainer.resumes(state) else run
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
    variables = fresh_variables(request.network(), init, "zeros")

    def batches(first: int, stop: int, rows: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        stream, size = ("source-order", request.replicate), request.recipe.batch_size
        index = batch_indices(request.seed, stream, len(images), size, first, stop)[:, rows]
        return images[index], labels[index]

    return Run(jax.tree.map(np.asarray, variables), request.recipe.lr, batches)


def _train(
    together: Sequence[tuple[SourceRequest, Run]],
    trainer: Trainer,
    forward: Forward,
    cache: Cache,
    checkpoints: Checkpoints | None,
) -> None:
    """Train and publish nets that have done the same number of updates."""
    requests = [request for request, _ in together]

    def callback(state: TrainState) -> None:
        stop = any_process(stopping.requested())
        if checkpoints is not None and (stop or broadcast_from_primary(checkpoints.due)):
            contents = {
                request.key: CheckpointContent(run.arrays(), {"update": run.update})
                for request, run in zip(requests, state.states(), strict=True)
            }
            if is_primary():
                checkpoints.write(contents, wait=stop)
        stopping.obey(stop)

    with stopping.held_back():
        trained = trainer.train([run for _, run in together], callback)
        for request, result in zip(requests, trained, strict=True):
            if is_primary():
                metadata = _describe(request, result, forward)
                cache.publish(KIND, request.key, partial(_save, result.variables, metadata))
                if checkpoints is not None:
                    checkpoints.remove(request.key)
        obey_together()


def _save(variables: Variables, metadata: dict[str, Any], folder: Path) -> None:
    checkpoint.save(folder / "net", variables, metadata)


def _describe(request: SourceRequest, result: RunResult, forward: Forward) -> dict[str, Any]:
    """What is known of a net, by its validation images."""
    pixels, labels = request.images("validation")
    right = forward(result.variables, standardise(pixels)).argmax(-1) == labels
    last = np.cumsum([len(draw.classes) for _, draw in request.parts])
    part = np.searchsorted(last, labels, side="right")
    drawn = [subset_digest(domain.split("train"), draw.train) for domain, draw in request.parts]
    return {
        "content": request.content(),
        "domain": "+".join(domain.name for domain, _ in request.parts),
        "classes": list(request.classes),
        "images": sum(len(draw.train) for _, draw in request.parts),
        "data_digest": digest(drawn),
        "accuracy": float(right.mean()),
        "accuracy_by_part": [float(right[part == i].mean()) for i in range(len(request.parts))],
        "n_validation": len(labels),
        "diverged": not result.finite,
    }
