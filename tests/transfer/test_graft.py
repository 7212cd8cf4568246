from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest

from convtl.models.layers import DenseUnit
from convtl.models.network import Network, Variables
from convtl.transfer.graft import fresh_variables, graft


def _network(classes: int) -> Network:
    units = (
        ("fc1", DenseUnit(5, nn.tanh)),
        ("fc2", DenseUnit(5, nn.tanh)),
    )
    return Network((*units, ("head", DenseUnit(classes))), (2, 2, 1))


SOURCE, TARGET = _network(7), _network(3)
BODY = ("fc1", "fc2")


@pytest.fixture(scope="module")
def source() -> Variables:
    return jax.tree.map(
        lambda leaf: np.full(leaf.shape, 0.5, np.float32), SOURCE.abstract_variables
    )


@pytest.fixture(scope="module")
def fresh() -> Variables:
    return fresh_variables(TARGET, jax.random.key(1))


def test_everything_but_the_head_is_taken_over(source: Variables, fresh: Variables) -> None:
    grafted = graft(TARGET, source, fresh, BODY)
    assert tuple(grafted) == TARGET.names
    assert grafted["fc1"] is source["fc1"]
    assert grafted["fc2"] is source["fc2"]
    assert grafted["head"] is fresh["head"]
    assert jax.tree.structure(grafted) == jax.tree.structure(TARGET.abstract_variables)


def test_only_a_zero_head_is_zero(fresh: Variables) -> None:
    drawn = TARGET.init(jax.random.key(1))
    for unit in ("fc1", "fc2"):
        assert jax.tree.all(jax.tree.map(np.allclose, fresh[unit], drawn[unit]))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(fresh["head"]))
    assert np.any(drawn["head"]["params"]["dense"]["kernel"])


def test_nothing_is_loaded_partially(source: Variables, fresh: Variables) -> None:
    def refused(changes: dict[str, Any], message: str) -> None:
        given = {unit: own for unit, own in (source | changes).items() if own is not None}
        with pytest.raises(ValueError, match=message):
            graft(TARGET, given, fresh, BODY)

    refused({"fc2": None}, "unit fc2: the source has None")
    refused(
        {"fc1": jax.tree.map(lambda leaf: leaf[:-1], source["fc1"])},
        r"unit fc1: .*\(3, 5\).* not .*\(4, 5\)",
    )
    refused(
        {"fc2": {"params": {"dense": {"kernel": source["fc2"]["params"]["dense"]["kernel"]}}}},
        "unit fc2",
    )
    refused({"fc2": source["fc2"] | {"batch_stats": {"mean": np.zeros(5)}}}, "unit fc2")
