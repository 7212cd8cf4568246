"""How deep to fine-tune, with the images of a study and with more: what the numbers of its arms advise.

Advice has to be given from as few replicates as there are, so intervals here are Student's over replicates,
where the rest of a report has exact ones (`statistics.paired_t`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from convtl.study import statistics
from convtl.study.arms import SCRATCH, Block
from convtl.study.cells import NotEnoughData
from convtl.study.learning_curve import LearningCurve, learning_curve
from convtl.study.statistics import Interval
from convtl.study.statistics.paired_t import mean_interval

_PICTURES = 6
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
class DepthChoice:
    """Which depth is advised with so many labels.

    Attributes:
      n, images: labels a class, and training images in all.
      depths, share: P(d* = depth), d* the fewest layers within `statistics.EPSILON` logits of the best.
      enough: the most frequent d*.
      depth: the advised one: the smallest up to `enough` from which `enough` is not told apart.
      accuracy, interval: test accuracy at `depth`, mean over replicates; the interval spans Student's over
        replicates and the exact binomial one of a test with so many images, which replicates may share.
      lost: `enough` minus `depth`, where these differ: a gain that may be chance.
      over_head, over_full: `depth` minus the last layer only, and minus the deepest; None where it is that.
    """

    n: int
    images: int
    depths: tuple[int, ...]
    share: tuple[float, ...]
    enough: int
    depth: int
    accuracy: float
    interval: Interval
    lost: Difference | None
    over_head: Difference | None
    over_full: Difference | None
    replicates: int
    n_test: int
    n_val: int


@dataclass(frozen=True)
class Advice:
    """What is advised for one source in one setting.

    Attributes:
      choices: by labels a class, ascending; the last is for all that the study had.
      curve: test accuracy at the advised depth against images, or why there is none.
      measured: (images, accuracies of the replicates) at that depth.
      best: the trial at that depth, with all labels, whose validation accuracy is highest; its replicate,
        validation and test accuracy.
    """

    block: Block
    source: str
    choices: tuple[DepthChoice, ...]
    curve: LearningCurve | str
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
            choices = [choice for n in block.counts if (choice := choose(block, source, n)) is not None]
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
    share = tuple(map(float, statistics.depth_distribution(z.to_numpy(float))))
    enough = depths[int(np.argmax(share))]

    def known(column: str) -> int:
        return int(block.arm(source, n, enough, column).median())

    def apart(one: int, other: int) -> Difference:
        return _difference(table[one] - table[other], known("n_test"))

    up_to = [depth for depth in depths if depth <= enough]
    depth = next(depth for depth in up_to if depth == enough or not apart(enough, depth).settled)
    return DepthChoice(
        n=n,
        images=known("n_train"),
        depths=depths,
        share=share,
        enough=enough,
        depth=depth,
        accuracy=float(table[depth].mean()),
        interval=_spanned(table[depth], known("n_test")),
        lost=apart(enough, depth) if depth != enough else None,
        over_head=apart(depth, 1) if depth != 1 and 1 in depths else None,
        over_full=apart(depth, depths[-1]) if depth != depths[-1] else None,
        replicates=len(table),
        n_test=known("n_test"),
        n_val=known("n_val"),
    )


def _difference(values: pd.Series, n_test: int) -> Difference:
    effect, interval = float(values.mean()), _interval(values)
    enough_images = round(abs(effect) * n_test, 6) >= _PICTURES
    return Difference(effect, interval, interval is not None and interval.excludes_zero() and enough_images)


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
    depth, n = choices[-1].depth, choices[-1].n
    arms = {count: block.arm(source, count, depth, "test_accuracy") for count in block.counts}
    arms = {count: arm for count, arm in arms.items() if len(arm)}
    images = [float(block.arm(source, count, depth, "n_train").median()) for count in arms]
    table = pd.DataFrame(arms)
    curve: LearningCurve | str
    try:
        curve = learning_curve(images, table.to_numpy(float), choices[-1].n_test)
    except NotEnoughData as error:
        curve = str(error)
    measured = [(x, tuple(map(float, arm))) for x, arm in zip(images, arms.values(), strict=True)]
    return Advice(block, source, tuple(choices), curve, tuple(measured), _best(block, source, n, depth))


def _best(block: Block, source: str, n: int, depth: int) -> Best:
    validation = block.arm(source, n, depth, "val_accuracy")
    test, trials = block.arm(source, n, depth, "test_accuracy"), block.arm(source, n, depth, "trial")
    place = int(validation.to_numpy(float).argmax()) if len(validation) else 0  # the first of a tie
    replicate = int((validation if len(validation) else test).index[place])
    seen = float(validation[replicate]) if len(validation) else float("nan")
    return Best(str(trials[replicate]), replicate, seen, float(test[replicate]))
