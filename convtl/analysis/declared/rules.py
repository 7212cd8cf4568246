"""The lecture's three principles, and the rule of thumb that follows from them."""

from convtl.analysis import contrasts as number
from convtl.analysis.contrasts import FEW, LARGE, LONG, MANY, PAIR, SHORT, SMALL, TEXTURES
from convtl.analysis.declared import papers
from convtl.analysis.declared.claim import DELTA, Claim, Part

LADDER = ("own", "latin", "georgian", "hebrew", "textures", "noise")
"""Sources from similar to far, as predicted."""

# --- principle 1: the more similar, the less fine-tuning ------------------------------------------------

SIMILARITY = (
    Claim(
        "similarity.weak",
        "similarity",
        "weak",
        "The less similar the source, the more training all layers beats training the last (mixture dial)",
        "D(similarity 0) - D(similarity 1), n=10",
        "difference",
        (
            Part(
                number.minus(
                    number.depth_benefit("mixture@0", 10), number.depth_benefit("mixture@1", 10)
                )
            ),
        ),
        (papers.FEWER,),
        primary=True,
        qualified_by=("similarity.order",),
        beside=(Part(number.fall(1), "z(k=1) by"), Part(number.fall("all"), "z(k=all) by")),
    ),
    Claim(
        "similarity.order",
        "similarity",
        "secondary",
        "The benefit of depth rises along the ladder of sources, from own letters to noise",
        f"rank correlation of D, n=10, with {' < '.join(LADDER)}",
        "order",
        tuple(Part(number.depth_benefit(source, 10), source) for source in LADDER),
        schedules=(SHORT,),
        unit="rho",
    ),
    Claim(
        "similarity.strong",
        "similarity",
        "strong",
        "Two layers are enough for the most similar source; the farthest needs more than three",
        "z(own,2) - z(own,3) > -.2, z(own,2) - z(own,all) > -.2, z(noise,all) - z(noise,3) > .2, n=10",
        "all_parts",
        (
            Part(
                number.depth_difference("own", 10, 2, 3), "own, 2 layers against 3", "above", -DELTA
            ),
            Part(
                number.depth_difference("own", 10, 2, "all"),
                "own, 2 layers against all",
                "above",
                -DELTA,
            ),
            Part(
                number.depth_difference("noise", 10, "all", 3),
                "noise, all layers against 3",
                "above",
                DELTA,
            ),
        ),
        after="similarity.weak",
    ),
)

# --- principle 2: the more data, the deeper and the longer ----------------------------------------------

DATA_SIZE = (
    Claim(
        "data_size.deeper.weak",
        "data_size",
        "weak",
        "With more data, training all layers instead of the last pays more (Latin)",
        "D(n=50) - D(n=2), source latin",
        "difference",
        (Part(number.benefit_difference("latin", LARGE, SMALL)),),
        primary=True,
    ),
    Claim(
        "data_size.deeper.strong",
        "data_size",
        "strong",
        "With little data training all layers is worse than the last one alone, with much it is better",
        "D(n=2) < 0 and D(n=50) > 0, source latin",
        "all_parts",
        (
            Part(number.depth_benefit("latin", SMALL), "n=2", "below"),
            Part(number.depth_benefit("latin", LARGE), "n=50", "above"),
        ),
        after="data_size.deeper.weak",
    ),
    Claim(
        "data_size.deeper.range",
        "data_size",
        "secondary",
        "The same between the largest and the smallest number of images that the study has",
        "D(largest n) - D(smallest n), source latin",
        "difference",
        (Part(number.benefit_over_range),),
    ),
    Claim(
        "data_size.longer.weak",
        "data_size",
        "weak",
        "With more data, fine-tuning for longer pays more (Latin, all layers)",
        "slope of L on log2 n, n = 2, 10, 50, end to end, source latin",
        "difference",
        (Part(number.longer_slope),),
        (papers.BIT_SMALL,),
        primary=True,
        schedules=(LONG,),
        seen=0,
    ),
    Claim(
        "data_size.longer.range",
        "data_size",
        "secondary",
        "The same over all numbers of images that the study has on both schedules",
        "slope of L on log2 n, end to end, source latin",
        "difference",
        (Part(number.longer_over_range),),
        schedules=(LONG,),
    ),
    Claim(
        "data_size.longer.strong",
        "data_size",
        "strong",
        "A four times longer schedule pays with 50 images a class and not with 2",
        "L(n=50) > .2 and L(n=2) < .2, source latin",
        "all_parts",
        (
            Part(number.longer(LARGE), "n=50", "above", DELTA),
            Part(number.longer(SMALL), "n=2", "below", DELTA),
        ),
        after="data_size.longer.weak",
        schedules=(LONG,),
    ),
    Claim(
        "data_size.pair",
        "data_size",
        "weak",
        "The lecture's own case, deeper: two classes, 100+100 pictures against 10,000+10,000 (pairs of letters)",
        "D(n=10,000) - D(n=100), source latin, 2 classes",
        "difference",
        (Part(number.benefit_difference("latin", MANY, FEW, PAIR)),),
        primary=True,
        targets=(PAIR,),
    ),
    Claim(
        "data_size.pair_longer",
        "data_size",
        "secondary",
        "The lecture's own case, longer: two classes, 100+100 pictures against 10,000+10,000",
        "L(n=10,000) - L(n=100), source latin, 2 classes",
        "difference",
        (Part(number.minus(number.longer(MANY, PAIR), number.longer(FEW, PAIR))),),
        (papers.BIT,),
        schedules=(LONG,),
        targets=(PAIR,),
    ),
)

# --- principle 3: from something else, transfer is of little value --------------------------------------

_LONG_FIRST = (LONG, SHORT)
"""A short schedule leaves scratch under-trained, and so overstates what transfer is worth."""


def _little_value(far: str) -> tuple[Part, ...]:
    return (
        Part(number.gain(far), f"gain from {far}", "within", DELTA),
        Part(number.gain("latin"), "gain from latin", "above", DELTA),
    )


DISSIMILARITY = (
    Claim(
        "dissimilarity.weak",
        "dissimilarity",
        "weak",
        "A source of another nature (noise) helps less than a similar one (Latin), all layers trained",
        "G(latin) - G(noise), k=all, mean of n = 10, 50",
        "difference",
        (Part(number.gain_difference("latin", "noise")),),
        (papers.VTAB,),
        primary=True,
        schedules=_LONG_FIRST,
        qualified_by=("dissimilarity.reuse.latin",),
    ),
    Claim(
        "dissimilarity.strong",
        "dissimilarity",
        "strong",
        "A source of another nature (noise) is practically worthless, a similar one (Latin) is not",
        "G(noise) within ±.2 and G(latin) > .2, k=all, mean of n = 10, 50",
        "all_parts",
        _little_value("noise"),
        (papers.VTAB_FAR,),
        primary=True,
        after="dissimilarity.weak",
        schedules=_LONG_FIRST,
        qualified_by=("dissimilarity.reuse.noise",),
    ),
    Claim(
        "dissimilarity.strong.textures",
        "dissimilarity",
        "strong",
        "The same with photographed textures as the far source, which its own net learns less well",
        "G(textures) within ±.2 and G(latin) > .2, k=all, mean of n = 10, 50",
        "all_parts",
        _little_value("textures"),
        (papers.VTAB_FAR,),
        after="dissimilarity.weak",
        schedules=_LONG_FIRST,
        qualified_by=("dissimilarity.reuse.textures",),
    ),
    Claim(
        "dissimilarity.chosen",
        "dissimilarity",
        "secondary",
        "A far source (noise) helps less than a similar one (Latin) at the depth that validation chooses, too",
        "G(latin) - G(noise), k chosen on validation, mean of n = 10, 50",
        "difference",
        (Part(number.chosen_gain_difference("latin", "noise")),),
        schedules=_LONG_FIRST,
    ),
    Claim(
        "dissimilarity.frozen",
        "dissimilarity",
        "secondary",
        "Frozen below the last layer, a far source (noise) does harm",
        "G(noise), k=1, mean of n = 10, 50",
        "difference",
        (Part(number.gain("noise", 1)),),
        direction="negative",
        schedules=_LONG_FIRST,
    ),
    # the other way round: letters as the source of textures
    Claim(
        "dissimilarity.reverse",
        "dissimilarity",
        "secondary",
        "Letters (Latin) are worth something as the source of photographed textures",
        "G(latin), k=all, mean of n = 10, 50, target textures",
        "difference",
        (Part(number.gain("latin", target=TEXTURES)),),
        schedules=_LONG_FIRST,
        targets=(TEXTURES,),
    ),
    Claim(
        "dissimilarity.reverse.reuse",
        "dissimilarity",
        "secondary",
        "What they give to textures is reuse of features: more than the same weights in another order give",
        "G(latin) - G(latin:shuffled), k=all, n=10, target textures",
        "difference",
        (Part(number.reuse("latin", TEXTURES)),),
        schedules=(SHORT,),
        targets=(TEXTURES,),
    ),
    *(
        Claim(
            f"dissimilarity.reuse.{source}",
            "dissimilarity",
            "secondary",
            f"What {source} gives is reuse of features: more than the same weights in another order give",
            f"G({source}) - G({source}:shuffled), k=all, n=10",
            "difference",
            (Part(number.reuse(source)),),
            (papers.REUSE,) if source == "latin" else (),
        )
        for source in ("latin", "noise", "textures")
    ),
)

# --- the rule of thumb that follows from the three ------------------------------------------------------

RULE_OF_THUMB = (
    Claim(
        "rule_of_thumb.weak",
        "rule_of_thumb",
        "weak",
        "The rule (similar: 1 layer with 2 images a class, 3 with 50; far: all) beats always training all",
        "z(rule) - z(all), mean of latin, noise x n = 2, 50; the far cells are 0 by construction",
        "difference",
        (Part(number.rule_over_all),),
        primary=True,
    ),
    Claim(
        "rule_of_thumb.strong",
        "rule_of_thumb",
        "strong",
        "The rule is as good as choosing the depth on 20 further labelled images a class",
        "z(rule) - z(k chosen on validation) > -.2, mean of latin, noise x n = 2, 50",
        "all_parts",
        (Part(number.rule_over_validated, "against validation", "above", -DELTA),),
        after="rule_of_thumb.weak",
        schedules=(SHORT,),
    ),
    Claim(
        "rule_of_thumb.head",
        "rule_of_thumb",
        "secondary",
        "The rule beats always training the last layer only",
        "z(rule) - z(k=1), mean of latin, noise x n = 2, 50",
        "difference",
        (Part(number.rule_over_head),),
        schedules=(SHORT,),
    ),
    Claim(
        "rule_of_thumb.fixed",
        "rule_of_thumb",
        "secondary",
        "The rule beats the best single depth for all its cells",
        "z(rule) - z(one k, chosen on the other replicates), mean of latin, noise x n = 2, 50",
        "difference",
        (Part(number.rule_over_fixed),),
        schedules=(SHORT,),
    ),
)
