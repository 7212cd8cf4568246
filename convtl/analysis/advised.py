"""How deep to fine-tune, with the images of a study and with more: what the numbers of its arms advise.

Advice has to be given from as few replicates as there are, so intervals here are Student's over replicates,
where the rest of a report has exact ones (`statistics.paired_t`).

The depth that is advised: beginning with the fewest layers, go on to the next depth that is settled to be better,
until there is none. Whoever brings pictures wants them told apart well, so a settled gain wins however small it
is; d*, the fewest layers within `statistics.EPSILON` logits of the best, tolerates a loss (2 points at 90 %)
whether it is settled or not. What the tolerance is for, that noise does not recommend depth, is done by the
test: where depth changes nothing, each deeper depth is advised in at most 2.5 % of studies (of replicates with test
images of their own; on shared ones a gain is one on these images). What the gain costs stands beside it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from convtl.analysis import statistics
from convtl.analysis.arms import SCRATCH, Block
from convtl.analysis.cells import NotEnoughData
from convtl.analysis.learning_curve import LearningCurve, TooFewSizes, learning_curve
from convtl.analysis.statistics import Interval
from convtl.analysis.statistics.paired_t import mean_interval

PICTURES = 6
"""Test images by which arms must differ: if fewer tell them apart, all one way, an exact test (McNemar) has p > .05."""


@dataclass(frozen=True)
class Difference:
    """Test accuracy of one depth minus that of another, with the same images.

    Attributes:
      interval: of the mean over replicates; None for one replicate.
      settled: whether it is told from 0 by the replicates and by the number of test images.
    """

    effect: float
    interval: Interval | None
    settled: bool


@dataclass(frozen=True)
class Measured:
    """One depth that was measured with so many labels.

    Attributes:
      accuracy, interval: on test images, mean over replicates; the interval spans Student's over replicates and
        the exact binomial one of a test with so many images, which replicates may share.
      against: this depth minus the advised one; None for the advised one itself.
      weights: that are trained. flops: of one update. Both nan where rows do not tell.
    """

    depth: int
    accuracy: float
    interval: Interval
    against: Difference | None
    weights: float
    flops: float


@dataclass(frozen=True)
class DepthChoice:
    """Which depth is advised with so many labels.

    Attributes:
      n, images: labels a class, and training images in all.
      arms: all depths that were measured, ascending.
      depth: the advised one (see above).
      enough: the most frequent d* over bootstrap draws, which the rest of a report goes by.
    """

    n: int
    images: int
    arms: tuple[Measured, ...]
    depth: int
    enough: int
    replicates: int
    n_test: int
    n_val: int

    @property
    def advised(self) -> Measured:
        return self.arm(self.depth)

    @property
    def others(self) -> tuple[Measured, ...]:
        return tuple(arm for arm in self.arms if arm.depth != self.depth)

    def arm(self, depth: int) -> Measured:
        return next(arm for arm in self.arms if arm.depth == depth)


@dataclass(frozen=True)
class Advice:
    """What is advised for one source in one setting.

    Attributes:
      choices: by labels a class, ascending; the last is for all that the study had.
      curve: test accuracy at `curve_depth` against images, or why there is none at the advised depth.
      curve_depth: the advised one, if it was measured with enough numbers of images; else the deepest below it that
        was, else the first above it.
      measured: (images, accuracies of the replicates) at that depth.
      best: the trial at the advised depth, with all labels, whose validation accuracy is highest; its replicate,
        validation and test accuracy.
    """

    block: Block
    source: str
    choices: tuple[DepthChoice, ...]
    curve: LearningCurve | str
    curve_depth: int
    measured: tuple[tuple[float, tuple[float, ...]], ...]
    best: "Best"

    @property
    def now(self) -> DepthChoice:
        return self.choices[-1]


@dataclass(frozen=True)
class Best:
    """The trial whose net is kept for use: chosen on validation images, never on test images."""

    trial: str
    replicate: int
    validation: float
    test: float


def advise(blocks: Sequence[Block]) -> list[Advice]:
    """Advice for every pretrained source of every setting; sources without a replicate with all depths have none."""
    found = []
    for block in blocks:
        for source in block.sources:
            choices = [
                choice for n in block.counts if (choice := choose(block, source, n)) is not None
            ]
            if source != SCRATCH and choices:
                found.append(_advice(block, source, choices))
    return found


def choose(block: Block, source: str, n: int) -> DepthChoice | None:
    """The depth for n labels a class; None where no replicate has all depths."""
    z = block.curve(source, n)
    if not len(z):
        return None
    table = block.curve(source, n, "test_accuracy").loc[z.index]
    depths = tuple(map(int, z.columns))
    share = statistics.depth_distribution(z.to_numpy(float))

    def median(depth: int, column: str) -> float:
        return float(block.arm(source, n, depth, column).median())

    n_test = int(median(depths[0], "n_test"))
    depth = _advised_depth(table, n_test)
    arms = [
        Measured(
            depth=one,
            accuracy=float(table[one].mean()),
            interval=_spanned(table[one], n_test),
            against=None if one == depth else _difference(table[one] - table[depth], n_test),
            weights=median(one, "trained_weights"),
            flops=median(one, "flops_per_update"),
        )
        for one in depths
    ]
    images, n_val = (int(median(depth, column)) for column in ("n_train", "n_val"))
    return DepthChoice(
        n, images, tuple(arms), depth, depths[int(np.argmax(share))], len(table), n_test, n_val
    )


def _advised_depth(table: pd.DataFrame, n_test: int) -> int:
    """From the first column on to the next one that is settled to be better, until there is none."""
    first, *deeper = table.columns
    depth = int(first)
    for other in map(int, deeper):
        found = _difference(table[other] - table[depth], n_test)
        if found.settled and found.effect > 0:
            depth = other
    return depth


def _difference(values: pd.Series, n_test: int) -> Difference:
    effect, interval = float(values.mean()), _interval(values)
    enough_images = round(abs(effect) * n_test, 6) >= PICTURES
    settled = interval is not None and interval.excludes_zero() and enough_images
    if interval is not None:  # shares differ by 1 at most
        interval = Interval(max(-1.0, interval.low), min(1.0, interval.high), interval.level)
    return Difference(effect, interval, settled)


def _spanned(accuracies: pd.Series, n_test: int) -> Interval:
    mean = float(accuracies.mean())
    chance = statistics.binomial_interval(mean * n_test, n_test)
    apart = _interval(accuracies) or chance
    return Interval(
        max(0.0, min(apart.low, chance.low)), min(1.0, max(apart.high, chance.high)), chance.level
    )


def _interval(values: pd.Series) -> Interval | None:
    return mean_interval(values) if len(values) > 1 else None


def _advice(block: Block, source: str, choices: Sequence[DepthChoice]) -> Advice:
    now = choices[-1]
    curve_depth, curve = _curve(block, source, now)
    measured = [(x, tuple(map(float, arm))) for x, arm in _by_images(block, source, curve_depth)]
    best = _best(block, source, now.n, now.depth)
    return Advice(block, source, tuple(choices), curve, curve_depth, tuple(measured), best)


def _curve(block: Block, source: str, now: DepthChoice) -> tuple[int, LearningCurve | str]:
    """The depth whose curve is shown, and the curve.

    Only too few sizes lead to another depth. That hardly an error is left at the advised depth holds whatever
    another one does.
    """
    shallower = sorted((arm.depth for arm in now.others if arm.depth < now.depth), reverse=True)
    deeper = [arm.depth for arm in now.others if arm.depth > now.depth]
    why = ""
    for depth in (now.depth, *shallower, *deeper):
        sizes = list(_by_images(block, source, depth))
        table = pd.DataFrame({place: arm for place, (_, arm) in enumerate(sizes)})
        try:
            return depth, learning_curve([x for x, _ in sizes], table.to_numpy(float), now.n_test)
        except TooFewSizes as error:
            why = why or str(error)
        except NotEnoughData as error:
            if depth == now.depth:
                return depth, str(error)
    return now.depth, why


def _by_images(block: Block, source: str, depth: int) -> Iterator[tuple[float, pd.Series]]:
    """Training images, and test accuracies of the replicates, for each number of labels."""
    for n in block.counts:
        arm = block.arm(source, n, depth, "test_accuracy")
        if len(arm):
            yield float(block.arm(source, n, depth, "n_train").median()), arm


def _best(block: Block, source: str, n: int, depth: int) -> Best:
    validation = block.arm(source, n, depth, "val_accuracy")
    test, trials = (
        block.arm(source, n, depth, "test_accuracy"),
        block.arm(source, n, depth, "trial"),
    )
    place = (
        int(np.argmax(validation.to_numpy(float))) if len(validation) else 0
    )  # the first of a tie
    replicate = int((validation if len(validation) else test).index[place])
    seen = float(validation[replicate]) if len(validation) else float("nan")
    return Best(str(trials[replicate]), replicate, seen, float(test[replicate]))
