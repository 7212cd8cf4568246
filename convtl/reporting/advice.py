"""The part of a report that advises: how deep to fine-tune, what more pictures would bring, which net to use."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from convtl.config import Config, ImageFolderConfig
from convtl.reporting import advice_plots, figures, numbers
from convtl.reporting.tables import distribution, markdown
from convtl.study.advised import Advice, DepthChoice, Difference
from convtl.study.learning_curve import LearningCurve
from convtl.study.nets import net_of
from convtl.study.statistics import EPSILON, Interval

_NOTHING = (
    "## How deep to fine-tune\n\nNothing can be advised yet: no pretrained source has a replicate in which every "
    "depth is finished.\n"
)
_ALL = "all layers"
_WORDS = {2: "twice", 4: "four times"}


def section(found: Sequence[Advice], config: Config, out: Path) -> list[str]:
    """Markdown for every piece of advice, with figures written to out/figures."""
    text: list[str] = []
    for index, advice in enumerate(found):
        title = _title(found, advice)
        suffix = "" if index == 0 else f"_{index + 1}"
        text += [f"## How deep to fine-tune{title}\n", *_depth(advice, config)]
        text += [f"## What more pictures would bring{title}\n", *_more(advice, out, suffix, config)]
        text += [f"## The tuned net{title}\n", *_net(advice, config, out)]
    return text or [_NOTHING]


def console(found: Sequence[Advice], config: Config, out: Path) -> str:
    """The advice in a few lines, for the source that does best on validation images."""
    if not found:
        return "advice: none yet; no pretrained source has a replicate in which every depth is finished"
    advice = max(found, key=lambda one: one.best.validation)
    now = advice.now
    lines = [
        f"advice: with {now.images:,} pictures, train {_layers(advice, now.depth, config)} of {advice.source}: "
        f"{_accuracy(now)} of test pictures correct"
    ]
    against = {"only the last layer": now.over_head, _everything(advice, config): now.over_full}
    worth = [f"{_worth(found)} against {what}" for what, found in against.items() if found is not None]
    lines += [f"worth: {'; '.join(worth)}"] if worth else []
    curve = advice.curve
    lines += [f"more pictures: {_forecasts(curve)}" if isinstance(curve, LearningCurve) else _unsaid(curve)]
    net = net_of(out / "nets", advice.best.trial)
    lines += [f"use it: {_command(net, advice, config)}"] if net else ["no net was kept: save=best keeps it"]
    return "\n".join(lines)


def _title(found: Sequence[Advice], advice: Advice) -> str:
    """What tells this advice from the others."""
    said = [" ".join(advice.block.title.split())] if advice.block.title else []
    said += [f"from {advice.source}"] if len({one.source for one in found}) > 1 else []
    return f": {', '.join(said)}" if said else ""


# --- how deep -----------------------------------------------------------------------------------------


def _depth(advice: Advice, config: Config) -> list[str]:
    now, layers = advice.now, _layers(advice, advice.now.depth, config)
    rest = "" if layers == _ALL else ", and leave the others as they are"
    text = [
        f"**Train {layers}** of `{advice.source}`{rest}: that is for the {now.images:,} labelled pictures that this "
        f"study has at most ({_up_to(config)}{now.n} a class). The net then classifies **{_accuracy(now)}** of the "
        "test pictures correctly.\n",
        "\n".join(f"- {said}" for said in [*_reasons(advice, config), *_caveats(advice)]) + "\n",
    ]
    if len(advice.choices) > 1:
        text += ["The same with fewer pictures:\n", _table(advice, config)]
    return text


def _reasons(advice: Advice, config: Config) -> list[str]:
    now = advice.now
    said = [
        f"Layers that suffice, P(d\\* = k): {distribution(now.depths, now.share)}. d\\* is the fewest trained layers "
        f"within {EPSILON} logit of the best; P is over bootstrap draws of {_replicates(now)}."
    ]
    if now.lost is not None:
        said.append(
            f"Most often {_layers(advice, now.enough, config)} would be d\\*. What that adds, {_points(now.lost)} "
            "points, is within noise, so the cheapest depth that is not told from it is advised."
        )
    if now.over_head is not None:
        said.append(f"Against only the last layer: {_worth(now.over_head)}.")
    if now.over_full is not None:
        said.append(f"Against {_everything(advice, config)}: {_worth(now.over_full)}.")
    return said


def _caveats(advice: Advice) -> list[str]:
    now = advice.now
    said = [
        f"Brackets after points: 95% t intervals over {_replicates(now)}, each of which draws its own training "
        "pictures."
        if now.replicates > 1
        else "With one replicate nothing is known of noise, so no difference counts; several would tell more.",
        f"Brackets after accuracies: as wide as both that interval and what chance does to a test on {now.n_test:,} "
        "pictures (95%, exact binomial), which replicates may share.",
        "The depths are compared on test pictures, so that the best of them looks a little better than it is.",
    ]
    rates = advice.block.arm(advice.source, now.n, now.depth, "n_rates")
    if len(rates) and rates.max() > 1:
        said.insert(
            2,
            f"Every net chose its learning rate on {now.n_val:,} validation pictures: they need labels too, and are "
            "not counted among those above.",
        )
    return said


def _table(advice: Advice, config: Config) -> str:
    header = ["n a class", "pictures", "layers that suffice: P(d\\*=k)", "advised", "test accuracy"]
    header += ["points against the last layer", f"points against {_everything(advice, config)}"]
    rows = [
        [
            f"{_up_to(config)}{choice.n}",
            f"{choice.images:,}",
            distribution(choice.depths, choice.share),
            advice.block.depth_name(choice.depth),
            _accuracy(choice),
            _points(choice.over_head) if choice.over_head else "–",
            _points(choice.over_full) if choice.over_full else "–",
        ]
        for choice in reversed(advice.choices)
    ]
    return markdown(header, rows)


# --- more pictures ------------------------------------------------------------------------------------


def _more(advice: Advice, out: Path, suffix: str, config: Config) -> list[str]:
    figure = figures.save(advice_plots.forecast(advice), out / "figures" / f"more_pictures{suffix}.png")
    curve, layers = advice.curve, _layers(advice, advice.now.depth, config)
    if not isinstance(curve, LearningCurve):
        text, caption = f"{_unsaid(curve)}\n", "What was measured."
    else:
        said = _forecasts(curve)
        text = f"**{said[0].upper()}{said[1:]}.** {_law(curve, layers)} {_check(curve)}\n"
        caption = "What was measured, the curve fitted to it, and what it says of more pictures."
    return [text, f"![{caption}](figures/{figure.name})\n"]


def _forecasts(curve: LearningCurve) -> str:
    said = [
        f"{_times(found.factor)} as many ({found.images:,.0f}) should give {numbers.percent(found.accuracy)} "
        f"{_span(found.interval)}"
        for found in curve.forecasts
    ]
    return "; ".join(said)


def _law(curve: LearningCurve, layers: str) -> str:
    sizes = f"all {len(curve.images)} sizes ({curve.images[0]:,.0f} to {curve.images[-1]:,.0f} pictures)"
    power = f"falls as n^{numbers.MINUS}{abs(curve.slope):.2f}" if curve.slope < 0 else "does not fall with n"
    level = numbers.level(curve.forecasts[0].interval).replace(".0%", "%")
    return (
        f"That is with {layers} trained, as now. The error {power}: a power law (Hestness et al. 2017), fitted to "
        f"{sizes} in each of {curve.replicates} replicates. Brackets: {level} prediction intervals for one further "
        "tuned net."
    )


def _check(curve: LearningCurve) -> str:
    """What the same curve would have said of the largest size."""
    test, widened = curve.back_test, any(found.widened for found in curve.forecasts)
    trust = (
        " It missed by more than replicates differ, so its miss sets the width of the intervals."
        if widened
        else ""
    )
    return (
        f"Back-test: fitted without the largest size, it expected {numbers.percent(test.predicted)} there, and "
        f"{numbers.percent(test.measured)} was measured "
        f"({numbers.points(test.measured - test.predicted)} points).{trust}"
    )


def _unsaid(reason: str) -> str:
    return f"What more pictures would bring cannot be said: {reason}."


def _times(factor: float) -> str:
    return _WORDS.get(int(factor), f"{factor:g} times") if factor == int(factor) else f"{factor:g} times"


# --- the net ------------------------------------------------------------------------------------------


def _net(advice: Advice, config: Config, out: Path) -> list[str]:
    best, net = advice.best, net_of(out / "nets", advice.best.trial)
    if net is None:
        return ["No tuned net was kept; the same command with `save=best` keeps them.\n"]
    return [
        f"`{_shown(net)}`: replicate {best.replicate}, whose validation accuracy, "
        f"{numbers.percent(best.validation)}, is the highest at this depth (its test accuracy: "
        f"{numbers.percent(best.test)}). Labels and probabilities of pictures:\n",
        f"```bash\n{_command(net, advice, config)}\n```\n",
    ]


def _command(net: Path, advice: Advice, config: Config) -> str:
    domain = config.domains.get(advice.block.target)
    own = domain.path if isinstance(domain, ImageFolderConfig) else None
    words = [f"net={_shown(net)}", f"images={config.path or own or 'PICTURES'}"]
    return "python -m convtl.predict " + " ".join(map(shlex.quote, words))


def _shown(path: Path) -> str:
    """From the working directory, if the path lies in it."""
    short = os.path.relpath(path)
    return str(path) if short.startswith("..") else short


# --- words --------------------------------------------------------------------------------------------


def _layers(advice: Advice, depth: int, config: Config) -> str:
    unit = advice.block.units.get(depth, "")
    if depth == advice.block.full and (advice.block.full_known or "all" in config.depth):
        return _ALL
    if depth == 1:
        return "only the last layer" + (f" ({unit})" if unit else "")
    return f"the last {depth} layers" + (f" ({unit} and above)" if unit else "")


def _everything(advice: Advice, config: Config) -> str:
    return _layers(advice, advice.now.depths[-1], config)


def _up_to(config: Config) -> str:
    return "up to " if config.class_balance == "at_most" else ""


def _replicates(choice: DepthChoice) -> str:
    return numbers.plural(choice.replicates, "replicate")


def _worth(found: Difference) -> str:
    return f"{_points(found)} points{'' if found.settled else ' (within noise)'}"


def _points(found: Difference) -> str:
    """`+2.1 [+0.4, +3.8]`."""
    said = numbers.points(found.effect)
    if found.interval is None:
        return said
    low, high = (numbers.points(end) for end in (found.interval.low, found.interval.high))
    return f"{said} [{low},\N{NO-BREAK SPACE}{high}]"


def _accuracy(choice: DepthChoice) -> str:
    return f"{numbers.percent(choice.accuracy)} {_span(choice.interval)}"


def _span(found: Interval) -> str:
    """Percent."""
    return f"[{100 * found.low:.1f},\N{NO-BREAK SPACE}{100 * found.high:.1f}]"
