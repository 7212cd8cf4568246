"""Checkpoints of runs in flight."""

from pathlib import Path

import numpy as np

from convtl.training.checkpoints import Checkpoints, Content
from convtl.training.runs import numbered


def content(value: float) -> Content:
    return {"unit": {"params": {"w": np.full(3, value)}}}, {}


def test_a_damaged_one_is_replaced_and_keeps_no_other_from_being_written(tmp_path: Path) -> None:
    lines: list[str] = []
    checkpoints = Checkpoints(tmp_path, None, lines.append)
    checkpoints.write({"a": content(1.0), "b": content(1.0)})
    (tmp_path / "a" / "metadata.json").write_text("{")
    checkpoints.write({"a": content(2.0), "b": content(2.0)})
    assert checkpoints.read("a") is None
    after = checkpoints.read("b")
    assert after is not None
    assert after[0]["unit"]["params"]["w"].tolist() == [2.0] * 3
    checkpoints.write({"a": content(3.0)})
    again = checkpoints.read("a")
    assert again is not None
    assert again[0]["unit"]["params"]["w"].tolist() == [3.0] * 3
    checkpoints.close()
    assert len(lines) == 2


def test_an_optimisers_leaves_keep_their_order_above_a_thousand() -> None:
    leaves = numbered(list(range(1200)))
    assert [leaves[name] for name in sorted(leaves, key=int)] == list(range(1200))
