"""What trials are made of, shared between them: domains, draws, images, source nets, grafted nets."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from convtl import checkpoint
from convtl.cache import Cache
from convtl.config import Config
from convtl.data.batches import batch_indices, standardise
from convtl.data.domains import Domain, eligible_classes, load_domain
from convtl.data.subsets import TargetDraw, draw_source, draw_target, relabel, subset_digest
from convtl.errors import UserError
from convtl.keys import digest, key
from convtl.models.network import Network, Variables
from convtl.models.registry import build_network
from convtl.study.grid import FRESH_SOURCES, Trial
from convtl.training.pretrain import Source, SourceRequest, ensure_sources
from convtl.transfer.graft import fresh_variables, graft


class TargetData:
    """The images of one target and replicate, standardised; new labels are 0..classes-1.

    Training images are ordered so that the n-per-class subset is the first n * classes: nested in n.
    """

    def __init__(self, name: str, domain: Domain, draw: TargetDraw, seed: int, replicate: int) -> None:
        self.name = name
        self.domain, self.draw, self._seed, self._replicate = domain, draw, seed, replicate
        self.classes = len(draw.classes)
        self._order = draw.train.T.reshape(-1)
        self._train: np.ndarray | None = None
        self.held_out = lru_cache(maxsize=2)(self._held_out)

    def train_images(self, n_per_class: int) -> Float[np.ndarray, "n ..."]:
        count = n_per_class * self.classes
        if self._train is None or len(self._train) < count:
            self._train = standardise(self.domain.split("train").images[self._order[:count]])
        return self._train[:count]

    def train_labels(self, n_per_class: int) -> Int[np.ndarray, "n"]:
        return np.tile(np.arange(self.classes, dtype=np.int32), n_per_class)

    def batch_positions(
        self, n: int, batch_size: int, first: int, stop: int
    ) -> Int[np.ndarray, "updates batch"]:
        """The order of images; shared by all arms of a replicate with n images."""
        return batch_indices(self._seed, ("order", self._replicate), n, batch_size, first, stop)

    def _held_out(self, split: str) -> tuple[Float[np.ndarray, "n ..."], Int[np.ndarray, "n"]]:
        """Images and labels of this replicate's validation or test draw."""
        chosen = self.draw.validation if split == "validation" else self.draw.test
        pool = self.domain.split(split)
        return standardise(pool.images[chosen]), relabel(pool.labels[chosen], self.draw.classes)

    def subset_digest(self, n_per_class: int) -> str:
        return subset_digest(self.domain.split("train"), self._order[: n_per_class * self.classes])


class Materials:
    """Loads, draws and remembers; everything it hands out is a pure function of the trial."""

    def __init__(self, cache: Cache, say: Callable[[str], None]) -> None:
        self.cache, self._say = cache, say
        self._domains: dict[str, Domain] = {}
        self._sources: dict[str, Source] = {}
        self._requests: dict[tuple[str, ...], SourceRequest | None] = {}
        self.target = lru_cache(maxsize=64)(self._target)
        self.grafted = lru_cache(maxsize=64)(self._grafted)

    def domain(self, settings: Config, name: str) -> Domain:
        config = settings.domains[name]
        known = digest([name, repr(config)])
        if known not in self._domains:
            self._domains[known] = load_domain(name, config, self.cache.root, self._say)
        return self._domains[known]

    def check(self, trial: Trial) -> None:
        """Refuses a trial whose images and classes do not fit, beyond what `check_counts` refuses.

        Raises:
          UserError: too few classes, or images of a shape that does not fit.
        """
        self.network(trial)
        self.source_request(trial)

    def check_counts(self, trial: Trial) -> None:
        """Refuses a trial that asks for more images than there are; no image has to be drawn for it.

        Raises:
          UserError: too few images a class.
        """
        settings = trial.settings
        wanted = [
            ("n_per_class", trial.n_per_class, "target", trial.target, "train"),
            ("validation.per_class", settings.validation.per_class, "target", trial.target, "validation"),
            ("test_per_class", settings.test_per_class, "target", trial.target, "test"),
        ]
        for asked, count, role, name, split in wanted:
            there = self.domain(settings, name).counts[split]
            if count > there:
                raise UserError(
                    f"{asked}: got {count}; accepted: 1 to {there}, the {split} images a class of {role} '{name}'"
                )

    def target_data(self, trial: Trial) -> TargetData:
        settings = trial.settings
        return self.target(
            self.domain(settings, trial.target),
            settings.seed,
            trial.replicate,
            settings.classes,
            settings.validation.per_class,
            settings.test_per_class,
        )

    def _target(
        self, domain: Domain, seed: int, replicate: int, classes: int | None, n_val: int, n_test: int
    ) -> TargetData:
        draw = draw_target(
            domain, seed=seed, replicate=replicate, classes=classes, n_validation=n_val, n_test=n_test
        )
        name = digest([domain.digest, seed, replicate, classes, n_val, n_test])
        return TargetData(name, domain, draw, seed, replicate)

    def network(self, trial: Trial) -> Network:
        domain = self.domain(trial.settings, trial.target)
        classes = len(self.target_data(trial).draw.classes)
        return build_network(trial.settings.models[trial.model], domain.image_shape, classes)

    def source_request(self, trial: Trial) -> SourceRequest | None:
        """The source net that a trial starts from; None for a fresh one."""
        settings = trial.settings
        named = (trial.model, trial.source, trial.target, str(trial.replicate), str(id(settings)))
        if named not in self._requests:
            fresh = trial.source in FRESH_SOURCES
            self._requests[named] = None if fresh else self._source_request(trial, settings)
        return self._requests[named]

    def _source_request(self, trial: Trial, settings: Config) -> SourceRequest:
        domain, target = self.domain(settings, trial.source), self.domain(settings, trial.target)
        if domain.image_shape != target.image_shape:
            raise UserError(
                f"source: got '{trial.source}' with images of shape {domain.image_shape}; accepted: the shape "
                f"of target '{trial.target}', {target.image_shape}"
            )
        if domain.digest == target.digest:
            mine = set(self.target_data(trial).draw.classes)
            eligible = tuple(i for i in range(len(domain.class_names)) if i not in mine)
        else:
            eligible = eligible_classes(domain, target)
        if len(eligible) < 2:
            raise UserError(
                f"source: '{trial.source}' has {len(eligible)} classes that are no class or look-alike of target "
                f"'{trial.target}'; accepted: a source with at least 2"
            )
        draw = draw_source(
            domain,
            eligible,
            seed=settings.seed,
            replicate=trial.replicate,
            classes=settings.classes,
            # A small domain gives what it has; the row says how much (`source_images`).
            images_per_class=min(settings.pretrain.images_per_class, domain.counts["train"]),
        )
        return SourceRequest(
            model=settings.models[trial.model],
            domain=domain,
            draw=draw,
            recipe=settings.pretrain,
            seed=settings.seed,
            replicate=trial.replicate,
            lanes=settings.lanes,
            chunk=settings.chunk,
        )

    def prepare_sources(self, trials: Iterable[Trial], on_ready: Callable[[int, int], None]) -> None:
        """Makes sure that every source net of `trials` is at hand."""
        requests = {r.key: r for r in map(self.source_request, trials) if r is not None}
        wanted = [request for name, request in requests.items() if name not in self._sources]
        if wanted:
            self._sources |= ensure_sources(wanted, self.cache, lambda ready: on_ready(ready, len(wanted)))

    def source_metadata(self, trial: Trial) -> dict[str, Any]:
        request = self.source_request(trial)
        return {} if request is None else self._sources[request.key].metadata

    def start(self, trial: Trial) -> "Start":
        request = self.source_request(trial)
        name = None if request is None else request.key
        return self.grafted(
            self.network(trial), name, trial.settings.seed, trial.replicate, trial.settings.head_init
        )

    def _grafted(
        self, network: Network, source: str | None, seed: int, replicate: int, head_init: Any
    ) -> "Start":
        fresh = fresh_variables(network, key(seed, "init", replicate), head_init)
        variables = fresh if source is None else graft(network, self._sources[source].variables, fresh)
        return Start(jax.tree.map(np.asarray, variables), source or f"fresh-{seed}-{replicate}-{head_init}")


class Start:
    """The net that a trial starts from, with the digest of every leaf taken before anything is trained."""

    def __init__(self, variables: Variables, name: str) -> None:
        self.variables, self.name = variables, name
        self.digests = {unit: checkpoint.digests(own) for unit, own in variables.items()}

    def frozen_ok(self, tuned: Variables, trained: Iterable[str]) -> bool:
        """Whether every leaf of every unit that was not trained, weights and statistics, has the same bits."""
        frozen = set(self.variables) - set(trained)
        return all(checkpoint.digests(tuned[unit]) == self.digests[unit] for unit in frozen)
