"""What papers say to the claims. Numbers of Yosinski et al. and of VTAB are recomputed from their published logs."""

from convtl.analysis.declared.claim import Paper

FEWER = Paper(
    "Yosinski et al. 2014",
    "supported",
    "from a far task 2 layers can stay frozen within a point, not 3",
)
SPECIFIC = Paper(
    "Yosinski et al. 2014",
    "supported",
    "AnB - BnB falls from +0.2 points at layer 1 to -8.2 at layer 7",
)
SEMANTIC = Paper(
    "Yosinski et al. 2014", "supported", "natural to man-made costs three times as much at layer 7"
)
BLOCK = Paper("Lee et al. 2022", "supported", "tuning one block of layers can beat tuning all")
BIT = Paper(
    "Kolesnikov et al. 2020 (BiT)", "supported", "20 times the updates from 20,000 examples on"
)
BIT_SMALL = Paper(
    "Kolesnikov et al. 2020 (BiT)",
    "practically null",
    "the same 500 updates for anything under 20,000 examples",
)
VTAB = Paper(
    "Zhai et al. 2019 (VTAB)",
    "supported",
    "mean gain 45.6 points on natural, 8.5 on structured tasks",
)
VTAB_FAR = Paper(
    "Zhai et al. 2019 (VTAB)", "contradicted", "even the farthest group of tasks gains 8.5 points"
)
REUSE = Paper(
    "Neyshabur et al. 2020",
    "supported",
    "a part of the benefit is reuse of features, a part is not",
)
SIGMOID = Paper(
    "Hochreiter 1991", "supported", "errors shrink exponentially on their way back through sigmoids"
)
SCALED = Paper(
    "Glorot & Bengio 2010",
    "contradicted",
    "an initialiser of the right scale keeps gradients alike",
)
BOTTOM_UP = Paper(
    "Raghu et al. 2017 (SVCCA)", "contradicted", "layers near the input converge first"
)
HEAD_FIRST = Paper(
    "Kumar et al. 2022",
    "supported",
    "head first, then everything: about a point better than everything at once",
)
OUTPUT_SHIFT = Paper(
    "Lee et al. 2022", "supported", "the last layers where only the labels are new"
)
INPUT_SHIFT = Paper("Lee et al. 2022", "supported", "the first layers where images are corrupted")
