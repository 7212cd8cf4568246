"""The lecture's claims, declared before any result is seen: what is measured, how, and what would refute it.

Each claim is one number per replicate (a difference or a slope, in logits if nothing else is said). The
*weak* reading asks for a direction, the *strong* one for what the lecture literally says; it is tested only
where the weak one is supported. What D, G, L, k and z are is said in `contrasts.py`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from convtl.errors import unknown_name
from convtl.study import contrasts as number
from convtl.study.contrasts import FEW, LARGE, LONG, MANY, PAIR, SHORT, SIZES, SMALL

DELTA = 0.2
"""Smallest effect of interest, logits: about 40 % more labels for scratch."""
LADDER = ("own", "latin", "georgian", "hebrew", "textures", "noise")
"""Sources from similar to far, as predicted."""
PRINCIPLES = (
    "similarity", "data_size", "dissimilarity", "rule_of_thumb", "vanishing_gradients", "layer_transfer",
    "options",
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A statement about one mean: `above` or `below` the margin, or `within` plus and minus it."""

    contrast: number.Contrast
    name: str = ""
    relation: Literal["above", "below", "within"] = "above"
    margin: float = 0.0


@dataclass(frozen=True)
class Paper:
    """What a paper says to the claim; `finds` is the verdict that would agree with it."""

    cite: str
    finds: Literal["supported", "contradicted", "practically null"]
    what: str


@dataclass(frozen=True)
class Claim:
    """One declared claim.

    Attributes:
      reading: `secondary` claims qualify a verdict and carry none of a principle.
      test: `difference`: the mean of the one part differs from 0 (sign-flip, two-sided; practically null is
        asked first). `all_parts`: every part holds (intersection-union: the largest p). `order`: the parts'
        means, one a source, rise in the order given (permutation of the sources; descriptive).
        `share`: in how many cells the part's mean is above its margin (described, not tested).
      primary: member of the Holm family.
      after: the weak reading that must be supported first.
      schedules: updates. The first decides; where another gives another outcome, that is one about speed.
        A single one where nothing else is run, or where the number itself spans both.
      targets: empty: every main target of the study, averaged inside a replicate.
      smallest_effect: in `unit`.
      beside: means that are printed beside the verdict and not tested.
      qualified_by: claims whose verdict says how far this one reaches.
      seen: the seed of which some results had been seen when the claim got its words; None: none had.
    """

    name: str
    principle: str
    reading: Literal["weak", "strong", "secondary"]
    statement: str
    formula: str
    test: Literal["difference", "all_parts", "order", "share"]
    parts: tuple[Part, ...]
    papers: tuple[Paper, ...] = ()
    direction: Literal["positive", "negative"] = "positive"
    primary: bool = False
    after: str = ""
    schedules: tuple[int, ...] = (SHORT, LONG)
    targets: tuple[str, ...] = ()
    smallest_effect: float = DELTA
    unit: str = "logit"
    beside: tuple[Part, ...] = ()
    qualified_by: tuple[str, ...] = ()
    seen: int | None = None


# Papers. Numbers of Yosinski et al. and of VTAB are recomputed from their published logs.
_FEWER = Paper(
    "Yosinski et al. 2014", "supported", "from a far task 2 layers can stay frozen within a point, not 3"
)
_SPECIFIC = Paper(
    "Yosinski et al. 2014", "supported", "AnB - BnB falls from +0.2 points at layer 1 to -8.2 at layer 7"
)
_SEMANTIC = Paper(
    "Yosinski et al. 2014", "supported", "natural to man-made costs three times as much at layer 7"
)
_SURGICAL = Paper("Lee et al. 2022", "contradicted", "which layers to tune depends on the kind of shift")
_BLOCK = Paper("Lee et al. 2022", "supported", "tuning one block of layers can beat tuning all")
_BIT = Paper(
    "Kolesnikov et al. 2020 (BiT)", "supported", "its rule trains longer where there are more examples"
)
_VTAB = Paper(
    "Zhai et al. 2019 (VTAB)", "supported", "mean gain 45.6 points on natural, 8.5 on structured tasks"
)
_VTAB_FAR = Paper(
    "Zhai et al. 2019 (VTAB)", "contradicted", "even the farthest group of tasks gains 8.5 points"
)
_VTAB_ALL = Paper(
    "Zhai et al. 2019 (VTAB)", "contradicted", "tunes everything, and gains, with 1,000 examples"
)
_REUSE = Paper(
    "Neyshabur et al. 2020", "supported", "a part of the benefit is reuse of features, a part is not"
)
_SIGMOID = Paper(
    "Hochreiter 1991", "supported", "errors shrink exponentially on their way back through sigmoids"
)
_SCALED = Paper(
    "Glorot & Bengio 2010", "contradicted", "an initialiser of the right scale keeps gradients alike"
)
_BOTTOM_UP = Paper("Raghu et al. 2017 (SVCCA)", "contradicted", "layers near the input converge first")

# --- principle 1: the more similar, the less fine-tuning ------------------------------------------------

_SIMILARITY = (
    Claim(
        "similarity.weak", "similarity", "weak",
        "The less similar the source, the more training all layers beats training the last (mixture dial)",
        "D(similarity 0) - D(similarity 1), n=10", "difference",
        (Part(number.minus(number.depth_benefit("mixture@0", 10), number.depth_benefit("mixture@1", 10))),),
        (_FEWER,), primary=True, qualified_by=("similarity.order",),
        beside=(Part(number.fall(1), "z(k=1) by"), Part(number.fall("all"), "z(k=all) by")),
    ),
    Claim(
        "similarity.order", "similarity", "secondary",
        "The benefit of depth rises along the ladder of sources, from own letters to noise",
        f"rank correlation of D, n=10, with {' < '.join(LADDER)}", "order",
        tuple(Part(number.depth_benefit(source, 10), source) for source in LADDER),
        schedules=(SHORT,), unit="rho",
    ),
    Claim(
        "similarity.strong", "similarity", "strong",
        "Two layers are enough for the most similar source; the farthest needs more than three",
        "z(own,2) - z(own,3) > -.2, z(own,2) - z(own,all) > -.2, z(noise,all) - z(noise,3) > .2, n=10",
        "all_parts",
        (
            Part(number.depth_difference("own", 10, 2, 3), "own, 2 layers against 3", "above", -DELTA),
            Part(number.depth_difference("own", 10, 2, "all"), "own, 2 layers against all", "above", -DELTA),
            Part(number.depth_difference("noise", 10, "all", 3), "noise, all layers against 3", "above", DELTA),
        ),
        (_SURGICAL,), after="similarity.weak",
    ),
)  # fmt: skip

# --- principle 2: the more data, the deeper and the longer ----------------------------------------------

_DATA_SIZE = (
    Claim(
        "data_size.deeper.weak", "data_size", "weak",
        "With more data, training all layers instead of the last pays more (Latin)",
        "D(n=50) - D(n=2), source latin", "difference",
        (Part(number.benefit_difference("latin", LARGE, SMALL)),), primary=True,
    ),
    Claim(
        "data_size.deeper.strong", "data_size", "strong",
        "With little data training all layers is worse than the last one alone, with much it is better",
        "D(n=2) < 0 and D(n=50) > 0, source latin", "all_parts",
        (
            Part(number.depth_benefit("latin", SMALL), "n=2", "below"),
            Part(number.depth_benefit("latin", LARGE), "n=50", "above"),
        ),
        (_VTAB_ALL,), after="data_size.deeper.weak",
    ),
    Claim(
        "data_size.longer.weak", "data_size", "weak",
        "With more data, fine-tuning for longer pays more (Latin, all layers)",
        "slope of L on log2 n, n = 2, 10, 50, end to end, source latin", "difference",
        (Part(number.longer_slope),), (_BIT,), primary=True, schedules=(LONG,),
    ),
    Claim(
        "data_size.longer.strong", "data_size", "strong",
        "A four times longer schedule pays with 50 images a class and not with 2",
        "L(n=50) > .2 and L(n=2) < .2, source latin", "all_parts",
        (Part(number.longer(LARGE), "n=50", "above", DELTA), Part(number.longer(SMALL), "n=2", "below", DELTA)),
        (_BIT,), after="data_size.longer.weak", schedules=(LONG,),
    ),
    Claim(
        "data_size.pair", "data_size", "weak",
        "The lecture's own case, deeper: two classes, 100+100 pictures against 10,000+10,000 (pairs of letters)",
        "D(n=10,000) - D(n=100), source latin, 2 classes", "difference",
        (Part(number.benefit_difference("latin", MANY, FEW, PAIR)),), primary=True, targets=(PAIR,),
    ),
    Claim(
        "data_size.pair_longer", "data_size", "secondary",
        "The lecture's own case, longer: two classes, 100+100 pictures against 10,000+10,000",
        "L(n=10,000) - L(n=100), source latin, 2 classes", "difference",
        (Part(number.minus(number.longer(MANY, PAIR), number.longer(FEW, PAIR))),),
        (_BIT,), schedules=(LONG,), targets=(PAIR,),
    ),
)  # fmt: skip

# --- principle 3: from something else, transfer is of little value --------------------------------------

_LONG_FIRST = (LONG, SHORT)
"""A short schedule leaves scratch under-trained, and so overstates what transfer is worth."""


def _little_value(far: str) -> tuple[Part, ...]:
    return (
        Part(number.gain(far), f"gain from {far}", "within", DELTA),
        Part(number.gain("latin"), "gain from latin", "above", DELTA),
    )


_DISSIMILARITY = (
    Claim(
        "dissimilarity.weak", "dissimilarity", "weak",
        "A source of another nature (noise) helps less than a similar one (Latin), all layers trained",
        "G(latin) - G(noise), k=all, mean of n = 10, 50", "difference",
        (Part(number.minus(number.gain("latin"), number.gain("noise"))),),
        (_VTAB,), primary=True, schedules=_LONG_FIRST, qualified_by=("dissimilarity.reuse.latin",),
    ),
    Claim(
        "dissimilarity.strong", "dissimilarity", "strong",
        "A source of another nature (noise) is practically worthless, a similar one (Latin) is not",
        "G(noise) within ±.2 and G(latin) > .2, k=all, mean of n = 10, 50", "all_parts", _little_value("noise"),
        (_VTAB_FAR,), after="dissimilarity.weak", schedules=_LONG_FIRST, qualified_by=("dissimilarity.reuse.noise",),
    ),
    Claim(
        "dissimilarity.strong.textures", "dissimilarity", "strong",
        "The same with photographed textures as the far source, which its own net learns less well",
        "G(textures) within ±.2 and G(latin) > .2, k=all, mean of n = 10, 50", "all_parts",
        _little_value("textures"), (_VTAB_FAR,), after="dissimilarity.weak", schedules=_LONG_FIRST,
        qualified_by=("dissimilarity.reuse.textures",),
    ),
    Claim(
        "dissimilarity.chosen", "dissimilarity", "secondary",
        "A far source (noise) helps less than a similar one (Latin) at the depth that validation chooses, too",
        "G(latin) - G(noise), k chosen on validation, mean of n = 10, 50", "difference",
        (Part(number.minus(number.chosen_gain("latin"), number.chosen_gain("noise"))),),
        schedules=_LONG_FIRST,
    ),
    Claim(
        "dissimilarity.frozen", "dissimilarity", "secondary",
        "Frozen below the last layer, a far source (noise) does harm", "G(noise), k=1, mean of n = 10, 50",
        "difference", (Part(number.gain("noise", 1)),), direction="negative", schedules=_LONG_FIRST,
    ),
    *(
        Claim(
            f"dissimilarity.reuse.{source}", "dissimilarity", "secondary",
            f"What {source} gives is reuse of features: more than the same weights in another order give",
            f"G({source}) - G({source}:shuffled), k=all, n=10", "difference", (Part(number.reuse(source)),),
            (_REUSE,) if source == "latin" else (), schedules=(SHORT,),
        )
        for source in ("latin", "noise", "textures")
    ),
)  # fmt: skip

# --- the rule of thumb that follows from the three ------------------------------------------------------

_RULE_OF_THUMB = (
    Claim(
        "rule_of_thumb.weak", "rule_of_thumb", "weak",
        "The rule (similar: 1 layer with 2 images a class, 3 with 50; far: all) beats always training all",
        "z(rule) - z(all), mean of latin, noise x n = 2, 50; the far cells are 0 by construction", "difference",
        (Part(number.rule_over_all),), primary=True,
    ),
    Claim(
        "rule_of_thumb.strong", "rule_of_thumb", "strong",
        "The rule is as good as choosing the depth on 20 further labelled images a class",
        "z(rule) - z(k chosen on validation) > -.2, mean of latin, noise x n = 2, 50", "all_parts",
        (Part(number.minus(number.rule, number.validated), "against validation", "above", -DELTA),),
        (_SURGICAL,), after="rule_of_thumb.weak", schedules=(SHORT,),
    ),
    Claim(
        "rule_of_thumb.head", "rule_of_thumb", "secondary", "The rule beats always training the last layer only",
        "z(rule) - z(k=1), mean of latin, noise x n = 2, 50", "difference",
        (Part(number.minus(number.rule, number.always_head)),), schedules=(SHORT,),
    ),
    Claim(
        "rule_of_thumb.fixed", "rule_of_thumb", "secondary", "The rule beats the best single depth for all its cells",
        "z(rule) - z(one k, chosen on the other replicates), mean of latin, noise x n = 2, 50", "difference",
        (Part(number.minus(number.rule, number.best_fixed)),), schedules=(SHORT,),
    ),
)  # fmt: skip

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


_GRADIENTS = (
    Claim(
        "vanishing_gradients.weak", "vanishing_gradients", "weak",
        "In chains of sigmoid units gradients vanish towards the input",
        "decades that |dL/dh| of untrained chains loses towards the input: > .25 a unit, and > 1 at the first unit; "
        "mean of 5, 10, 20 hidden units and of LeCun's and Glorot's initialisers",
        "all_parts", _vanishing("sigmoid"), (_SIGMOID,), primary=True, schedules=_AT_START,
        smallest_effect=0.25, unit="decades", seen=0,
    ),
    Claim(
        "vanishing_gradients.strong", "vanishing_gradients", "strong",
        "They vanish in chains of tanh and of ReLU units as well, with initialisers in common use",
        "the same for tanh (LeCun's and Glorot's initialisers) and for ReLU (He's)", "all_parts",
        _vanishing("tanh", "relu"), (_SCALED,), after="vanishing_gradients.weak", schedules=_AT_START,
        smallest_effect=0.25, unit="decades", seen=0,
    ),
    Claim(
        "vanishing_gradients.slowest.weak", "vanishing_gradients", "weak",
        "Early layers are the last to become what they will be, in a LeNet-5 of sigmoid units (Adam: by SGD it "
        "learns nothing)",
        "decades of updates by which a layer is later than the next one to be 90 % of the way, in CKA (slope); "
        "layers that do not move and nets that do not learn are left out", "difference",
        (Part(number.slowest("sigmoid", "adam")),), (_BOTTOM_UP,), primary=True, schedules=_AT_START,
        smallest_effect=0.05, unit="decades of updates a layer", seen=0,
    ),
    Claim(
        "vanishing_gradients.slowest.strong", "vanishing_gradients", "strong",
        "They are the last with tanh and ReLU, with SGD and Adam, too", "the same slope > 0 in each of the four",
        "all_parts",
        tuple(
            Part(number.slowest(name, optimiser), f"{name}, {optimiser}")
            for name in ("tanh", "relu") for optimiser in ("sgd", "adam")
        ),
        (_BOTTOM_UP,), after="vanishing_gradients.slowest.weak", schedules=_AT_START, smallest_effect=0.05,
        unit="decades of updates a layer", seen=0,
    ),
)  # fmt: skip

# --- what layers carry, and the options: last, a few, all -----------------------------------------------

_LAYER_TRANSFER = (
    Claim(
        "layer_transfer.weak", "layer_transfer", "weak", "The later the layer, the more specific to its problem",
        "slope over j = 1..4 of S_j = z(BjB) - z(AjB), j lowest layers frozen, end to end", "difference",
        (Part(number.specificity_slope),), (_SPECIFIC,), primary=True, schedules=(number.TRANSFER,),
        targets=(number.WHOLE,),
    ),
    Claim(
        "layer_transfer.strong", "layer_transfer", "strong",
        "The first layer is general, and layers are more specific where the other task's letters differ in kind",
        "S_1 within ±.2 and S(round to straight letters) - S(random split) > 0, mean of j = 1..4", "all_parts",
        (
            Part(number.specificity(1), "the first layer", "within", DELTA),
            Part(number.semantic_excess, "round to straight against random", "above"),
        ),
        (_SEMANTIC,), after="layer_transfer.weak", schedules=(number.TRANSFER,),
        targets=(number.WHOLE, number.STRAIGHT),
    ),
)  # fmt: skip

_OPTIONS = (
    Claim(
        "options.weak", "options", "weak",
        "Going a few layers back beats both the last layer and the whole net (Latin)",
        "z(k of 2, 3) - z(k of 1, all), each chosen on the other replicates, mean of n = 2, 10, 50", "difference",
        (Part(number.a_few_on_average),), (_BLOCK,), primary=True,
    ),
    Claim(
        "options.strong", "options", "strong", "It does so by more than .2 logit in many cells (described, not tested)",
        "share of cells (latin, noise x n = 2, 10, 50 x target) in which the difference is > .2", "share",
        tuple(
            Part(number.a_few(source, n), f"{source}, n={n}", "above", DELTA)
            for source in ("latin", "noise") for n in SIZES
        ),
        after="options.weak", schedules=(SHORT,), unit="share of cells",
    ),
)  # fmt: skip

CLAIMS: tuple[Claim, ...] = (
    *_SIMILARITY, *_DATA_SIZE, *_DISSIMILARITY, *_RULE_OF_THUMB, *_GRADIENTS, *_LAYER_TRANSFER, *_OPTIONS,
)  # fmt: skip


def check_scorecard(names: Collection[str]) -> None:
    """Checks the key `scorecard`.

    Raises:
      UserError: a name that is no principle's.
    """
    for name in names:
        if name not in PRINCIPLES:
            raise unknown_name("scorecard", name, PRINCIPLES)


def claims_of(names: Sequence[str]) -> tuple[Claim, ...]:
    """The declared claims of some principles, in the order of `CLAIMS`."""
    check_scorecard(names)
    return tuple(claim for claim in CLAIMS if claim.principle in names)
