"""Updates of single lanes against lanes side by side: the same run, in other programs."""

import dataclasses

import flax.linen as nn
import jax
import numpy as np
import pytest
from small_nets import CHAIN, CLASSES, LENET, Head, drawn, lane, recipe, same_bits

from convtl.config import LeNet5Config, LpFtConfig, OptimConfig
from convtl.config.training import AugmentConfig
from convtl.models.lenet import lenet5
from convtl.models.network import Network
from convtl.training.cost import convolves
from convtl.training.lanes import Scanned, Trainer
from convtl.training.stepwise import Stepwise


class Convolution(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = nn.Conv(4, (3, 3))(x)
        x = nn.tanh(nn.BatchNorm(use_running_average=not train)(x))
        return nn.Dropout(0.2, deterministic=not train)(x.mean((1, 2)))


CONVOLVING = Network((("conv", Convolution()), ("head", Head(CLASSES))), (6, 6, 1))


def test_which_nets_convolve() -> None:
    lax = lenet5(LeNet5Config(lowering="lax"), (28, 28, 1), CLASSES)
    assert convolves(lax, 0)
    assert convolves(lax, 2)
    assert not convolves(lax, 4)
    assert not convolves(LENET, 0)
    assert not convolves(CHAIN, 0)


@pytest.mark.parametrize(("depth", "start", "kind"), [(2, 0, Stepwise), (1, 0, Stepwise), (1, 1, Scanned)])
def test_convolutions_keep_out_of_loops_on_cpu(depth: int, start: int, kind: type) -> None:
    assert isinstance(Trainer(recipe(CONVOLVING, depth, start=start))._runs, kind)
    assert isinstance(Trainer(recipe(LENET, 5))._runs, Scanned)


@pytest.mark.slow
def test_it_is_the_run_that_lanes_make() -> None:
    """With dropout and augmentation, which are drawn alike, in two phases, with averages and parts of batches."""
    optim = OptimConfig(kind="sgd", clip=0.5, ema=0.8, accumulate=2)
    given = recipe(CONVOLVING, 2, regime=LpFtConfig(), optim=optim, updates=5)
    given = dataclasses.replace(given, augment=AugmentConfig(crop=1, flip=True))
    lanes = [dataclasses.replace(lane(CONVOLVING, seed), seed=seed) for seed in range(3)]
    device = jax.local_devices()[:1]
    trainer = Trainer(dataclasses.replace(given, lanes=3), device)
    found = trainer.train(lanes)
    trainer._runs = Scanned(trainer.recipe, device)
    for own, other in zip(found, trainer.train(lanes), strict=True):
        assert own.losses.shape == (5,)
        np.testing.assert_allclose(own.losses, other.losses, rtol=1e-4)
        for a, b in zip(jax.tree.leaves(own.variables), jax.tree.leaves(other.variables), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_company_and_places_change_no_bit() -> None:
    trainer = Trainer(recipe(CONVOLVING, 2))
    lanes = [lane(CONVOLVING, seed) for seed in range(4)]
    starts = [drawn(CONVOLVING, seed) for seed in range(4)]
    together = trainer.train(lanes)
    for place, result in zip([3, 1, 0, 2], trainer.train([lanes[i] for i in (3, 1, 0, 2)]), strict=True):
        assert same_bits(result.variables, together[place].variables)
        assert same_bits(result.losses, together[place].losses)
    (alone,) = trainer.train(lanes[1:2])
    assert same_bits(alone.variables, together[1].variables)
    # What was given is not given away.
    assert all(same_bits(own.variables, start) for own, start in zip(lanes, starts, strict=True))
    frozen = Trainer(recipe(CONVOLVING, 1)).train(lanes[:1])[0]
    assert same_bits(frozen.variables["conv"], starts[0]["conv"])


def test_a_rate_beyond_numbers_diverges() -> None:
    wild = dataclasses.replace(lane(CONVOLVING, 0), rate=1e39)
    calm, stormy = Trainer(recipe(CONVOLVING, 2)).train([lane(CONVOLVING, 0), wild])
    assert calm.finite
    assert not stormy.finite
