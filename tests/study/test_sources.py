"""What the word behind `source=` means: which classes and images a source net is trained on."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from convtl.config.parsing import parse
from convtl.errors import UserError
from convtl.storage.cache import Cache, default_root
from convtl.study.grid import Trial, expand
from convtl.study.materials import Materials
from convtl.training import pretrain
from convtl.training.checkpoints import Checkpoints
from convtl.training.pretrain import SourceRequest

DIAL = (0, 0.25, 0.5, 0.75, 1)


@pytest.fixture(scope="module")
def materials() -> Materials:
    return Materials(Cache(default_root()), lambda what: None)


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    return tiny.content(*tiny.MORE, "pretrain.images_per_class=4")


def trials(content: dict[str, Any], **keys: Any) -> list[Trial]:
    return expand(parse(content | keys))[1]


def only(content: dict[str, Any], **keys: Any) -> Trial:
    (trial,) = trials(content, **keys)
    return trial


def request(materials: Materials, trial: Trial) -> SourceRequest:
    return materials.request(trial)


def target_names(materials: Materials, trial: Trial) -> tuple[str, ...]:
    data = materials.target_data(trial)
    return tuple(data.domain.class_names[index] for index in data.draw.classes)


# --- names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (
            "latin:shufled",
            "source, variant of 'latin': unknown name 'shufled'; known: .*Did you mean shuffled",
        ),
        ("latin:", "source, variant of 'latin': unknown name ''; known: random_labels, "),
        ("latn:shuffled", "source: unknown name 'latn'; .*Did you mean latin"),
        (
            "scratch:shuffled",
            "source, variant of 'scratch': unknown name 'shuffled'; known: none",
        ),
        ("random:", "source, variant of 'random': unknown name ''; known: none"),
    ],
)
def test_a_source_that_is_none_is_one_line(content, source, line) -> None:
    with pytest.raises(UserError, match=f"^{line}"):
        trials(content, source=source)


@pytest.mark.parametrize("name", ["own", "same_classes", "self", "scratch", "random"])
def test_no_domain_is_called_like_a_source_of_another_kind(content, name) -> None:
    domains = content["domains"] | {name: {"kind": "digits"}}
    with pytest.raises(UserError, match=rf"^domains\.{name}: this name is taken by another source"):
        trials(content, domains=domains)


def test_a_mixture_is_no_target(content) -> None:
    with pytest.raises(UserError, match=r"^target: unknown name 'mixture'"):
        trials(content, target="mixture", source="scratch")


@pytest.mark.parametrize("side", ["near", "far"])
def test_a_side_of_a_mixture_that_is_none_is_one_line(content, side) -> None:
    domains = content["domains"] | {"mixture": content["domains"]["mixture"] | {side: "nosuch"}}
    with pytest.raises(UserError, match=rf"^domains\.mixture\.{side}: unknown name 'nosuch'"):
        trials(content, domains=domains)


# --- similarity -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (
            {"similarity": 0.3},
            "similarity: got 0.3; accepted with a mixture of 4 classes: 0, 0.25, 0.5, 0.75, 1",
        ),
        (
            {"similarity": [0.5, 0.25], "classes": 6},
            "similarity: got 0.25; accepted with a mixture of 6 classes: 0, 0.5, 1",
        ),
        (
            {"similarity": 0.5, "classes": 5},
            "similarity: got 0.5; accepted with a mixture of 5 classes: 0, 1",
        ),
        (
            {"similarity": 0.25, "pretrain": {"classes": 6}},
            "similarity: got 0.25; accepted with a mixture of 6 classes: 0, 0.5, 1",
        ),
        (
            {"similarity": None},
            "similarity: got null; accepted with a mixture of 4 classes: 0, 0.25",
        ),
        ({"similarity": 0.5, "classes": None}, "classes: got null; accepted with a mixture"),
        ({"similarity": 2}, "similarity: got 2; accepted: at most 1"),
        (
            {"similarity": 0.5, "source": "latin"},
            r"similarity: got \[0.5\] with source 'latin', which is no mixture",
        ),
        (
            {"similarity": 0.5, "source": ["mixture", "own"]},
            r"similarity: got \[0.5\] with source 'own'",
        ),
    ],
)
def test_a_similarity_that_is_none_is_one_line(content, keys, line) -> None:
    with pytest.raises(UserError, match=f"^{line}"):
        trials(content, **({"source": "mixture"} | keys))


def test_fresh_sources_are_at_no_similarity(content) -> None:
    found = trials(content, source=["mixture", "scratch", "random"], similarity=DIAL)
    assert [(t.source, t.similarity) for t in found] == [
        *(("mixture", value) for value in DIAL),
        ("scratch", None),
        ("random", None),
    ]
    assert {t.id for t in found[-2:]} == {
        t.id for t in trials(content, source=["scratch", "random"])
    }


def test_a_value_on_the_dial_is_the_same_trial_whatever_other_values_there_are(content) -> None:
    together = trials(content, source="mixture", similarity=DIAL)
    for value, trial in zip(DIAL, together, strict=True):
        alone = only(content, source="mixture", similarity=value)
        assert (trial.similarity, trial.id, trial.contents) == (value, alone.id, alone.contents)
    assert len({trial.id for trial in together}) == len(DIAL)


@pytest.mark.parametrize("variant", ["", ":shuffled", ":random_labels"])
def test_the_ends_of_the_dial_are_the_very_trials_of_the_rungs(materials, content, variant) -> None:
    far, near = trials(content, source=f"mixture{variant}", similarity=[0, 1])
    for end, name in ((far, "noise"), (near, "own")):
        rung = only(content, source=f"{name}{variant}")
        assert end.id == rung.id
        request = materials.request
        assert request(end).key == request(rung).key


def test_what_either_side_of_a_mixture_is_changes_its_trials(content) -> None:
    def at(value: float, **changes: Any) -> str:
        domains = content["domains"] | {
            name: content["domains"][name] | change for name, change in changes.items()
        }
        return only(content, source="mixture", similarity=value, domains=domains).id

    for change in (
        {"mixture": {"near": "latin"}},
        {"mixture": {"far": "textures"}},
        {"noise": {"size": 20}},
    ):
        assert at(0.5, **change) != at(0.5)
    assert at(1, noise={"size": 20}) == at(1)
    assert at(0, mixture={"near": "latin"}) == at(0)


@settings(max_examples=25)
@given(st.integers(0, 50), st.sampled_from(DIAL), st.sampled_from(DIAL))
def test_classes_are_nested_in_similarity(materials, content, replicate, one, other) -> None:
    low, high = sorted((one, other))
    sides: list[list[set[str]]] = []
    for value in (low, high):
        trial = only(content, source="mixture", similarity=value, replicate=replicate)
        parts = request(materials, trial).parts
        classes = {
            domain.name: {domain.class_names[i] for i in draw.classes} for domain, draw in parts
        }
        near, far = classes.get("cyrillic", set()), classes.get("noise", set())
        assert (len(near), len(far)) == (4 * value, 4 - 4 * value)
        assert near.isdisjoint(target_names(materials, trial))
        sides.append([near, far])
    assert sides[0][0] <= sides[1][0]
    assert sides[0][1] >= sides[1][1]


def test_all_classes_of_a_mixture_have_as_many_images(materials, content) -> None:
    for value in DIAL:
        own = request(materials, only(content, source="mixture", similarity=value))
        images, labels = own.images("train")
        assert len(images) == 4 * 4
        assert Counter(labels.tolist()) == dict.fromkeys(range(4), 4)
        assert len(own.classes) == 4


# --- sources that are defined by the target ---------------------------------------------------------


@pytest.mark.parametrize("replicate", range(6))
def test_own_shares_no_class_with_the_target(materials, content, replicate) -> None:
    trial = only(content, source="own", replicate=replicate)
    classes = request(materials, trial).classes
    assert len(classes) == 4
    assert set(classes).isdisjoint(target_names(materials, trial))


def test_same_classes_are_the_targets_in_images_that_no_trial_has(materials, content) -> None:
    for n in (2, 8, 12):
        trial = only(content, source="same_classes", n_per_class=n)
        own, data = request(materials, trial), materials.target_data(trial)
        assert own.classes == target_names(materials, trial)
        assert own.parts[0][0] is data.domain
        used = data.draw.train[:, :n]
        assert not np.isin(own.parts[0][1].train, used).any()
        assert len(own.parts[0][1].train) == 4 * 4
    keys = {
        request(materials, only(content, source="same_classes", n_per_class=n)).key
        for n in (2, 8, 12)
    }
    assert len(keys) == 1, "one net serves every n"


def test_same_classes_need_images_that_are_left(materials, content) -> None:
    trial = only(content, source="same_classes", n_per_class=13)
    with pytest.raises(
        UserError, match=r"^n_per_class: got 13 with source same_classes; accepted: at most 12, "
    ):
        materials.check([trial])


@pytest.mark.parametrize("n", [1, 3])
def test_selfs_images_are_exactly_the_trials(materials, content, n) -> None:
    trial = only(content, source="self", n_per_class=n)
    own, data = request(materials, trial), materials.target_data(trial)
    assert own.classes == target_names(materials, trial)
    assert sorted(own.parts[0][1].train.tolist()) == sorted(data.draw.train[:, :n].ravel().tolist())


def test_random_labels_keep_images_and_the_number_of_each_label(materials, content) -> None:
    plain = request(materials, only(content, source="latin"))
    random = request(materials, only(content, source="latin:random_labels"))
    assert plain.key != random.key
    epoch = 16 // plain.recipe.batch_size
    checkpoints = Checkpoints(Path("nowhere"), None, print)
    program = pretrain._Program(pretrain.source_recipe(plain), Cache(default_root()), checkpoints)
    (images, labels), (same, others) = (
        program._begin(own).batches(0, epoch) for own in (plain, random)
    )
    np.testing.assert_array_equal(images, same)
    assert (
        Counter(labels.ravel().tolist())
        == Counter(others.ravel().tolist())
        == dict.fromkeys(range(4), 4)
    )
    assert (labels != others).any()


def test_the_number_of_classes_of_sources_is_a_key_of_its_own(materials, content) -> None:
    recipe = content["pretrain"] | {"classes": 2}
    for name in ("latin", "own", "noise"):
        trial = only(content, source=name, pretrain=recipe)
        assert len(request(materials, trial).classes) == 2
        assert len(target_names(materials, trial)) == 4


def test_disjoint_replicates_share_no_class_of_the_target(materials, content) -> None:
    one, other = (
        set(target_names(materials, trial))
        for trial in trials(content, class_draw="disjoint", replicates=2)
    )
    assert len(one) == len(other) == 4
    assert one.isdisjoint(other)
    drawn = [set(target_names(materials, trial)) for trial in trials(content, replicates=6)]
    assert any(a & b for a, b in pairwise(drawn)), "otherwise they may"


def test_more_classes_than_a_target_has_are_no_values_of_an_axis(materials, content) -> None:
    words = {"source": "scratch", "target": "digits"}
    materials.check([only(content, **words, classes=11)])  # as many as there are
    with pytest.raises(UserError, match=r"^axes\.classes: got 11; accepted: 2 to 10, as many as"):
        materials.check([only(content, **words, axes={"classes": 11})])


# --- shift ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [{"inversion": True}, {"noise": 0.3}])
def test_a_shift_changes_images_of_the_target_and_no_source_net(materials, content, shift) -> None:
    plain, shifted = only(content), only(content, shift=shift)
    assert plain.id != shifted.id
    one, other = materials.target_data(plain), materials.target_data(shifted)
    for split in ("train", "validation", "test"):
        (before, labels), (after, same) = one.examples(split, 2), other.examples(split, 2)
        assert not np.allclose(before, after)
        np.testing.assert_array_equal(labels, same)
    for name in ("latin", "own", "same_classes", "latin:shuffled", "noise"):
        keys = [
            materials.request(only(content, source=name, shift=given)).key for given in ({}, shift)
        ]
        assert keys[0] == keys[1]


def test_a_shift_by_nothing_is_no_shift(content) -> None:
    plain = only(content).id
    assert only(content, shift={"noise": 0.0, "rotation": 0}).id == plain


def test_same_classes_are_checked_whatever_was_asked_before(materials, content) -> None:
    materials.check([only(content, source="same_classes", n_per_class=12)])
    with pytest.raises(UserError, match="got 13 with source same_classes"):
        materials.check(
            [replace(only(content, source="same_classes", n_per_class=12), n_per_class=13)]
        )


def test_self_is_refused_where_the_target_is_shifted(materials, content) -> None:
    trial = only(content, source="self", shift={"inversion": True})
    with pytest.raises(UserError, match=r"^source: got 'self' with a shift of the target's images"):
        materials.check([trial])
