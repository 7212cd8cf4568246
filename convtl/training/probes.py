"""Probes of fresh nets (`measure=gradients`): trained by `Trainer`, and measured unit by unit.

- Profile: how large the gradient is at each unit (Glorot & Bengio 2010; Hochreiter 1991), of plain chains and LeNet-5
  under SGD: Adam divides each gradient by its own size and so hides what is asked.
- Convergence: when each unit becomes what it will be, by linear CKA with its final outputs
  (Kornblith et al. 2019).
- Freezing: what it costs to leave one unit as it is from some update on.
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from convtl.config.schema import RESULTS_VERSION, Config
from convtl.data.domains import load_domain
from convtl.errors import UserError, unknown_name
from convtl.keys import digest
from convtl.models.lenet import ActivationName, InitialiserName, LeNet5Config
from convtl.models.network import Variables
from convtl.models.plain import PlainConfig
from convtl.storage.cache import Cache
from convtl.storage.files import storage_errors, written
from convtl.training.probe_nets import (
    FreshNet,
    Optimiser,
    ProbeImages,
    Replicates,
    draw_images,
    replicate_layout,
)
from convtl.training.unit_measures import (
    arrival,
    cka,
    gradient_profile,
    grams,
    relative_gradient,
    score,
)

Number = tuple[int, str | None, str, np.ndarray]
"""(update, unit, quantity, one number a replicate)."""

VERSION = 2
"""Raised whenever code or constants change the numbers of a probe."""

TABLE = "gradients.csv"
COLUMNS = (
    *("probe", "model", "activation", "initialiser", "hidden", "optimiser"),
    *("replicate", "update", "unit", "position", "quantity", "value"),
)
"""Of gradients.csv: one line a number. What does not apply, or is not defined, is empty."""

ACTIVATIONS: tuple[ActivationName, ...] = ("sigmoid", "tanh", "relu")
INITIALISERS: tuple[InitialiserName, ...] = (
    *("normal_0.01", "lecun_normal", "glorot_uniform", "he_normal"),
)
"""Of every unit, the head included: a head of zeros would make every gradient below it exactly 0."""
HIDDEN = (5, 10, 20)
OPTIMISERS: tuple[Optimiser, ...] = ("sgd", "adam")

PROFILE_RATE = 0.01
PROFILE_UPDATES = {"plain": (0, 10, 100, 1000), "lenet5": (0, 10, 100)}
RATES = {"sgd": 0.03, "adam": 0.003}
"""Of the other probes, set once on development draws (`seed=1`): the nets that learn at all do at these. SGD has
momentum 0.9; with it a sigmoid LeNet-5 stays at chance at this and at 0.1, 0.3 and 1."""
CONVERGENCE_UPDATES = (
    *(0, 1, 2, 4, 7, 10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 300, 400, 500, 600),
)
FROZEN_SINCE = (0, 50)
FREEZING_UPDATES = 300
FREEZING_OPTIMISERS: dict[str, Optimiser] = {"sigmoid": "adam", "tanh": "sgd", "relu": "sgd"}
"""With SGD a sigmoid net learns nothing that freezing could spoil."""

# --- what is measured ---------------------------------------------------------------------


@dataclass(frozen=True)
class Probe:
    """Fresh nets of one kind under one optimiser, and what is measured of them."""

    kind: Literal["profile", "convergence", "freezing"]
    net: FreshNet
    optimiser: Optimiser

    @property
    def setting(self) -> dict[str, Any]:
        """Columns that all its rows share."""
        net, hidden = self.net, getattr(self.net, "hidden", None)
        names = {"model": net.kind, "activation": net.activation, "initialiser": net.initialiser}
        return {"probe": self.kind, **names, "hidden": hidden, "optimiser": self.optimiser}

    def lines(self, images: ProbeImages, most: int | None) -> str:
        """Lines of the table, with six digits: more than a measurement has.

        Args:
          most: updates of a run, at most.
        """
        rate = PROFILE_RATE if self.kind == "profile" else RATES[self.optimiser]
        nets = Replicates(images, self.net, self.optimiser, rate)
        if self.kind == "profile":
            numbers = profile(nets, _up_to(most, PROFILE_UPDATES[self.net.kind]))
        elif self.kind == "convergence":
            numbers = convergence(nets, _up_to(most, CONVERGENCE_UPDATES))
        else:
            numbers = freezing(nets, _up_to(most, [FREEZING_UPDATES])[0])
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        places: dict[str | None, int] = {unit: i for i, unit in enumerate(nets.network.weighted, 1)}
        for update, unit, quantity, values in numbers:
            for replicate, value in enumerate(values):
                number = float(f"{float(value):.6g}") if np.isfinite(value) else None
                place = (replicate, update, unit, places.get(unit), quantity, number)
                writer.writerow([*self.setting.values(), *place])
        return text.getvalue()


def probes(most: int | None = None) -> Iterator[Probe]:
    """All probes, in the order of the table.

    Args:
      most: values of each axis, at most.
    """
    for hidden in (*HIDDEN[:most], None):
        for activation in ACTIVATIONS[:most]:
            for initialiser in INITIALISERS[:most]:
                net: FreshNet = LeNet5Config(activation=activation, initialiser=initialiser)
                if hidden is not None:
                    net = PlainConfig(hidden=hidden, activation=activation, initialiser=initialiser)
                yield Probe("profile", net, "sgd")
    nets = [LeNet5Config(activation=activation) for activation in ACTIVATIONS[:most]]
    yield from (
        Probe("convergence", net, optimiser) for net in nets for optimiser in OPTIMISERS[:most]
    )
    yield from (Probe("freezing", net, FREEZING_OPTIMISERS[net.activation]) for net in nets)


def _up_to(most: int | None, moments: Sequence[int]) -> list[int]:
    return sorted({moment if most is None else min(moment, most) for moment in moments})


def profile(nets: Replicates, moments: Sequence[int]) -> list[Number]:
    """Gradient profiles at `moments`, and scores at the last of them."""
    states = nets.train(moments)
    numbers = [one for state in states.items() for one in gradients(nets, *state)]
    return numbers + _scores(nets, states[moments[-1]], moments[-1])


def convergence(nets: Replicates, moments: Sequence[int]) -> list[Number]:
    """CKA with the final outputs, arrivals, and the first and last profile."""
    states, last, (images, _) = nets.train(moments), moments[-1], nets.images.splits["validation"]
    numbers = [*gradients(nets, 0, states[0]), *gradients(nets, last, states[last])]
    numbers += _scores(nets, states[last], last)
    products = [nets.measure(grams, variables, images) for variables in states.values()]
    for unit in nets.network.weighted:
        alignment = cka([product[unit] for product in products])
        for moment, values in zip(moments, alignment, strict=True):
            numbers.append((moment, unit, "cka_with_final", values))
        arrivals = np.transpose([arrival(moments, of_one) for of_one in alignment.T])
        for quantity, values in zip(("arrival", "moved"), arrivals, strict=True):
            numbers.append((last, unit, quantity, values))
    chance = np.full(nets.images.replicates, 1 / nets.images.classes)
    return [*numbers, (last, None, "chance", chance)]


def freezing(nets: Replicates, last: int) -> list[Number]:
    """Final scores by the update from which a unit was frozen (no unit: never)."""
    numbers: list[Number] = []
    for since in _up_to(last // 2, FROZEN_SINCE):
        for unit in nets.network.weighted:
            end = nets.train([last], frozen=unit, since=since)[last]
            numbers += _scores(nets, end, since, unit)
    return numbers + _scores(nets, nets.train([last])[last], last)


def _scores(
    nets: Replicates, variables: Variables, update: int, unit: str | None = None
) -> list[Number]:
    """Accuracy, logit of accuracy and loss (nats) on the test images."""
    images, labels = nets.images.splits["test"]
    right, loss = nets.measure(score, variables, images, labels)
    n = images.shape[1]
    logit = np.log(right * n + 0.5) - np.log(n - right * n + 0.5)  # finite for none and for all
    values = {"test_accuracy": right, "test_logit": logit, "test_loss": loss}
    return [(update, unit, quantity, value) for quantity, value in values.items()]


def gradients(nets: Replicates, update: int, variables: Variables) -> list[Number]:
    """`relative_gradient` of hidden units (R in decades) and `weight_gradient`.

    R is the median over images of log10 |dL_i/dh| - log10 |dL_i/dh_last|: a few images of which a ReLU net passes
    nothing on do not change it. It is nan where half of them or more are such, or a net has diverged.
    """
    images, units = nets.images.splits["validation"], nets.network.weighted
    by_output, by_weights = nets.measure(gradient_profile, variables, *images)
    last = by_output[units[-2]]
    relative = {unit: relative_gradient(by_output[unit], last) for unit in units[:-1]}
    return [
        *((update, unit, "relative_gradient", relative[unit]) for unit in units[:-1]),
        *((update, unit, "weight_gradient", by_weights[unit]) for unit in units),
    ]


# --- the table ----------------------------------------------------------------------------


def run_gradients(config: Config, out: Path, cache: Cache, say: Callable[[str], None]) -> None:
    """Run the probes that `out` does not have, and write out/gradients.csv.

    Images are those of the study's (first) target. The lines of each probe are a file of their own,
    out/probes/<kind>-<digest>.csv, so a killed run continues at the probe at which it stopped.

    Args:
      say: takes a line before each probe is run.

    Raises:
      UserError: there is no such target, or `out` cannot be written to.
    """
    name, limits = config.target[0], config.limits
    if name not in config.domains:
        raise unknown_name("target", name, config.domains)
    domain = load_domain(name, config.domains[name], cache.root, say)
    draw = (config.seed, config.classes, config.replicates)
    shared = [VERSION, RESULTS_VERSION, domain.digest, *draw, limits.updates]
    shared.append(len(replicate_layout(config.replicates).devices))
    images: ProbeImages | None = None
    table, listed = [",".join(COLUMNS) + "\n"], list(probes(limits.values_per_axis))
    for number, probe in enumerate(listed, start=1):
        part = out / "probes" / f"{probe.kind}-{digest([*shared, probe.setting])}.csv"
        if not part.exists():
            images = images or draw_images(domain, *draw)
            shown = ", ".join(str(value) for value in probe.setting.values() if value)
            say(f"probe {number} of {len(listed)}: {shown}")
            _publish(part, probe.lines(images, limits.updates))
        table.append(part.read_text(encoding="utf-8"))
    _publish(out / TABLE, "".join(table))


def _publish(path: Path, text: str) -> None:
    with storage_errors("out", path.parent), written(path) as file:
        file.write(text.encode())


def read_gradients(out: Path) -> pd.DataFrame:
    """The table of `out`, with `COLUMNS`.

    Raises:
      UserError: there is none, or it cannot be read.
    """
    try:
        return pd.read_csv(out / TABLE, usecols=list(COLUMNS))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"out: cannot read '{out / TABLE}': {reason}") from None
