"""How numbers are written in a report."""

import math

from convtl.analysis.statistics import Estimate, Interval

MINUS = "\N{MINUS SIGN}"


def signed(value: float, digits: int = 2) -> str:
    """`+0.42`, `−1.30`; zero has no sign."""
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return f"{'+' if value > 0 else MINUS}{text}"


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}%"


def points(share: float) -> str:
    """A difference of accuracies in percentage points: `+12.3`."""
    return signed(100 * share, 1)


def p_value(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def level(interval: Interval) -> str:
    return f"{100 * interval.level:.1f}%"


def span(interval: Interval, digits: int = 2) -> str:
    """`[+0.10, +0.52]`."""
    return f"[{signed(interval.low, digits)},\N{NO-BREAK SPACE}{signed(interval.high, digits)}]"


def contrast(found: Estimate | None) -> str:
    """Effect and interval in logits; only the effect where one replicate gives no interval."""
    if found is None:
        return "–"
    return signed(found.effect) if found.m < 2 else f"{signed(found.effect)} {span(found.interval)}"


def accuracy(found: Estimate | None) -> str:
    """Mean accuracy and interval in percent."""
    if found is None:
        return "–"
    text = percent(found.effect)
    if found.m < 2:
        return text
    return (
        f"{text} [{100 * found.interval.low:.1f},\N{NO-BREAK SPACE}{100 * found.interval.high:.1f}]"
    )


def count(value: float) -> str:
    """`850`, `61,706`, `3.2 million`."""
    if not math.isfinite(value):
        return "–"
    for size, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if value >= size:
            return f"{value / size:.3g} {name}"
    return f"{value:,.0f}"


def short(value: float) -> str:
    """`850`, `61.7k`, `3.2M`: for axes."""
    for size, name in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{name}"
    return f"{value:.3g}"


def listed(items: list[str], word: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    return (
        items[0]
        if len(items) == 1
        else f"{', '.join(items[:-1])} {word} {items[-1]}"
        if items
        else ""
    )


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
