"""Signals are held back where work can be kept, and obeyed at once elsewhere."""

import os
import pickle
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from convtl.entry import guarded
from convtl.runtime import stopping
from convtl.runtime.stopping import Stopped, asked, handed_on, held_back, obey, on_signals, one_job


def send(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_ends_what_is_being_done(number: int) -> None:
    with pytest.raises(Stopped, match=signal.Signals(number).name), on_signals():
        send(number)


def doing(what: Callable[[], None]) -> None:
    with on_signals(), held_back():
        what()


def test_held_back_it_waits_for_the_end() -> None:
    reached = []

    def what() -> None:
        send()
        assert asked()
        reached.append("the end")

    with pytest.raises(Stopped):
        doing(what)
    assert reached == ["the end"]
    assert not asked()


def test_held_back_it_is_obeyed_where_that_is_said() -> None:
    def what() -> None:
        obey()
        send()
        obey()
        pytest.fail("went on")

    with pytest.raises(Stopped):
        doing(what)


def test_schedulers_ask_more_than_once() -> None:
    reached = []

    def what() -> None:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1):
            send(number)
        reached.append("the end")

    with pytest.raises(Stopped, match="SIGTERM"):
        doing(what)
    assert reached == ["the end"]


def test_another_one_does_not_disturb_who_is_stopping_already() -> None:
    cleaned = []

    def what() -> None:
        try:
            send()
        finally:
            send(signal.SIGUSR1)
            with held_back():
                send()
            cleaned.append(asked())

    with pytest.raises(Stopped, match="SIGTERM"), on_signals():
        what()
    assert cleaned == [False]


def test_only_the_impatient_is_obeyed_while_stopping() -> None:
    def what() -> None:
        try:
            send()
        finally:
            send(signal.SIGINT)
            pytest.fail("went on")

    with pytest.raises(Stopped, match="SIGINT"), on_signals():
        what()


def test_it_travels_between_processes() -> None:
    found = pickle.loads(pickle.dumps(Stopped(signal.SIGTERM)))
    assert (found.code, str(found)) == (75, "SIGTERM")


def test_whom_it_waits_for_is_told_at_once() -> None:
    told = []
    with (
        pytest.raises(Stopped, match="SIGTERM"),
        on_signals(),
        handed_on(lambda: told.append(asked())),
    ):
        send()
    assert told == [True]


@pytest.fixture
def a_process_of_jobs() -> Iterator[None]:
    """This process is one that takes one job after another, for once."""
    yield
    stopping._for_good.close()
    stopping._between_jobs = False


@pytest.mark.usefixtures("a_process_of_jobs")
def test_a_process_of_many_jobs_does_none_after_it_was_asked_to_stop() -> None:
    done = []
    with one_job():
        done.append("one")
    send()  # between jobs
    for _ in range(2):
        with pytest.raises(Stopped), one_job():
            done.append("another")
    assert done == ["one"]


def test_a_job_that_is_stopped_is_the_last(launcher: list[int], a_process_of_jobs: None) -> None:
    done: list[Any] = []

    def work(number: int) -> None:
        with one_job():
            done.append(number)
            if number == 1:
                send()
                done.append("went on")

    work(0)
    for number in (1, 2):
        with pytest.raises(Stopped, match="SIGTERM"):
            work(number)
    assert done == [0, 1]
    send(signal.SIGUSR2)  # a launcher ends its idle processes as it likes
    assert launcher == [signal.SIGUSR2]


def test_a_second_one_is_obeyed_at_once() -> None:
    def what() -> None:
        send()
        send(signal.SIGINT)
        pytest.fail("went on")

    with pytest.raises(Stopped, match="SIGINT"):
        doing(what)
    assert not asked()


def test_an_error_meanwhile_is_not_covered_up() -> None:
    def what() -> None:
        send()
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        doing(what)


def test_handlers_from_before_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with on_signals(), on_signals():
        assert signal.getsignal(signal.SIGTERM) is stopping._handle
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch):
    """A launcher that has its own handler of a signal, and lets the process go on."""
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: heard.append(number))
    yield heard
    signal.signal(signal.SIGUSR2, before)


def test_a_launchers_own_handler_decides(launcher: list[int]) -> None:
    with on_signals():
        with held_back():
            send(signal.SIGUSR2)
            assert launcher == []  # not before work is kept
        assert launcher == [signal.SIGUSR2]
        send(signal.SIGUSR2)
    assert len(launcher) == 2


def test_what_a_launcher_lets_pass_does_not_cover_what_was_asked_before(
    launcher: list[int],
) -> None:
    def what() -> None:
        send()
        send(signal.SIGUSR2)  # for a launcher that goes on
        assert launcher == []
        assert asked()

    with pytest.raises(Stopped, match="SIGTERM"):
        doing(what)
    assert launcher == [signal.SIGUSR2]


def test_what_is_ignored_stays_ignored() -> None:
    """As by `nohup`, and in the background of a shell without job control."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with on_signals():
            send(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGUSR1, 75)]
)
def test_exit_codes(number: int, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def main(words: list[str]) -> int:
        with on_signals():
            send(number)
        return 0

    assert guarded(main) == code
    name = signal.Signals(number).name
    assert (
        capsys.readouterr().err
        == f"convtl: stopped by {name}; the same command goes on where it stopped\n"
    )


class Clumsy:
    """Somebody's destructor, in which a signal arrives."""

    def __del__(self) -> None:
        send()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_that_python_drops_is_obeyed_at_the_next_place() -> None:
    reached = []

    def what() -> None:
        Clumsy()
        with held_back():
            assert asked()
            reached.append("the end")

    with pytest.raises(Stopped, match="SIGTERM"), on_signals():
        what()
    assert reached == ["the end"]
    assert not asked()


def test_one_on_its_way_is_not_raised_again() -> None:
    cleaned = []

    @contextmanager
    def resource() -> Iterator[None]:
        try:
            yield
        finally:
            with held_back():
                cleaned.append(asked())
            try:
                raise ValueError
            except ValueError:
                obey()
            cleaned.append(asked())

    with pytest.raises(Stopped), on_signals(), resource():
        send()
    assert cleaned == [False, False]
