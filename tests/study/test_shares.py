"""Shares of a study: a partition, the same for everyone, of about the same cost."""

from fractions import Fraction
from itertools import product

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from convtl.config.parsing import parse
from convtl.errors import UserError
from convtl.storage.cache import Cache, default_root
from convtl.study.grid import expand
from convtl.study.materials import Materials
from convtl.study.shares import Part, check_shard, costs, own_trials, split, unshared

COSTS = st.dictionaries(
    st.text("abcdef0123456789", min_size=4, max_size=8), st.integers(1, 10**12), max_size=60
)
SHARES = st.integers(1, 12)


@given(COSTS, SHARES)
def test_shares_are_a_partition(cost, shares) -> None:
    found = split(cost, shares)
    assert len(found) == shares
    assert sorted(name for share in found for name in share) == sorted(cost)


@given(COSTS, SHARES, st.randoms())
def test_shares_do_not_depend_on_order(cost, shares, random) -> None:
    shuffled = list(cost.items())
    random.shuffle(shuffled)
    assert split(dict(shuffled), shares) == split(cost, shares)


@given(COSTS.filter(bool), SHARES)
def test_no_share_is_far_above_the_mean(cost, shares) -> None:
    loads = [sum(cost[name] for name in share) for share in split(cost, shares)]
    mean = Fraction(sum(cost.values()), shares)
    assert max(loads) <= mean + max(cost.values()) * (1 - Fraction(1, shares))


@given(st.lists(st.integers(1, 30), min_size=1, max_size=7), st.integers(1, 3))
def test_the_largest_share_keeps_grahams_bound(values, shares) -> None:
    cost = {str(index): value for index, value in enumerate(values)}
    largest = max(sum(cost[name] for name in share) for share in split(cost, shares))
    best = min(
        max(
            sum(v for v, own in zip(values, places, strict=True) if own == index)
            for index in range(shares)
        )
        for places in product(range(shares), repeat=len(values))
    )
    assert largest <= best * (Fraction(4, 3) - Fraction(1, 3 * shares))


STUDY = ("source=[latin,scratch]", "depth=[1,3,5]", "n_per_class=[2,4]", "replicates=2")


def share_of(index: int, *words: str) -> frozenset[str]:
    config, trials = expand(parse(tiny.content(*STUDY, "shards=3", f"shard={index}", *words)))
    return own_trials(config, trials, Materials(Cache(default_root()), lambda what: None))


def test_the_shares_of_a_study_hold_each_trial_once_whatever_is_done(tmp_path) -> None:
    trials = tiny.trials(*STUDY)
    before = [share_of(index) for index in range(3)]
    assert sorted(name for share in before for name in share) == sorted(
        {trial.id for trial in trials}
    )
    tiny.run(tmp_path, [trial for trial in trials if trial.id in before[0]][:1])
    assert [share_of(index, f"out={tmp_path}") for index in range(3)] == before


def test_deeper_and_longer_trials_cost_more_and_rates_count() -> None:
    def cost(*words: str) -> int:
        (found,) = costs(
            tiny.trials(*words), Materials(Cache(default_root()), lambda what: None)
        ).values()
        return found

    assert cost() < cost("depth=3") < cost("depth=3", "updates=12")
    assert cost("lr=1e-3") * 3 == cost("lr=[1e-3,1e-2,1e-1]")


def test_a_share_is_no_part_of_a_trial_nor_of_what_is_recorded() -> None:
    plain, shared = tiny.content(*STUDY), tiny.content(*STUDY, "shards=3", "shard=1")
    assert [trial.id for trial in expand(parse(plain))[1]] == [
        trial.id for trial in expand(parse(shared))[1]
    ]
    assert [trial.config for trial in expand(parse(plain))[1]] == [
        trial.config for trial in expand(parse(shared))[1]
    ]
    assert unshared(shared) == plain


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("shard=1",), "shard: got 1; accepted: with shards=N"),
        (("shards=3", "shard=3"), "shard: got 3; accepted: 0 to 2 with shards=3"),
        (("shards=3",), "shard: missing; accepted: 0 to 2, or -m"),
    ],
)
def test_a_share_that_there_is_not_is_refused(words, line) -> None:
    with pytest.raises(UserError) as error:
        check_shard(expand(parse(tiny.content(*words)))[0])
    assert str(error.value).startswith(line)


def test_a_part_is_the_trials_that_it_names() -> None:
    trials = tiny.trials(*STUDY)
    assert Part().of(trials) == trials
    assert Part(frozenset({trials[3].id})).of(trials) == [trials[3]]
    assert Part(works=False).of(trials) == []
