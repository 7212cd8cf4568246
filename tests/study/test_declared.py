"""Each declared claim, computed on synthetic trials, is the number that its formula says; the study runs its cells."""

import hashlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from cell_rows import MAIN, cells_of, rows

from convtl.analysis.arms import frame
from convtl.analysis.cells import Cells, NotEnoughData
from convtl.analysis.contrasts import CAREFUL, PAIR, ROUND, SHIFTS, SPECIAL
from convtl.analysis.declared import CLAIMS, LADDER, PRINCIPLES, check_scorecard, claims_of
from convtl.analysis.findings import find
from convtl.analysis.needs import Need, missing, needs
from convtl.cli import compose
from convtl.config.parsing import parse
from convtl.errors import UserError
from convtl.study.grid import expand

CLAIM = {claim.name: claim for claim in CLAIMS}
ABOUT_CELLS = [claim for claim in CLAIMS if claim.principle != "vanishing_gradients"]
REPLICATES = 4


def score(need, target, replicate):
    """Any number between -1 and 3, another one for every cell, target and replicate."""
    text = f"{need.source} {need.n_per_class} {need.depth} {need.updates} {need.upper} {target} {replicate}"
    text += need.regime + need.shift
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**30 - 1


def complete(claims=ABOUT_CELLS, **other):
    """Every cell of the claims; validation prefers depth 2, then 3, in odd replicates depth 1."""
    made = rows(cells_of(claims), score, replicates=REPLICATES, **other)
    liked = {0: {1: 0.1, 2: 0.9, 3: 0.5, 5: 0.2}, 1: {1: 0.9, 2: 0.8, 3: 0.5, 5: 0.2}}
    return [
        {**item, "val_accuracy": liked[item["replicate"] % 2].get(item["depth"], 0.0)}
        for item in made
    ]


def z(source, n, depth, updates=300, *, target=None, upper="source", regime="", shift=""):
    """Targets x replicates, straight from the score."""
    need = Need(source, n, depth, updates, upper=upper, regime=regime, shift=shift)
    return np.array(
        [[score(need, t, r) for r in range(REPLICATES)] for t in ([target] if target else MAIN)]
    )


def benefit(source, n, updates=300, **other):
    return z(source, n, 5, updates, **other) - z(source, n, 1, updates, **other)


def gain(source, depth=5, updates=1200):
    return sum(z(source, n, depth, updates) - z("scratch", n, 5, updates) for n in (10, 50)) / 2


def longer(n, **other):
    return z("latin", n, 5, 1200, **other) - z("latin", n, 5, 300, **other)


def way(regime, n, depth=5):
    return z("latin", n, depth, target="cyrillic", regime=regime)


def first_over(depth, shifts):
    """The first layer alone against the last ones."""
    cells = [(kind, n) for kind in shifts for n in (10, 50)]
    first = sum(z("same_classes", n, 1, regime="first_unit_only", shift=kind) for kind, n in cells)
    return (
        first
        - sum(z("same_classes", n, depth, regime="fine_tune", shift=kind) for kind, n in cells)
    ) / len(cells)


def frozen(source, j, target="cyrillic"):
    return z(source, 300, 5 - j, 900, target=target, upper="fresh")


def elsewhere(*options):
    """For each target and replicate the option that is best on its other replicates."""
    stack = np.stack(options)  # options x targets x replicates
    found = np.empty(stack.shape[1:])
    for t in range(stack.shape[1]):
        for r in range(REPLICATES):
            others = [q for q in range(REPLICATES) if q != r]
            found[t, r] = stack[np.argmax(stack[:, t, others].mean(axis=1)), t, r]
    return found


def validated(source, n, updates=300):
    found = z(source, n, 2, updates)
    found[:, 1::2] = z(source, n, 1, updates)[:, 1::2]
    return found


RULE = [("latin", 2, 1), ("latin", 50, 3), ("noise", 2, 5), ("noise", 50, 5)]


def rule():
    return sum(z(*cell) for cell in RULE) / 4


def a_few(source, n):
    return elsewhere(z(source, n, 2), z(source, n, 3)) - elsewhere(z(source, n, 1), z(source, n, 5))


def end_to_end(x, parts):
    slope = np.polyfit(x, np.stack(parts).reshape(len(x), -1), 1)[0].reshape(parts[0].shape)
    return slope * (x[-1] - x[0])


EXPECTED = {
    # the far end of the dial are the trials of noise, the near end those of own letters
    "similarity.weak": lambda: [benefit("mixture@0", 10) - benefit("mixture@1", 10)],
    "similarity.order": lambda: [benefit(source, 10) for source in LADDER],
    "similarity.strong": lambda: [
        z("own", 10, 2) - z("own", 10, 3),
        z("own", 10, 2) - z("own", 10, 5),
        z("noise", 10, 5) - z("noise", 10, 3),
    ],
    "data_size.deeper.weak": lambda: [benefit("latin", 50) - benefit("latin", 2)],
    "data_size.deeper.strong": lambda: [benefit("latin", 2), benefit("latin", 50)],
    "data_size.longer.weak": lambda: [
        end_to_end(np.log2([2, 10, 50]), [longer(n) for n in (2, 10, 50)])
    ],
    "data_size.longer.strong": lambda: [longer(50), longer(2)],
    "data_size.pair": lambda: [
        benefit("latin", 10_000, target=PAIR) - benefit("latin", 100, target=PAIR)
    ],
    "data_size.pair_longer": lambda: [longer(10_000, target=PAIR) - longer(100, target=PAIR)],
    "dissimilarity.weak": lambda: [gain("latin") - gain("noise")],
    "dissimilarity.strong": lambda: [gain("noise"), gain("latin")],
    "dissimilarity.strong.textures": lambda: [gain("textures"), gain("latin")],
    "dissimilarity.chosen": lambda: [
        sum(validated("latin", n, 1200) - validated("noise", n, 1200) for n in (10, 50)) / 2
    ],
    "dissimilarity.frozen": lambda: [gain("noise", 1)],
    **{
        f"dissimilarity.reuse.{source}": lambda source=source: [
            z(source, 10, 5) - z(f"{source}:shuffled", 10, 5)
        ]
        for source in ("latin", "noise", "textures")
    },
    "rule_of_thumb.weak": lambda: [rule() - sum(z(source, n, 5) for source, n, _ in RULE) / 4],
    "rule_of_thumb.strong": lambda: [
        rule() - sum(validated(source, n) for source, n, _ in RULE) / 4
    ],
    "rule_of_thumb.head": lambda: [rule() - sum(z(source, n, 1) for source, n, _ in RULE) / 4],
    "rule_of_thumb.fixed": lambda: [
        rule()
        - elsewhere(*(sum(z(source, n, k) for source, n, _ in RULE) / 4 for k in (1, 2, 3, 5)))
    ],
    "layer_transfer.weak": lambda: [
        end_to_end([1, 2, 3, 4], [frozen("self", j) - frozen("own", j) for j in (1, 2, 3, 4)])
    ],
    "layer_transfer.strong": lambda: [
        frozen("self", 1) - frozen("own", 1),
        frozen("self", 1, ROUND) - frozen("cyrillic_straight", 1, ROUND),
        sum(frozen("own", j, ROUND) - frozen("cyrillic_straight", j, ROUND) for j in (1, 2, 3, 4))
        / 4,
    ],
    "data_size.deeper.range": lambda: [benefit("latin", 50) - benefit("latin", 2)],
    "data_size.longer.range": lambda: [
        end_to_end(np.log2([2, 10, 50]), [longer(n) for n in (2, 10, 50)])
    ],
    "dissimilarity.reverse": lambda: [
        sum(
            z("latin", n, 5, 1200, target="textures") - z("scratch", n, 5, 1200, target="textures")
            for n in (10, 50)
        )
        / 2
    ],
    "dissimilarity.reverse.reuse": lambda: [
        z("latin", 10, 5, target="textures") - z("latin:shuffled", 10, 5, target="textures")
    ],
    "options.weak": lambda: [sum(a_few("latin", n) for n in (2, 10, 50)) / 3],
    "ways.care": lambda: [
        sum(
            elsewhere(*(way(name, n) for name in CAREFUL)) - way("fine_tune", n)
            for n in (2, 10, 50)
        )
        / 3
    ],
    "ways.top": lambda: [
        sum(way("fine_tune", n, 2) - way("first_unit", n, 2) for n in (2, 10, 50)) / 3
    ],
    "ways.middle": lambda: [
        sum(way("fine_tune", n, 3) - way("middle_units", n, 3) for n in (2, 10, 50)) / 3
    ],
    "input_shift.weak": lambda: [first_over(1, SHIFTS)],
    "input_shift.three": lambda: [first_over(3, SHIFTS)],
    **{f"input_shift.{kind}": lambda kind=kind: [first_over(1, [kind])] for kind in SHIFTS},
    "input_shift.strong": lambda: [first_over(5, [kind]) for kind in SHIFTS],
    "options.strong": lambda: [
        a_few(source, n) for source in ("latin", "noise") for n in (2, 10, 50)
    ],
}


PLAIN = [claim for claim in ABOUT_CELLS if not claim.selects]


@pytest.fixture(scope="module")
def cells():
    return Cells(frame(complete(PLAIN)), MAIN)


@pytest.fixture(scope="module")
def chosen_cells():
    """Trials of several regimes and shifts, from which claims choose."""
    return Cells(frame(complete([claim for claim in ABOUT_CELLS if claim.selects])), MAIN)


def test_every_claim_about_cells_has_a_number_to_be_held_against():
    assert set(EXPECTED) == {claim.name for claim in ABOUT_CELLS}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_claim_computes_the_number_that_its_formula_says(cells, chosen_cells, name):
    claim = CLAIM[name]
    found = find(claim, chosen_cells if claim.selects else cells, claim.schedules[0])
    for part, expected in zip(found.parts, EXPECTED[name](), strict=True):
        assert part.replicates == tuple(range(REPLICATES))
        assert part.values == pytest.approx(expected.mean(axis=0), abs=1e-5)
        means = [mean for _, mean in part.by_target]
        assert means == pytest.approx(expected.mean(axis=1), abs=1e-5)


def test_the_dial_s_ends_may_be_the_trials_of_their_rungs():
    """A study plans a trial once, by the first name that it has: mixtures 0 and 1 are noise and own letters."""
    rungs = [Need(source, 10, depth, 300) for source in ("noise", "own") for depth in (1, 5)]
    found = find(CLAIM["similarity.weak"], Cells(frame(rows(rungs, score)), MAIN), 300)
    expected = (benefit("noise", 10) - benefit("own", 10)).mean(axis=0)
    assert found.parts[0].values[:REPLICATES] == pytest.approx(expected, abs=1e-5)


def test_claims_over_a_range_take_the_sizes_that_were_run():
    more = [
        replace(need, n_per_class=1)
        for need in cells_of([CLAIM["data_size.deeper.weak"]])
        if need.n_per_class == 2
    ]
    made = Cells(frame([*complete(PLAIN), *rows(more, score, replicates=REPLICATES)]), MAIN)
    found = find(CLAIM["data_size.deeper.range"], made, 300)
    assert found.parts[0].values == pytest.approx(
        (benefit("latin", 50) - benefit("latin", 1)).mean(axis=0), abs=1e-5
    )
    short = [
        item for item in complete(PLAIN) if item["updates"] == 300 or item["n_per_class"] == 50
    ]
    with pytest.raises(NotEnoughData, match="two sizes"):
        find(CLAIM["data_size.longer.range"], Cells(frame(short), MAIN), 1200)


def test_four_layers_are_a_few_where_they_were_run():
    more = [Need("latin", n, 4, 300) for n in (2, 10, 50)]
    made = Cells(
        frame([*complete(PLAIN), *rows(more, lambda *_: 9.0, replicates=REPLICATES)]), MAIN
    )
    ends = sum(elsewhere(z("latin", n, 1), z("latin", n, 5)) for n in (2, 10, 50)) / 3
    found = find(CLAIM["options.weak"], made, 300)
    assert found.parts[0].values == pytest.approx((9 - ends).mean(axis=0), abs=1e-3)


@pytest.mark.parametrize(
    "claim",
    [claim for claim in ABOUT_CELLS if not claim.name.endswith(".range")],
    ids=lambda claim: claim.name,
)
def test_a_claim_without_one_of_its_cells_says_which(claim):
    wanted = needs(claim)
    lost = wanted[len(wanted) // 2]
    rest = [need for need in wanted if need != lost]
    rest += [Need("scratch", 1, 5, 1)]  # says how deep the net is
    with pytest.raises(NotEnoughData) as error:
        find(claim, Cells(frame(rows(rest, score, replicates=2)), MAIN), claim.schedules[0])
    for part in (
        f"source {lost.source},",
        f"n_per_class {lost.n_per_class},",
        f"{lost.updates} updates",
    ):
        assert part in str(error.value)


def test_claims_are_well_formed():
    names = [claim.name for claim in CLAIMS]
    assert len(set(names)) == len(names)
    assert {claim.principle for claim in CLAIMS} == set(PRINCIPLES)
    for claim in CLAIMS:
        assert claim.name.startswith(claim.principle)
        if claim.reading == "strong":
            assert CLAIM[claim.after].reading == "weak"
        assert all(CLAIM[name].principle == claim.principle for name in claim.qualified_by)
        # the protocol makes the conjunction of principle 3 primary
        assert (claim.reading == "weak" or claim.name == "dissimilarity.strong") == claim.primary
        if claim.test == "difference":
            assert len(claim.parts) == 1
    assert all(any(claim.primary for claim in claims_of([name])) for name in PRINCIPLES)


def test_the_shipped_study_runs_every_cell_that_its_claims_need():
    study, points = expand(parse(compose(["experiment=principles", "replicates=1"])))
    known = {
        Need(
            point.source if point.similarity is None else f"{point.source}@{point.similarity:g}",
            point.n_per_class,
            point.depth,
            point.updates,
            point.target,
            point.axes["upper_init"],
        )
        for point in points
    }
    for rung, source in (("mixture@0", "noise"), ("mixture@1", "own")):
        known |= {replace(need, source=rung) for need in known if need.source == source}
    assert study.target == MAIN
    assert {need.target for need in known} == {*MAIN, PAIR}
    for claim in claims_of(study.scorecard):
        if ROUND in claim.targets:
            continue  # letters divided by shape: no longer run
        if claim.reading == "secondary" and not {*claim.targets} <= {*MAIN, *SPECIAL}:
            continue  # of another study
        assert missing(claim, sorted(known), study.target) == (), claim.name
    assert missing(CLAIM["data_size.deeper.weak"], [], ["cyrillic"])[0] == Need(
        "latin", 2, 1, 300, "cyrillic"
    )


def test_an_unknown_principle_is_one_line():
    check_scorecard(PRINCIPLES)
    with pytest.raises(UserError) as error:
        check_scorecard(["similarty"])
    assert str(error.value).startswith("scorecard: unknown name 'similarty'; known: data_size, ")
    assert "Did you mean similarity" in str(error.value)
    assert "\n" not in str(error.value)
    assert claims_of([]) == ()


# --- gradients ----------------------------------------------------------------------------------------


def table(lost, arrival):
    """Probes in which a chain loses `lost(activation, replicate)` decades a unit, and units arrive as told."""
    lines = []
    for replicate in range(5):
        for activation in ("sigmoid", "tanh", "relu"):
            lines += [
                [
                    "profile",
                    "plain",
                    activation,
                    initialiser,
                    hidden,
                    "sgd",
                    replicate,
                    0,
                    f"fc{place}",
                    place,
                    "relative_gradient",
                    -lost(activation, replicate) * (hidden - place),
                ]
                for hidden in (5, 10)
                for initialiser in ("lecun_normal", "glorot_uniform", "he_normal")
                for place in range(1, hidden + 1)
            ]
            for optimiser in ("sgd", "adam"):
                head = [
                    "convergence",
                    "lenet5",
                    activation,
                    "lecun_normal",
                    np.nan,
                    optimiser,
                    replicate,
                    600,
                ]
                lines += [
                    [*head, f"u{place}", place, "arrival", arrival(activation, place)]
                    for place in range(1, 6)
                ]
                lines += [
                    [*head, None, np.nan, "test_accuracy", 0.9],
                    [*head, None, np.nan, "chance", 0.1],
                ]
    columns = (
        "probe",
        "model",
        "activation",
        "initialiser",
        "hidden",
        "optimiser",
        "replicate",
        "update",
        "unit",
        "position",
        "quantity",
        "value",
    )
    return pd.DataFrame(lines, columns=list(columns))


def test_claims_about_gradients_come_from_the_table_of_the_probes():
    probes = table(
        lambda activation, replicate: (
            {"sigmoid": 0.8, "tanh": 0.1, "relu": 0.0}[activation] + 0.01 * replicate
        ),
        lambda activation, place: (
            10.0 ** (3 - 0.2 * place if activation == "sigmoid" else 1 + 0.1 * place)
        ),
    )
    nothing = Cells(frame([]), (), probes)

    def means(name):
        return [part.effect for part in find(CLAIM[name], nothing, 0).parts]

    depths = (4 + 9) / 2  # units between the first and the last hidden one
    assert means("vanishing_gradients.weak") == pytest.approx([0.82, 0.82 * depths])
    assert means("vanishing_gradients.strong") == pytest.approx(
        [0.12, 0.12 * depths, 0.02, 0.02 * depths]
    )
    assert means("vanishing_gradients.slowest.weak") == pytest.approx([0.2])
    assert means("vanishing_gradients.slowest.strong") == pytest.approx([-0.1] * 4)
    with pytest.raises(NotEnoughData, match="experiment=vanishing_gradients"):
        find(CLAIM["vanishing_gradients.weak"], Cells(frame([]), ()), 0)
