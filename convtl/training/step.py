"""One update of one net, as a pure function: read this to know what training is here."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from convtl.config import OptimConfig
from convtl.config.training import AugmentConfig, NormMode, Precision
from convtl.models.lowering import trained_at_a_time
from convtl.models.network import Network, Variables
from convtl.training.augment import augment, blend
from convtl.transfer.average import Averaged, added, started
from convtl.transfer.optim import make_transform
from convtl.transfer.plan import Phase

Params = dict[str, Any]

_AUGMENT, _PART = 10_000, 20_000
"""What is folded into an update's key for augmentation and for parts of a batch; units fold in their index."""


@dataclass(frozen=True)
class Options:
    """How an update is made, beside plan and optimiser; see `convtl.config.training`."""

    norm_mode: NormMode = "train"
    augment: AugmentConfig | None = None
    precision: Precision = "float32"


class Batch(NamedTuple):
    """Images or features, and labels; with MixUp also the labels of each image's partner."""

    images: Float[Array, "batch ..."]
    labels: Int[Array, "batch"]
    partners: Int[Array, "batch"] | None = None


def params_of(variables: Variables) -> Params:
    """Unit name -> its weights, for the units that have any."""
    return {unit: own["params"] for unit, own in variables.items() if "params" in own}


def init_state(
    config: OptimConfig, phase: Phase, variables: Variables, norm_mode: NormMode = "train"
) -> Any:
    """Fresh optimiser state of a phase; frozen units have none."""
    params = params_of(variables)
    state = make_transform(config, phase, params, 1.0).init(params)
    if config.ema is None:
        return state
    kinds = ("params", "batch_stats") if norm_mode == "train" else ("params",)
    return started(state, variables, phase.trained, kinds)


def update(
    network: Network,
    start: int,
    phase: Phase,
    config: OptimConfig,
    variables: Variables,
    state: Any,
    rate: Float[Array, ""],
    images: Float[Array, "batch ..."],
    labels: Int[Array, "batch"],
    key: jax.Array | None = None,
    options: Options = Options(),
) -> tuple[Variables, Any, Float[Array, ""]]:
    """One gradient step on the mean cross-entropy of a batch.

    Gradients are taken with respect to the trained units only, so nothing is computed for the frozen ones
    but their forward pass; what is frozen is returned as the very arrays that came in.

    Args:
      start: index of the unit that `images` (or cached features) enter.
      variables: of the units from `start` on.
      key: of this update, for what is drawn: by trained units (dropout) and by augmentation. Without one,
        neither is possible.

    Returns:
      Variables and optimiser state after the step, and the loss before it (nats): the mean cross-entropy with
      the training labels, of the images as they were trained on; without label smoothing, so that it can be
      compared between runs with and without; with MixUp the blend of the two labels' cross-entropies.
    """
    params = params_of(variables)
    trained = {unit: params[unit] for unit in phase.trained}
    batch, share = _prepared(Batch(images, labels), key, options.augment)
    loss_of = partial(_loss, network, start, phase, config, options, variables, share)
    parts = len(labels) // at_a_time(network, start, phase, len(labels), config, options.norm_mode)
    loss, moving, gradients = _gradients(
        loss_of, trained, _moving(variables, phase), batch, key, parts
    )
    everything = jax.tree.map(jnp.zeros_like, params) | gradients
    memory = state.optimiser if isinstance(state, Averaged) else state
    steps, memory = make_transform(config, phase, params, rate).update(everything, memory, params)
    moved = optax.apply_updates(trained, {unit: steps[unit] for unit in trained})
    variables = variables | {
        unit: variables[unit] | moving[unit] | {"params": moved[unit]} for unit in moved
    }
    if isinstance(state, Averaged):
        assert config.ema is not None
        return (
            variables,
            Averaged(memory, added(state.totals, variables, phase.trained, config.ema)),
            loss,
        )
    return variables, memory, loss


def _moving(variables: Variables, phase: Phase) -> Variables:
    """What changes in a trained unit but by gradients: its statistics."""
    return {
        unit: {kind: own for kind, own in variables[unit].items() if kind != "params"}
        for unit in phase.trained
    }


def _prepared(
    batch: Batch, key: jax.Array | None, config: AugmentConfig | None
) -> tuple[Batch, Float[Array, ""] | None]:
    """The batch with its images changed, and by how much each is itself where they are blended."""
    if config is None:
        return batch, None
    if key is None:
        raise ValueError("augmentation needs a key")
    changing, blending = jax.random.split(jax.random.fold_in(key, _AUGMENT))
    images = augment(changing, batch.images, config)
    if not config.mixup:
        return batch._replace(images=images), None
    images, partners, share = blend(blending, images, batch.labels, config.mixup)
    return Batch(images, batch.labels, partners), share


def _loss(
    network: Network,
    start: int,
    phase: Phase,
    config: OptimConfig,
    options: Options,
    variables: Variables,
    share: Float[Array, ""] | None,
    trained: Params,
    moving: Variables,
    batch: Batch,
    key: jax.Array | None,
) -> tuple[Float[Array, ""], tuple[Float[Array, ""], Variables]]:
    """What is minimised; what is reported; the statistics after the batch."""
    merged = variables | {unit: moving[unit] | {"params": own} for unit, own in trained.items()}
    images = batch.images
    if options.precision == "bfloat16":  # gradients come back through the cast, as float32
        merged = {
            unit: own | {"params": _lowered(own["params"])} if "params" in own else own
            for unit, own in merged.items()
        }
        images = _lowered(images)
    first = _first_trained(network, phase)
    entering = network.infer(merged, images, start=start, stop=first)
    held = held_units(phase, options.norm_mode)
    logits, updated, _ = network.apply(
        merged, entering, start=first, train=phase.trained, held=held, rngs=key
    )
    logits = logits.astype(jnp.float32)
    fit = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels).mean()
    if share is not None:
        other = optax.softmax_cross_entropy_with_integer_labels(logits, batch.partners).mean()
        fit = share * fit + (1 - share) * other
    wanted = fit
    if config.label_smoothing:
        uniform = -jax.nn.log_softmax(logits).mean()
        wanted = (1 - config.label_smoothing) * fit + config.label_smoothing * uniform
    return wanted, (fit, _moving(updated, phase))


def at_a_time(
    network: Network, start: int, phase: Phase, rows: int, config: OptimConfig, norm_mode: NormMode
) -> int:
    """How many images of a batch of `rows` are differentiated together."""
    rows //= config.accumulate
    if not network.has_maps(start) or network.mixes_batch(
        phase.trained, held_units(phase, norm_mode)
    ):
        return rows
    return trained_at_a_time(rows, network.input_shape)


def held_units(phase: Phase, norm_mode: NormMode) -> tuple[str, ...]:
    """Trained units whose batch normalisation keeps its running statistics."""
    return phase.trained if norm_mode != "train" else ()


def _first_trained(network: Network, phase: Phase) -> int:
    """Index of the unit up to which nothing is trained."""
    return min((network.index(unit) for unit in phase.trained), default=len(network.units))


def _lowered(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tree)


def _gradients(
    loss_of: Callable[..., Any],
    trained: Params,
    moving: Variables,
    batch: Batch,
    key: jax.Array | None,
    parts: int,
) -> tuple[Float[Array, ""], Variables, Params]:
    """Loss, statistics and gradients of a batch, in equal parts one after the other.

    Batch normalisation in training mode sees the parts, not the whole, and its statistics go from part to part.
    """
    with_gradients = jax.value_and_grad(loss_of, has_aux=True)
    if parts == 1:
        (_, (loss, moving)), gradients = with_gradients(trained, moving, batch, key)
        return loss, moving, gradients

    def body(carry: Any, step: Any) -> tuple[Any, None]:
        total, before, sums = carry
        number, part = step
        own = None if key is None else jax.random.fold_in(key, _PART + number)
        (_, (loss, after)), gradients = with_gradients(trained, before, part, own)
        return (total + loss, after, jax.tree.map(jnp.add, sums, gradients)), None

    pieces = jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[1:]), batch)
    none = jnp.zeros_like(batch.labels[0], jnp.float32)  # on the same devices as the losses will be
    nothing = (none, moving, jax.tree.map(jnp.zeros_like, trained))
    (total, moving, sums), _ = jax.lax.scan(body, nothing, (jnp.arange(parts), pieces))
    return total / parts, moving, jax.tree.map(lambda leaf: leaf / parts, sums)
