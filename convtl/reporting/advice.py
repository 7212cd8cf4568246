"""The part of a report that advises: how deep to fine-tune, what more pictures would bring, which net to use."""

import math
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from convtl.analysis.advised import PICTURES, Advice, DepthChoice, Difference, Measured
from convtl.analysis.learning_curve import LearningCurve
from convtl.analysis.statistics import EPSILON, Interval
from convtl.config.domains import ImageFolderConfig
from convtl.config.schema import Config
from convtl.reporting import advice_plots, figures, numbers
from convtl.reporting.tables import markdown
from convtl.study.nets import net_of

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
    now, curve = advice.now, advice.curve
    lines = [
        f"advice: with {now.images:,} pictures, train {_layers(advice, now.depth, config)} of {advice.source}: "
        f"{_accuracy(now.advised)} of test pictures correct"
    ]
    instead = [
        f"{_worth(arm.against, ' points')} with {_layers(advice, arm.depth, config)}"
        for arm in now.others
        if arm.against
    ]
    lines += [f"instead: {'; '.join(instead)}"] if instead else []
    outlook = _forecasts(advice, curve, config) if isinstance(curve, LearningCurve) else ""
    lines += [f"more pictures: {outlook}" if outlook else _unsaid(str(curve))]
    net = net_of(out / "nets", advice.best.trial)
    lines += (
        [f"use it: {_command(net, advice, config)}"]
        if net
        else ["no net was kept: save=best keeps it"]
    )
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
        f"study has at most ({_up_to(config)}{now.n} a class). The net then classifies **{_accuracy(now.advised)}** of "
        "the test pictures correctly.\n"
    ]
    if now.others:
        text += [
            f"All that was measured with {now.images:,} pictures:\n",
            _measured(advice, config),
        ]
    said = [*_reasons(advice, config), *_untried(advice, config), *_caveats(advice, config)]
    text += ["\n".join(f"- {one}" for one in said) + "\n"]
    if len(advice.choices) > 1:
        text += ["With fewer pictures:\n", _fewer(advice, config)]
    return text


def _measured(advice: Advice, config: Config) -> str:
    """The depths side by side: what they reach and what they cost."""
    now = advice.now
    header = [
        "trained",
        "weights that change",
        "arithmetic",
        "test accuracy",
        "points against the advised",
    ]
    least = min((arm.flops for arm in now.arms if arm.flops > 0), default=math.nan)
    rows = [
        [
            _layers(advice, arm.depth, config) + (" (**advised**)" if arm.against is None else ""),
            numbers.count(arm.weights),
            "least" if arm.flops == least else f"{numbers.count(arm.flops / least)} times",
            _accuracy(arm),
            _worth(arm.against) if arm.against else "–",
        ]
        for arm in now.arms
    ]
    return markdown(header, rows)


def _reasons(advice: Advice, config: Config) -> list[str]:
    """Why not another depth, where numbers or the rest of the report suggest one."""
    now, said = advice.now, []
    first = now.arms[0]
    if first.depth < now.depth and first.against:
        said.append(
            f"{_capital(_short(advice, now.depth, config))} are advised because they are settled to be better than "
            f"{_short(advice, first.depth, config)}: {_worth(_turned(first.against), ' points')}. Whether that is "
            "worth what it costs (see the table) is for you to say."
        )
    if now.enough < now.depth:
        said.append(
            f"The answer below names {_short(advice, now.enough, config)}, because it passes over losses of up to "
            f"{EPSILON} logit (5 points at 50%, 2 at 90%). The advice takes every settled gain."
        )
    better = [
        arm for arm in now.others if arm.depth > now.depth and arm.accuracy > now.advised.accuracy
    ]
    if better:
        best = max(better, key=lambda arm: arm.accuracy)
        said.append(
            f"{_capital(_short(advice, best.depth, config))} may be better still, but what was gained may be chance; "
            f"`replicates={2 * max(3, now.replicates)}` would tell more."
        )
    return said


def _untried(advice: Advice, config: Config) -> list[str]:
    """What it takes to try what is deeper than all that was measured."""
    now = advice.now
    deepest = now.arms[-1].depth
    if _layers(advice, deepest, config) == _ALL:
        return []
    depths = ",".join(map(str, dict.fromkeys((now.depth, deepest, "all"))))
    blocks = "blocks=null " if config.blocks else ""
    return [
        f"Nothing deeper than {_short(advice, deepest, config)} was tried. The same command with "
        f"`{blocks}'depth=[{depths}]' n_per_class={now.n}` (or any other depths) tries it, and takes far longer: add "
        "`dry_run=true` to see how long."
    ]


def _caveats(advice: Advice, config: Config) -> list[str]:
    now = advice.now
    said = [
        f"Brackets after points: 95% t intervals over {_replicates(now)}, each with training pictures of its own. "
        f"Settled: they exclude 0, and the difference is {PICTURES} test pictures or more. All else is within noise."
        if now.replicates > 1
        else "With one replicate nothing is known of noise, so no difference counts; several would tell more.",
        f"Brackets after accuracies: as wide as that and as chance makes a test on {now.n_test:,} pictures (95%, exact "
        "binomial), which replicates may share. The best of several depths looks a little better than it is.",
    ]
    rates = advice.block.arm(advice.source, now.n, now.depth, "n_rates")
    if len(rates) and rates.max() > 1:
        said.append(
            f"Every net chose its learning rate on {now.n_val:,} validation pictures: they need labels too, and are "
            "not counted among those above."
        )
    if config.class_balance == "at_most":
        said.append(
            "Classes may have unequal numbers of test pictures. What always answering the largest would get is not "
            "recorded: compare with its share of your pictures."
        )
    return said


def _fewer(advice: Advice, config: Config) -> str:
    header = [
        "n a class",
        "pictures",
        "advised",
        "test accuracy",
        "points of other depths against it",
    ]
    rows = [
        [
            f"{_up_to(config)}{choice.n}",
            f"{choice.images:,}",
            advice.block.depth_name(choice.depth),
            _accuracy(choice.advised),
            "; ".join(f"{arm.depth}: {_worth(arm.against)}" for arm in choice.others if arm.against)
            or "no other tried",
        ]
        for choice in reversed(advice.choices[:-1])
    ]
    return markdown(header, rows)


# --- more pictures ------------------------------------------------------------------------------------


def _more(advice: Advice, out: Path, suffix: str, config: Config) -> list[str]:
    figure = figures.save(
        advice_plots.forecast(advice), out / "figures" / f"more_pictures{suffix}.png"
    )
    curve, layers = advice.curve, _layers(advice, advice.curve_depth, config)
    if not isinstance(curve, LearningCurve):
        text, caption = f"{_unsaid(curve)}\n", f"What was measured with {layers} trained."
    else:
        said = _capital(_forecasts(advice, curve, config))
        text = f"**{said}.** {_bound(advice, config)}{_law(curve)} {_check(curve)}\n"
        caption = f"What was measured with {layers} trained, the curve fitted to it, and what it says of more pictures."
    return [text, f"![{caption}](figures/{figure.name})\n"]


def _forecasts(advice: Advice, curve: LearningCurve, config: Config) -> str:
    said = [
        f"{_times(found.factor)} as many ({found.images:,.0f}) should give {numbers.percent(found.accuracy)} "
        f"{_span(found.interval)}"
        for found in curve.forecasts
    ]
    return f"with {_layers(advice, advice.curve_depth, config)} trained and if the law goes on, {'; '.join(said)}"


def _bound(advice: Advice, config: Config) -> str:
    """What the curve of another depth says of the advised one."""
    now = advice.now
    if advice.curve_depth == now.depth:
        return ""
    layers, found = _short(advice, now.depth, config), now.arm(advice.curve_depth).against
    why = f"The advised depth, {layers}, was measured with too few numbers of pictures for a curve of its own."
    if found is None or not found.settled or found.effect > 0:
        return f"{why} How the two would compare with more pictures is not known. "
    return (
        f"{why} With {now.images:,} pictures it is {_worth(_turned(found), ' points')} better, and as long as it stays "
        "better this is a lower bound for it. "
    )


def _law(curve: LearningCurve) -> str:
    sizes = f"all {len(curve.images)} sizes, {curve.images[0]:,.0f} to {curve.images[-1]:,.0f} pictures,"
    power = (
        f"falls as n^{numbers.MINUS}{abs(curve.slope):.2f}"
        if curve.slope < 0
        else "does not fall with n"
    )
    level = numbers.level(curve.forecasts[0].interval).replace(".0%", "%")
    return (
        f"The law: the error {power}; a power law (Hestness et al. 2017) was fitted to {sizes} in each of "
        f"{curve.replicates} replicates. Brackets: {level} prediction intervals for one further tuned net. Their lower "
        "ends also allow for an error that no number of pictures removes, which so few sizes cannot rule out."
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
    return (
        _WORDS.get(int(factor), f"{factor:g} times")
        if factor == int(factor)
        else f"{factor:g} times"
    )


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
    if _all_trained(advice, depth, config):
        return _ALL
    if depth == 1:
        return "only the last layer" + (f" ({unit})" if unit else "")
    return f"the last {depth} layers" + (f" ({unit} and above)" if unit else "")


def _short(advice: Advice, depth: int, config: Config) -> str:
    return _layers(advice, depth, config).partition(" (")[0]


def _all_trained(advice: Advice, depth: int, config: Config) -> bool:
    if depth != advice.block.full:
        return False
    asked = [config.depth, *(part.get("depth", ()) for part in (config.blocks or {}).values())]
    flat = [one for part in asked for one in (part if isinstance(part, list | tuple) else [part])]
    return advice.block.full_known or "all" in flat


def _up_to(config: Config) -> str:
    return "up to " if config.class_balance == "at_most" else ""


def _replicates(choice: DepthChoice) -> str:
    return numbers.plural(choice.replicates, "replicate")


def _turned(found: Difference) -> Difference:
    """The same seen from the other depth."""
    if (known := found.interval) is not None:
        known = Interval(-known.high, -known.low, known.level)
    return Difference(-found.effect, known, found.settled)


def _worth(found: Difference, unit: str = "") -> str:
    """`+2.1 [+0.4, +3.8]`, or `+0.1 [−0.4, +0.6] points (within noise)`."""
    said = numbers.points(found.effect)
    if found.interval is not None:
        low, high = (numbers.points(end) for end in (found.interval.low, found.interval.high))
        said = f"{said} [{low},\N{NO-BREAK SPACE}{high}]"
    return said + unit + ("" if found.settled else " (within noise)")


def _accuracy(arm: Measured) -> str:
    return f"{numbers.percent(arm.accuracy)} {_span(arm.interval)}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _span(found: Interval) -> str:
    """Percent."""
    return f"[{100 * found.low:.1f},\N{NO-BREAK SPACE}{100 * found.high:.1f}]"
