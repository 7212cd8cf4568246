"""Gradients and slow early layers, what layers carry, and which of them to train."""

from convtl.analysis import contrasts as number
from convtl.analysis.contrasts import SHORT, SIZES
from convtl.analysis.declared import papers
from convtl.analysis.declared.claim import DELTA, Claim, Part

# --- early layers are slow, because gradients vanish (fresh nets, no transfer) --------------------------

_AT_START = (0,)


def _vanishing(*activations: str) -> tuple[Part, ...]:
    """A quarter of a decade a unit, and a decade in all."""
    return tuple(
        part
        for name in activations
        for part in (
            Part(number.lost_a_unit(name), f"{name}, a unit", "above", 0.25),
            Part(number.lost_in_all(name), f"{name}, at the first unit", "above", 1.0),
        )
    )


GRADIENTS = (
    Claim(
        "vanishing_gradients.weak",
        "vanishing_gradients",
        "weak",
        "In chains of sigmoid units gradients vanish towards the input",
        "decades that |dL/dh| of untrained chains loses towards the input: > .25 a unit, and > 1 at the first unit; "
        "mean of 5, 10, 20 hidden units and of LeCun's and Glorot's initialisers",
        "all_parts",
        _vanishing("sigmoid"),
        (papers.SIGMOID,),
        primary=True,
        schedules=_AT_START,
        smallest_effect=0.25,
        unit="decades",
        seen=0,
    ),
    Claim(
        "vanishing_gradients.strong",
        "vanishing_gradients",
        "strong",
        "They vanish in chains of tanh and of ReLU units as well, with initialisers in common use",
        "the same for tanh (LeCun's and Glorot's initialisers) and for ReLU (He's)",
        "all_parts",
        _vanishing("tanh", "relu"),
        (papers.SCALED,),
        after="vanishing_gradients.weak",
        schedules=_AT_START,
        smallest_effect=0.25,
        unit="decades",
        seen=0,
    ),
    Claim(
        "vanishing_gradients.slowest.weak",
        "vanishing_gradients",
        "weak",
        "Early layers are the last to become what they will be, in a LeNet-5 of sigmoid units (Adam: by SGD it "
        "learns nothing)",
        "decades of updates by which a layer is later than the next one to be 90 % of the way, in CKA (slope); "
        "layers that do not move and nets that do not learn are left out",
        "difference",
        (Part(number.slowest("sigmoid", "adam")),),
        (papers.BOTTOM_UP,),
        primary=True,
        schedules=_AT_START,
        smallest_effect=0.05,
        unit="decades of updates a layer",
        seen=0,
    ),
    Claim(
        "vanishing_gradients.slowest.strong",
        "vanishing_gradients",
        "strong",
        "They are the last with tanh and ReLU, with SGD and Adam, too",
        "the same slope > 0 in each of the four",
        "all_parts",
        tuple(
            Part(number.slowest(name, optimiser), f"{name}, {optimiser}")
            for name in ("tanh", "relu")
            for optimiser in ("sgd", "adam")
        ),
        (papers.BOTTOM_UP,),
        after="vanishing_gradients.slowest.weak",
        schedules=_AT_START,
        smallest_effect=0.05,
        unit="decades of updates a layer",
        seen=0,
    ),
)

# --- what layers carry, and the options: last, a few, all -----------------------------------------------

_TRANSFER = (number.TRANSFER, 2 * number.TRANSFER)

LAYER_TRANSFER = (
    Claim(
        "layer_transfer.weak",
        "layer_transfer",
        "weak",
        "The later the layer, the more specific to its problem",
        "slope over j = 1..4 of S_j = z(BjB) - z(AjB), j lowest layers frozen, end to end",
        "difference",
        (Part(number.specificity_slope),),
        (papers.SPECIFIC,),
        primary=True,
        schedules=_TRANSFER,
        targets=(number.WHOLE,),
        seen=0,
    ),
    Claim(
        "layer_transfer.strong",
        "layer_transfer",
        "strong",
        "The first layer is general, and layers are more specific where the other task's letters differ in kind",
        "S_1 within ±.2, for other letters at random and for straight letters to round ones; S(straight to round) - "
        "S(other round to round) > 0, mean of j = 1..4",
        "all_parts",
        (
            Part(number.specificity(1), "first layer, letters at random", "within", DELTA),
            Part(number.first_of_another_kind, "first layer, straight to round", "within", DELTA),
            Part(number.semantic_excess, "straight against other round letters", "above"),
        ),
        (papers.SEMANTIC,),
        after="layer_transfer.weak",
        schedules=_TRANSFER,
        targets=(number.WHOLE, number.ROUND),
        seen=0,
    ),
)

OPTIONS = (
    Claim(
        "options.weak",
        "options",
        "weak",
        "Going a few layers back beats both the last layer and the whole net (Latin)",
        "z(k of 2, 3, 4) - z(k of 1, all), each chosen on the other replicates, mean of n = 2, 10, 50 (k=4 where run)",
        "difference",
        (Part(number.a_few_on_average),),
        (papers.BLOCK,),
        primary=True,
        seen=0,
    ),
    Claim(
        "options.strong",
        "options",
        "strong",
        "It does so by more than .2 logit in many cells (described, not tested)",
        "share of cells (latin, noise x n = 2, 10, 50 x target) in which the difference is > .2",
        "share",
        tuple(
            Part(number.a_few(source, n), f"{source}, n={n}", "above", DELTA)
            for source in ("latin", "noise")
            for n in SIZES
        ),
        after="options.weak",
        schedules=(SHORT,),
        unit="share of cells",
    ),
)

# --- which way of fine-tuning, at equal numbers of updates ----------------------------------------------

_BY_REGIME = ("regime",)

WAYS = (
    Claim(
        "ways.care",
        "ways",
        "weak",
        "Training everything with care beats training everything at one rate (Latin)",
        "z(the best of head first, lower rates below, unit by unit, pulled towards the source; chosen on the other "
        "replicates) - z(one rate), k=all, mean of n = 2, 10, 50",
        "difference",
        (Part(number.careful_over_plain),),
        (papers.HEAD_FIRST,),
        primary=True,
        schedules=(SHORT,),
        targets=(number.WHOLE,),
        selects=_BY_REGIME,
        beside=tuple(Part(number.way_over_plain(way), way) for way in number.CAREFUL),
    ),
    Claim(
        "ways.top",
        "ways",
        "weak",
        "For new classes, the last two layers beat the first and the last (Latin)",
        "z(k=2) - z(first and last layer), mean of n = 2, 10, 50",
        "difference",
        (Part(number.top_over(2, "first_unit")),),
        (papers.OUTPUT_SHIFT,),
        primary=True,
        schedules=(SHORT,),
        targets=(number.WHOLE,),
        selects=_BY_REGIME,
    ),
    Claim(
        "ways.middle",
        "ways",
        "secondary",
        "For new classes, the last three layers beat the middle two and the last (Latin)",
        "z(k=3) - z(conv2, fc3 and the last layer), mean of n = 2, 10, 50",
        "difference",
        (Part(number.top_over(3, "middle_units")),),
        schedules=(SHORT,),
        targets=(number.WHOLE,),
        selects=_BY_REGIME,
    ),
)

# --- the counter-example: the same letters, seen differently ---------------------------------------------

_BY_SHIFT = ("regime", "axes.shift.")

INPUT_SHIFT = (
    Claim(
        "input_shift.weak",
        "input_shift",
        "weak",
        "Where only the input has changed, training the first layer alone beats training the last alone",
        "z(first) - z(last), same classes, mean of inversion, noise, blur, rotation and n = 10, 50",
        "difference",
        (Part(number.first_over(1)),),
        (papers.INPUT_SHIFT,),
        primary=True,
        schedules=(SHORT,),
        selects=_BY_SHIFT,
        parts_of_it=tuple(f"input_shift.{kind}" for kind in number.SHIFTS),
    ),
    Claim(
        "input_shift.three",
        "input_shift",
        "secondary",
        "It beats training the last three, too",
        "z(first) - z(last three), the same mean",
        "difference",
        (Part(number.first_over(3)),),
        schedules=(SHORT,),
        selects=_BY_SHIFT,
        beside=tuple(Part(number.first_over(3, (kind,)), kind) for kind in number.SHIFTS),
    ),
    *(
        Claim(
            f"input_shift.{kind}",
            "input_shift",
            "secondary",
            f"Where the change is {kind}, training the first layer alone beats training the last alone",
            f"z(first) - z(last), {kind}, mean of n = 10, 50",
            "difference",
            (Part(number.first_over(1, (kind,))),),
            schedules=(SHORT,),
            selects=_BY_SHIFT,
            seen=0,
        )
        for kind in number.SHIFTS
    ),
    Claim(
        "input_shift.strong",
        "input_shift",
        "strong",
        "The first layer alone is enough, whatever the change: as good as all of them",
        "z(first) - z(all) > -.2 for each of inversion, noise, blur, rotation, mean of n = 10, 50",
        "all_parts",
        tuple(
            Part(number.first_over("all", (kind,)), kind, "above", -DELTA) for kind in number.SHIFTS
        ),
        (papers.INPUT_SHIFT,),
        after="input_shift.weak",
        schedules=(SHORT,),
        selects=_BY_SHIFT,
    ),
)
