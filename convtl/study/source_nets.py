"""From a trial's source to the weights that it starts from: what to pretrain on, and which control is made of it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from convtl.config.domains import MixtureConfig
from convtl.config.models import ModelConfig
from convtl.config.schema import Config
from convtl.config.training import ShiftConfig
from convtl.config.weights import WeightsConfig
from convtl.data.batches import standardise
from convtl.data.domains import Domain, eligible_classes
from convtl.data.inputs import Normalisation
from convtl.data.subsets import SourceDraw, TargetDraw, draw_source
from convtl.errors import UserError
from convtl.keys import generator
from convtl.models.network import Network, Variables
from convtl.models.weights import imported, imported_key, locate, network_of
from convtl.storage.cache import Cache
from convtl.study.grid import Trial
from convtl.study.sources import SourceName, mixture_of, source_name
from convtl.training.checkpoints import Checkpoints
from convtl.training.features import CHUNK
from convtl.training.pretrain import Source, SourceRequest, ensure_sources
from convtl.transfer import controls

Part = tuple[Domain, SourceDraw]


@dataclass(frozen=True)
class ImportedRequest:
    """A source net whose weights come from elsewhere; the same for every target and replicate.

    Attributes:
      name: in the registry `weights`.
      seed, replicate: of the controls that are made of it; the net itself does not depend on them.
    """

    name: str
    weights: WeightsConfig
    model: ModelConfig
    seed: int
    replicate: int

    @cached_property
    def key(self) -> str:
        return imported_key(self.weights, self.model, f"weights.{self.name}")

    @property
    def classes(self) -> tuple[str, ...]:
        """What the outputs of the net's head stand for."""
        return tuple(f"{self.name} {index}" for index in range(self.weights.classes))

    def network(self) -> Network:
        return network_of(self.weights, self.model)


Request = SourceRequest | ImportedRequest


class SourceNets:
    """Requests and nets of all sources, each made once.

    Args:
      domain: (settings, name) -> the domain called so.
      drawn: trial -> what its replicate draws from the target.
    """

    def __init__(
        self,
        cache: Cache,
        domain: Callable[[Config, str], Domain],
        drawn: Callable[[Trial], TargetDraw],
    ) -> None:
        self._cache, self._domain, self._drawn = cache, domain, drawn
        self._known: dict[tuple[Any, ...], tuple[Request, ...]] = {}
        self._held: list[Any] = []
        self._sources: dict[str, Source] = {}
        self.variables = lru_cache(maxsize=64)(self._variables)

    def requests(self, trial: Trial) -> tuple[Request, ...]:
        """The nets that a trial's start is made of, the source itself first; none for a fresh one.

        Raises:
          UserError: the domains do not fit together, or have too few classes or images.
        """
        name = source_name(trial.source)
        if name.fresh:
            return ()
        own = (
            (trial.n_per_class, trial.settings.shift)
            if name.base in ("self", "same_classes")
            else None
        )
        place = (trial.model, trial.source, trial.similarity, trial.target, trial.replicate, own)
        known = (*place, id(trial.settings.domains), _recipe_of(trial.settings))
        if known not in self._known:
            imported = name.base in trial.settings.weights
            self._known[known] = (
                (self._imported(trial, name),) if imported else self._requests(trial, name)
            )
            self._held.append(trial.settings.domains)  # so that no other object gets its id
        return self._known[known]

    def _requests(self, trial: Trial, name: SourceName) -> tuple[Request, ...]:
        settings = trial.settings
        request = SourceRequest(
            model=settings.models[trial.model],
            parts=self._parts(trial, name),
            recipe=settings.pretrain,
            seed=settings.seed,
            replicate=trial.replicate,
            lanes=settings.lanes,
            chunk=settings.chunk,
        )
        if name.variant == "random_labels":
            return (replace(request, random_labels=True),)
        if name.variant == "random_labels_rescaled":
            return replace(request, random_labels=True), request
        return (request,)

    def _imported(self, trial: Trial, name: SourceName) -> ImportedRequest:
        settings, weights = trial.settings, trial.settings.weights[name.base]
        if trial.model != weights.model:
            raise UserError(
                f"source: got '{trial.source}' with model={trial.model}; accepted: model={weights.model}, "
                "whose weights these are"
            )
        shape = self._domain(settings, trial.target).image_shape
        if shape[2] != 3:
            raise UserError(
                f"source: got '{trial.source}' with images of shape {shape} of target '{trial.target}'; accepted: "
                "images of three channels (domains.NAME.grey=false)"
            )
        return ImportedRequest(
            name.base, weights, settings.models[trial.model], settings.seed, trial.replicate
        )

    def normalisation(self, trial: Trial) -> Normalisation | None:
        """What the source net expects of images; None for nets that take each image standardised by itself."""
        weights = trial.settings.weights.get(source_name(trial.source).base)
        return None if weights is None else Normalisation(weights.mean, weights.std)

    def _parts(self, trial: Trial, name: SourceName) -> tuple[Part, ...]:
        settings = trial.settings
        mixture = mixture_of(settings, name)
        if mixture is not None:
            assert trial.similarity is not None
            return self._mixed(trial, mixture, trial.similarity)
        if name.base == "same_classes":
            return (self._same_classes(trial),)
        if name.base == "self":
            return (self._self(trial),)
        return (self._rung(trial, name.domain(trial.target)),)

    def _rung(self, trial: Trial, name: str, images_per_class: int | None = None) -> Part:
        """A named domain, with classes that are and look like none of the target's."""
        settings = trial.settings
        domain, target = self._domain(settings, name), self._domain(settings, trial.target)
        if domain.image_shape != target.image_shape:
            raise UserError(
                f"source: got '{name}' with images of shape {domain.image_shape}; accepted: the shape "
                f"of target '{trial.target}', {target.image_shape}"
            )
        if domain.digest == target.digest:
            mine = set(self._drawn(trial).classes)
            eligible = tuple(i for i in range(len(domain.class_names)) if i not in mine)
        else:
            eligible = eligible_classes(domain, target)
        if len(eligible) < 2:
            raise UserError(
                f"source: '{name}' has {len(eligible)} classes that are no class or look-alike of target "
                f"'{trial.target}'; accepted: a source with at least 2"
            )
        # A small domain gives what it has; the row says how much (`source_images`).
        wanted = images_per_class or min(settings.pretrain.images_per_class, domain.counts["train"])
        draw = draw_source(
            domain,
            eligible,
            seed=settings.seed,
            replicate=trial.replicate,
            classes=_classes(settings),
            images_per_class=wanted,
        )
        return domain, draw

    def _mixed(self, trial: Trial, mixture: MixtureConfig, similarity: float) -> tuple[Part, ...]:
        """The first classes of a permutation of each side; at 0 and 1 the very rung, in its own order."""
        near = trial.target if mixture.near == "own" else mixture.near
        classes = _classes(trial.settings)
        assert classes is not None
        count = round(similarity * classes)
        if mixture.amount:
            if count < 2:
                raise UserError(
                    f"similarity: got {similarity:g} with an amount twin of {classes} classes; accepted: at "
                    f"least {2 / classes:g}, for two classes"
                )
            each = trial.settings.pretrain.images_per_class * classes // count
            return (self._share(trial, "near", self._rung(trial, near, each), count),)
        sides = (("near", near, count), ("far", mixture.far, classes - count))
        return tuple(
            self._share(trial, side, self._rung(trial, name), k) for side, name, k in sides if k
        )

    def _share(self, trial: Trial, side: str, rung: Part, count: int) -> Part:
        domain, draw = rung
        if len(draw.classes) < count:
            raise UserError(
                f"source: '{domain.name}' has {len(draw.classes)} classes for a mixture; accepted: a domain "
                f"with {count} that look like none of the target's"
            )
        order = generator(trial.settings.seed, "mixture", side, trial.replicate).permutation(
            len(draw.classes)
        )
        kept = sorted(int(index) for index in order[:count])
        rows = [
            part.reshape(len(draw.classes), -1)[kept].ravel()
            for part in (draw.train, draw.validation)
        ]
        return domain, SourceDraw(tuple(draw.classes[index] for index in kept), rows[0], rows[1])

    def _same_classes(self, trial: Trial) -> Part:
        """The target's classes in images from the end of the pool, of which no trial's subset is a part."""
        settings, draw = trial.settings, self._drawn(trial)
        there, wanted = draw.train.shape[1], settings.pretrain.images_per_class
        if trial.n_per_class + wanted > there:
            raise UserError(
                f"n_per_class: got {trial.n_per_class} with source same_classes; accepted: at most "
                f"{max(0, there - wanted)}, as the source takes {wanted} (pretrain.images_per_class) of the "
                f"{there} images a class"
            )
        own = SourceDraw(draw.classes, draw.train[:, -wanted:].ravel(), draw.validation)
        return self._domain(settings, trial.target), own

    def _self(self, trial: Trial) -> Part:
        if replace(trial.settings.shift, blend_with=ShiftConfig().blend_with) != ShiftConfig():
            raise UserError(
                "source: got 'self' with a shift of the target's images, which a source net does not see; accepted "
                "with a shift: any other source"
            )
        draw = self._drawn(trial)
        own = SourceDraw(draw.classes, draw.train[:, : trial.n_per_class].ravel(), draw.validation)
        return self._domain(trial.settings, trial.target), own

    def check(self, trial: Trial) -> None:
        """Refuses a trial whose source's weights are not at hand.

        Raises:
          UserError: with what to do about it.
        """
        for request in self.requests(trial):
            if isinstance(request, ImportedRequest) and request.key not in self._sources:
                locate(request.weights, request.model, self._cache, f"weights.{request.name}")

    def prepare(
        self,
        trials: Iterable[Trial],
        on_ready: Callable[[int, int], None],
        checkpoints: Checkpoints | None = None,
    ) -> None:
        """Makes sure that every source net of `trials` is at hand.

        Args:
          on_ready: told how many of how many are.
          checkpoints: where nets on their way are kept; None keeps none.
        """
        requests = {r.key: r for trial in trials for r in self.requests(trial)}
        wanted = [request for name, request in requests.items() if name not in self._sources]
        trained = [request for request in wanted if isinstance(request, SourceRequest)]
        for request in wanted:
            if isinstance(request, ImportedRequest):
                self._sources[request.key] = _import(request, self._cache)
        if trained:
            self._sources |= ensure_sources(
                trained, self._cache, lambda ready: on_ready(ready, len(trained)), checkpoints
            )

    def metadata(self, trial: Trial) -> dict[str, Any]:
        """What is known of the trial's source net; empty for a fresh one."""
        requests = self.requests(trial)
        if not requests:
            return {}
        known = self._sources[requests[0].key].metadata
        untrained = source_name(trial.source).variant in ("shuffled", "statistics")
        return known | {"accuracy": None, "accuracy_by_part": []} if untrained else known

    def net(self, trial: Trial) -> Variables:
        """Weights of the source net, or of the control that is made of it, with its own head."""
        return self.variables(self.requests(trial), source_name(trial.source).variant)

    def _variables(self, requests: Sequence[Request], variant: str) -> Variables:
        """Weights of a source or of the control that is made of it."""
        own = self._sources[requests[0].key].variables
        draw = generator(requests[0].seed, "control", variant, requests[0].replicate)
        if variant == "shuffled":
            return controls.shuffled(own, draw)
        if variant == "statistics":
            return controls.statistics_matched(own, draw)
        if variant == "random_labels_rescaled":
            labelled = requests[1]
            assert isinstance(labelled, SourceRequest)
            reference = self._sources[labelled.key].variables
            images = labelled.images("train")[0]
            every = images[:: max(1, len(images) // CHUNK)][:CHUNK]  # they lie class by class
            return controls.rescaled(requests[0].network(), own, reference, standardise(every))
        return own


def _import(request: ImportedRequest, cache: Cache) -> Source:
    found = imported(request.weights, request.model, cache, f"weights.{request.name}")
    metadata = {"classes": list(request.classes), "origin": found.digest, "domain": request.name}
    return Source(found.variables, metadata)


def _classes(settings: Config) -> int | None:
    return settings.pretrain.classes or settings.classes


def _recipe_of(settings: Config) -> tuple[Any, ...]:
    """Everything of a config beside names that a source net depends on."""
    return (settings.pretrain, settings.seed, settings.classes, settings.lanes, settings.chunk)
