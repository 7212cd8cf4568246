"""Draws of a trial: images of its target, and its source net."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from convtl.config.domains import MixtureConfig
from convtl.config.models import ModelConfig, WeightsConfig
from convtl.config.schema import Config
from convtl.config.training import ShiftConfig
from convtl.data.domains import eligible_classes, load_domain
from convtl.data.inputs import MOST_AT_ONCE, LazyRows, Normalisation, normalised
from convtl.data.shift import shifted
from convtl.data.splits import Domain, Split
from convtl.data.subsets import (
    SourceDraw,
    TargetDraw,
    assign_folds,
    draw_source,
    draw_target,
    relabel,
)
from convtl.errors import UserError
from convtl.keys import generator
from convtl.models.network import Network, Variables
from convtl.models.weights import imported, imported_key, network_of
from convtl.storage import checkpoint
from convtl.storage.cache import Cache
from convtl.study.grid import Trial
from convtl.study.learning_rates import FOLDS
from convtl.study.names import SourceName, mixture_of, normalisation_of, source_name
from convtl.training.checkpoints import Checkpoints
from convtl.training.features import Images
from convtl.training.pretrain import SourceNet, SourceRequest, ensure_sources
from convtl.transfer import graft


@dataclass(eq=False)
class TargetData:
    """Images of one target and replicate; labels count from 0.

    The subset of n images a class is the first of the training images. Without a `normalisation` each is standardised
    by itself; `options` are those of `data.subsets.draw_target`.
    """

    domain: Domain
    normalisation: Normalisation | None
    shift: ShiftConfig
    seed: int
    replicate: int
    options: tuple[tuple[str, Any], ...]
    draw: TargetDraw = field(init=False)
    splits: Mapping[str, Split] = field(init=False)

    def __post_init__(self) -> None:
        options = dict(self.options)
        self.draw = draw_target(self.domain, seed=self.seed, replicate=self.replicate, **options)
        self.splits = self.domain.splits(self.seed, self.replicate)
        self._images: dict[str, Float[np.ndarray, "n ..."]] = {}

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by label."""
        return tuple(self.domain.class_names[index] for index in self.draw.classes)

    def positions(self, split: str, n_per_class: int | None = None) -> Int[np.ndarray, " n"]:
        """Positions in the domain's split; all training images without `n_per_class`."""
        if split == "train":
            return self.draw.subset(n_per_class or self.draw.train.shape[1])
        return self.draw.validation if split == "validation" else self.draw.test

    def examples(
        self, split: str, n_per_class: int | None = None
    ) -> tuple[Images, Int[np.ndarray, " n"]]:
        """Images (float32; big ones made when indexed) and labels (int32) of a split."""
        positions, shape = self.positions(split, n_per_class), self.domain.image_shape
        labels = relabel(self.splits[split].labels[positions], self.draw.classes)

        def read(at: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n ..."]:
            return normalised(self.pixels(split, at), self.normalisation)

        if shape[0] * shape[1] > MOST_AT_ONCE:
            return LazyRows(read, positions, shape), labels
        images = self._images.get(split)
        if images is None or len(images) < len(positions):
            images = self._images[split] = read(positions)
        return images[: len(positions)], labels

    def folds(self, n_per_class: int) -> Int[np.ndarray, " n"]:
        """Fold of each labelled image; the same for all arms of a replicate."""
        positions = self.positions("train", n_per_class)
        labels = relabel(self.splits["train"].labels[positions], self.draw.classes)
        return assign_folds(labels, FOLDS, generator(self.seed, "folds", self.replicate))

    def pixels(self, split: str, positions: Int[np.ndarray, " n"]) -> UInt8[np.ndarray, "n ..."]:
        """Images of the domain's split, shifted as the target is."""
        stream = (self.seed, "shift", self.replicate, split)
        return shifted(self.splits[split], positions, self.shift, stream)


Part = tuple[Domain, SourceDraw]  # a domain, and what of it a source net is trained on


@dataclass(frozen=True)
class ImportedRequest:
    """Request for imported weights, `weights.NAME`."""

    name: str
    weights: WeightsConfig
    model: ModelConfig
    seed: int  # of its controls, as the replicate is
    replicate: int

    @cached_property
    def key(self) -> str:
        return imported_key(self.weights, self.model, f"weights.{self.name}")

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the outputs of the net's head."""
        return tuple(f"{self.name} {index}" for index in range(self.weights.classes))

    def network(self) -> Network:
        return network_of(self.weights, self.model)

    def load(self, cache: Cache) -> SourceNet:
        net = imported(self.weights, self.model, cache, f"weights.{self.name}")
        about = {"classes": list(self.classes), "origin": net.digest, "domain": self.name}
        return SourceNet(net.variables, about)


Request = SourceRequest | ImportedRequest


class Start:
    """The net that a trial starts from, with digests of its leaves."""

    def __init__(self, variables: Variables) -> None:
        self.variables = variables
        self.digests = {unit: checkpoint.digests(leaves) for unit, leaves in variables.items()}

    def frozen_ok(self, tuned: Variables, trained: Iterable[str]) -> bool:
        """Return whether all frozen weights and statistics have the same bits."""
        frozen = set(self.variables) - set(trained)
        return all(checkpoint.digests(tuned[unit]) == self.digests[unit] for unit in frozen)


class Draws:
    """Targets and source nets, made on demand; pure functions of the trial."""

    def __init__(self, cache: Cache, say: Callable[[str], None]) -> None:
        self.cache, self.say = cache, say
        self._targets = lru_cache(64)(TargetData)
        self._load = lru_cache(None)(
            lambda name, config, how: load_domain(name, config, cache.root, say, how)
        )
        self._requests: dict[Hashable, Request] = {}
        self._nets: dict[str, SourceNet] = {}
        self.source_variables = lru_cache(maxsize=64)(self._variables)

    def domain(self, settings: Config, name: str) -> Domain:
        return self._load(name, settings.domains[name], settings.data)

    def target_key(self, trial: Trial) -> tuple[Any, ...]:
        """Arguments of `TargetData`: all that a trial's images and labels depend on."""
        settings = trial.settings
        options = (
            ("classes", settings.classes),
            ("n_validation", settings.validation_per_class),
            ("n_test", settings.test_per_class),
            ("disjoint", settings.class_draw == "disjoint"),
            ("ragged", settings.class_balance == "at_most"),
        )
        domain = self.domain(settings, trial.target)
        normalisation = normalisation_of(settings, trial.source)
        return domain, normalisation, settings.shift, settings.seed, trial.replicate, options

    def target_data(self, trial: Trial) -> TargetData:
        return self._targets(*self.target_key(trial))

    def request(self, trial: Trial) -> Request | None:
        """Return a trial's source request, None if fresh; UserError if impossible."""
        name, settings = source_name(trial.source), trial.settings
        if name.fresh:
            return None
        of_trial_size = name.base in ("self", "same_classes")
        key = (
            *(trial.source, trial.contents["source"], trial.similarity),
            *(trial.model, settings.models[trial.model], settings.pretrain),
            *(settings.runs_per_device, settings.steps_per_call),
            *(self.target_key(trial), trial.n_per_class if of_trial_size else None),
        )
        if key not in self._requests:
            imports = name.base in settings.weights
            make = self._imported if imports else self._pretrained
            self._requests[key] = make(trial, name)
        return self._requests[key]

    def _imported(self, trial: Trial, name: SourceName) -> Request:
        settings, weights = trial.settings, trial.settings.weights[name.base]
        channels = self.domain(settings, trial.target).image_shape[2]
        if (trial.model, channels) != (weights.model, 3):
            raise UserError(
                f"source: got '{trial.source}' with model={trial.model} and images of {channels} channels; "
                f"accepted: model={weights.model} and 3 channels (domains.NAME.grey=false)"
            )
        model = settings.models[trial.model]
        return ImportedRequest(name.base, weights, model, settings.seed, trial.replicate)

    def _pretrained(self, trial: Trial, name: SourceName) -> Request:
        settings = trial.settings
        mixture = mixture_of(settings, name)
        if mixture is not None:
            parts = self._mixed(trial, mixture)
        elif name.base in ("same_classes", "self"):
            parts = (self._of_target(trial, name.base),)
        else:
            parts = (self._unlike_target(trial, name.domain(trial.target)),)
        return SourceRequest(
            model=settings.models[trial.model],
            parts=parts,
            recipe=settings.pretrain,
            seed=settings.seed,
            replicate=trial.replicate,
            runs_per_device=settings.runs_per_device,
            steps_per_call=settings.steps_per_call,
            random_labels=name.variant == "random_labels",
        )

    def _unlike_target(self, trial: Trial, name: str) -> Part:
        """Draw classes of a domain that neither are nor look like one of the target's."""
        settings, pretrain = trial.settings, trial.settings.pretrain
        domain, data = self.domain(settings, name), self.target_data(trial)
        if domain.image_shape != data.domain.image_shape:
            raise UserError(
                f"source: got '{name}' with images of shape {domain.image_shape}; accepted: the shape "
                f"of target '{trial.target}', {data.domain.image_shape}"
            )
        if domain.digest == data.domain.digest:
            drawn = set(data.draw.classes)
            eligible = tuple(i for i in range(len(domain.class_names)) if i not in drawn)
        else:
            eligible = eligible_classes(domain, data.domain)
        draw = draw_source(
            domain,
            eligible,
            seed=settings.seed,
            replicate=trial.replicate,
            classes=pretrain.classes or settings.classes,
            # A small domain gives what it has; the row says how much (`source_images`).
            images_per_class=min(pretrain.images_per_class, domain.counts["train"]),
        )
        return domain, draw

    def _mixed(self, trial: Trial, mixture: MixtureConfig) -> tuple[Part, ...]:
        """Draw the first classes of a permutation of each side of a mixture."""
        settings = trial.settings
        classes = settings.pretrain.classes or settings.classes or 0  # as `similarities` has seen
        count = round((trial.similarity or 0) * classes)
        near = trial.target if mixture.near == "own" else mixture.near
        parts = []
        for side, name, n in (("near", near, count), ("far", mixture.far, classes - count)):
            if not n:
                continue
            domain, draw = self._unlike_target(trial, name)
            total = len(draw.classes)
            if total < n:
                raise UserError(
                    f"source: '{domain.name}' has {total} classes for a mixture; accepted: a domain with "
                    f"{n} that look like none of the target's"
                )
            rng = generator(settings.seed, "mixture", side, trial.replicate)
            chosen = sorted(int(index) for index in rng.permutation(total)[:n])
            train, validation = (
                rows.reshape(total, -1)[chosen].ravel() for rows in (draw.train, draw.validation)
            )
            drawn = SourceDraw(tuple(draw.classes[i] for i in chosen), train, validation)
            parts.append((domain, drawn))
        return tuple(parts)

    def _of_target(self, trial: Trial, base: str) -> Part:
        """Take a trial's own training images (`self`), or the last of the classes' pool."""
        data, size = self.target_data(trial), trial.settings.pretrain.images_per_class
        draw, pool = data.draw, data.draw.train.shape[1]
        if base == "self" and data.shift != ShiftConfig():
            raise UserError(
                "source: got 'self' with a shift of the target's images, which a source net does not "
                "see; accepted with a shift: any other source"
            )
        if base == "same_classes" and trial.n_per_class + size > pool:
            raise UserError(
                f"n_per_class: got {trial.n_per_class} with source same_classes; accepted: at most "
                f"{max(0, pool - size)}, as the source takes {size} (pretrain.images_per_class) of "
                f"the {pool} images a class"
            )
        columns = slice(trial.n_per_class) if base == "self" else slice(-size, None)
        return data.domain, SourceDraw(
            draw.classes, draw.train[:, columns].ravel(), draw.validation
        )

    def prepare(self, trials: Iterable[Trial], checkpoints: Checkpoints | None = None) -> None:
        """Load the source nets of `trials`; pretrain those that the cache does not have."""
        requests = {r.key: r for trial in trials if (r := self.request(trial))}
        missing = [request for name, request in requests.items() if name not in self._nets]
        trained = [request for request in missing if isinstance(request, SourceRequest)]
        self._nets |= {r.key: r.load(self.cache) for r in missing if isinstance(r, ImportedRequest)}

        def on_trained(ready: int) -> None:
            self.say(f"pretraining source nets ({ready} of {len(trained)} ready)")

        if trained:
            self._nets |= ensure_sources(trained, self.cache, on_trained, checkpoints)

    def source_metadata(self, trial: Trial) -> dict[str, Any]:
        """Return the metadata of a trial's source net; empty for a fresh one."""
        request = self.request(trial)
        if request is None:
            return {}
        about = self._nets[request.key].metadata
        untrained = source_name(trial.source).variant in ("shuffled", "statistics")
        return about | {"accuracy": None, "accuracy_by_part": []} if untrained else about

    def _variables(self, request: Request, variant: str) -> Variables:
        """Weights of a source net, or of the control made of it, with its own head."""
        weights = self._nets[request.key].variables
        rng = generator(request.seed, "control", variant, request.replicate)
        if variant == "shuffled":
            return graft.shuffled(weights, rng)
        return graft.statistics_matched(weights, rng) if variant == "statistics" else weights
