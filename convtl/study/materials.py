"""Networks, start nets and features on disk, shared by trials."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import jax
import numpy as np

from convtl.config.training import ShiftConfig
from convtl.data.inputs import LazyRows, normalised
from convtl.errors import UserError
from convtl.keys import digest, key
from convtl.models.network import Network
from convtl.models.registry import build_network
from convtl.models.weights import check as check_weights
from convtl.storage.cache import Cache
from convtl.study.draws import Draws, ImportedRequest, Request, Start, TargetData
from convtl.study.grid import Trial
from convtl.study.names import source_name
from convtl.training.features import Images, passes
from convtl.transfer.graft import fresh_variables, graft

KIND = "features"  # folder in the cache, of prefix features
VERSION = 3  # raised whenever code changes the features
_FILE = "rows.npy"


@dataclass(frozen=True)
class SharedFeatures:
    """Features of a fixed target's images by boundary and split, in the cache.

    Attributes:
      opened: digest -> memory-mapped features, of all nets and targets of this process.
      model: the model's digest.
    """

    cache: Cache
    say: Callable[[str], None]
    opened: dict[str, np.ndarray]
    network: Network
    start: Start
    data: TargetData
    model: str

    def rows(self, boundary: int, split: str, positions: np.ndarray) -> LazyRows:
        """Return the inputs of unit number `boundary` for `positions` of a split."""
        name = self._key(boundary, split)
        if name not in self.opened:
            folder = self.cache.get_or_build(KIND, name, partial(self._fill, boundary, split))
            self.opened[name] = np.load(folder / _FILE, mmap_mode="r")
        rows = self.opened[name]
        return LazyRows(rows.__getitem__, positions, rows.shape[1:])

    def _key(self, boundary: int, split: str) -> str:
        """Digest of all that the features at a boundary depend on."""
        names, how = self.network.names[:boundary], self.data.normalisation
        weights = [digest(self.start.digests[name]) for name in names]
        images = [self.data.domain.digest, split, how and repr(how)]
        return digest([VERSION, self.model, names, weights, images])

    def _fill(self, boundary: int, split: str, folder: Path) -> None:
        """Compute features from the highest open boundary below, or from images."""
        network, how, done = self.network, self.data.normalisation, 0
        pixels = self.data.splits[split].images
        count, shape = len(pixels), network.shape_before(boundary)
        below = [i for i in range(1, boundary) if self._key(i, split) in self.opened]
        first = below[-1] if below else 0
        inputs: Images = LazyRows(
            lambda at: normalised(pixels[at], how), np.arange(count), pixels.shape[1:]
        )
        if below:
            inputs = self.opened[self._key(first, split)]
        # As a file, not through a memory map: a full disk is then an error and not a signal.
        with (folder / _FILE).open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (count, *shape)}
            np.lib.format.write_array_header_1_0(file, header)
            for values in passes(network, self.start.variables, first, boundary, inputs):
                file.write(np.ascontiguousarray(values, "<f4").tobytes())
                done += len(values)
                unit = network.names[boundary]
                self.say(f"features before {unit} ({split}): {done} of {count} images")


class Materials(Draws):
    """Targets, networks and nets to start from; each is a pure function of the trial."""

    def __init__(self, cache: Cache, say: Callable[[str], None]) -> None:
        super().__init__(cache, say)
        self._starts = lru_cache(64)(self._start)
        self._features: dict[str, np.ndarray] = {}

    def network(self, trial: Trial) -> Network:
        settings, domain = trial.settings, self.domain(trial.settings, trial.target)
        most = len(domain.class_names)
        classes = min(settings.classes or most, most)
        return build_network(settings.models[trial.model], domain.image_shape, classes)

    def start(self, trial: Trial) -> Start:
        """Return the net that a trial starts from; its source must have been prepared."""
        settings, network = trial.settings, self.network(trial)
        taken = network.names if settings.head_init == "source" else network.names[:-1]
        if settings.upper_init == "fresh":
            frozen = [name for name in network.weighted if name not in trial.trained_units]
            n = settings.n_transferred
            taken = network.weighted[:n] if n else tuple(frozen)
        stream = (settings.seed, "init", trial.replicate)
        origin = self.request(trial), source_name(trial.source).variant
        return self._starts(network, *origin, frozenset(taken), stream)

    def _start(
        self,
        network: Network,
        request: Request | None,
        variant: str,
        taken: frozenset[str],
        stream: tuple[int, str, int],
    ) -> Start:
        """Graft the units `taken` from a source net, where there is one, on a fresh net."""
        variables = fresh_variables(network, key(*stream))
        if request is not None:
            source = self.source_variables(request, variant)
            variables = graft(network, source, variables, taken)
        return Start(jax.tree.map(np.asarray, variables))

    def shared_features(self, trial: Trial) -> SharedFeatures | None:
        """Features on disk, if all replicates share frozen units and images; else None."""
        imports = isinstance(self.request(trial), ImportedRequest)
        data = self.target_data(trial)
        changed = source_name(trial.source).variant or trial.settings.upper_init == "fresh"
        if not imports or changed or data.domain.made or data.shift != ShiftConfig():
            return None
        of_trial = self.network(trial), self.start(trial), data, trial.contents["model"]
        return SharedFeatures(self.cache, self.say, self._features, *of_trial)

    def check(self, trials: Iterable[Trial]) -> None:
        """Raise a UserError for trials whose images, classes or weights do not suffice."""
        for trial in trials:
            settings, base, n = trial.settings, source_name(trial.source).base, trial.n_per_class
            data, units = self.target_data(trial), len(self.network(trial).weighted)
            most, pool = len(data.domain.class_names), data.draw.train.shape[1]
            ragged = settings.class_balance == "at_most"  # a class gives what it has
            within = settings.validation == "within"
            uses = f"source={base}, measure={'+'.join(settings.measure)}"
            refusals = {
                f"axes.classes: got {settings.classes}; accepted: 2 to {most}, as many as target "
                f"'{trial.target}' has": (trial.axes.get("classes") or 0) > most,
                f"n_per_class: got {n}; accepted: 1 to {pool}, the train images a class of target "
                f"'{trial.target}'": n > pool and not ragged,
                f"class_balance: got 'at_most' with {uses}; accepted: 'equal'": ragged
                and ("distances" in settings.measure or base in ("self", "same_classes")),
                f"n_transferred: got {settings.n_transferred}; accepted: 1 to {units - 1} units of "
                f"'{trial.model}'": (settings.n_transferred or 0) >= units,
                # The net of `self` has seen what the folds leave out.
                "source: got 'self' with validation=within; accepted: any other source": within
                and base == "self",
            }
            for line, refused in refusals.items():
                if refused:
                    raise UserError(line)
            if within and data.folds(n).max() < 1:
                raise UserError(
                    f"n_per_class: got {n} with validation=within; accepted: at least 2, for its folds"
                )
            request = self.request(trial)
            if isinstance(request, ImportedRequest):
                name = f"weights.{request.name}"
                check_weights(request.weights, request.model, self.cache, name)
            if request and settings.head_init == "source" and request.classes != data.class_names:
                raise UserError(
                    f"head_init: got 'source' with source '{trial.source}', whose classes are not the "
                    "target's; accepted: with source same_classes or self"
                )
