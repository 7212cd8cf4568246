"""All probes from end to end, cut to almost nothing: resumed, refused, written whole."""

import shutil
from dataclasses import replace

import pytest
import tiny

from convtl.config.gradients import GradientsConfig
from convtl.config.parsing import parse
from convtl.config.schema import LimitsConfig
from convtl.errors import UserError
from convtl.storage.cache import Cache, default_root
from convtl.training.probe_table import (
    COLUMNS,
    TABLE,
    read_gradients,
    run_gradients,
    within_limits,
)

PROBES = (
    "gradients={replicates: 2,images_per_class: 4,probe_per_class: 2,test_per_class: 3,"
    "profiles: {activations: sigmoid,initialisers: [lecun_normal,normal_0.01],hidden: 3,width: 8,"
    "updates: [0,2],lenet_updates: 0,batch_size: 4},"
    "convergence: {activations: tanh,optimisers: adam,updates: 4,checkpoints: [1,2],batch_size: 4},"
    "freezing: {pairs: tanh/adam,at: [0,2],updates: 4}}"
)


def settings(*words):
    return parse(tiny.content(PROBES, *words))


def run(out, given=None):
    said = []
    run_gradients(given or settings(), out, Cache(default_root()), said.append)
    return [line for line in said if line.startswith("probe")]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("probes")
    said = run(out)
    return out, said


def test_every_configuration_is_run_once(done):
    out, said = done
    assert len(said) == 6
    assert said[0] == "probe 1 of 6: profile, plain, sigmoid, lecun_normal, 3 hidden units, sgd"
    assert run(out) == []


def test_the_table_is_tidy(done):
    frame = read_gradients(done[0])
    assert tuple(frame.columns) == COLUMNS
    assert set(frame["probe"]) == {"profile", "convergence", "freezing"}
    assert set(frame["replicate"]) == {0, 1}
    assert not frame.duplicated(list(COLUMNS[:-1])).any()
    chains = frame[(frame["model"] == "plain") & (frame["quantity"] == "relative_gradient")]
    assert len(chains) == 2 * 2 * 2 * 3  # initialisers, replicates, updates, hidden units
    assert (chains[chains["position"] == 3]["value"] == 0).all()
    frozen = frame[(frame["probe"] == "freezing") & (frame["quantity"] == "test_accuracy")]
    assert len(frozen) == 2 * (2 * 5 + 1)
    assert frame[frame["quantity"] == "test_accuracy"]["value"].between(0, 1).all()
    aligned = frame[(frame["quantity"] == "cka_with_final") & (frame["update"] == 4)]
    assert aligned["value"].tolist() == pytest.approx([1] * len(aligned), abs=1e-5)


def test_a_run_goes_on_where_it_stopped_and_comes_to_the_same(done):
    out, _ = done
    before = (out / TABLE).read_bytes()
    [lost] = (out / "probes").glob("freezing-*.jsonl")
    lost.unlink()
    (out / TABLE).unlink()
    said = run(out)
    assert said == ["probe 6 of 6: freezing, lenet5, tanh, lecun_normal, adam"]
    assert (out / TABLE).read_bytes() == before
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (["gradients.freezing.at=0"], 1),
        (["gradients.convergence.rates.sgd=0.5"], 0),
        (["n_per_class=3", "batch_size=8"], 0),
        pytest.param(["seed=1"], 6, marks=pytest.mark.slow),
        pytest.param(["gradients.profiles.rate=0.5"], 4, marks=pytest.mark.slow),
        pytest.param(["gradients.convergence.rates.adam=0.5"], 2, marks=pytest.mark.slow),
    ],
)
def test_other_recipes_are_other_parts(done, words, missing, tmp_path):
    shutil.copytree(done[0], tmp_path / "out")
    assert len(run(tmp_path / "out", settings(*words))) == missing


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["target=cyrilic"], "target: unknown name 'cyrilic'"),
        (["gradients=null"], "gradients: got null; accepted: keys with values"),
        (["gradients.images_per_class=400"], "gradients.images_per_class: got 400"),
    ],
)
def test_what_cannot_be_run_is_refused_in_a_line(words, line, tmp_path):
    with pytest.raises(UserError) as refused:
        run(tmp_path, settings(*words))
    assert str(refused.value).startswith(line)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_refused(done, tmp_path):
    shutil.copytree(done[0] / "probes", tmp_path / "probes")
    (tmp_path / TABLE).mkdir()
    with pytest.raises(UserError, match="out: cannot write in"):
        run(tmp_path)


def test_a_missing_or_foreign_table_is_refused(tmp_path):
    with pytest.raises(UserError, match="out: cannot read"):
        read_gradients(tmp_path)
    (tmp_path / TABLE).write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="has no column probe"):
        read_gradients(tmp_path)


def test_limits_cut_everything():
    limits = LimitsConfig(replicates=2, values_per_axis=1, updates=20, images_per_class=5)
    found = within_limits(replace(settings(), gradients=GradientsConfig(), limits=limits))
    assert (found.replicates, found.images_per_class, found.test_per_class) == (2, 5, 5)
    assert found.profiles.updates == (0, 10, 20)
    assert (
        len(found.profiles.hidden)
        == len(found.profiles.activations)
        == len(found.freezing.pairs)
        == 1
    )
    assert (found.convergence.updates, found.freezing.updates, found.freezing.at) == (
        20,
        20,
        (0, 10),
    )
    assert max(found.convergence.checkpoints) == 20
    assert within_limits(replace(settings(), gradients=GradientsConfig())) == GradientsConfig()
