"""What is missing is run, once, and the table never depends on what happened on the way."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny

from convtl.config.parsing import parse
from convtl.errors import UserError
from convtl.storage.cache import Cache, default_root
from convtl.study import nets
from convtl.study import study as runner
from convtl.study.grid import expand
from convtl.study.group import Group
from convtl.study.materials import Materials
from convtl.study.store import RowStore
from convtl.study.study import unfinished
from convtl.training.loop import Trainer

STUDY = ("source=[latin,scratch]", "depth=[1,5]", "n_per_class=[2,4]", "replicates=2")
TRIALS = 2 * 2 * 2 + 2 * 2

CHILD = """
import os, sys
from pathlib import Path
import jax
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
import tiny
trials = tiny.trials(*sys.argv[3:])
print("ready", flush=True)
sys.stdin.readline()
print(tiny.run(Path(sys.argv[2]), trials).ran)
"""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> dict:
    """The table of the study, run at once and alone."""
    out = tmp_path_factory.mktemp("unbroken")
    outcome = tiny.run(out, tiny.trials(*STUDY))
    assert outcome.ran == TRIALS
    assert outcome.failed == []
    found = tiny.table(out)
    assert {row["status"] for row in found.values()} == {"done"}
    return found


def child(out: Path, cache: Path | None = None) -> subprocess.Popen:
    """Another process that is to run the study into `out`; returned when its imports are done."""
    root = default_root()
    environment = dict(
        os.environ, PYTHONPATH=str(Path(tiny.__file__).parent), CONVTL_CACHE=str(cache or root)
    )
    command = [sys.executable, "-c", CHILD, str(root / "xla"), str(out), *STUDY]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def begin(*processes: subprocess.Popen) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


def wait_for_rows(process: subprocess.Popen, out: Path, count: int) -> None:
    while process.poll() is None and tiny.row_lines(out) < count:
        time.sleep(0.002)


# --- kill, share, resume ----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_study_ends_as_an_unbroken_one(tmp_path, unbroken) -> None:
    for rows in (1, 4):
        process = child(tmp_path)
        begin(process)
        wait_for_rows(process, tmp_path, rows)
        process.kill()
        process.communicate()
    done = len(tiny.table(tmp_path))
    assert done >= 1
    outcome = tiny.run(tmp_path, tiny.trials(*STUDY))
    assert outcome.ran == TRIALS - done
    assert tiny.table(tmp_path) == unbroken
    assert tiny.row_lines(tmp_path) == TRIALS, "a row is there twice"


@pytest.mark.slow
def test_two_processes_share_the_work_and_one_ends_it_where_the_other_is_killed(
    tmp_path, unbroken
) -> None:
    out, cache = tmp_path / "out", tmp_path / "cache"
    killed, other = child(out, cache), child(out, cache)
    begin(killed, other)
    wait_for_rows(killed, out, 3)
    killed.kill()
    killed.communicate()
    printed, errors = other.communicate(timeout=200)
    assert other.returncode == 0, errors
    assert int(printed) >= 1
    assert tiny.row_lines(out) == TRIALS, "a trial was run twice, or not at all"
    assert tiny.table(out) == unbroken


def test_neither_order_nor_what_is_missing_changes_what_comes_out(tmp_path, unbroken) -> None:
    trials = tiny.trials(*STUDY)
    random.Random(1).shuffle(trials)
    assert tiny.run(tmp_path, trials[::2]).ran == TRIALS // 2
    assert tiny.run(tmp_path, trials).ran == TRIALS // 2
    assert tiny.table(tmp_path) == unbroken
    assert tiny.run(tmp_path, trials).ran == 0


def test_widening_an_axis_or_adding_replicates_runs_only_what_is_new(tmp_path, unbroken) -> None:
    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in (tmp_path / "rows").iterdir()}

    tiny.run(tmp_path, tiny.trials(*STUDY, "n_per_class=2", "replicates=1"))
    before = files()
    witness = tiny.Witness()
    tiny.run(tmp_path, tiny.trials(*STUDY, "replicates=1"), witness)
    assert {row["n_per_class"] for row in witness.rows} == {4}
    witness = tiny.Witness()
    tiny.run(tmp_path, tiny.trials(*STUDY), witness)
    assert {row["replicate"] for row in witness.rows} == {1}
    assert tiny.row_lines(tmp_path) == TRIALS
    assert before.items() <= files().items()
    assert tiny.table(tmp_path) == unbroken


def test_a_finished_study_touches_neither_data_nor_claims(tmp_path, monkeypatch) -> None:
    trials = tiny.trials()
    tiny.run(tmp_path, trials)
    monkeypatch.setattr(runner, "grouped", None)
    monkeypatch.setattr(runner, "TrialLocks", None)
    assert tiny.run(tmp_path, trials).ran == 0


def test_a_trial_that_another_process_holds_is_waited_for(tmp_path, monkeypatch) -> None:
    """Whoever holds a claim finishes the trial; the one who waits takes its row."""
    trials = tiny.trials("n_per_class=[2,4]")
    tiny.run(tmp_path / "elsewhere", trials)
    rows = RowStore(tmp_path / "elsewhere").read()
    held = trials[0].id
    take = runner.TrialLocks.take
    monkeypatch.setattr(
        runner.TrialLocks, "take", lambda self, trial: trial != held and take(self, trial)
    )
    waited = []

    def finish_it(_seconds: float) -> None:
        waited.append(1)
        other = RowStore(tmp_path / "out")
        other.append(rows[held])

    monkeypatch.setattr(runner.time, "sleep", finish_it)
    outcome = tiny.run(tmp_path / "out", trials)
    assert waited == [1]
    assert outcome.ran == 1
    assert tiny.table(tmp_path / "out") == tiny.table(tmp_path / "elsewhere")


# --- what goes wrong --------------------------------------------------------------------------------


def test_a_rate_that_explodes_is_recorded_and_the_study_goes_on(tmp_path) -> None:
    trials = tiny.trials("depth=5", "source=[scratch,latin]", "axes={lr:[1e38,1e39,1e-3]}")
    outcome = tiny.run(tmp_path, trials)
    assert outcome.ran == 6
    assert outcome.failed == []
    rows = RowStore(tmp_path).read()
    for trial in trials:
        row = rows[trial.id]
        assert row["status"] == ("diverged" if max(trial.axes["lr"]) > 1 else "done")
        if row["status"] == "diverged":
            assert "not finite" in row["reason"]
            assert row["lr"] is None
            assert row["n_rates"] == 1
    assert tiny.run(tmp_path, trials).ran == 0, "diverged is final"


def test_a_rate_too_high_for_one_trial_harms_no_other_in_the_program(tmp_path) -> None:
    tiny.run(tmp_path / "mixed", tiny.trials("depth=5", "source=scratch", "axes={lr:[1e38,1e-3]}"))
    tiny.run(tmp_path / "alone", tiny.trials("depth=5", "source=scratch", "axes={lr:[1e-3]}"))
    mixed = tiny.table(tmp_path / "mixed")
    for name, row in tiny.table(tmp_path / "alone").items():
        assert mixed[name] == row


class Trouble:
    """Stands in for a method: raises `error` from call `first` on, `times` times."""

    def __init__(self, monkeypatch, owner, name, error, first=0, times=1) -> None:
        self.calls, original = 0, getattr(owner, name)

        def method(*args, **kwargs):
            self.calls += 1
            if first < self.calls <= first + times:
                raise error
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, method)


def statuses(out: Path) -> list[str]:
    return sorted(row["status"] for row in RowStore(out).read().values())


def test_an_error_in_a_program_is_told_and_tried_again_next_time(
    tmp_path, monkeypatch, unbroken
) -> None:
    trials = tiny.trials(*STUDY)
    with monkeypatch.context() as patch:
        Trouble(
            patch, Trainer, "train", RuntimeError("out of memory\nand much more"), first=1, times=99
        )
        outcome = tiny.run(tmp_path, trials)
    assert outcome.failed
    assert set(outcome.failed) == {"RuntimeError: out of memory"}
    failed = [row for row in RowStore(tmp_path).read().values() if row["status"] == "failed"]
    assert len(failed) == len(outcome.failed)
    assert {row["reason"] for row in failed} == {"RuntimeError: out of memory"}
    assert len(RowStore(tmp_path).read()) == TRIALS, "each was tried"
    again = tiny.run(tmp_path, trials)
    assert (again.ran, again.failed) == (len(failed), [])
    assert tiny.table(tmp_path) == unbroken


def test_an_error_that_passes_is_overcome(tmp_path, monkeypatch, unbroken) -> None:
    with monkeypatch.context() as patch:
        Trouble(patch, Trainer, "train", RuntimeError("a moment's trouble"), first=1)
        assert tiny.run(tmp_path, tiny.trials(*STUDY)).failed == []
    assert tiny.table(tmp_path) == unbroken


def test_a_trial_that_fails_takes_no_other_along(tmp_path, monkeypatch, unbroken) -> None:
    trials = tiny.trials(*STUDY)
    bad, finish = trials[1].id, Group._row

    def finish_or_fail(self, active):
        if active.trial.id == bad:
            raise ValueError("this one")
        return finish(self, active)

    with monkeypatch.context() as patch:
        patch.setattr(Group, "_row", finish_or_fail)
        outcome = tiny.run(tmp_path, trials)
    assert (outcome.ran, outcome.failed) == (TRIALS - 1, ["ValueError: this one"])
    found = tiny.table(tmp_path)
    assert {name: row for name, row in unbroken.items() if name != bad} == {
        name: row for name, row in found.items() if name != bad
    }


def test_a_program_that_never_works_ends_the_study_without_waiting(tmp_path, monkeypatch) -> None:
    trials = tiny.trials(*STUDY, "source=scratch")

    def asleep(_seconds):
        raise AssertionError("waits for nobody")

    monkeypatch.setattr(runner.time, "sleep", asleep)
    Trouble(monkeypatch, Group, "__init__", ValueError("no such device"), times=99)
    outcome = tiny.run(tmp_path, trials)
    assert outcome.ran == 0
    assert len(outcome.failed) == len(trials) == len(statuses(tmp_path))


def test_a_net_that_cannot_be_saved_fails_its_trial_once(tmp_path, monkeypatch) -> None:
    trials = tiny.trials("n_per_class=[2,4]")
    tiny.run(tmp_path / "other", trials)
    with monkeypatch.context() as patch:
        Trouble(patch, nets, "write_net", ValueError("no"), times=99)
        patch.setattr(runner.time, "sleep", None)
        outcome = tiny.run(tmp_path, trials, nets=True)
    assert outcome.failed == ["ValueError: no"] * 2
    assert statuses(tmp_path) == ["failed", "failed"]
    assert tiny.run(tmp_path, trials, nets=True).ran == 2
    saved = [nets.load_net(path) for path in (tmp_path / "nets").iterdir()]
    assert {net.row["trial"] for net in saved} == {trial.id for trial in trials}
    assert all({"conv1", "fc5"} <= set(net.variables) for net in saved)


def test_a_stop_leaves_interrupted_rows_and_the_next_run_goes_on(
    tmp_path, monkeypatch, unbroken
) -> None:
    trials = tiny.trials(*STUDY)
    with monkeypatch.context() as patch:
        Trouble(patch, Trainer, "train", KeyboardInterrupt(), first=3)
        with pytest.raises(KeyboardInterrupt):
            tiny.run(tmp_path, trials)
    found = statuses(tmp_path)
    assert set(found) == {"done", "interrupted"}
    assert tiny.run(tmp_path, trials).ran == TRIALS - found.count("done")
    assert tiny.table(tmp_path) == unbroken


def test_a_full_disk_is_one_line(tmp_path, monkeypatch) -> None:
    Trouble(
        monkeypatch,
        RowStore,
        "append",
        UserError("out: cannot write in 'x': No space left on device"),
        times=99,
    )
    with pytest.raises(UserError, match="No space left on device"):
        tiny.run(tmp_path, tiny.trials())


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["n_per_class=[2,17]"],
            "n_per_class: got 17; accepted: 1 to 16, the train images a class of ",
        ),
        (
            ["test_per_class=9"],
            "domains.cyrillic: got 8 test images of class '.'; accepted: at least 9 for test_per_class",
        ),
        (
            ["validation_per_class=5"],
            "domains.cyrillic: got 4 validation images of class '.'; accepted: at least 5 for ",
        ),
        (
            ["domains.latin.size=20"],
            r"source: got 'latin' with images of shape \(20, 20, 1\); accepted: ",
        ),
        (["domains.latin.size=8", "domains.cyrillic.size=8"], "model lenet5: got images of shape"),
        (
            ["domains.latin.script=cyrillic", "domains.latin.jitter.noise=0.1"],
            "source: got 'latin', of which 0 classes are unlike all of the target's; accepted: ",
        ),
        (
            ["source=cyrillic", "classes=30"],
            "source: got 'cyrillic', of which 0 classes are unlike all of the target's; accepted: ",
        ),
    ],
)
def test_data_that_do_not_suffice_are_refused_before_anything_is_trained(words, line) -> None:
    materials = Materials(Cache(default_root()), lambda what: None)
    with pytest.raises(UserError, match=f"^{line}"):
        materials.check(tiny.trials("depth=[1,5]", *words))


def test_a_small_source_gives_what_it_has_and_the_row_tells(tmp_path) -> None:
    tiny.run(tmp_path, tiny.trials("pretrain.images_per_class=17"))
    (row,) = tiny.table(tmp_path).values()
    assert (row["status"], row["source_classes"], row["source_images"]) == ("done", 4, 64)


def test_programs_of_different_batch_sizes_are_kept_apart(tmp_path) -> None:
    words = ("source=random", "lr=1e-2")
    tiny.run(tmp_path / "one", tiny.trials(*words, "axes={batch_size:[4,8]}"))
    tiny.run(tmp_path / "other", tiny.trials(*words, "batch_size=8"))
    rows = tiny.table(tmp_path / "one").values()
    assert {row["status"] for row in rows} == {"done"}
    assert len({row["flops_per_update"] for row in rows}) == 2
    (alone,) = tiny.table(tmp_path / "other").values()
    together = tiny.table(tmp_path / "one")[alone["trial"]]
    differ = {key for key in alone if alone[key] != together[key]}
    assert differ <= {"axes", "config"}


def test_a_row_without_the_movement_that_is_asked_for_is_made_again_and_is_the_same(
    tmp_path,
) -> None:
    content = tiny.content() | {
        "blocks": {"similar": {"source": "latin"}, "fresh": {"source": "scratch"}}
    }
    assert tiny.run(tmp_path, expand(parse(content))[1]).ran == 2
    before = tiny.table(tmp_path)
    content["blocks"]["similar"]["measure"] = "movement"
    _, trials = expand(parse(content))
    assert {trial.id for trial in trials} == set(before)
    assert [trial.source for trial in unfinished(trials, RowStore(tmp_path))] == ["latin"]
    assert tiny.run(tmp_path, trials).ran == 1
    after = RowStore(tmp_path).read()
    assert [row["source"] for row in after.values() if row.get("moved")] == ["latin"]
    for name, row in tiny.table(tmp_path).items():
        assert row["test_nll"] == before[name]["test_nll"]
    assert unfinished(trials, RowStore(tmp_path)) == []
