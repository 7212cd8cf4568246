"""What the declared claims measure: functions of a study's cells that give one number per replicate.

Words: z = logit accuracy; k = depth; D = z(k=all) - z(k=1); G = z(source) - z(scratch);
L = z(1200 updates) - z(300 updates) at k=all.

A cell at floor or ceiling enters no test (`Cells.check`): a mean or a slope over cells is taken over the others,
and a contrast that has no others cannot be computed.
"""

import functools
import math
from collections.abc import Callable, Iterable, Sequence

import pandas as pd

from convtl.analysis.cells import (
    Cells,
    NotEnoughData,
    apart_from_edges,
    chosen_elsewhere,
    mean_of,
    mean_over,
    slope_of,
)
from convtl.analysis.gradients import (
    early_slowest,
    lost_at_first,
    relative_gradients,
    vanishing,
)

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
    ("latin", SMALL): 1,
    ("latin", LARGE): 3,
    ("noise", SMALL): "all",
    ("noise", LARGE): "all",
}
"""(source, n) -> depth. Similar and little data: 1; similar and much data: 3; far: all."""
CAREFUL = ("lp_ft", "discriminative", "gradual", "l2_sp")
"""Regimes that train all layers, but not all at one rate from the start."""
PLAIN, FIRST_ALONE = "fine_tune", "first_unit_only"
SHIFTS = ("inversion", "noise", "blur", "rotation")
STANDARD: dict[str, tuple[str, ...]] = {
    "sigmoid": ("lecun_normal", "glorot_uniform"),
    "tanh": ("lecun_normal", "glorot_uniform"),
    "relu": ("he_normal",),
}
"""Initialisers in common use with each activation."""


def depth_benefit(source: str, n: int) -> Contrast:
    return lambda c, t: c.D(source, n, t)


def benefit_difference(source: str, high: int, low: int, target: str | None = None) -> Contrast:
    """D(n=high) - D(n=low)."""
    return lambda c, t: c.D(source, high, t, target=target) - c.D(source, low, t, target=target)


def depth_difference(source: str, n: int, depth: int | str, other: int | str) -> Contrast:

    def values(c: Cells, updates: int) -> pd.Series:
        c.check(source, n, updates, depth, other)
        return c.z(source, n, depth, updates) - c.z(source, n, other, updates)

    return values


def fall(depth: int | str) -> Contrast:
    """What z of one depth changes by when the similar half of the mixture dial gives way to the far one."""
    return lambda c, t: c.z("mixture@0", 10, depth, t) - c.z("mixture@1", 10, depth, t)


def longer(n: int, target: str | None = None) -> Contrast:
    """L: what a four times longer schedule adds when everything is trained; source Latin."""
    return lambda c, t: c.L("latin", n, LONG, SHORT, target=target)


def longer_slope(c: Cells, updates: int) -> pd.Series:
    """Slope of L on log2 n: logits a doubling of n."""
    return _end_to_end(c, updates, [math.log2(n) for n in SIZES], [longer(n) for n in SIZES])


def benefit_over_range(c: Cells, updates: int) -> pd.Series:
    """D at the largest n of the study minus D at the smallest; source Latin."""
    counts = c.counts("latin", (1, "all"), updates)
    return c.D("latin", counts[-1], updates) - c.D("latin", counts[0], updates)


def longer_over_range(c: Cells, updates: int) -> pd.Series:
    """Slope of L on log2 n, over all n that have both schedules."""
    counts = [
        n for n in c.counts("latin", ("all",), LONG) if n in c.counts("latin", ("all",), SHORT)
    ]
    if len(counts) < 2:
        raise NotEnoughData("two sizes with both schedules")
    return _end_to_end(c, updates, [math.log2(n) for n in counts], [longer(n) for n in counts])


def over(items: Iterable[object], one: Callable[..., Contrast]) -> Contrast:
    """Mean over cells: `one(*item)` is the contrast of one of them."""
    places = [item if isinstance(item, tuple) else (item,) for item in items]

    def values(c: Cells, updates: int) -> pd.Series:
        parts = [functools.partial(one(*place), c, updates) for place in places]
        return mean_over(c, parts)

    return values


def gain_at(
    source: str, n: int, depth: int | str = "all", *, target: str | None = None
) -> Contrast:
    return lambda c, t: c.G(source, n, depth, t, target=target)


def gain(source: str, depth: int | str = "all", *, target: str | None = None) -> Contrast:
    return over(GAINED, lambda n: gain_at(source, n, depth, target=target))


def gain_difference(source: str, other: str) -> Contrast:
    """G(source) - G(other), over the n at which neither is at an edge."""
    return over(GAINED, lambda n: minus(gain_at(source, n), gain_at(other, n)))


def chosen_gain_at(source: str, n: int) -> Contrast:
    """G at the depth that validation accuracy chooses."""

    def values(c: Cells, updates: int) -> pd.Series:
        c.check(source, n, updates, *DEPTHS, against="scratch")
        return c.validated(source, n, DEPTHS, updates) - c.z("scratch", n, "all", updates)

    return values


def chosen_gain_difference(source: str, other: str) -> Contrast:
    return over(GAINED, lambda n: minus(chosen_gain_at(source, n), chosen_gain_at(other, n)))


def reuse(source: str, target: str | None = None) -> Contrast:
    """What a source is worth beyond the same weights in another order."""

    def values(c: Cells, updates: int) -> pd.Series:
        control = f"{source}:shuffled"
        worth = c.z(source, 10, "all", updates, target=target)
        difference = worth - c.z(control, 10, "all", updates, target=target)
        c.check(source, 10, updates, against=control, target=target)
        return difference

    return values


def minus(one: Contrast, other: Contrast) -> Contrast:
    return lambda c, t: one(c, t) - other(c, t)


# --- the rule of thumb --------------------------------------------------------------------------------


def _of_rule(source: str, n: int, other: Contrast) -> Contrast:
    """z(rule) minus something else in one cell of the rule."""

    def values(c: Cells, updates: int) -> pd.Series:
        difference = c.z(source, n, RULE[source, n], updates) - other(c, updates)
        c.check(source, n, updates, RULE[source, n])
        return difference

    return values


def rule_over_all(c: Cells, updates: int) -> pd.Series:
    """In the far cells rule and `all` are one arm: they add 0, and need not have been run."""
    places = [(source, n, depth) for (source, n), depth in RULE.items() if depth != "all"]
    parts = [
        functools.partial(depth_difference(source, n, depth, "all"), c, updates)
        for source, n, depth in places
    ]
    apart = list(apart_from_edges(c, parts).values())
    return mean_of(apart) * (len(apart) / (len(RULE) - len(parts) + len(apart)))


rule_over_head = over(
    RULE, lambda source, n: _of_rule(source, n, lambda c, t: c.z(source, n, 1, t))
)


rule_over_validated = over(
    RULE, lambda source, n: _of_rule(source, n, lambda c, t: c.validated(source, n, DEPTHS, t))
)
"""Against the depth that each replicate's validation images choose."""


def rule_over_fixed(c: Cells, updates: int) -> pd.Series:
    """Against one depth for all cells of the rule, chosen on the other replicates."""

    def checked(source: str, n: int) -> pd.DataFrame:
        curve = c.curve(source, n, DEPTHS, updates)
        c.check(source, n, updates, *DEPTHS)
        return curve

    cells = list(RULE)
    kept = apart_from_edges(c, [functools.partial(checked, *cell) for cell in cells])
    curves = list(kept.values())
    own = mean_of([c.z(*cells[place], RULE[cells[place]], updates) for place in kept])
    return own - chosen_elsewhere(sum(curves[1:], start=curves[0]) / len(curves))


# --- which layers -------------------------------------------------------------------------------------


def specificity(j: int, source: str = "own", target: str = WHOLE) -> Contrast:
    """S_j = z(BjB) - z(AjB): the j lowest layers frozen, the others trained anew (Yosinski et al. 2014)."""

    def values(c: Cells, updates: int) -> pd.Series:
        lost = c.frozen("self", 300, j, updates, target) - c.frozen(source, 300, j, updates, target)
        for own in ("self", source):
            c.check(own, 300, updates, c.full - j, target=target, upper="fresh")
        return lost

    return values


first_of_another_kind = specificity(1, STRAIGHT, ROUND)


def specificity_slope(c: Cells, updates: int) -> pd.Series:
    return _end_to_end(c, updates, FROZEN, [specificity(j) for j in FROZEN])


def _end_to_end(c: Cells, updates: int, x: Sequence[float], parts: Sequence[Contrast]) -> pd.Series:
    """What a slope makes over the whole range of x: the smallest effect of interest is one of such a size."""
    found = apart_from_edges(c, [functools.partial(part, c, updates) for part in parts], fewest=2)
    kept = [x[place] for place in found]
    return slope_of(kept, list(found.values())) * (max(kept) - min(kept))


semantic_excess = over(
    FROZEN, lambda j: minus(specificity(j, STRAIGHT, ROUND), specificity(j, "own", ROUND))
)
"""By how much S is larger from straight to round letters than from other round letters, mean over j."""


def a_few(source: str, n: int) -> Contrast:
    """Two to four layers (as were run) against one or all; both choices are made on the other replicates."""

    def values(c: Cells, updates: int) -> pd.Series:
        few = [k for k in FEW_LAYERS if k < 4 or c.has(source, n, k, updates)]
        curve = c.curve(source, n, (1, *few, "all"), updates)
        c.check(source, n, updates, *few)
        return chosen_elsewhere(curve[few]) - chosen_elsewhere(curve[[1, "all"]])

    return values


a_few_on_average = over(SIZES, lambda n: a_few("latin", n))


# --- ways of fine-tuning, and inputs that have changed ---------------------------------------------------


def way_over_plain(way: str) -> Contrast:
    """A regime against training all layers at one rate; source Latin."""
    return over(SIZES, lambda n: minus(_by(way, n), _by(PLAIN, n)))


def _careful_over_plain(n: int) -> Contrast:
    def values(c: Cells, updates: int) -> pd.Series:
        ways = pd.DataFrame({way: _by(way, n)(c, updates) for way in CAREFUL}).dropna()
        return chosen_elsewhere(ways) - _by(PLAIN, n)(c, updates)

    return values


careful_over_plain = over(SIZES, _careful_over_plain)
"""The best careful regime, chosen for each n on the other replicates."""


def _by(regime: str, n: int, depth: int | str = "all") -> Contrast:
    def values(c: Cells, updates: int) -> pd.Series:
        scores = c.by(regime).z("latin", n, depth, updates, target=WHOLE)
        c.check("latin", n, updates, depth, target=WHOLE)
        return scores

    return values


def top_over(k: int, surgical: str) -> Contrast:
    """The k last layers against k others."""
    return over(SIZES, lambda n: minus(_by(PLAIN, n, k), _by(surgical, n, k)))


def first_over(k: int | str, shifts: Sequence[str] = SHIFTS) -> Contrast:
    """The first layer alone against the k last ones, where the same classes are seen differently."""

    def one(kind: str, n: int) -> Contrast:
        def values(c: Cells, updates: int) -> pd.Series:
            seen = c.shifted(kind)
            first = seen.by(FIRST_ALONE).z("same_classes", n, 1, updates)
            last = seen.by(PLAIN).z("same_classes", n, k, updates)
            seen.check("same_classes", n, updates, k)
            return first - last

        return values

    return over([(kind, n) for kind in shifts for n in GAINED], one)


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
                relative_gradients(
                    chains, activation, initialiser=initialiser, hidden=hidden, update=0
                )
            )
            for hidden in sorted(chains["hidden"].dropna().astype(int).unique())
            for initialiser in STANDARD[activation]
        }
        return (
            pd.DataFrame({key: own for key, own in found.items() if len(own)}).dropna().mean(axis=1)
        )

    return values


def slowest(activation: str, optimiser: str) -> Contrast:
    """Decades of updates by which a unit arrives later at what it will be than the one above it."""
    return lambda c, t: early_slowest(c.probes(), activation, optimiser)
