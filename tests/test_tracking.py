"""What wandb is told, read from what it keeps."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from wandb_server import ENTITY, PROJECT, Server, serving

from convtl.errors import UserError
from convtl.tracking import Tracker, tracking_errors

KEY = "0123456789abcdef0123456789abcdef01234567"


def _python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a process of its own, with nothing of the user's wandb settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=kept | environment,
        cwd=environment["HOME"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


DISABLED = """
import sys
from pathlib import Path
from convtl.config.schema import TrackingConfig
from convtl.tracking import open_tracker
assert open_tracker(TrackingConfig(), "study", {}, Path(sys.argv[1])) is None
assert not [name for name in sys.modules if name.split(".")[0] == "wandb"]
"""


def test_disabled_does_nothing_and_does_not_import_wandb(tmp_path: Path) -> None:
    done = _python(DISABLED, str(tmp_path / "out"), HOME=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


# --- offline ----------------------------------------------------------------------------------------

TOLD = """
import sys
from pathlib import Path
from convtl.config.schema import TrackingConfig
from convtl.study.watcher import CurvePoint
from convtl.tracking import open_tracker

out, ending, mode = Path(sys.argv[1]), *sys.argv[2:4]
config = TrackingConfig(mode=mode, project="depths", requeue="requeue" in sys.argv)
tracker = open_tracker(config, "finetune_depth", {"depth": ["all"], "optim": {"kind": "adam"}}, out)
rows = [
    {"study": "s", "trial": "t1", "depth": 1, "val_accuracy": 0.5, "test_accuracy": 0.4, "status": "done"},
    {"study": "s", "trial": "t2", "depth": "all", "val_accuracy": 0.75, "test_accuracy": 0.6,
     "lr": None, "frozen_ok": True, "status": "done"},
    {"study": "s", "trial": "t3", "depth": 2, "status": "diverged"},
]
tracker.begin([{"trial": "t0", "val_accuracy": 0.25, "status": "done"}])
for accuracy in (0.25, 0.5):
    tracker.curve([CurvePoint("t1", 1e-3, 3, 6, 1.5, accuracy), CurvePoint("t1", 1e-2, 3, 6, 0.5, 0.125)])
for row in rows:
    tracker.trial(row)
if ending == "finish":
    tracker.finish(rows, out, {"best_depth": "all", "effect": 0.25}, "")
elif ending == "failures":
    tracker.finish(rows, None, {}, "2 trials failed: no memory; 1 trials failed: no luck")
elif ending == "stop":
    tracker.end(255, "stopped by SIGTERM")
else:
    tracker.end(1, "no luck")
"""


def _records(file: Path) -> list[Any]:
    """The protocol-buffer records of a transaction log: LevelDB's log format after a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    content, place, block, found, partial = file.read_bytes(), 7, 32768, [], b""
    while place + 7 <= len(content):
        if block - place % block < 7:  # too little left for a header: padding
            place += block - place % block
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        partial += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(partial)
            found.append(record)
            partial = b""
    return found


def _items(items: Any) -> dict[str, Any]:
    """Keys of nested values are joined by `/`."""
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A study tracked offline, by someone whose key is in the environment: (its `out`, stderr)."""
    home = tmp_path_factory.mktemp("home")
    out = home / "my [study]"
    out.mkdir()
    (out / "figures").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(out / "figures" / "depth.png")
    (out / "report.html").write_text("<html><body>depth report</body></html>")
    done = _python(TOLD, str(out), "finish", "offline", HOME=str(home), WANDB_API_KEY=KEY)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return out, done.stderr


def _log(out: Path) -> list[Any]:
    (file,) = out.glob("wandb/offline-run-*/run-*.wandb")
    return _records(file)


def test_offline_tells_only_where_the_run_is(offline: tuple[Path, str]) -> None:
    out, errors = offline
    (folder,) = out.glob("wandb/offline-run-*")
    assert errors == f"tracking: {folder} (wandb sync uploads it)\n"
    assert not (out.parent / "wandb").exists()  # the working directory


def test_offline_keeps_config_project_and_group(offline: tuple[Path, str]) -> None:
    (run,) = [record.run for record in _log(offline[0]) if record.HasField("run")][:1]
    config = _items(run.config.update)
    assert (run.project, run.run_group) == ("depths", "finetune_depth")
    assert config["depth"] == ["all"]
    assert config["optim"] == {"kind": "adam"}


def test_offline_keeps_every_trial_and_running_means(offline: tuple[Path, str]) -> None:
    history = [
        _items(record.history.item) for record in _log(offline[0]) if record.HasField("history")
    ]
    trials = [step for step in history if "trial/id" in step]
    assert [step["trial/id"] for step in trials] == ["t1", "t2", "t3"]
    assert [step["trials_done"] for step in trials] == [1, 2, 3]
    assert [step["trial/depth"] for step in trials] == [1, "all", 2]
    assert [step.get("trial/test_accuracy") for step in trials] == [0.4, 0.6, None]
    assert trials[1]["trial/frozen_ok"] is True
    assert "trial/lr" not in trials[1]
    assert "trial/study" not in trials[0]
    # running means leave the diverged trial out and hold nothing of the test split
    assert [step["study/mean_val_accuracy"] for step in trials] == [0.375, 0.5, 0.5]
    assert [step["study/trials"] for step in trials] == [2, 3, 4]
    assert not [
        name for step in history for name in step if name.startswith("study/") and "test" in name
    ]


def test_offline_keeps_the_metric_of_sweeps_while_it_trains(offline: tuple[Path, str]) -> None:
    history = [
        _items(record.history.item) for record in _log(offline[0]) if record.HasField("history")
    ]
    values = [
        step["study/mean_val_accuracy"] for step in history if "study/mean_val_accuracy" in step
    ]
    # what was there, two looks at a trial in flight, three trials, and the table that all processes made
    assert values == [0.25, 0.25, 0.375, 0.375, 0.5, 0.5, 0.625]
    curves = [step for step in history if "curve/loss" in step]
    assert [step["curve/val_accuracy"] for step in curves] == [0.1875, 0.3125]
    assert [step["curve/loss"] for step in curves] == [1.0, 1.0]


def test_offline_counts_trials_on_the_axis(offline: tuple[Path, str]) -> None:
    metrics = [record.metric for record in _log(offline[0]) if record.HasField("metric")]
    steps = {metric.glob_name: metric.step_metric for metric in metrics if metric.glob_name}
    assert steps["trial/*"] == "trials_done"
    assert "study/*" not in steps  # many values while a trial trains


def test_offline_keeps_results_figures_report_and_summary(offline: tuple[Path, str]) -> None:
    out, _ = offline
    last = [_items(r.history.item) for r in _log(out) if r.HasField("history")][-1]
    assert last["results/_type"] == "table-file"
    assert last["figures/depth/_type"] == "image-file"
    assert last["report/_type"] == "html-file"
    (files,) = out.glob("wandb/offline-run-*/files")
    table = json.loads((files / last["results/path"]).read_text())
    assert table["columns"] == [
        "study",
        "trial",
        "depth",
        "val_accuracy",
        "test_accuracy",
        "status",
        "frozen_ok",
    ]
    assert [row[2] for row in table["data"]] == [1, "all", 2]
    assert "depth report" in (files / last["report/path"]).read_text()
    summary: dict[str, Any] = {}
    for record in _log(out):
        summary |= _items(record.summary.update)
    assert (summary["best_depth"], summary["effect"]) == ("all", 0.25)
    assert [r.exit.exit_code for r in _log(out) if r.HasField("exit")] == [0]


def test_offline_keeps_no_key_no_code_no_git(offline: tuple[Path, str]) -> None:
    files = [path for path in offline[0].parent.rglob("*") if path.is_file()]
    assert len(files) > 4
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert not [path for path in files if path.suffix in (".py", ".patch")]


def test_a_failed_study_says_why_under_the_id_that_an_agent_gives(tmp_path: Path) -> None:
    out, variables = tmp_path / "new" / "out", {"HOME": str(tmp_path), "WANDB_RUN_ID": "agents"}
    done = _python(TOLD, str(out), "fail", "offline", **variables)
    assert done.returncode == 0, done.stderr
    assert _run_ids(out) == ["agents"]
    records = _log(tmp_path / "new" / "out")
    told = [_items(record.summary.update) for record in records if record.HasField("summary")]
    assert {"failure": "no luck"} in told
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [1]


@pytest.mark.slow
def test_failed_trials_fail_the_run_with_their_reasons(tmp_path: Path) -> None:
    done = _python(TOLD, str(tmp_path / "out"), "failures", "offline", HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    records = _log(tmp_path / "out")
    told = [_items(record.summary.update) for record in records if record.HasField("summary")]
    assert {"failure": "2 trials failed: no memory; 1 trials failed: no luck"} in told
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [1]


def _run_ids(out: Path) -> list[str]:
    return [
        path.stem.removeprefix("run-")
        for path in sorted(out.glob("wandb/offline-run-*/run-*.wandb"))
    ]


@pytest.mark.parametrize("requeue", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_signal_marks_a_run_as_preempted_only_where_that_is_asked_for(
    tmp_path: Path, requeue: bool
) -> None:
    words = ("stop", "offline", *["requeue"] * requeue)
    done = _python(TOLD, str(tmp_path / "out"), *words, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    records = _log(tmp_path / "out")
    assert bool([record for record in records if record.HasField("preempting")]) == requeue
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [255]


@pytest.mark.slow
def test_the_same_command_goes_on_in_the_same_run(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for ending in ("stop", "fail"):
        done = _python(TOLD, str(out), ending, "offline", HOME=str(tmp_path))
        assert done.returncode == 0, done.stderr
        time.sleep(1)  # names of folders are seconds
    done = _python(TOLD, str(tmp_path / "other"), "fail", "offline", HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    first, second = _run_ids(out)
    assert first == second
    assert _run_ids(tmp_path / "other") != [first]


SIDE_BY_SIDE = """
import subprocess, sys
from pathlib import Path
from convtl.config.schema import TrackingConfig
from convtl.tracking import open_tracker
tracker = open_tracker(TrackingConfig(mode="offline"), "study", {}, Path(sys.argv[1]))
if len(sys.argv) == 2:
    subprocess.run([sys.executable, "-c", sys.stdin.read(), sys.argv[1], "second"], check=True)
tracker.end(1, "over")
"""


@pytest.mark.slow
def test_beside_a_live_process_of_the_same_command_a_new_run_is_begun(tmp_path: Path) -> None:
    code = SIDE_BY_SIDE.replace("sys.stdin.read()", repr(SIDE_BY_SIDE))
    done = _python(code, str(tmp_path / "out"), HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert len(set(_run_ids(tmp_path / "out"))) == 2


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running
    assert running.unknown == []


# --- online -----------------------------------------------------------------------------------------

ONLINE = """
import sys
from pathlib import Path
from convtl.config.schema import TrackingConfig
from convtl.errors import UserError
from convtl.tracking import open_tracker
try:
    open_tracker(TrackingConfig(mode="online"), "study", {}, Path(sys.argv[1]))
except UserError as error:
    print(error)
"""


def test_online_without_a_login_is_refused_before_anything_starts(tmp_path: Path) -> None:
    done = _python(ONLINE, str(tmp_path / "out"), HOME=str(tmp_path))
    assert re.fullmatch(
        r"tracking\.mode: online needs a login for \S+; run `wandb login`, set WANDB_API_KEY,"
        r" or use tracking\.mode=offline\n",
        done.stdout,
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("key", [pytest.param("base_url", marks=pytest.mark.slow), "http_proxy"])
def test_online_a_folder_does_not_choose_the_server(
    server: Server, tmp_path: Path, key: str
) -> None:
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "settings").write_text(f"[default]\nproject = p\n{key} = {server.url}\n")
    done = _python(ONLINE, str(tmp_path / "out"), HOME=str(tmp_path), WANDB_API_KEY=KEY)
    assert done.stdout.startswith(f"tracking.mode: online with {key} in "), done.stderr
    assert server.bodies == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("netrc", [".netrc", pytest.param("elsewhere", marks=pytest.mark.slow)])
def test_online_a_login_in_netrc_counts(server: Server, tmp_path: Path, netrc: str) -> None:
    (tmp_path / netrc).write_text(f"machine {server.url[7:]} login user password {KEY}\n")
    (tmp_path / netrc).chmod(0o600)
    environment = {"HOME": str(tmp_path), "WANDB_BASE_URL": server.url}
    environment |= {"NETRC": str(tmp_path / netrc)} if netrc != ".netrc" else {}
    done = _python(ONLINE, str(tmp_path / "out"), **environment)
    assert done.stdout == "", done.stderr
    assert len(server.runs) == 1


def test_online_with_a_key_that_is_none_is_one_line(tmp_path: Path) -> None:
    done = _python(ONLINE, str(tmp_path / "out"), HOME=str(tmp_path), WANDB_API_KEY="short")
    assert done.stdout.startswith("tracking.mode: online does not work (")
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_online_a_run_that_was_deleted_is_one_line(server: Server, tmp_path: Path) -> None:
    """Its id cannot be used again; another `out` has another."""
    environment = {"HOME": str(tmp_path), "WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
    _python(ONLINE, str(tmp_path / "out"), **environment)
    (name,) = server.runs
    server.deleted.append(name)
    done = _python(ONLINE, str(tmp_path / "out"), **environment)
    assert done.stdout.startswith("tracking.mode: online does not work ("), done.stderr
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr


KILLED = """
import os, signal, time
time.sleep(17)
os.kill(os.getpid(), signal.SIGKILL)
"""


def _secrets(
    root: Path, done: subprocess.CompletedProcess[str], server: Server | None = None
) -> list[str]:
    """Where the key has gone to."""
    files = [path for path in root.rglob("*") if path.is_file()]
    assert files
    found = [str(path) for path in files if KEY.encode() in path.read_bytes()]
    found += ["said"] * (KEY in done.stdout + done.stderr)
    return found + ["sent"] * (
        server is not None and any(KEY.encode() in body for body in server.bodies)
    )


def test_online_tells_the_server_the_same(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "figures").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(out / "figures" / "depth.png")
    (out / "report.html").write_text("<html><body>depth report</body></html>")
    environment = {"HOME": str(tmp_path), "WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
    done = _python(TOLD, str(out), "finish", "online", **environment)
    assert done.returncode == 0, done.stderr
    (run,) = server.runs.values()
    assert f"tracking: {server.url}/{ENTITY}/{PROJECT}/runs/{run.name}" in done.stderr
    assert (run.group, run.exit_codes, run.preempting) == ("finetune_depth", [0], False)
    assert run.config["optim"] == {"kind": "adam"}
    values = [
        step["study/mean_val_accuracy"] for step in run.history if "study/mean_val_accuracy" in step
    ]
    assert values == [0.25, 0.25, 0.375, 0.375, 0.5, 0.5, 0.625]
    assert (run.summary["best_depth"], run.summary["study/mean_val_accuracy"]) == ("all", 0.625)
    assert [name for name in server.uploads if name.endswith(".png")]
    assert [
        b"depth report" in body for name, body in server.uploads.items() if "report" in name
    ] == [True]
    assert _secrets(tmp_path, done, server) == []


@pytest.mark.slow  # wandb sends what it has every 15 s
def test_online_a_killed_run_goes_on_with_its_next_process(server: Server, tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
    killed = TOLD.partition("if ending")[0] + KILLED
    assert _python(killed, str(tmp_path / "out"), "", "online", **environment).returncode == -9
    (run,) = server.runs.values()
    before = run.history
    assert before
    done = _python(TOLD, str(tmp_path / "out"), "fail", "online", **environment)
    assert done.returncode == 0, done.stderr
    assert (run.begun, run.exit_codes[-1], run.summary["failure"]) == (2, 1, "no luck")
    assert run.history[: len(before)] == before
    steps = [step["_step"] for step in run.history]
    assert steps == sorted(set(steps))
    assert list(server.runs) == [run.name]


@pytest.mark.slow
def test_sync_puts_the_two_parts_of_a_stopped_run_together(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for ending in ("stop", "fail"):
        done = _python(TOLD, str(out), ending, "offline", HOME=str(tmp_path))
        assert done.returncode == 0, done.stderr
        time.sleep(1)  # names of folders are seconds
    told = [
        _items(record.history.item)
        for log in sorted(out.glob("wandb/offline-run-*/run-*.wandb"))
        for record in _records(log)
        if record.HasField("history")
    ]
    environment = {"HOME": str(tmp_path), "WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
    sync = "import sys; from wandb.cli.cli import cli; sys.argv = ['wandb', 'sync', *sys.argv[1:]]; sys.exit(cli())"
    done = _python(sync, *map(str, reversed(list(out.glob("wandb/offline-run-*")))), **environment)
    assert done.returncode == 0, done.stderr + done.stdout
    (run,) = server.runs.values()
    assert (run.begun, run.exit_codes) == (2, [255, 1])
    assert [step["_step"] for step in run.history] == list(range(len(told)))
    name = "study/mean_val_accuracy"
    assert [step.get(name) for step in run.history] == [step.get(name) for step in told]
    assert run.config["optim"] == {"kind": "adam"}
    assert run.summary["failure"] == "no luck"
    assert _secrets(tmp_path, done, server) == []


# --- robustness -------------------------------------------------------------------------------------


class _BrokenRun:
    def __init__(self) -> None:
        self.calls = 0

    def log(self, values: dict[str, Any]) -> None:
        self.calls += 1
        raise BrokenPipeError("the service has gone\nlong story")


def test_a_tracker_that_breaks_down_is_told_once_and_ends_nothing(capsys) -> None:
    run = _BrokenRun()
    tracker = Tracker(run)
    tracker.begin([])
    tracker.trial({"trial": "a", "status": "diverged"})
    tracker.trial({"trial": "b", "status": "done", "val_accuracy": 0.5})
    tracker.finish([], None, {}, "")
    tracker.end(1, "late")
    assert run.calls == 1
    assert capsys.readouterr().err == (
        "tracking: stopped (the service has gone); the study goes on, its rows are on disk\n"
    )


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (KeyboardInterrupt("SIGTERM"), (255, "stopped by SIGTERM")),
        (UserError("out: wrong"), (1, "out: wrong")),
        (RuntimeError("no luck"), (1, "RuntimeError: no luck")),
    ],
)
def test_whatever_ends_the_work_is_reported(error: BaseException, end: tuple[int, str]) -> None:
    ends: list[tuple[int, str]] = []

    class Listener(Tracker):
        def end(self, code: int, reason: str) -> None:
            ends.append((code, reason))

    for tracker in (Listener(None), None):
        with pytest.raises(type(error)), tracking_errors(tracker):
            raise error
    assert ends == [end]
