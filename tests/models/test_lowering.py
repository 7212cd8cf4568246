"""How many images go through a net at a time: divisors, everything at once where that is as fast."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convtl.config import ResNetConfig
from convtl.models import lowering
from convtl.models.lowering import inferred_at_a_time, trained_at_a_time
from convtl.models.registry import build_network

ROWS = st.integers(1, 600)
SIDES = st.integers(1, 300)


@given(ROWS, SIDES)
def test_pieces_of_a_batch_are_equal_and_never_single_images(rows: int, side: int) -> None:
    shape = (side, side, 3)
    for few, pixels in (
        (inferred_at_a_time(rows, shape), 2 * 224 * 224),
        (trained_at_a_time(rows, shape), 4 * 224 * 224),
    ):
        assert rows % few == 0
        assert few == rows or few > 1
        assert few in (rows, 2) or few * side * side <= pixels


def test_bigger_images_go_fewer_at_a_time() -> None:
    assert [inferred_at_a_time(32, (side, side, 3)) for side in (32, 64, 96, 224, 299)] == [32, 16, 8, 2, 2]
    assert [trained_at_a_time(64, (side, side, 3)) for side in (28, 64, 96, 224, 299)] == [32, 32, 16, 4, 2]


def test_weights_that_outweigh_maps_are_read_less_often() -> None:
    assert inferred_at_a_time(32, (224, 224, 3), 61_000_000) == 8
    assert inferred_at_a_time(32, (64, 64, 3), 61_000_000) == 16


@given(ROWS)
def test_vectors_and_small_images_go_all_at_once_in_inference(rows: int) -> None:
    assert inferred_at_a_time(rows, (1280,)) == rows
    assert inferred_at_a_time(rows, (32, 32, 64)) == rows


def test_a_batch_of_the_default_size_of_small_images_is_one_piece() -> None:
    assert trained_at_a_time(32, (28, 28, 1)) == 32


def test_an_accelerator_takes_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (inferred_at_a_time(32, (224, 224, 3)), trained_at_a_time(32, (224, 224, 3))) == (2, 4)
    monkeypatch.setattr(lowering, "on_cpu", lambda: False)
    assert (inferred_at_a_time(32, (224, 224, 3)), trained_at_a_time(32, (224, 224, 3))) == (32, 32)


@pytest.mark.parametrize("rows", [1, 4, 5])
@pytest.mark.parametrize("stop", [None, 3])
def test_a_few_at_a_time_or_all_at_once_is_the_same(rows: int, stop: int | None) -> None:
    network = build_network(ResNetConfig(layers=18, width=8), (40, 40, 3), 5)
    variables = network.init(jax.random.key(0))
    images = np.random.default_rng(0).normal(size=(rows, 40, 40, 3)).astype(np.float32)
    wanted = network.apply(variables, images, stop=stop)[0]
    found = network.infer(variables, images, stop=stop)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * float(np.abs(wanted).max()))
