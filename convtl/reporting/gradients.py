"""The section of a report on gradients (C1) and on which units are slow to train (C2)."""

from pathlib import Path

import numpy as np
import pandas as pd

from convtl.analysis.gradients import (
    CONTRASTS,
    LEAST_LOSS,
    LEAST_SLOPE,
    arrivals,
    gradient_values,
    lost_at_first,
    lost_per_unit,
    relative_gradients,
)
from convtl.analysis.statistics import Estimate, equivalent, estimate
from convtl.reporting import figures, numbers
from convtl.reporting.figures import Figure
from convtl.reporting.gradient_plots import (
    LENET,
    chains_of,
    convergence_order,
    freezing_costs,
    gradient_profile,
    in_order,
    pairs_of,
    rows_of,
)
from convtl.reporting.tables import markdown


def section(out: Path, frame: pd.DataFrame) -> list[str]:
    """Markdown on the probes of `frame` (`read_gradients`); its figures are written to out/figures."""
    text = ["## Gradients, unit by unit (C1)\n"]
    if _has(frame, "profile"):
        text += _profiles(out, frame)
    text += ["## Which units are slow to train (C2)\n"]
    if _has(frame, "convergence"):
        text += _convergence(out, frame)
    if _has(frame, "freezing"):
        text += _freezing(out, frame)
    return [*text, *_tests(frame)]


def _has(frame: pd.DataFrame, probe: str) -> bool:
    return bool((frame["probe"] == probe).any())


def _picture(out: Path, name: str, figure: Figure, caption: str) -> list[str]:
    figures.save(figure, out / "figures" / f"{name}.png")
    return [f"![{caption}](figures/{name}.png)\n", f"{caption}\n"]


# --- C1 -----------------------------------------------------------------------------------------------


def _profiles(out: Path, frame: pd.DataFrame) -> list[str]:
    text = [
        "R is the norm of each image's gradient with respect to a unit's output, in decades, relative to that "
        "at the last hidden unit (the median over images). Plain chains of units of equal width, SGD; the head "
        "starts from the same initialiser and is not in the slope. A gradient is called vanishing if it loses at "
        f"least {LEAST_SLOPE:g} decades a unit towards the input and more than {LEAST_LOSS:g} in all.\n"
    ]
    chains = chains_of(frame)
    if len(chains):
        deepest = int(chains["hidden"].max())
        caption = (
            f"R by distance from the last hidden unit, chains of {deepest} hidden units, after so many updates. "
            "Lines: mean over replicates; bands: 95% bootstrap over replicates."
        )
        text += _picture(out, "gradient_profile", gradient_profile(frame), caption)
        text += [_slope_table(chains)]
    return [*text, *_lenet(frame)]


def _slope_table(chains: pd.DataFrame) -> str:
    """Decades lost a unit, by activation and initialiser, for each depth at the first and last update."""
    depths = sorted(chains["hidden"].dropna().astype(int).unique())
    moments = sorted({int(chains["update"].min()), int(chains["update"].max())})
    header = [
        "activation",
        "initialiser",
        *(f"{h} units, update {t}" for h in depths for t in moments),
    ]
    rows = []
    for activation in in_order(chains, "activation"):
        for initialiser in in_order(chains, "initialiser"):
            row = [activation, initialiser]
            for hidden in depths:
                for moment in moments:
                    profile = relative_gradients(
                        chains, activation, initialiser=initialiser, hidden=hidden, update=moment
                    )
                    row.append(_lost(profile))
            rows.append(row)
    note = (
        "Decades of gradient lost from unit to unit towards the input, mean over replicates (negative: it "
        "grows); in brackets, those lost at the first unit in all. **Bold**: vanishing by the rule above. In some "
        "nets most images pass no gradient on at all, or training diverged: the means are over the others.\n"
    )
    return f"{markdown(header, rows)}\n{note}"


def _lost(profile: pd.DataFrame) -> str:
    slope, all_in_all = lost_per_unit(profile), lost_at_first(profile)
    if not len(slope) or not len(all_in_all):
        return "–"
    text = f"{numbers.signed(slope.mean())} ({numbers.signed(all_in_all.mean(), 1)})"
    if len(all_in_all) < len(profile):
        text += f" in {len(all_in_all)} of {len(profile)}"
    return f"**{text}**" if slope.mean() >= LEAST_SLOPE and all_in_all.mean() > LEAST_LOSS else text


def _lenet(frame: pd.DataFrame) -> list[str]:
    """LeNet-5 is secondary: pooling, shared weights and unequal units change norms besides."""
    own = frame[(frame["probe"] == "profile") & (frame["model"] == "lenet5")]
    if not len(own):
        return []
    rows, weights = [], own[(own["quantity"] == "weight_gradient") & (own["update"] == 0)]
    for activation in in_order(own, "activation"):
        for initialiser in in_order(own, "initialiser"):
            profile = relative_gradients(
                own, activation, initialiser=initialiser, hidden=None, update=0
            )
            chosen = (weights["activation"] == activation) & (weights["initialiser"] == initialiser)
            by_unit = weights[chosen].groupby("position")["value"].mean()
            rows.append(
                [
                    activation,
                    initialiser,
                    *(numbers.signed(profile[place].mean()) for place in profile),
                    *(f"{value:.1f}".replace("-", numbers.MINUS) for value in by_unit),
                ]
            )
    header = ["activation", "initialiser", *(f"R {unit}" for unit in LENET[:-1])]
    header += [f"log10 ‖∇W‖/‖W‖ {unit}" for unit in LENET]
    return [
        "LeNet-5 before training (secondary: pooling, shared weights and units of different sizes change these "
        "norms too):\n",
        markdown(header, rows),
    ]


# --- C2 -----------------------------------------------------------------------------------------------


def _convergence(out: Path, frame: pd.DataFrame) -> list[str]:
    text = [
        "A unit has arrived when its outputs for fixed held-out images (linear CKA) have gone nine tenths of the "
        "way from their beginning to their end; one that hardly moved is left out, and so is a net that did not "
        "learn (under twice chance).\n"
    ]
    caption = (
        "Updates until each unit of LeNet-5 had arrived. Dots: replicates; lines: their geometric mean. Early "
        "layers are the slowest where a line falls to the right. (No mean where fewer than half moved.)"
    )
    text += _picture(out, "convergence_order", convergence_order(frame), caption)
    rows = []
    for activation, optimiser in pairs_of(frame, "convergence"):
        found = arrivals(frame, activation, optimiser)
        own = rows_of(frame, "convergence", activation, optimiser)
        accuracy = own[own["quantity"] == "test_accuracy"]["value"].mean()
        middle = [_arrived(found[place]) for place in found] or ["–"] * len(LENET)
        rows.append([activation, optimiser, numbers.percent(accuracy), len(found), *middle])
    header = ["activation", "optimiser", "test accuracy", "nets that learned", *LENET]
    note = (
        "Geometric mean of the update at which each unit had arrived; in brackets, how many moved at all if not "
        "every one did. Where the last updates still move a net much, all its units arrive late.\n"
    )
    return [*text, markdown(header, rows), note]


def _arrived(updates: pd.Series) -> str:
    known = updates.dropna()
    if not len(known):
        return "did not move" if len(updates) else "–"
    text = f"{np.exp(np.log(known).mean()):.0f}"
    return text if len(known) == len(updates) else f"{text} ({len(known)} of {len(updates)})"


def _freezing(out: Path, frame: pd.DataFrame) -> list[str]:
    caption = (
        "What it costs LeNet-5, in logits of test accuracy, to freeze one unit from some update on (0: it stays "
        "as it was drawn), all others training on. Bands: 95% bootstrap over replicates."
    )
    return _picture(out, "freezing_cost", freezing_costs(frame), caption)


# --- tests --------------------------------------------------------------------------------------------


def _tests(frame: pd.DataFrame) -> list[str]:
    """All contrasts that were measured, each by itself; the scorecard adjusts those that it declares."""
    rows = []
    for name, contrast in CONTRASTS.items():
        values = gradient_values(frame, name)
        if not len(values):
            if name.startswith("c2_freeze") or not _has(frame, "profile"):
                continue
            rows.append([contrast.claim, contrast.statement, "–", "–", "0", "not decidable"])
            continue
        found = estimate(values)
        effect = f"{numbers.signed(found.effect)} {numbers.span(found.interval)} {contrast.unit}"
        rows.append(
            [
                contrast.claim,
                contrast.statement,
                effect,
                numbers.p_value(found.p),
                str(found.m),
                reading(found, values, contrast.threshold),
            ]
        )
    note = (
        "One number per replicate, positive where it speaks for the statement; exact sign-flip tests and "
        "intervals, each unadjusted.\n"
    )
    header = ["claim", "statement", "effect [interval]", "exact p", "m", "reading"]
    return ["### Tests\n", markdown(header, rows), note]


def reading(found: Estimate, values: pd.Series, threshold: float) -> str:
    """What one contrast says by itself: null within the threshold, for, against, or neither."""
    if equivalent(values, threshold):
        return "practically null"
    if found.p <= 0.05 and abs(found.effect) >= threshold:
        return "for" if found.effect > 0 else "against"
    return "inconclusive"
