"""Named randomness: digests and streams."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convtl import keys

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
STREAM = st.lists(st.integers(0, 9) | st.sampled_from(["order", "init", "1"]), max_size=3).map(
    tuple
)


@given(st.dictionaries(st.text(), PLAIN, min_size=2, max_size=5), st.randoms())
def test_a_digest_does_not_see_the_order_of_keys(content, random) -> None:
    names = list(content)
    random.shuffle(names)
    assert keys.digest({name: content[name] for name in names}) == keys.digest(content)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"b": 1}),
        ([1, 2], [2, 1]),
        ("1", 1),
        (1, 1.5),
        (None, "null"),
        ([], {}),
    ],
)
def test_different_content_has_different_digests(one, other) -> None:
    assert keys.digest(one) != keys.digest(other)


def test_a_digest_has_the_length_asked_for_and_refuses_nan() -> None:
    assert len(keys.digest("x")) == 16
    assert keys.digest("x", 64).startswith(keys.digest("x"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        keys.digest(float("nan"))


def test_known_values_hold() -> None:
    """Pinned: whatever changes these changes every trial's id and every draw (raise RESULTS_VERSION)."""
    assert keys.digest({"b": [1, 2.5, None], "a": "ж"}) == "7ee194d997a41c9d"
    assert keys.generator(0, "order", 3).integers(0, 1000, 4).tolist() == [925, 123, 741, 896]
    assert keys.digest_arrays(np.arange(3, dtype=np.int32)) == "ddb526d523fbac29"


def test_a_digest_of_arrays_sees_bytes_shape_and_type() -> None:
    array = np.arange(6, dtype=np.int32)
    found = {
        keys.digest_arrays(array),
        keys.digest_arrays(array.reshape(2, 3)),
        keys.digest_arrays(array.astype(np.int64)),
        keys.digest_arrays(array.view(np.float32)),
        keys.digest_arrays(array[::-1]),
        keys.digest_arrays(array, array),
    }
    assert len(found) == 6
    assert keys.digest_arrays(array.reshape(2, 3).T) == keys.digest_arrays(
        array.reshape(2, 3).T.copy()
    )


@given(st.integers(0, 2**40), STREAM, STREAM)
def test_streams_are_reproducible_and_apart(seed, one, other) -> None:
    drawn = keys.generator(seed, *one).integers(0, 2**62, 4).tolist()
    assert drawn == keys.generator(seed, *one).integers(0, 2**62, 4).tolist()
    assert (drawn == keys.generator(seed, *other).integers(0, 2**62, 4).tolist()) == (one == other)
    assert drawn != keys.generator(seed + 1, *one).integers(0, 2**62, 4).tolist()


def test_a_number_and_its_text_are_different_streams() -> None:
    assert keys.generator(0, 1).integers(0, 2**62) != keys.generator(0, "1").integers(0, 2**62)


def test_streams_do_not_resemble_each_other() -> None:
    drawn = np.array(
        [keys.generator(0, "stream", index).standard_normal(2000) for index in range(8)]
    )
    correlation = np.corrcoef(drawn)[~np.eye(8, dtype=bool)]
    assert np.abs(correlation).max() < 0.1  # 2,000 draws: standard error 0.022


def test_jax_keys_are_reproducible_and_apart() -> None:
    import jax

    data = [
        jax.random.key_data(keys.key(*what)).tolist()
        for what in ((0, "a"), (0, "a"), (0, "b"), (1, "a"))
    ]
    assert data[0] == data[1]
    assert len(set(map(tuple, data))) == 3
