"""Gradients by unit: against the chain rule by hand, far below float32's squares, and where nothing passes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probe_nets import CLASSES, chain, materials

from convtl.training.probes.bench import fresh
from convtl.training.probes.profile import gradient_profile, profile_values, relative_to_last_hidden
from convtl.training.step import params_of


def one_net(network, given):
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[0]), fresh(network, given))


def test_gradients_of_outputs_follow_the_chain_rule():
    network, given = chain(hidden=2), materials()
    variables, (images, labels) = one_net(network, given), (given.probe[0][0], given.probe[1][0])
    found = gradient_profile(network, variables, images, labels)["gradient"]
    logits, _, taps = network.apply(variables, images, taps=("fc2",))
    at_logits = jax.nn.softmax(logits) - jax.nn.one_hot(labels, CLASSES)
    kernel = {unit: variables[unit]["params"]["dense"]["kernel"] for unit in network.names}
    at_second = at_logits @ kernel["out"].T
    at_first = (at_second * (1 - taps["fc2"] ** 2)) @ kernel["fc2"].T  # tanh' = 1 - tanh^2
    for unit, expected in {"out": at_logits, "fc2": at_second, "fc1": at_first}.items():
        np.testing.assert_allclose(
            found[unit], np.log10(np.linalg.norm(expected, axis=1)), rtol=1e-4, atol=1e-4
        )


def test_gradients_of_weights_are_those_of_the_mean_loss():
    network, given = chain(), materials()
    variables, (images, labels) = one_net(network, given), (given.probe[0][0], given.probe[1][0])
    found = gradient_profile(network, variables, images, labels)["weights"]

    def loss(params):
        logits, _, _ = network.apply(
            {unit: {"params": own} for unit, own in params.items()}, images
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    params = params_of(variables)
    for unit, own in jax.grad(loss)(params).items():
        expected = np.log10(norm(own) / norm(params[unit]))
        assert float(found[unit]) == pytest.approx(expected, abs=1e-4)


def norm(tree):
    return float(np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(tree))))


def test_the_smallest_gradients_are_not_flushed_to_zero():
    """A chain of 20 sigmoids from N(0, 0.01) loses over 30 decades: more than float32's squares have."""
    network, given = chain(hidden=20, activation="sigmoid", initialiser="normal_0.01"), materials()
    rows = {
        (unit, what): values
        for unit, _, what, values in profile_values(network, fresh(network, given), given)
    }
    profile = np.stack([rows[unit, "relative_gradient"] for unit in network.names[:-1]])
    assert np.isfinite(profile).all()
    assert (profile[0] < -30).all()
    assert (np.diff(profile, axis=0) > 1).all()
    np.testing.assert_array_equal(profile[-1], 0)
    assert all(
        np.isfinite(values).all() for (_, what), values in rows.items() if what == "weight_gradient"
    )


def test_a_head_of_zeros_would_make_every_gradient_below_it_zero():
    network, given = chain(), materials()
    variables = one_net(network, given)
    variables["out"] = jax.tree.map(jnp.zeros_like, variables["out"])
    found = gradient_profile(network, variables, given.probe[0][0], given.probe[1][0])["gradient"]
    assert all(np.isneginf(np.asarray(found[unit])).all() for unit in network.names[:-1])


def test_the_head_has_no_relative_gradient():
    network, given = chain(), materials()
    rows = profile_values(network, fresh(network, given), given)
    assert [(unit, place) for unit, place, what, _ in rows if what == "relative_gradient"] == [
        ("fc1", 1),
        ("fc2", 2),
        ("fc3", 3),
    ]
    assert [place for _, place, what, _ in rows if what == "weight_gradient"] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ([-1.0, -2.0, -3.0], [0.0, 0.0, 0.0], -2.0),
        ([-1.0, -np.inf, -3.0], [0.0, 0.0, 0.0], -3.0),  # one image passes nothing on
        ([-1.0, -np.inf, -np.inf], [0.0, 0.0, 0.0], np.nan),  # most do not: R is not defined
        ([-np.inf, -2.0, -2.0], [-np.inf, 0.0, 0.0], np.nan),  # no gradient in either place
        ([np.nan, -2.0, -2.0], [0.0, 0.0, 0.0], np.nan),  # diverged
    ],
)
def test_relative_gradients_are_medians_over_images(first, last, expected):
    found = relative_to_last_hidden({"a": np.array([first]), "b": np.array([last])}, ("a", "b"))
    np.testing.assert_equal(found["a"], [expected])
