"""What trials share: domains, target images, networks, nets to start from."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import Literal, TypeVar

import jax
import numpy as np

from convtl.config.domains import DomainConfig
from convtl.config.schema import Config
from convtl.data.domains import Domain, load_domain
from convtl.errors import UserError
from convtl.keys import digest, key
from convtl.models.network import Network, Variables
from convtl.models.registry import build_network
from convtl.storage import checkpoint
from convtl.storage.cache import Cache
from convtl.study.grid import Trial
from convtl.study.materials.shared_features import Prefix, SharedFeatures
from convtl.study.materials.source_nets import ImportedRequest, SourceNets
from convtl.study.materials.target_data import TargetData
from convtl.study.sources import normalisation_of, source_name
from convtl.transfer.graft import fresh_variables, graft

Value = TypeVar("Value")


class Recent(OrderedDict[Hashable, Value]):
    """The `size` values that were used last, by key."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def get_or_make(self, name: Hashable, make: Callable[[], Value]) -> Value:
        if name not in self:
            self[name] = make()
        self.move_to_end(name)
        while len(self) > self._size:
            self.popitem(last=False)
        return self[name]


class Start:
    """The net that a trial starts from, with digests of its leaves."""

    def __init__(self, variables: Variables, name: Hashable) -> None:
        self.variables, self.name = variables, name
        self.digests = {unit: checkpoint.digests(leaves) for unit, leaves in variables.items()}

    def frozen_ok(self, tuned: Variables, trained: Iterable[str]) -> bool:
        """Whether weights and statistics of all frozen units have the same bits."""
        frozen = set(self.variables) - set(trained)
        return all(checkpoint.digests(tuned[unit]) == self.digests[unit] for unit in frozen)


class Materials:
    """Loads and draws on demand; each result is a pure function of the trial.

    Args:
      say: takes a line about slow work.
    """

    def __init__(self, cache: Cache, say: Callable[[str], None]) -> None:
        self.cache, self._say = cache, say
        self._domains: dict[tuple[str, DomainConfig], Domain] = {}
        self._targets: Recent[TargetData] = Recent(64)
        self._starts: Recent[Start] = Recent(64)
        self.shared = SharedFeatures(cache, say)
        self.sources = SourceNets(cache, self.domain, self.target_data)

    def domain(self, settings: Config, name: str) -> Domain:
        config = settings.domains[name]
        if (name, config) not in self._domains:
            domain = load_domain(name, config, self.cache.root, self._say, settings.data)
            self._domains[name, config] = domain
        return self._domains[name, config]

    def target_data(self, trial: Trial) -> TargetData:
        settings = trial.settings
        domain = self.domain(settings, trial.target)
        normalisation = normalisation_of(settings, trial.source)
        name = (
            *(domain, normalisation, settings.seed, trial.replicate, settings.shift),
            *(settings.classes, settings.class_draw, settings.class_balance),
            *(settings.validation_per_class, settings.test_per_class),
        )
        given = (name, settings, trial.replicate, domain, normalisation)
        return self._targets.get_or_make(name, partial(TargetData, *given))

    def network(self, trial: Trial) -> Network:
        settings, domain = trial.settings, self.domain(trial.settings, trial.target)
        classes = settings.classes or len(domain.class_names)
        return build_network(settings.models[trial.model], domain.image_shape, classes)

    def start(self, trial: Trial) -> Start:
        """The net that a trial starts from; its source net must have been prepared."""
        settings, network = trial.settings, self.network(trial)
        requests, variant = self.sources.requests(trial), source_name(trial.source).variant
        taken = _taken(network, trial) if requests else frozenset()
        # A fresh net has no head of its own to keep.
        head: Literal["zeros", "model"] = "model" if settings.head_init == "model" else "zeros"
        stream = (settings.seed, "init", trial.replicate)
        name = (network, *(request.key for request in requests), variant, taken, *stream, head)

        def make() -> Start:
            variables = fresh_variables(network, key(*stream), head)
            if requests:
                variables = graft(network, self.sources.net(trial), variables, taken)
            return Start(jax.tree.map(np.asarray, variables), name)

        return self._starts.get_or_make(name, make)

    def prefix(self, trial: Trial) -> Prefix | None:
        """The frozen part of the trial's net if all replicates share it and its images."""
        requests, data = self.sources.requests(trial), self.target_data(trial)
        imports = bool(requests) and isinstance(requests[0], ImportedRequest)
        if not imports or source_name(trial.source).variant or not data.as_stored:
            return None
        if trial.settings.upper_init == "fresh":
            return None
        start, network = self.start(trial), self.network(trial)
        weights = tuple(digest(start.digests[unit]) for unit in network.names)
        model = trial.contents["model"]
        return Prefix(network, start.variables, weights, model, data.domain, data.normalisation)

    def check(self, trials: Iterable[Trial]) -> None:
        """Refuse trials whose images, classes or weights do not suffice.

        Raises:
          UserError: with the key to change.
        """
        trials = list(trials)
        for trial in trials:
            self._check_counts(trial)
        for trial in trials:
            self._check_source(trial)

    def _check_counts(self, trial: Trial) -> None:
        """Refuse a trial that needs more images than there are; draws no image."""
        settings = trial.settings
        domain = self.domain(settings, trial.target)
        if (settings.classes or 0) > (most := len(domain.class_names)):
            raise UserError(
                f"classes: got {settings.classes}; accepted: 2 to {most}, as many as target "
                f"'{trial.target}' has, or null for all"
            )
        if settings.class_balance == "at_most":  # a class gives what it has
            return
        counts = domain.counts
        for name, count, split in (
            ("n_per_class", trial.n_per_class, "train"),
            ("validation_per_class", settings.validation_per_class, "validation"),
            ("test_per_class", settings.test_per_class, "test"),
        ):
            if count > counts[split]:
                raise UserError(
                    f"{name}: got {count}; accepted: 1 to {counts[split]}, the {split} images a "
                    f"class of target '{trial.target}'"
                )

    def _check_source(self, trial: Trial) -> None:
        settings, base = trial.settings, source_name(trial.source).base
        network, requests = self.network(trial), self.sources.requests(trial)
        for request in requests:
            if isinstance(request, ImportedRequest):
                request.check(self.cache)
        classes = requests[0].classes if requests else None
        if settings.head_init == "source" and classes not in (
            None,
            self.target_data(trial).class_names,
        ):
            raise UserError(
                f"head_init: got 'source' with source '{trial.source}', whose classes are not the "
                "target's; accepted: with source same_classes or self"
            )
        ragged = settings.class_balance == "at_most"
        if ragged and ("distances" in settings.measure or base in ("self", "same_classes")):
            given = "measure=distances" if "distances" in settings.measure else f"source '{base}'"
            raise UserError(f"class_balance: got 'at_most' with {given}; accepted: 'equal'")
        if settings.n_transferred is not None and settings.n_transferred >= len(network.weighted):
            raise UserError(
                f"n_transferred: got {settings.n_transferred}; accepted: 1 to {len(network.weighted) - 1} units of "
                f"'{trial.model}'"
            )


def _taken(network: Network, trial: Trial) -> frozenset[str]:
    """Units that come from the source: all but a fresh head or fresh upper units."""
    settings = trial.settings
    if settings.upper_init == "fresh":
        frozen = [name for name in network.weighted if name not in trial.trained_units]
        return frozenset(
            network.weighted[: settings.n_transferred] if settings.n_transferred else frozen
        )
    keep_head = settings.head_init == "source"
    return frozenset(name for name in network.names if keep_head or name != network.head)
