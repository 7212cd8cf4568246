import jax
import numpy as np
import pytest
from small_nets import CLASSES, LENET, Head, Normalised, drawn, same_bits

from convtl.data.inputs import LazyRows
from convtl.models import lowering
from convtl.models.layers import ConvUnit, DenseUnit, GlobalAveragePool
from convtl.models.mobilenet import EfficientNetLiteConfig
from convtl.models.network import Network, Variables
from convtl.models.registry import build_network
from convtl.models.resnet import ResNetConfig
from convtl.training.features import CHUNK, Forward, rows_at_once, through_units

BOUNDARY = 4
"""What enters the first fully connected unit."""


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2 * CHUNK + 40, 28, 28, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def forward() -> Forward:
    return Forward(LENET, 0, BOUNDARY)


@pytest.fixture(scope="module")
def variables() -> Variables:
    return drawn(LENET, 0)


@pytest.mark.parametrize("count", [1, CHUNK - 1, CHUNK, CHUNK + 1])
def test_a_chunked_forward_pass_is_the_forward_pass(
    variables: Variables, count: int, forward: Forward, images: np.ndarray
) -> None:
    found = forward(variables, images[:count])
    assert found.shape == (count, 5, 5, 16)
    assert found.dtype == np.float32
    few = images[: min(count, 20)]
    expected = LENET.apply(variables, few, stop=BOUNDARY)[0]
    np.testing.assert_allclose(found[: len(few)], expected, rtol=1e-4, atol=1e-5)


def test_slices_of_the_chain_compose(
    variables: Variables, forward: Forward, images: np.ndarray
) -> None:
    few = images[:30]
    whole = Forward(LENET, 0)(variables, few)
    above = {name: variables[name] for name in LENET.names[BOUNDARY:]}
    np.testing.assert_allclose(
        Forward(LENET, BOUNDARY)(above, forward(variables, few)), whole, rtol=1e-5, atol=1e-5
    )


def test_an_images_features_depend_on_nothing_else(
    variables: Variables, forward: Forward, images: np.ndarray
) -> None:
    """Neither on how many are asked for, nor on the other images."""
    whole = forward(variables, images)
    assert whole.shape == (len(images), 5, 5, 16)
    for count in (1, 17, CHUNK, CHUNK + 3):
        assert same_bits(forward(variables, images[:count]), whole[:count])
    others = images[:CHUNK].copy()
    others[5:] = 1e3
    assert same_bits(forward(variables, others)[:5], whole[:5])


def test_nothing_in_nothing_out(variables: Variables, forward: Forward, images: np.ndarray) -> None:
    assert forward(variables, images[:0]).shape == (0, 5, 5, 16)


def test_one_program_serves_all_counts_and_weights(images: np.ndarray) -> None:
    applied = []

    class Listened(type(LENET)):  # type: ignore[misc]
        def apply(self, variables: Variables, x: jax.Array, **given: object) -> object:
            if len(x) > 1:  # shapes are worked out with one image
                applied.append(x)
            return super().apply(variables, x, **given)

    own = Forward(Listened(LENET.units, LENET.input_shape), 0, 2)
    for seed, count in ((0, 3), (1, 300), (2, 256)):
        own(jax.tree.map(np.array, drawn(LENET, seed)), images[:count])
    assert len(applied) == 1


@pytest.mark.parametrize(
    ("shape", "count"),
    [((28, 28, 1), 256), ((64, 64, 3), 256), ((64, 65, 3), 32), ((224, 224, 3), 32)],
)
def test_fewer_big_images_go_through_at_once(shape: tuple[int, ...], count: int) -> None:
    assert rows_at_once(shape) == count


class Lazy(LazyRows):
    """Images that note how many are asked for at a time."""

    def __init__(self, images: np.ndarray) -> None:
        super().__init__(images.__getitem__, np.arange(len(images)), images.shape[1:])
        self.asked: list[int] = []

    def __getitem__(self, chosen: slice) -> np.ndarray:
        rows = super().__getitem__(chosen)
        self.asked.append(len(rows))
        return rows


BIG = Network((("a", Normalised(6)), ("head", Head(CLASSES))), (70, 70, 1))


def test_images_are_made_chunk_by_chunk() -> None:
    """Big ones go round the devices."""
    images = np.random.default_rng(0).normal(size=(100, 70, 70, 1)).astype(np.float32)
    variables, lazy = drawn(BIG, 0), Lazy(images)
    whole = Forward(BIG, 0)(variables, lazy)
    assert lazy.asked == [32, 32, 32, 4]
    np.testing.assert_allclose(whole, BIG.apply(variables, images)[0], rtol=1e-4, atol=1e-4)


FORMS = Network(
    (
        ("banded", ConvUnit(8, 3, padding=1)),
        ("canonical", ConvUnit(64, 3, stride=2, padding=1)),
        ("winograd", ConvUnit(128, 3)),
        ("patches", ConvUnit(16, 7, stride=2)),
        ("gap", GlobalAveragePool()),
        ("head", DenseUnit(5)),
    ),
    (36, 36, 3),
)


@pytest.mark.parametrize(
    "network",
    [
        FORMS,
        pytest.param(
            build_network(ResNetConfig(layers=18), (56, 56, 3), 5), marks=pytest.mark.slow
        ),
        pytest.param(
            build_network(EfficientNetLiteConfig(), (48, 48, 3), 5), marks=pytest.mark.long
        ),
    ],
    ids=["all forms", "resnet18", "efficientnet_lite0"],
)
def test_wherever_a_net_is_cut_its_features_have_the_same_bits(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pieces of the input, and with convolutions of all forms."""
    side = network.input_shape[0]
    monkeypatch.setattr(lowering, "_INFERRED_PIXELS", 3 * side * side)
    assert network.inferred_at_a_time(6) == 3
    variables = jax.jit(network.init)(jax.random.key(0))
    images = np.random.default_rng(0).normal(size=(6, side, side, 3)).astype(np.float32)
    stop = len(network.units) - 1
    whole = np.asarray(through_units(network, 0, stop, variables, images))
    entering = np.asarray(through_units(network, 0, stop // 2, variables, images))
    np.testing.assert_array_equal(
        through_units(network, stop // 2, stop, variables, entering), whole
    )
