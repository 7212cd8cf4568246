"""The table of movement that rows make: in which order units stand."""

from convtl.analysis.movement import movement_frame


def test_units_stand_from_the_input_on() -> None:
    pair = [0.1, 0.9]
    rows = [
        {
            "trial": name,
            "model": "plain",
            "trained_units": trained,
            "moved": dict.fromkeys(units, pair),
        }
        for name, trained, units in (
            ("a", "fc11+out", ("fc1", "fc10", "fc11", "fc2", "out")),
            ("b", "out", ("fc1", "fc10", "fc11", "fc2", "out")),
        )
    ]
    found = movement_frame([*rows, {"trial": "c", "model": "plain"}])
    assert set(found["trial"]) == {"a", "b"}
    for _, own in found.groupby("trial"):
        assert list(own.sort_values("position")["unit"]) == ["fc1", "fc2", "fc10", "fc11", "out"]
    assert set(found.loc[found["trained"], "unit"]) == {"fc11", "out"}


def test_rows_without_movement_make_an_empty_table() -> None:
    assert movement_frame([{"trial": "a"}]).empty
