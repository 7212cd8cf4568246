"""All probes from end to end, cut to almost nothing: resumed, refused, written whole."""

import shutil

import pytest
import tiny

from convtl.config.parsing import parse
from convtl.errors import UserError
from convtl.models.lenet import PlainConfig
from convtl.storage.cache import Cache, default_root
from convtl.training.probes import COLUMNS, TABLE, Probe, probes, read_gradients, run_gradients

CUT = ("replicates=2", "limits={values_per_axis: 1,updates: 4}")
NET = PlainConfig(hidden=2, width=8)
SMALL = [
    Probe("profile", NET, "sgd"),
    Probe("convergence", NET, "sgd"),
    Probe("freezing", NET, "sgd"),
]


@pytest.fixture(scope="module", autouse=True)
def small_probes():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("convtl.training.probes.probes", lambda most: iter(SMALL))
        yield


def run(out, *words):
    lines = []
    run_gradients(parse(tiny.content(*CUT, *words)), out, Cache(default_root()), lines.append)
    return [line for line in lines if line.startswith("probe")]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("probes")
    return out, run(out)


def test_the_whole_study_has_57_probes():
    listed = [probe.kind for probe in probes()]
    counts = {kind: listed.count(kind) for kind in dict.fromkeys(listed)}
    assert counts == {"profile": 4 * 3 * 4, "convergence": 3 * 2, "freezing": 3}


def test_every_probe_is_run_once(done):
    out, lines = done
    assert len(lines) == 3
    assert lines[0] == "probe 1 of 3: profile, plain, tanh, lecun_normal, 2, sgd"
    assert run(out) == []


@pytest.mark.slow
def test_every_kind_of_probe_of_the_study_runs(monkeypatch, tmp_path):
    monkeypatch.setattr("convtl.training.probes.probes", probes)
    assert len(run(tmp_path)) == 4
    assert set(read_gradients(tmp_path)["model"]) == {"plain", "lenet5"}


def test_the_table_is_tidy(done):
    frame = read_gradients(done[0])
    assert tuple(frame.columns) == COLUMNS
    assert set(frame["probe"]) == {"profile", "convergence", "freezing"}
    assert set(frame["replicate"]) == {0, 1}
    assert not frame.duplicated(list(COLUMNS[:-1])).any()
    chains = frame[(frame["probe"] == "profile") & (frame["quantity"] == "relative_gradient")]
    assert len(chains) == 2 * 2 * 2  # replicates, updates, hidden units
    assert (chains[chains["position"] == 2]["value"] == 0).all()
    frozen = frame[(frame["probe"] == "freezing") & (frame["quantity"] == "test_accuracy")]
    assert len(frozen) == 2 * (2 * 3 + 1)
    assert frame[frame["quantity"] == "test_accuracy"]["value"].between(0, 1).all()
    aligned = frame[(frame["quantity"] == "cka_with_final") & (frame["update"] == 4)]
    assert aligned["value"].tolist() == pytest.approx([1] * len(aligned), abs=1e-5)


def test_a_run_goes_on_where_it_stopped_and_comes_to_the_same(done):
    out, _ = done
    before = (out / TABLE).read_bytes()
    [lost] = (out / "probes").glob("freezing-*.csv")
    lost.unlink()
    (out / TABLE).unlink()
    assert run(out) == ["probe 3 of 3: freezing, plain, tanh, lecun_normal, 2, sgd"]
    assert (out / TABLE).read_bytes() == before
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (["n_per_class=3", "batch_size=8"], 0),
        pytest.param(["seed=1"], 3, marks=pytest.mark.slow),
        pytest.param(["limits.updates=3"], 3, marks=pytest.mark.slow),
    ],
)
def test_other_settings_are_other_parts(done, words, missing, tmp_path):
    shutil.copytree(done[0], tmp_path / "out")
    assert len(run(tmp_path / "out", *words)) == missing


def test_an_unknown_target_is_refused(tmp_path):
    with pytest.raises(UserError, match="target: unknown name 'cyrilic'"):
        run(tmp_path, "target=cyrilic")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_refused(done, tmp_path):
    shutil.copytree(done[0] / "probes", tmp_path / "probes")
    (tmp_path / TABLE).mkdir()
    with pytest.raises(UserError, match="out: cannot write in"):
        run(tmp_path)


@pytest.mark.parametrize("content", [None, "a,b\n1,2\n"])
def test_a_missing_or_foreign_table_is_refused(content, tmp_path):
    if content is not None:
        (tmp_path / TABLE).write_text(content)
    with pytest.raises(UserError, match="out: cannot read"):
        read_gradients(tmp_path)
