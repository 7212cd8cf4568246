"""Pretraining of source nets, each kept in the cache by its content."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from convtl.config.models import ModelConfig
from convtl.config.schema import RESULTS_VERSION
from convtl.config.training import PretrainConfig, RegimeConfig
from convtl.config.values import content
from convtl.data.inputs import batch_indices, standardise
from convtl.data.splits import Domain
from convtl.data.subsets import SourceDraw, relabel
from convtl.errors import UserError
from convtl.keys import digest, digest_arrays, generator, key, seed_of
from convtl.models.network import Network, Variables
from convtl.models.registry import build_network
from convtl.runtime import stopping
from convtl.runtime.backend import broadcast_from_primary, is_primary, obey_together
from convtl.storage import checkpoint
from convtl.storage.cache import Cache
from convtl.training.checkpoints import CHECKPOINTS, Checkpoints, Content
from convtl.training.features import Forward
from convtl.training.loop import Trainer
from convtl.training.runs import Recipe, Run, RunResult, RunState, TrainState
from convtl.transfer.graft import fresh_variables
from convtl.transfer.plan import make_plan

KIND = "sources"  # Folder of source nets in the cache.


@dataclass(frozen=True)
class SourceRequest:
    """Request for a source net: all that its weights depend on, to the last bit."""

    model: ModelConfig
    parts: tuple[tuple[Domain, SourceDraw], ...]  # of a mixture two: classes follow one another
    recipe: PretrainConfig
    seed: int
    replicate: int
    runs_per_device: int
    steps_per_call: int
    random_labels: bool = False  # permuted once, so that only the images are learned

    def content(self) -> dict[str, Any]:
        """Return plain data, whose digest is the net's key in the cache."""
        values = {item.name: content(getattr(self, item.name)) for item in fields(self)[2:]}
        parts = [
            {
                "domain": domain.digest,
                "classes": [domain.class_names[index] for index in draw.classes],
                "draw": digest_arrays(draw.train, draw.validation),
            }
            for domain, draw in self.parts
        ]
        return {"protocol": RESULTS_VERSION, "model": content(self.model), "parts": parts} | values

    @cached_property
    def key(self) -> str:
        return digest(self.content())

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the head's outputs."""
        return tuple(domain.class_names[i] for domain, draw in self.parts for i in draw.classes)

    def network(self) -> Network:
        return build_network(self.model, self.parts[0][0].image_shape, len(self.classes))

    def images(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Images (uint8) and labels (int32) of "train" or "validation"."""
        images, labels, first = [], [], 0
        for domain, draw in self.parts:
            chosen = draw.train if split == "train" else draw.validation
            pool = domain.splits(self.seed, self.replicate)[split]
            images.append(pool.images[chosen])
            labels.append(relabel(pool.labels[chosen], draw.classes) + np.int32(first))
            first += len(draw.classes)
        return np.concatenate(images), np.concatenate(labels)


class SourceNet(NamedTuple):
    """A pretrained net: its variables (NumPy) and metadata (`accuracy`, ...)."""

    variables: Variables
    metadata: dict[str, Any]


def ensure_sources(
    requests: Sequence[SourceRequest],
    cache: Cache,
    on_trained: Callable[[int], None] | None = None,
    checkpoints: Checkpoints | None = None,
) -> dict[str, SourceNet]:
    """Return source nets by key; train those that the cache does not have.

    Processes share the work: each locks as many nets as its program has runs, waits for nets that others have locked,
    and trains those whose process died.

    Args:
      on_trained: takes the number of nets ready, after each batch of them.
    """
    checkpoints = checkpoints or Checkpoints(cache.root / CHECKPOINTS, None, print)
    missing = {request.key: request for request in requests}
    ready: dict[str, SourceNet] = {}
    programs: dict[Recipe, _Program] = {}
    while True:
        for name in broadcast_from_primary(
            lambda: [one for one in missing if cache.get(KIND, one)]
        ):
            del missing[name]
            ready[name] = SourceNet(*checkpoint.load(cache.path(KIND, name) / "net"))
            if is_primary():
                checkpoints.remove(name)
        if on_trained is not None:
            on_trained(len(ready))
        if not missing:
            return ready
        groups: dict[Recipe, list[SourceRequest]] = {}
        for request in missing.values():
            groups.setdefault(source_recipe(request), []).append(request)
        for recipe in groups.keys() - programs.keys():
            programs[recipe] = _Program(recipe, cache, checkpoints)
        if not any(programs[recipe].train(group) for recipe, group in groups.items()):
            with cache.lock(KIND, next(iter(missing))):  # until its trainer is done, or died
                pass


def source_recipe(request: SourceRequest) -> Recipe:
    """Return the recipe of a source net's program."""
    network, pretrain = request.network(), request.recipe
    everything = len(network.weighted)
    return Recipe.of(
        pretrain,
        network=network,
        start=0,
        plan=make_plan(network, RegimeConfig("fine_tune"), everything, pretrain.updates),
        runs_per_device=request.runs_per_device,
        steps_per_call=request.steps_per_call,
    )


class _Program:
    """Training of source nets of one recipe."""

    def __init__(self, recipe: Recipe, cache: Cache, checkpoints: Checkpoints) -> None:
        self._trainer, self._forward = Trainer(recipe), Forward(recipe.network, 0)
        self._cache, self._checkpoints = cache, checkpoints

    def train(self, requests: Iterable[SourceRequest]) -> bool:
        """Train and publish unlocked nets, as many as fit; return whether any."""
        by_update: dict[int, list[tuple[SourceRequest, Run]]] = {}
        with ExitStack() as locks:
            claimed = (
                request
                for request in requests
                if broadcast_from_primary(partial(self._claim, request.key, locks))
            )
            for request in islice(claimed, self._trainer.width):
                run = self._begin(request)
                update = 0 if run.state is None else run.state.update
                by_update.setdefault(update, []).append((request, run))
            if broadcast_from_primary(lambda: list(by_update)) != list(by_update):
                raise UserError(
                    "cache: process 0 has checkpoints there that this one does not see; accepted: a folder that all "
                    "processes share"
                )
            for pairs in by_update.values():
                self._train_together(pairs)
        return bool(by_update)

    def _claim(self, key: str, locks: ExitStack) -> bool:
        """Lock a net, in `locks`; return whether this process is to train it."""
        held = locks.enter_context(self._cache.lock(KIND, key, blocking=False))
        # Another process may have published between the look and the lock.
        return held and self._cache.get(KIND, key) is None

    def _begin(self, request: SourceRequest) -> Run:
        """Return the run that makes a net, from its checkpoint if there is one."""
        pixels, labels = request.images("train")
        images, seed, number = standardise(pixels), request.seed, request.replicate
        if request.random_labels:
            labels = generator(seed, "random-labels", number).permutation(labels)
        variables = fresh_variables(request.network(), key(seed, "source-init", number))

        def batches(first: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
            stream, size = ("source-order", number), request.recipe.batch_size
            index = batch_indices(seed, stream, len(images), size, first, stop)
            return images[index], labels[index]

        drawn = seed_of(seed, "source-updates", number) if request.recipe.augment else 0
        run = Run(jax.tree.map(np.asarray, variables), request.recipe.lr, batches, drawn)
        stored = self._checkpoints.read(request.key)
        state = RunState(**stored[0]) if stored else None
        return replace(run, state=state) if state and self._trainer.resumes(state) else run

    def _train_together(self, pairs: Sequence[tuple[SourceRequest, Run]]) -> None:
        """Train and publish nets that have done the same number of updates."""
        requests = [request for request, _ in pairs]

        def callback(now: TrainState) -> None:
            def contents() -> dict[str, Content]:
                states = zip(requests, now.states(), strict=True)
                return {request.key: (state._asdict(), {}) for request, state in states}

            self._checkpoints.between_calls(contents)

        with stopping.held_back():
            trained = self._trainer.train([run for _, run in pairs], callback)
            for request, result in zip(requests, trained, strict=True):
                if is_primary():
                    save = partial(_save, request, result, self._forward)
                    self._cache.publish(KIND, request.key, save)
            obey_together()


def _save(request: SourceRequest, result: RunResult, forward: Forward, folder: Path) -> None:
    """Write a net, with its accuracy on validation images."""
    pixels, labels = request.images("validation")
    right = forward(result.variables, standardise(pixels)).argmax(-1) == labels
    last = np.cumsum([len(draw.classes) for _, draw in request.parts])
    part = np.searchsorted(last, labels, side="right")
    metadata = {
        "classes": list(request.classes),
        "images": sum(len(draw.train) for _, draw in request.parts),
        "accuracy": float(right.mean()),
        "accuracy_by_part": [float(right[part == i].mean()) for i in range(len(request.parts))],
        "diverged": not result.finite,
    }
    checkpoint.save(folder / "net", result.variables, metadata)
