"""What the numbers say, in sentences that are computed and can come out either way."""

import math
from collections.abc import Callable, Sequence

from convtl.analysis.arms import Block
from convtl.analysis.principles import Verdict
from convtl.analysis.statistics import EPSILON
from convtl.reporting import numbers
from convtl.reporting.summary import ALPHA, Cell, Contrast

_WORDS = ("gains", "loses", "makes no settled difference")
_SHOWN = 3
"""Sources that a sentence goes through before it refers to the table."""
NOTHING = "No trial is finished yet, so nothing can be said."
LEGEND = (
    "*Depth k*: the last k layers with weights are trained on the target, the others stay as the source left "
    "them (1 = only the output layer). *P*: share of bootstrap draws of replicates. *D*: all layers minus "
    "output layer only. *G*: transfer minus training from scratch. D and G are differences of log-odds of a "
    "correct "
    f"answer (logits); {EPSILON} logit is about 5 points at 50% and 2 points at 90%."
)


# --- the answer ---------------------------------------------------------------------------------------


def answer(verdicts: Sequence[Verdict], parts: Sequence[tuple[Block, list[Cell]]]) -> list[str]:
    """At most six sentences: how many layers, what that gains, the declared claims, what it costs."""
    if not any(len(block.both) for block, _ in parts):
        return [NOTHING, *(claim(verdict) for verdict in verdicts[:2])]
    claimed = [claim(verdict) for verdict in verdicts[:2]]
    if len(parts) == 1:
        block, found = parts[0]
        said = [depths(block, found), benefits(block, found), gains(found), *claimed, cost(block)]
        return [text for text in said if text] or ["No pretrained source has a finished trial."]
    room = min(len(parts), 6 - len(claimed))
    said = [f"**{block.title}**: {_shortly(block, found)}" for block, found in parts[:room]]
    if len(parts) > room:
        said[-1] += f" The other {len(parts) - room} settings are in the tables below."
    return [*said, *claimed]


def _shortly(block: Block, found: Sequence[Cell]) -> str:
    """Depths and their benefit, one of several settings."""
    enough, change = _enough(block, found, "; "), _changes(found)
    texts = [f"layers worth training {enough}." if enough else ""]
    texts += [
        f"{block.full_name.capitalize()} instead of only the last: {change}." if change else ""
    ]
    return " ".join(filter(None, texts)) or "no depth can be compared."


def claim(verdict: Verdict) -> str:
    """The verdict of a declared claim."""
    where = f" ({verdict.setting})" if verdict.setting else ""
    head = f"**Declared claim**{where}, “{verdict.claim.statement}”: **{verdict.outcome}**"
    if not verdict.m:
        return f"{head}; {verdict.note}."
    size = f"{verdict.estimand}, is {numbers.signed(verdict.effect)} logit"
    if verdict.m > 1:
        p = f"p = {numbers.p_value(verdict.p)}".replace("= <", "< ")
        size += f", {numbers.level(verdict.interval)} interval {numbers.span(verdict.interval)}, exact {p}"
        size += (
            f" (Holm {numbers.p_value(verdict.p_adjusted)})"
            if verdict.p_adjusted > verdict.p
            else ""
        )
    tail = f"; {verdict.note}" if verdict.note else ""
    counted = f"{numbers.plural(verdict.m, 'replicate')}, {numbers.plural(len(verdict.by_target), 'target')}"
    return f"{head}. {size} ({counted}){tail}."


def depths(block: Block, found: Sequence[Cell]) -> str:
    """How many layers are enough, by source and n."""
    text = _enough(block, found, ". ")
    what = f"the fewest within {EPSILON} logit of the best"
    return (
        f"**Layers worth training** with n labelled images a class: {what}. {text}." if text else ""
    )


def _enough(block: Block, found: Sequence[Cell], between: str) -> str:
    """`from latin, only the last layer at n=2 and 10 ...`; neighbouring n with one answer are said once."""

    def one(source: str, group: list[Cell]) -> str:
        runs: list[list[Cell]] = []
        for cell in group:
            if cell.likely is None:
                continue
            if runs and runs[-1][0].likely == cell.likely:
                runs[-1].append(cell)
            else:
                runs.append([cell])
        places = [
            f"{_layers(block, run[0].likely or 0)} at n={numbers.listed([str(cell.n) for cell in run])} "
            f"(P={', '.join(f'{cell.likely_share:.2f}' for cell in run)})"
            for run in runs
        ]
        return f"from {source}, {'; '.join(places)}" if places else ""

    return _by_source(found, one, between) if len(block.depths) > 1 else ""


def _layers(block: Block, depth: int) -> str:
    unit = block.units.get(depth, "")
    if block.full_known and depth == block.full:
        return "all layers"
    if "+" in unit:
        return f"the units {unit}"
    if depth == 1:
        return "only the last layer" + (f" ({unit})" if unit else "")
    return f"the last {depth}" + (f" ({unit} and above)" if unit else "")


def benefits(block: Block, found: Sequence[Cell]) -> str:
    """Where training everything beats training the head, and where it loses."""
    text = _changes(found)
    return f"**{block.full_name.capitalize()} instead of only the last**: {text}." if text else ""


def _changes(found: Sequence[Cell]) -> str:

    def one(source: str, group: list[Cell]) -> str:
        said = _signs(group, lambda cell: cell.benefit, _head_to_full, _WORDS)
        return f"from {source} it {said}" if said else ""

    return _by_source(found, one)


def gains(found: Sequence[Cell]) -> str:
    """Where transfer beats training from scratch."""

    def one(source: str, group: list[Cell]) -> str:
        said = _signs(group, lambda cell: cell.gain, _from_scratch, _WORDS)
        return f"from {source} it {said}" if said else ""

    text = _by_source(found, one)
    what = "**Transfer instead of training from scratch**, same labels, depth chosen on validation"
    return f"{what}: {text}." if text else ""


def cost(block: Block) -> str:
    """What an update costs when only the head is trained, and when everything is."""
    flops = {k: _typical(block, k, "flops_per_update") for k in (1, block.full)}
    weights = {k: _typical(block, k, "trained_weights") for k in (1, block.full)}
    if block.full == 1 or not all(map(math.isfinite, (*flops.values(), *weights.values()))):
        return ""
    if not flops[1] > 0:
        return ""
    ratio = flops[block.full] / flops[1]
    times = f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.1f}"
    everything = "all" if block.full_known else block.full_name
    return (
        f"**Cost.** Training only the last layer changes {numbers.count(weights[1])} of "
        f"{numbers.count(weights[block.full])} weights; training {everything} takes {times} times the arithmetic."
    )


def _signs(
    group: list[Cell],
    contrast: Callable[[Cell], Contrast | None],
    change: Callable[[Cell], str],
    words: tuple[str, str, str],
) -> str:
    """`gains at n=10 and 50 (41% to 63%); loses at n=2`, from adjusted p values."""
    said = []
    known = [(cell, found) for cell in group if (found := contrast(cell))]
    enough = [(cell, found) for cell, found in known if _could_settle(found)]
    few = [(cell, found) for cell, found in known if not _could_settle(found)]
    for sign, word in zip((1, -1, 0), words, strict=True):
        places = [f"n={cell.n} ({change(cell)})" for cell, found in enough if found.sign == sign]
        if places:
            said.append(f"{word} at {numbers.listed(places)}")
    if few:
        places = [f"n={cell.n} ({change(cell)})" for cell, _ in few]
        m = max(found.found.m for _, found in few)
        said.append(
            f"makes a difference that {m} replicates are too few to settle at {numbers.listed(places)}"
        )
    return numbers.listed(said)


def _could_settle(found: Contrast) -> bool:
    """Whether so many replicates can give a p that counts: the smallest possible is 2 / 2^m."""
    return 2 / 2**found.found.m <= ALPHA


def _head_to_full(cell: Cell) -> str:
    return f"{numbers.percent(cell.head, 0)} to {numbers.percent(cell.full, 0)}"


def _from_scratch(cell: Cell) -> str:
    if cell.accuracy is None or cell.scratch is None:
        return "–"
    return f"{numbers.points(cell.accuracy.effect - cell.scratch.effect)} points"


def _by_source(
    found: Sequence[Cell], one: Callable[[str, list[Cell]], str], between: str = "; "
) -> str:
    sources = list(dict.fromkeys(cell.source for cell in found))
    texts = [one(source, [cell for cell in found if cell.source == source]) for source in sources]
    texts = [text for text in texts if text]
    more = len(texts) - _SHOWN
    if between == ". ":
        texts = [text[0].upper() + text[1:] for text in texts]
    return between.join(texts[:_SHOWN]) + (f"{between}{more} more in the table" if more > 0 else "")


def _typical(block: Block, depth: int, column: str) -> float:
    data = block.data if len(block.data) else block.scratch
    values = data.loc[data["depth"] == depth, column]
    return float(values.median()) if values.notna().any() else float("nan")
