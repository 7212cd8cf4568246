"""Probes of fresh nets in training, unit by unit (`measure=gradients`).

- Profile: the size of the gradient at each unit (Glorot & Bengio 2010; Hochreiter 1991), under SGD.
- Convergence: linear CKA of each unit with its final outputs (Kornblith et al. 2019).
- Freezing: the cost of freezing one unit from some update on.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int

from convtl.config.schema import RESULTS_VERSION, Config
from convtl.data.domains import load_domain
from convtl.errors import UserError, unknown_name
from convtl.keys import digest
from convtl.models.lenet import ActivationName, InitialiserName, LeNet5Config, PlainConfig
from convtl.models.network import Network, Variables
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

Number = tuple[int, str | None, str, np.ndarray]
"""(update, unit, quantity, one number a replicate)."""

VERSION = 2  # Raised whenever code or constants change the numbers of a probe.

TABLE = "gradients.csv"
COLUMNS = (
    *("probe", "model", "activation", "initialiser", "hidden", "optimiser"),
    *("replicate", "update", "unit", "position", "quantity", "value"),
)
"""Of gradients.csv, with one line a number; empty where they do not apply."""

ACTIVATIONS: tuple[ActivationName, ...] = get_args(ActivationName)
INITIALISERS: tuple[InitialiserName, ...] = get_args(InitialiserName)
"""Of every unit, the head included: a head of zeros makes every gradient below it exactly 0."""
PROFILE_UPDATES = {"plain": (0, 10, 100, 1000), "lenet5": (0, 10, 100)}
CONVERGENCE_UPDATES = (
    *(0, 1, 2, 4, 7, 10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 300, 400, 500, 600),
)
RATES = {"sgd": 0.03, "adam": 0.003}
"""Set on development draws (`seed=1`). SGD fails on a sigmoid LeNet-5 at 0.03, 0.1, 0.3 and 1."""
OPTIMISERS: tuple[Optimiser, ...] = get_args(Optimiser)
FREEZING_OPTIMISERS: dict[str, Optimiser] = {"sigmoid": "adam", "tanh": "sgd", "relu": "sgd"}

_SCALE = 1e12
"""Factor of the loss in the backward pass, so that small gradients are not flushed to 0."""
_ARRIVED, _MOVED = 0.9, 0.05

# --- what is measured ---------------------------------------------------------------------


@dataclass(frozen=True)
class Probe:
    """Measurement of fresh nets of one kind under one optimiser."""

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
        """Lines of the table, with six digits, after at most `most` updates a run."""
        rate = 0.01 if self.kind == "profile" else RATES[self.optimiser]
        nets = Replicates(images, self.net, self.optimiser, rate)
        measures = {"profile": profile, "convergence": convergence, "freezing": freezing}
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        places: dict[str | None, int] = {unit: i for i, unit in enumerate(nets.network.weighted, 1)}
        for update, unit, quantity, values in measures[self.kind](nets, most):
            for replicate, value in enumerate(values):
                number = float(f"{float(value):.6g}") if np.isfinite(value) else None
                place = (replicate, update, unit, places.get(unit), quantity, number)
                writer.writerow([*self.setting.values(), *place])
        return text.getvalue()


def probes(most: int | None = None) -> Iterator[Probe]:
    """Yield the probes in the table's order, of the first `most` values an axis."""
    fresh: list[FreshNet] = [PlainConfig(hidden=hidden) for hidden in (5, 10, 20)[:most]]
    for net in (*fresh, LeNet5Config()):
        for activation in ACTIVATIONS[:most]:
            for initialiser in INITIALISERS[:most]:
                drawn = replace(net, activation=activation, initialiser=initialiser)
                yield Probe("profile", drawn, "sgd")
    nets = [LeNet5Config(activation=activation) for activation in ACTIVATIONS[:most]]
    yield from (
        Probe("convergence", net, optimiser) for net in nets for optimiser in OPTIMISERS[:most]
    )
    yield from (Probe("freezing", net, FREEZING_OPTIMISERS[net.activation]) for net in nets)


def _up_to(most: int | None, moments: Sequence[int]) -> list[int]:
    return sorted({moment if most is None else min(moment, most) for moment in moments})


def profile(nets: Replicates, most: int | None) -> list[Number]:
    """Measure gradients after some numbers of updates."""
    states = nets.train(_up_to(most, PROFILE_UPDATES[nets.net.kind]))
    return [one for state in states.items() for one in gradients(nets, *state)]


def convergence(nets: Replicates, most: int | None) -> list[Number]:
    """Measure CKA with the final outputs, arrivals, and final scores."""
    moments, (images, _) = _up_to(most, CONVERGENCE_UPDATES), nets.images.splits["validation"]
    states, last = nets.train(moments), moments[-1]
    numbers = _scores(nets, states[last], last)
    products = [nets.measure(grams, variables, images) for variables in states.values()]
    for unit in nets.network.weighted:
        alignment = cka([product[unit] for product in products])
        aligned = zip(moments, alignment, strict=True)
        numbers += [(moment, unit, "cka_with_final", values) for moment, values in aligned]
        arrivals = np.array([arrival(moments, of_one) for of_one in alignment.T])
        numbers.append((last, unit, "arrival", arrivals))
    chance = np.full(nets.images.replicates, 1 / nets.images.classes)
    return [*numbers, (last, None, "chance", chance)]


def freezing(nets: Replicates, most: int | None) -> list[Number]:
    """Measure final scores by unit and the update it is frozen from (no unit: never)."""
    numbers: list[Number] = []
    last = min(300, most or 300)
    for since in _up_to(last // 2, (0, 50)):
        for unit in nets.network.weighted:
            end = nets.train([last], frozen=unit, since=since)[last]
            numbers += _scores(nets, end, since, unit)
    return numbers + _scores(nets, nets.train([last])[last], last)


def _scores(
    nets: Replicates, variables: Variables, update: int, unit: str | None = None
) -> list[Number]:
    """Accuracy on the test images, and its logit."""
    images, labels = nets.images.splits["test"]
    right, n = nets.measure(accuracy, variables, images, labels), images.shape[1]
    logit = np.log(right * n + 0.5) - np.log(n - right * n + 0.5)  # finite for none and for all
    return [(update, unit, "test_accuracy", right), (update, unit, "test_logit", logit)]


def gradients(nets: Replicates, update: int, variables: Variables) -> list[Number]:
    """Measure `relative_gradient` of hidden units on validation images."""
    images, units = nets.images.splits["validation"], nets.network.weighted
    norms = nets.measure(gradient_profile, variables, *images)
    distances = ((unit, relative_gradient(norms[unit], norms[units[-2]])) for unit in units[:-1])
    return [(update, unit, "relative_gradient", values) for unit, values in distances]


# --- measures of one net, unit by unit ----------------------------------------------------


def accuracy(
    network: Network, variables: Variables, images: Float[Array, "n ..."], labels: Int[Array, "n"]
) -> Float[Array, ""]:
    """Share of images that are classified correctly."""
    return (network.apply(variables, images)[0].argmax(-1) == labels).mean()


def relative_gradient(gradient: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Median over images (axis 1) of log10 |dL_i/dh| - log10 |dL_i/dh_last|.

    Nan where half of the images or more pass nothing on (ReLU), or a net has diverged.
    """
    with np.errstate(invalid="ignore"):  # -inf minus -inf: an image's gradient is 0 in both places
        median = np.median(gradient - last, axis=1)
    return np.where(np.isfinite(median), median, np.nan)


def gradient_profile(
    network: Network, variables: Variables, images: Float[Array, "n ..."], labels: Int[Array, "n"]
) -> dict[str, Float[Array, "n"]]:
    """log10 |dL_i/dh| by unit: L_i the cross-entropy of image i, h the unit's output."""
    shifts = {
        name: jnp.zeros((len(images), *shape))
        for name, shape in zip(network.names, network.output_shapes, strict=True)
        if name in network.weighted
    }

    def loss_of(shifts: Mapping[str, Array]) -> Array:
        x = images
        for index, name in enumerate(network.names):
            x, _, _ = network.apply(variables, x, start=index, stop=index + 1)
            x = x + shifts[name] if name in shifts else x
        chosen = jnp.take_along_axis(jax.nn.log_softmax(x), labels[:, None], axis=1)
        return -_SCALE * chosen.sum()

    gradients, log_norms = jax.grad(loss_of)(shifts), jax.vmap(_log_norm)
    return {name: log_norms(each) - np.log10(_SCALE) for name, each in gradients.items()}


def _log_norm(x: Float[Array, "..."]) -> Float[Array, ""]:
    """log10 of the Euclidean norm, safe against underflow."""
    largest = jnp.abs(x).max()
    safe = jnp.where(largest > 0, largest, 1.0)
    squares = jnp.square(x / safe).sum()
    return jnp.where(largest > 0, jnp.log10(safe) + 0.5 * jnp.log10(squares), -jnp.inf)


def grams(
    network: Network, variables: Variables, images: Float[Array, "n ..."]
) -> dict[str, Float[Array, "n n"]]:
    """Centred Gram matrices of weighted units' outputs, of norm 1; 0 if all equal."""
    _, _, taps = network.apply(variables, images, taps=network.weighted)
    products = {}
    for unit in network.weighted:
        flat = taps[unit].reshape(len(images), -1)
        centred = flat - flat.mean(0, keepdims=True)
        # Scaled before it is squared, to stay within float32.
        size = jnp.abs(centred).max()
        scaled = centred / jnp.where(size > 0, size, 1.0)
        product = scaled @ scaled.T
        norm = jnp.linalg.norm(product)
        products[unit] = product / jnp.where(norm > 0, norm, 1.0)
    return products


def cka(products: Sequence[np.ndarray]) -> Float[np.ndarray, "times replicates"]:
    """Linear CKA of a unit with itself at the last time, from its `grams`."""
    last = products[-1]
    return np.stack([np.einsum("rij,rij->r", one, last, dtype=np.float64) for one in products])


def arrival(updates: Sequence[int], alignment: Float[np.ndarray, "times"]) -> float:
    """First update at which (CKA_t - CKA_0) / (1 - CKA_0) >= 0.9, interpolated.

    CKA is with the end. Nan where the unit hardly moved (1 - CKA_0 < 0.05), ended with equal outputs, or diverged.
    """
    start = float(alignment[0])
    if not np.isfinite(alignment).all() or 1 - start < _MOVED or alignment[-1] < 0.999:
        return float("nan")
    share = (np.asarray(alignment, float) - start) / (1 - start)
    share[-1] = 1.0
    after = int(np.argmax(share >= _ARRIVED))
    before = after - 1  # share[0] is 0, so there is one
    part = (_ARRIVED - share[before]) / (share[after] - share[before])
    return float(updates[before] + part * (updates[after] - updates[before]))


# --- the table ----------------------------------------------------------------------------


def run_gradients(config: Config, out: Path, cache: Cache, say: Callable[[str], None]) -> None:
    """Run missing probes on the study's first target; write gradients.csv.

    A killed run continues by the files of finished probes, out/probes/<kind>-<digest>.csv.
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
    with storage_errors("out", path.parent):
        path.parent.mkdir(exist_ok=True)
        with written(path) as file:
            file.write(text.encode())


def read_gradients(out: Path) -> pd.DataFrame:
    """Read the table of `out`, with `COLUMNS`; UserError where it cannot be read."""
    try:
        return pd.read_csv(out / TABLE, usecols=list(COLUMNS))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"out: cannot read '{out / TABLE}': {reason}") from None
