"""What trials are made of, shared between them: domains, draws, images, source nets, grafted nets."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from convtl.config.roles import content
from convtl.config.schema import Config
from convtl.config.training import ShiftConfig
from convtl.data.domains import Domain, load_domain
from convtl.data.inputs import Normalisation
from convtl.data.subsets import draw_target
from convtl.errors import UserError
from convtl.keys import digest, key
from convtl.models.network import Network, Variables
from convtl.models.registry import build_network
from convtl.storage import checkpoint
from convtl.storage.cache import Cache
from convtl.study.grid import Trial
from convtl.study.shared_features import Prefix, SharedFeatures
from convtl.study.source_nets import ImportedRequest, Request, SourceNets
from convtl.study.sources import source_name
from convtl.study.target_data import TargetData
from convtl.transfer.graft import fresh_variables, graft


class Materials:
    """Loads, draws and remembers; everything it hands out is a pure function of the trial."""

    def __init__(self, cache: Cache, say: Callable[[str], None]) -> None:
        self.cache, self._say = cache, say
        self._domains: dict[str, Domain] = {}
        self.shared = SharedFeatures(cache, say)
        self.sources = SourceNets(cache, self.domain, lambda trial: self.target_data(trial).draw)
        self.target = lru_cache(maxsize=64)(self._target)
        self.grafted = lru_cache(maxsize=64)(self._grafted)

    def domain(self, settings: Config, name: str) -> Domain:
        config = settings.domains[name]
        known = digest([name, repr(config)])
        if known not in self._domains:
            self._domains[known] = load_domain(
                name, config, self.cache.root, self._say, settings.data
            )
        return self._domains[known]

    def check(self, trial: Trial) -> None:
        """Refuses a trial whose images and classes do not fit, beyond what `check_counts` refuses.

        Raises:
          UserError: too few classes, or images of a shape that does not fit.
        """
        network = self.network(trial)
        requests = self.sources.requests(trial)
        self.sources.check(trial)
        if requests and trial.settings.head_init == "source":
            mine = self.target_data(trial)
            names = tuple(mine.domain.class_names[index] for index in mine.draw.classes)
            if requests[0].classes != names:
                raise UserError(
                    f"head_init: got 'source' with source '{trial.source}', whose classes are not the target's; "
                    "accepted: with source same_classes or self"
                )
        if trial.settings.class_balance == "at_most":
            base = source_name(trial.source).base
            if base in ("self", "same_classes") or trial.settings.distances:
                given = "distances=true" if trial.settings.distances else f"source '{base}'"
                raise UserError(f"class_balance: got 'at_most' with {given}; accepted: 'equal'")
        kept = trial.settings.kept
        if kept is not None and kept >= len(network.weighted):
            raise UserError(
                f"kept: got {kept}; accepted: 1 to {len(network.weighted) - 1} units of '{trial.model}'"
            )

    def check_counts(self, trial: Trial) -> None:
        """Refuses a trial that asks for more images than there are; no image has to be drawn for it.

        Raises:
          UserError: too few images a class.
        """
        settings = trial.settings
        wanted = [
            ("n_per_class", trial.n_per_class, "target", trial.target, "train"),
            (
                "validation.per_class",
                settings.validation.per_class,
                "target",
                trial.target,
                "validation",
            ),
            ("test_per_class", settings.test_per_class, "target", trial.target, "test"),
        ]
        for asked, count, role, name, split in wanted:
            if settings.class_balance == "at_most":  # what there is is taken
                continue
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
            settings.class_draw,
            settings.validation.per_class,
            settings.test_per_class,
            settings.class_balance,
            settings.shift,
            self.domain(settings, settings.shift.blend_with) if settings.shift.blend else None,
            self.sources.normalisation(trial),
        )

    def _target(
        self,
        domain: Domain,
        seed: int,
        replicate: int,
        classes: int | None,
        class_draw: str,
        n_val: int,
        n_test: int,
        class_balance: str,
        shift: ShiftConfig,
        blend: Domain | None,
        normalisation: Normalisation | None,
    ) -> TargetData:
        draw = draw_target(
            domain,
            seed=seed,
            replicate=replicate,
            classes=classes,
            n_validation=n_val,
            n_test=n_test,
            disjoint=class_draw == "disjoint",
            ragged=class_balance == "at_most",
        )
        shape = content(shift) | {"blend_with": blend.digest if blend else None}
        drawn = [domain.digest, seed, replicate, classes, class_draw, n_val, n_test, class_balance]
        name = digest([*drawn, shape, repr(normalisation)])
        return TargetData(name, domain, draw, seed, replicate, shift, blend, normalisation)

    def network(self, trial: Trial) -> Network:
        domain = self.domain(trial.settings, trial.target)
        classes = len(self.target_data(trial).draw.classes)
        return build_network(trial.settings.models[trial.model], domain.image_shape, classes)

    def prefix(self, trial: Trial) -> Prefix | None:
        """The frozen part of the trial's net where all replicates share it and its images, else None."""
        requests, data = self.sources.requests(trial), self.target_data(trial)
        shared = (
            requests
            and isinstance(requests[0], ImportedRequest)
            and not source_name(trial.source).variant
        )
        if not shared or not data.as_stored or trial.settings.upper_init == "fresh":
            return None
        start = self.start(trial)
        network, model = self.network(trial), trial.contents["model"]
        weights = tuple(digest(start.digests[unit]) for unit in network.names)
        return Prefix(network, start.variables, weights, model, data.domain, data.normalisation)

    def start(self, trial: Trial) -> "Start":
        """The net that a trial starts from, ready to be trained."""
        settings, network = trial.settings, self.network(trial)
        requests = self.sources.requests(trial)
        taken = _taken(network, trial) if requests else frozenset()
        # A fresh net has no head of its own to keep.
        head = "zeros" if settings.head_init == "source" else settings.head_init
        return self.grafted(
            network,
            requests,
            source_name(trial.source).variant,
            taken,
            settings.seed,
            trial.replicate,
            head,
        )

    def _grafted(
        self,
        network: Network,
        requests: tuple[Request, ...],
        variant: str,
        taken: frozenset[str],
        seed: int,
        replicate: int,
        head_init: Any,
    ) -> "Start":
        variables = fresh_variables(network, key(seed, "init", replicate), head_init)
        name = f"fresh-{seed}-{replicate}-{head_init}"
        if requests:
            source = self.sources.variables(requests, variant)
            variables = graft(network, source, variables, taken)
            name = f"{requests[0].key}-{variant}-{'+'.join(sorted(taken))}-{name}"
        return Start(jax.tree.map(np.asarray, variables), name)


def _taken(network: Network, trial: Trial) -> frozenset[str]:
    """The units that come from the source: all but a fresh head, or only the lowest with fresh upper units."""
    settings = trial.settings
    if settings.upper_init == "fresh":
        frozen = [name for name in network.weighted if name not in trial.trained_units]
        return frozenset(network.weighted[: settings.kept] if settings.kept else frozen)
    keep_head = settings.head_init == "source"
    return frozenset(name for name in network.names if keep_head or name != network.head)


class Start:
    """The net that a trial starts from, with the digest of every leaf taken before anything is trained."""

    def __init__(self, variables: Variables, name: str) -> None:
        self.variables, self.name = variables, name
        self.digests = {unit: checkpoint.digests(own) for unit, own in variables.items()}

    def frozen_ok(self, tuned: Variables, trained: Iterable[str]) -> bool:
        """Whether every leaf of every unit that was not trained, weights and statistics, has the same bits."""
        frozen = set(self.variables) - set(trained)
        return all(checkpoint.digests(tuned[unit]) == self.digests[unit] for unit in frozen)
