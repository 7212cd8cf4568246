"""Which scratch rows a block of pretrained arms is compared with."""

import pytest

from convtl.study.arms import blocks, frame


def row(source: str, accuracy: float, axes: dict[str, float]) -> dict:
    return {
        "trial": f"{source}{axes}", "config": "c", "model": "lenet5", "source": source, "target": "cyrillic",
        "regime": "fine_tune", "depth": 5, "depth_unit": "conv1", "n_per_class": 2, "replicate": 0,
        "updates": 300, "val_regime": "oracle", "val_accuracy": accuracy, "test_accuracy": accuracy,
        "n_test": 1200, "frozen_ok": True, "status": "done", "axes": axes,
    }  # fmt: skip


def test_scratch_serves_every_value_of_an_axis_that_it_has_no_place_on() -> None:
    rows = [
        row("scratch", 0.5, {"lr": 0.1}),
        row("scratch", 0.6, {"lr": 0.2}),
        *(row("latin", 0.7, {"pretrain.updates": u, "lr": r}) for u in (10, 20) for r in (0.1, 0.2)),
    ]
    found = {tuple(sorted(block.setting)): block for block in blocks(frame(rows))}
    assert len(found) == 4
    for setting, block in found.items():
        accuracy = 0.5 if ("axes.lr", "0.1") in setting else 0.6
        assert list(block.scratch_arm(2, "test_accuracy")) == pytest.approx([accuracy])
