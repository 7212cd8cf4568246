"""Source nets: trained once by one recipe, kept in the cache by content."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np

from convtl import checkpoint
from convtl.cache import Cache
from convtl.config import (
    PROTOCOL,
    ModelConfig,
    PretrainConfig,
    RegimeConfig,
    dump,
)
from convtl.data.batches import batch_indices, standardise
from convtl.data.domains import Domain
from convtl.data.subsets import SourceDraw, relabel, subset_digest
from convtl.keys import digest, digest_arrays, key
from convtl.measure.metrics import accuracy
from convtl.models.network import Network, Variables
from convtl.models.registry import build_network
from convtl.training.features import Forward
from convtl.training.lanes import Lane, Recipe, Trainer
from convtl.transfer.graft import fresh_variables
from convtl.transfer.plan import make_plan

KIND = "sources"
"""Folder of source nets in the cache."""


@dataclass(frozen=True)
class SourceRequest:
    """One source net: everything that its weights depend on."""

    model: ModelConfig
    domain: Domain
    draw: SourceDraw
    recipe: PretrainConfig
    seed: int
    replicate: int
    lanes: int
    chunk: int

    def content(self) -> dict[str, Any]:
        return {
            "protocol": PROTOCOL,
            "model": dump(self.model),
            "domain": self.domain.digest,
            "classes": [self.domain.class_names[index] for index in self.draw.classes],
            "draw": digest_arrays(self.draw.train, self.draw.validation),
            "recipe": dump(self.recipe),
            "seed": self.seed,
            "replicate": self.replicate,
            "lanes": self.lanes,
            "chunk": self.chunk,
        }

    @cached_property
    def key(self) -> str:
        return digest(self.content())

    def network(self) -> Network:
        return build_network(self.model, self.domain.image_shape, len(self.draw.classes))


@dataclass(frozen=True)
class Source:
    """A pretrained net: its variables (NumPy) and what is known of it (`accuracy` on its own validation)."""

    variables: Variables
    metadata: dict[str, Any]


def ensure_sources(
    requests: Sequence[SourceRequest], cache: Cache, on_trained: Callable[[int], None] | None = None
) -> dict[str, Source]:
    """Source nets by key, trained now where the cache does not have them.

    Several processes share the work: each takes as many nets at a time as its program has lanes, leaves
    those alone that another is training, and waits for them at last; a net whose trainer died is trained by
    whoever waited.

    Args:
      on_trained: told how many nets are ready, after each batch of them.
    """
    wanted = {request.key: request for request in requests}
    ready: dict[str, Source] = {}

    def collect() -> list[SourceRequest]:
        for name in wanted.keys() - ready.keys():
            entry = cache.get(KIND, name)
            if entry is not None:
                ready[name] = _load(entry)
        if on_trained is not None:
            on_trained(len(ready))
        return [request for name, request in wanted.items() if name not in ready]

    missing = collect()
    while missing:
        trained = [_train_group(group, cache, collect) for group in _by_program(missing)]
        missing = collect()
        if missing and not any(trained):
            with cache.lock(KIND, missing[0].key, blocking=True):
                missing = collect()
    return ready


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
    plan = make_plan(network, RegimeConfig(), len(network.weighted), request.recipe.updates)
    return Recipe(
        network=network,
        start=0,
        plan=plan,
        optim=request.recipe.optim,
        schedule=request.recipe.schedule,
        batch_size=request.recipe.batch_size,
        lanes=request.lanes,
        chunk=request.chunk,
    )


def _train_group(group: Sequence[SourceRequest], cache: Cache, after_batch: Callable[[], Any]) -> int:
    """Trains what no other process is training, a program's width at a time; returns how many that were."""
    recipe = _recipe(group[0])
    trainer, forward = Trainer(recipe), Forward(recipe.network, 0)
    left, count = iter(group), 0
    while True:
        with ExitStack() as locks:
            batch = list(islice(_claimed(left, cache, locks), trainer.width))
            if not batch:
                return count
            trained = trainer.train([_lane(request) for request in batch])
            for request, result in zip(batch, trained, strict=True):
                metadata = _describe(request, result.variables, forward) | {"diverged": not result.finite}
                cache.publish(KIND, request.key, partial(_save, result.variables, metadata))
        count += len(batch)
        after_batch()


def _claimed(requests: Iterable[SourceRequest], cache: Cache, locks: ExitStack) -> Iterator[SourceRequest]:
    """Those of the requests that are ours to train; `locks` takes the lock of each."""
    for request in requests:
        with ExitStack() as own:
            held = own.enter_context(cache.lock(KIND, request.key, blocking=False))
            # Somebody may have published between the look and the lock.
            if not held or cache.get(KIND, request.key) is not None:
                continue
            locks.push(own.pop_all())
        yield request


def _lane(request: SourceRequest) -> Lane:
    split = request.domain.split("train")
    chosen = request.draw.train
    images = standardise(split.images[chosen])
    labels = relabel(split.labels[chosen], request.draw.classes)
    init = key(request.seed, "source-init", request.replicate)
    variables = jax.tree.map(np.asarray, fresh_variables(request.network(), init, request.recipe.head_init))

    def batches(first: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        stream = ("source-order", request.replicate)
        index = batch_indices(request.seed, stream, len(images), request.recipe.batch_size, first, stop)
        return images[index], labels[index]

    return Lane(variables, request.recipe.lr, batches)


def _describe(request: SourceRequest, variables: Variables, forward: Forward) -> dict[str, Any]:
    split = request.domain.split("validation")
    chosen = request.draw.validation
    logits = forward(variables, standardise(split.images[chosen]))
    labels = relabel(split.labels[chosen], request.draw.classes)
    train = request.domain.split("train")
    return {
        "content": request.content(),
        "domain": request.domain.name,
        "classes": [request.domain.class_names[index] for index in request.draw.classes],
        "images": len(request.draw.train),
        "data_digest": subset_digest(train, request.draw.train),
        "accuracy": accuracy(logits, labels),
        "n_validation": len(chosen),
    }
