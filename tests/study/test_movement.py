"""How far units moved: what a row says of it, and in which order the units stand."""

import jax
import numpy as np
import pytest
import tiny

from convtl.models.lenet import LeNet5Config
from convtl.study.measurements import moved, unit_outputs
from convtl.training.features import CHUNK

UNITS = ["conv1", "conv2", "fc3", "fc4", "fc5"]


@pytest.fixture(scope="module")
def network():
    return LeNet5Config().build((16, 16, 1), 4)


@pytest.fixture(scope="module")
def variables(network):
    return jax.tree.map(np.asarray, network.init(jax.random.key(0)))


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, 16, 16, 1)).astype(np.float32)


def movement(network, before, after):
    old, new = (unit_outputs(network, net, images(20)) for net in (before, after))
    return moved((before, after), (old, new))


def test_a_net_that_stayed_has_displacement_0_and_cka_1(network, variables) -> None:
    found = movement(network, variables, variables)
    assert list(found) == UNITS
    for displacement, cka in found.values():
        assert displacement == 0
        assert cka == pytest.approx(1)


def test_a_unit_that_grew_moved_as_far_as_its_weights(network, variables) -> None:
    grown = variables | {
        "fc4": {"params": jax.tree.map(lambda leaf: 1.5 * leaf, variables["fc4"]["params"])}
    }
    found = movement(network, variables, grown)
    assert found["fc4"][0] == pytest.approx(0.5)
    assert found["fc3"] == [0, pytest.approx(1)]
    assert found["fc5"][0] == 0
    assert found["fc5"][1] < 1  # its weights stayed, but not what enters it


def test_a_head_of_zeros_has_no_movement(network, variables) -> None:
    zeros = variables | {"fc5": {"params": jax.tree.map(np.zeros_like, variables["fc5"]["params"])}}
    assert movement(network, zeros, variables)["fc5"] == [None, None]


def test_maps_are_what_the_units_say_however_many_images_there_are(network, variables) -> None:
    some = images(CHUNK + 3)
    found = unit_outputs(network, variables, some)
    said = network.apply(variables, some, taps=UNITS)[2]
    assert list(found) == UNITS
    for unit in UNITS:
        np.testing.assert_allclose(found[unit], said[unit], atol=1e-5)
    alone = unit_outputs(network, variables, some[:2])
    assert all(np.array_equal(alone[unit], found[unit][:2]) for unit in UNITS)


def test_rows_tell_that_trained_units_moved_and_frozen_ones_did_not(tmp_path) -> None:
    tiny.run(tmp_path, tiny.trials("measure=movement", "depth=[2,5]", "source=[latin,scratch]"))
    rows = tiny.table(tmp_path)
    assert len(rows) == 3
    for row in rows.values():
        trained = row["trained_units"].split("+")
        assert list(row["moved"]) == UNITS
        assert row["moved"].pop("fc5") == [None, None]
        for unit, (displacement, cka) in row["moved"].items():
            assert (displacement > 0) == (unit in trained)
            assert cka == pytest.approx(1) if unit not in trained else cka < 1


def test_movement_is_no_part_of_a_trial(tmp_path) -> None:
    tiny.run(tmp_path, tiny.trials())
    ((name, row),) = tiny.table(tmp_path).items()
    assert "moved" not in row
    tiny.run(tmp_path, tiny.trials("measure=movement"))  # made again, for what it did not say
    ((same, with_movement),) = tiny.table(tmp_path).items()
    assert same == name
    assert with_movement.pop("moved")
    assert with_movement == row
    assert tiny.run(tmp_path, tiny.trials("measure=movement")).ran == 0
    assert tiny.run(tmp_path, tiny.trials()).ran == 0
