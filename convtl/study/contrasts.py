"""What the declared claims measure: functions of a study's cells that give one number per replicate.

Words: z = logit accuracy; k = depth; D = z(k=all) - z(k=1); G = z(source) - z(scratch);
L = z(1200 updates) - z(300 updates) at k=all.
"""

import math
from collections.abc import Callable, Sequence

import pandas as pd

from convtl.study.cells import Cells, NotEnoughData, chosen_elsewhere, mean_of, slope_of
from convtl.training.probes.contrasts import early_slowest, lost_at_first, relative_gradients, vanishing

Contrast = Callable[[Cells, int], pd.Series]
"""(cells, updates) -> one number for each (target, replicate), or for each replicate."""

SHORT, LONG, TRANSFER = 300, 1200, 900
"""Updates of the two schedules, and of the nets of `layer_transfer`."""
SIZES = (2, 10, 50)
SMALL, LARGE = 2, 50
GAINED = (10, 50)
"""n over which gains are averaged."""
DEPTHS: tuple[int | str, ...] = (1, 2, 3, "all")
PAIR, FEW, MANY = "letter_pairs", 100, 10_000
"""The lecture's literal case: two classes, 100 + 100 pictures against 10,000 + 10,000."""
TEXTURES = "textures"
"""A far source, and with letters as the source a far target."""
WHOLE, STRAIGHT, ROUND = "cyrillic", "cyrillic_straight", "cyrillic_round"
"""Domains of `layer_transfer`: a script split at random, and its straight and its round letters."""
FEW_LAYERS = (2, 3, 4)
SPECIAL = (PAIR, ROUND)
"""Targets that serve the claims that name them and no other."""
FROZEN = (1, 2, 3, 4)
RULE: dict[tuple[str, int], int | str] = {
    ("latin", SMALL): 1, ("latin", LARGE): 3, ("noise", SMALL): "all", ("noise", LARGE): "all",
}  # fmt: skip
"""(source, n) -> depth. Similar and little data: 1; similar and much data: 3; far: all."""
CAREFUL = ("lp_ft", "discriminative", "gradual", "l2_sp")
"""Regimes that train all layers, but not all at one rate from the start."""
PLAIN, FIRST_ALONE = "fine_tune", "first_unit_only"
SHIFTS = ("inversion", "noise", "blur", "rotation")
STANDARD: dict[str, tuple[str, ...]] = {
    "sigmoid": ("lecun_normal", "glorot_uniform"), "tanh": ("lecun_normal", "glorot_uniform"), "relu": ("he_normal",),
}  # fmt: skip
"""Initialisers in common use with each activation."""


def depth_benefit(source: str, n: int) -> Contrast:
    return lambda c, t: c.D(source, n, t)


def benefit_difference(source: str, high: int, low: int, target: str | None = None) -> Contrast:
    """D(n=high) - D(n=low)."""
    return lambda c, t: c.D(source, high, t, target=target) - c.D(source, low, t, target=target)


def depth_difference(source: str, n: int, depth: int | str, other: int | str) -> Contrast:
    return lambda c, t: c.z(source, n, depth, t) - c.z(source, n, other, t)


def fall(depth: int | str) -> Contrast:
    """What z of one depth changes by when the similar half of the mixture dial gives way to the far one."""
    return lambda c, t: c.z("mixture@0", 10, depth, t) - c.z("mixture@1", 10, depth, t)


def longer(n: int, target: str | None = None) -> Contrast:
    """L: what a four times longer schedule adds when everything is trained; source Latin."""
    return lambda c, t: c.L("latin", n, LONG, SHORT, target=target)


def longer_slope(c: Cells, updates: int) -> pd.Series:
    """Slope of L on log2 n: logits a doubling of n."""
    return _end_to_end([math.log2(n) for n in SIZES], [longer(n)(c, updates) for n in SIZES])


def benefit_over_range(c: Cells, updates: int) -> pd.Series:
    """D at the largest n of the study minus D at the smallest; source Latin."""
    counts = c.counts("latin", (1, "all"), updates)
    return c.D("latin", counts[-1], updates) - c.D("latin", counts[0], updates)


def longer_over_range(c: Cells, updates: int) -> pd.Series:
    """Slope of L on log2 n, over all n that have both schedules."""
    counts = [n for n in c.counts("latin", ("all",), LONG) if n in c.counts("latin", ("all",), SHORT)]
    if len(counts) < 2:
        raise NotEnoughData("two sizes with both schedules")
    return _end_to_end([math.log2(n) for n in counts], [longer(n)(c, updates) for n in counts])


def gain(source: str, depth: int | str = "all", *, target: str | None = None) -> Contrast:
    return lambda c, t: mean_of([c.G(source, n, depth, t, target=target) for n in GAINED])


def chosen_gain(source: str) -> Contrast:
    """G at the depth that validation accuracy chooses."""
    return lambda c, t: mean_of(
        [c.validated(source, n, DEPTHS, t) - c.z("scratch", n, "all", t) for n in GAINED]
    )


def reuse(source: str, target: str | None = None) -> Contrast:
    """What a source is worth beyond the same weights in another order."""
    return lambda c, t: (
        c.z(source, 10, "all", t, target=target) - c.z(f"{source}:shuffled", 10, "all", t, target=target)
    )


def minus(one: Contrast, other: Contrast) -> Contrast:
    return lambda c, t: one(c, t) - other(c, t)


# --- the rule of thumb --------------------------------------------------------------------------------


def rule(c: Cells, updates: int) -> pd.Series:
    return mean_of([c.z(source, n, depth, updates) for (source, n), depth in RULE.items()])


def rule_over_all(c: Cells, updates: int) -> pd.Series:
    """In the far cells rule and `all` are one arm: they add 0, and need not have been run."""
    apart = [
        depth_difference(source, n, depth, "all")(c, updates)
        for (source, n), depth in RULE.items()
        if depth != "all"
    ]
    return mean_of(apart) * (len(apart) / len(RULE))


def always_head(c: Cells, updates: int) -> pd.Series:
    return mean_of([c.z(source, n, 1, updates) for source, n in RULE])


def validated(c: Cells, updates: int) -> pd.Series:
    """Each replicate at the depth that its validation images choose."""
    return mean_of([c.validated(source, n, DEPTHS, updates) for source, n in RULE])


def best_fixed(c: Cells, updates: int) -> pd.Series:
    """One depth for all cells of the rule, chosen on the other replicates."""
    curves = [c.curve(source, n, DEPTHS, updates) for source, n in RULE]
    return chosen_elsewhere(sum(curves[1:], start=curves[0]) / len(curves))


# --- which layers -------------------------------------------------------------------------------------


def specificity(j: int, source: str = "own", target: str = WHOLE) -> Contrast:
    """S_j = z(BjB) - z(AjB): the j lowest layers frozen, the others trained anew (Yosinski et al. 2014)."""
    return lambda c, t: c.frozen("self", 300, j, t, target) - c.frozen(source, 300, j, t, target)


first_of_another_kind = specificity(1, STRAIGHT, ROUND)


def specificity_slope(c: Cells, updates: int) -> pd.Series:
    return _end_to_end(FROZEN, [specificity(j)(c, updates) for j in FROZEN])


def _end_to_end(x: Sequence[float], parts: Sequence[pd.Series]) -> pd.Series:
    """What a slope makes over the whole range of x: the smallest effect of interest is one of such a size."""
    return slope_of(x, parts) * (max(x) - min(x))


def semantic_excess(c: Cells, updates: int) -> pd.Series:
    """By how much S is larger from straight to round letters than from other round letters, mean over j."""
    other, same = (
        mean_of([specificity(j, source, ROUND)(c, updates) for j in FROZEN]) for source in (STRAIGHT, "own")
    )
    return other - same


def a_few(source: str, n: int) -> Contrast:
    """Two to four layers (as were run) against one or all; both choices are made on the other replicates."""

    def values(c: Cells, updates: int) -> pd.Series:
        few = [k for k in FEW_LAYERS if k < 4 or c.has(source, n, k, updates)]
        curve = c.curve(source, n, (1, *few, "all"), updates)
        return chosen_elsewhere(curve[few]) - chosen_elsewhere(curve[[1, "all"]])

    return values


def a_few_on_average(c: Cells, updates: int) -> pd.Series:
    return mean_of([a_few("latin", n)(c, updates) for n in SIZES])


# --- ways of fine-tuning, and inputs that have changed ---------------------------------------------------


def way_over_plain(way: str) -> Contrast:
    """A regime against training all layers at one rate; source Latin."""
    return lambda c, t: mean_of([_by(way, n)(c, t) - _by(PLAIN, n)(c, t) for n in SIZES])


def careful_over_plain(c: Cells, updates: int) -> pd.Series:
    """The best careful regime, chosen for each n on the other replicates."""
    found = []
    for n in SIZES:
        ways = pd.DataFrame({way: _by(way, n)(c, updates) for way in CAREFUL}).dropna()
        found.append(chosen_elsewhere(ways) - _by(PLAIN, n)(c, updates))
    return mean_of(found)


def _by(regime: str, n: int, depth: int | str = "all") -> Contrast:
    return lambda c, t: c.by(regime).z("latin", n, depth, t, target=WHOLE)


def top_over(k: int, surgical: str) -> Contrast:
    """The k last layers against k others."""
    return lambda c, t: mean_of([_by(PLAIN, n, k)(c, t) - _by(surgical, n, k)(c, t) for n in SIZES])


def first_over(k: int | str, shifts: Sequence[str] = SHIFTS) -> Contrast:
    """The first layer alone against the k last ones, where the same classes are seen differently."""

    def values(c: Cells, updates: int) -> pd.Series:
        seen = [c.shifted(kind) for kind in shifts]
        return mean_of(
            [
                view.by(FIRST_ALONE).z("same_classes", n, 1, updates)
                - view.by(PLAIN).z("same_classes", n, k, updates)
                for view in seen
                for n in GAINED
            ]
        )

    return values


# --- gradients: of fresh nets, not of cells -------------------------------------------------------------


def lost_a_unit(activation: str) -> Contrast:
    """Decades that gradients lose a unit towards the input, before training, in plain chains."""
    return lambda c, t: vanishing(c.probes(), activation, STANDARD[activation])


def lost_in_all(activation: str) -> Contrast:
    """Decades that they have lost at the first unit."""

    def values(c: Cells, updates: int) -> pd.Series:
        table = c.probes()
        chains = table[(table["probe"] == "profile") & (table["model"] == "plain")]
        found = {
            (hidden, initialiser): lost_at_first(
                relative_gradients(chains, activation, initialiser=initialiser, hidden=hidden, update=0)
            )
            for hidden in sorted(chains["hidden"].dropna().astype(int).unique())
            for initialiser in STANDARD[activation]
        }
        return pd.DataFrame({key: own for key, own in found.items() if len(own)}).dropna().mean(axis=1)

    return values


def slowest(activation: str, optimiser: str) -> Contrast:
    """Decades of updates by which a unit arrives later at what it will be than the one above it."""
    return lambda c, t: early_slowest(c.probes(), activation, optimiser)
