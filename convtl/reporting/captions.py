"""One computed sentence for each figure."""

import math
from collections.abc import Sequence

import numpy as np

from convtl.analysis.arms import Block
from convtl.reporting import numbers
from convtl.reporting.summary import Cell


def accuracy_by_depth(block: Block, found: Sequence[Cell]) -> str:
    """Which arm is the best of all, and how far apart depths are."""
    curves = {
        (cell.source, cell.n): block.curve(cell.source, cell.n, "test_accuracy").mean()
        for cell in found
    }
    spread = {
        key: float(curve.max() - curve.min()) for key, curve in curves.items() if len(curve) > 1
    }
    if not spread:
        return "One depth only, so depths cannot be compared."
    source, n = max(spread, key=lambda key: spread[key])
    curve = curves[source, n]
    worst, best = (
        int(curve.index[int(place(curve.to_numpy()))]) for place in (np.argmin, np.argmax)
    )
    return (
        f"Depth matters most from {source} at n={n}: {numbers.percent(curve.min())} at depth "
        f"{block.depth_name(worst)}, {numbers.percent(curve.max())} at depth {block.depth_name(best)}."
    )


def benefit_map(block: Block, found: Sequence[Cell]) -> str:
    """How many cells favour the whole net, how many the head."""
    known = [cell.benefit for cell in found if cell.benefit is not None]
    signs = [contrast.sign for contrast in known]
    return (
        f"Of {numbers.plural(len(known), 'cell')}, training {block.full_name} is better in {signs.count(1)}, worse "
        "in "
        f"{signs.count(-1)}, and not settled in {signs.count(0)} (adjusted p ≤ .05)."
    )


def learning_curves(block: Block, found: Sequence[Cell]) -> str:
    """What the most labels give, by source, against scratch."""
    last = block.counts[-1]
    ends = [cell for cell in found if cell.n == last and cell.accuracy is not None]
    scratch = block.scratch_arm(last, "test_accuracy")
    said = [
        f"{cell.source} {numbers.percent(cell.accuracy.effect)}" for cell in ends if cell.accuracy
    ]
    if len(scratch):
        said.append(f"scratch {numbers.percent(float(scratch.mean()))}")
    return (
        f"At n={last}, with the depth chosen on validation: {numbers.listed(said)}." if said else ""
    )


def cost_curve(block: Block, found: Sequence[Cell]) -> str:
    """Whether the dearest depth is also the most accurate."""
    known = [cell for cell in found if cell.chosen is not None]
    cheaper = [cell for cell in known if cell.chosen != block.full]
    return (
        f"In {len(cheaper)} of {numbers.plural(len(known), 'cell')} validation prefers a depth that is "
        "cheaper "
        f"than training {block.full_name}."
    )


def rates(block: Block) -> str:
    """Whether one rate would have served every depth."""
    both = block.both
    middle = {
        depth: float(np.exp(np.log(both.loc[both["depth"] == depth, "lr"]).median()))
        for depth in sorted({int(value) for value in both["depth"]})
    }
    if both["n_rates"].max() == 1:
        return "Every trial used one given rate; none was chosen."
    edge = sum(value is True for value in both["lr_at_edge"])
    grid = f"{edge} of {len(both)} chosen rates are at the edge of their grid"
    low, high = min(middle, key=lambda k: middle[k]), max(middle, key=lambda k: middle[k])
    ratio = middle[high] / middle[low]
    if ratio < 1.05:
        return f"The median chosen rate is the same at every depth ({middle[low]:.2g}); {grid}."
    return (
        f"The median chosen rate differs {ratio:.2g}-fold between depths ({middle[high]:.2g} at depth "
        f"{high}, "
        f"{middle[low]:.2g} at depth {low}), so one rate for all would not have been a fair comparison; "
        f"{grid}."
    )


def calibration(block: Block) -> str:
    """Which depth is calibrated best and worst."""
    means = {
        k: float(block.data.loc[block.data["depth"] == k, "test_ece"].mean()) for k in block.depths
    }
    means = {k: value for k, value in means.items() if math.isfinite(value)}
    if not means:
        return ""
    low, high = min(means, key=lambda k: means[k]), max(means, key=lambda k: means[k])
    if low == high:
        return f"Mean calibration error is {means[low]:.3f}."
    return (
        f"Averaged over sources and n, calibration error is smallest at depth {low} ({means[low]:.3f}) and "
        f"largest at depth {high} ({means[high]:.3f})."
    )
