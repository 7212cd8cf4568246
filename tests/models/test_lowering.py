"""How many images go through a net at a time: divisors, everything at once where that is as fast."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convtl.models import lowering
from convtl.models.layers import ConvUnit, DenseUnit, GlobalAveragePool
from convtl.models.lowering import inferred_at_a_time, trained_at_a_time
from convtl.models.network import Network
from convtl.models.registry import build_network
from convtl.models.resnet import ResNetConfig

ROWS = st.integers(1, 600)
SIDES = st.integers(1, 300)


def _inferred(rows: int, side: int, weights: int = 0) -> int:
    return inferred_at_a_time(rows, (side, side, 3), (side, side, 3), weights)


@given(ROWS, SIDES)
def test_pieces_of_a_batch_are_equal_and_never_single_images(rows: int, side: int) -> None:
    """And the largest that may be."""
    inferred = 2 * 224 * 224 // side**2 if side > 32 else rows
    trained = min(32, 4 * 224 * 224 // side**2)
    for few, allowed in (
        (_inferred(rows, side), inferred),
        (trained_at_a_time(rows, (side, side, 3)), trained),
    ):
        sizes = [size for size in range(2, max(2, allowed) + 1) if rows % size == 0]
        assert few == max(sizes, default=rows)


def test_bigger_images_go_fewer_at_a_time() -> None:
    assert [_inferred(32, side) for side in (32, 64, 96, 224, 299)] == [32, 16, 8, 2, 2]
    assert [trained_at_a_time(64, (side, side, 3)) for side in (28, 64, 96, 224, 299)] == [
        32,
        32,
        16,
        4,
        2,
    ]


def test_weights_that_outweigh_maps_are_read_less_often() -> None:
    assert _inferred(32, 224, 61_000_000) == 8
    assert _inferred(32, 64, 61_000_000) == 16


def test_from_inner_maps_on_the_image_says_how_many_go_at_a_time() -> None:
    assert inferred_at_a_time(32, (56, 56, 64), (224, 224, 3)) == 2
    assert inferred_at_a_time(32, (28, 28, 128), (224, 224, 3)) == 32


@pytest.mark.parametrize("classes", [2, 20_000])
def test_a_head_changes_nothing_about_the_features_below(classes: int) -> None:
    network = build_network(ResNetConfig(layers=18), (224, 224, 3), classes)
    assert network.inferred_at_a_time(32) == 2


@given(ROWS)
def test_vectors_and_small_images_go_all_at_once_in_inference(rows: int) -> None:
    assert inferred_at_a_time(rows, (1280,), (224, 224, 3)) == rows
    assert _inferred(rows, 32) == rows


def test_a_batch_of_the_default_size_of_small_images_is_one_piece() -> None:
    assert trained_at_a_time(32, (28, 28, 1)) == 32


def test_an_accelerator_takes_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (_inferred(32, 224), trained_at_a_time(32, (224, 224, 3))) == (2, 4)
    monkeypatch.setattr(lowering, "on_cpu", lambda: False)
    assert (_inferred(32, 224), trained_at_a_time(32, (224, 224, 3))) == (32, 32)


@pytest.mark.parametrize(("rows", "few"), [(4, 2), (5, 5)])
@pytest.mark.parametrize("stop", [None, 2])
def test_a_few_at_a_time_or_all_at_once_is_the_same(
    rows: int, few: int, stop: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lowering, "_INFERRED_PIXELS", 2 * 40 * 40)
    maps = (("low", ConvUnit(8, 3, padding=1)), ("high", ConvUnit(8, 3, stride=2)))
    ends = (("gap", GlobalAveragePool()), ("head", DenseUnit(5)))
    network = Network((*maps, *ends), (40, 40, 3))
    assert network.inferred_at_a_time(rows) == few
    variables = network.init(jax.random.key(0))
    images = np.random.default_rng(0).normal(size=(rows, 40, 40, 3)).astype(np.float32)
    expected = network.apply(variables, images, stop=stop)[0]
    inferred = network.infer(variables, images, stop=stop)
    np.testing.assert_allclose(inferred, expected, rtol=1e-5, atol=1e-5)
