"""What trials share: domains, target images, networks, nets to start from."""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Literal

import jax
import numpy as np

from convtl.data.shift import keeps_pixels
from convtl.errors import UserError
from convtl.keys import key
from convtl.models.network import Network
from convtl.models.registry import build_network
from convtl.storage.cache import Cache
from convtl.study.grid import Trial
from convtl.study.materials.shared_features import Prefix, SharedFeatures
from convtl.study.materials.source_nets import ImportedRequest, Request, SourceNets, Start
from convtl.study.materials.target_data import Targets
from convtl.study.names import source_name
from convtl.transfer.graft import fresh_variables, graft

__all__ = ["Materials", "Start"]


class Materials(Targets):
    """Targets, networks and nets to start from; each is a pure function of the trial."""

    def __init__(self, cache: Cache, say: Callable[[str], None]) -> None:
        super().__init__(cache, say)
        self._starts = lru_cache(64)(self._start)
        self.shared = SharedFeatures(cache, say)
        self.sources = SourceNets(self)

    def network(self, trial: Trial) -> Network:
        settings, domain = trial.settings, self.domain(trial.settings, trial.target)
        most = len(domain.class_names)
        classes = min(settings.classes or most, most)
        return build_network(settings.models[trial.model], domain.image_shape, classes)

    def start(self, trial: Trial) -> Start:
        """The net that a trial starts from; its source net must have been prepared."""
        settings, network, requests = (
            trial.settings,
            self.network(trial),
            self.sources.requests(trial),
        )
        taken = [
            name for name in network.names if settings.head_init == "source" or name != network.head
        ]
        if settings.upper_init == "fresh":
            frozen = [name for name in network.weighted if name not in trial.trained_units]
            n = settings.n_transferred
            taken = list(network.weighted[:n]) if n else frozen
        # A fresh net has no head of its own to keep.
        head: Literal["zeros", "model"] = "model" if settings.head_init == "model" else "zeros"
        variant = source_name(trial.source).variant
        stream = (settings.seed, "init", trial.replicate)
        return self._starts(network, requests, variant, frozenset(taken), stream, head)

    def _start(
        self,
        network: Network,
        requests: Sequence[Request],
        variant: str,
        taken: frozenset[str],
        stream: tuple[int, str, int],
        head: Literal["zeros", "model"],
    ) -> Start:
        """Graft the units `taken` from a source net, where there is one, on a fresh net."""
        variables = fresh_variables(network, key(*stream), head)
        if requests:
            source = self.sources.variables(requests, variant)
            variables = graft(network, source, variables, taken)
        return Start(jax.tree.map(np.asarray, variables))

    def prefix(self, trial: Trial) -> Prefix | None:
        """The frozen part of the trial's net if all replicates share it and its images."""
        requests, data = self.sources.requests(trial), self.target_data(trial)
        imports = bool(requests) and isinstance(requests[0], ImportedRequest)
        changed = source_name(trial.source).variant or trial.settings.upper_init == "fresh"
        if not imports or changed or data.domain.made or not keeps_pixels(data.shift):
            return None
        return Prefix(self.network(trial), self.start(trial), data, trial.contents["model"])

    def check(self, trials: Iterable[Trial]) -> None:
        """Raise a UserError for trials whose images, classes or weights do not suffice."""
        for trial in trials:
            settings, base = trial.settings, source_name(trial.source).base
            most = len(self.domain(settings, trial.target).class_names)
            if (trial.axes.get("classes") or 0) > most:
                raise UserError(
                    f"axes.classes: got {settings.classes}; accepted: 2 to {most}, as many as target "
                    f"'{trial.target}' has"
                )
            pool, ragged = (
                self.target_data(trial).draw.train.shape[1],
                settings.class_balance == "at_most",
            )
            n = trial.n_per_class
            if n > pool and not ragged:  # else a class gives what it has
                raise UserError(
                    f"n_per_class: got {n}; accepted: 1 to {pool}, the train images a "
                    f"class of target '{trial.target}'"
                )
            if settings.validation == "within":
                if self.target_data(trial).folds(n).max() < 1:
                    raise UserError(
                        f"n_per_class: got {n} with validation=within; accepted: at least 2, for its folds"
                    )
                if base == "self":  # it has seen what the folds leave out
                    raise UserError(
                        "source: got 'self' with validation=within; accepted: any other source"
                    )
            if ragged and ("distances" in settings.measure or base in ("self", "same_classes")):
                given = f"source={base}, measure={'+'.join(settings.measure)}"
                raise UserError(f"class_balance: got 'at_most' with {given}; accepted: 'equal'")
            self._check_source(trial)

    def _check_source(self, trial: Trial) -> None:
        settings, requests = trial.settings, self.sources.requests(trial)
        for request in requests:
            if isinstance(request, ImportedRequest):
                request.check(self.cache)
        keeps_head = requests and settings.head_init == "source"
        if keeps_head and requests[0].classes != self.target_data(trial).class_names:
            raise UserError(
                f"head_init: got 'source' with source '{trial.source}', whose classes are not the "
                "target's; accepted: with source same_classes or self"
            )
        units = len(self.network(trial).weighted)
        if settings.n_transferred is not None and settings.n_transferred >= units:
            raise UserError(
                f"n_transferred: got {settings.n_transferred}; accepted: 1 to {units - 1} units of "
                f"'{trial.model}'"
            )
