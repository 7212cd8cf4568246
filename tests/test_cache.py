import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from convtl.errors import StorageError
from convtl.storage.cache import MANIFEST, Cache, default_root


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def cache(tmp_path: Path, said: list[str]) -> Cache:
    return Cache(tmp_path / "cache", said.append)


def _two_files(folder: Path) -> None:
    (folder / "a.bin").write_bytes(b"first" * 100)
    (folder / "inner").mkdir()
    (folder / "inner" / "b.bin").write_bytes(b"second")


def _never(folder: Path) -> None:
    raise AssertionError("built although it was there")


def test_what_was_published_is_found(cache: Cache, said: list[str]) -> None:
    assert cache.get("images", "abc") is None
    entry = cache.get_or_build("images", "abc", _two_files)
    assert entry == cache.path("images", "abc") == cache.get("images", "abc")
    assert (entry / "inner" / "b.bin").read_bytes() == b"second"
    assert cache.get_or_build("images", "abc", _never) == entry
    assert cache.get("images", "abd") is None
    assert cache.get("nets", "abc") is None
    assert said == []


def test_the_first_entry_is_kept(cache: Cache) -> None:
    def late(folder: Path) -> None:
        cache.publish("images", "abc", _two_files)
        (folder / "a.bin").write_bytes(b"mine")

    entry = cache.publish("images", "abc", late)
    assert (entry / "a.bin").read_bytes() == b"first" * 100


def _flip(entry: Path) -> None:
    content = bytearray((entry / "a.bin").read_bytes())
    content[7] ^= 1
    (entry / "a.bin").write_bytes(content)


def _other_key(entry: Path) -> None:
    manifest = json.loads((entry / MANIFEST).read_text())
    (entry / MANIFEST).write_text(json.dumps(manifest | {"key": "other"}))


DAMAGE = {
    "flipped byte": _flip,
    "shortened": lambda entry: (entry / "a.bin").write_bytes(b"first"),
    "lost file": lambda entry: (entry / "inner" / "b.bin").unlink(),
    "additional file": lambda entry: (entry / "c.bin").write_bytes(b""),
    "no manifest": lambda entry: (entry / MANIFEST).unlink(),
    "manifest of something else": _other_key,
    "torn manifest": lambda entry: (entry / MANIFEST).write_text('{"format": 1, "ki'),
    "manifest that is no mapping": lambda entry: (entry / MANIFEST).write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_entries_are_missing_and_built_anew(
    damage: object, cache: Cache, said: list[str]
) -> None:
    entry = cache.get_or_build("images", "abc", _two_files)
    damage(entry)  # type: ignore[operator]
    assert cache.get("images", "abc") is None
    assert len(said) == 1
    assert str(entry) in said[0]
    assert cache.get_or_build("images", "abc", _two_files) == entry
    assert cache.get("images", "abc") == entry
    assert len(said) == 1


def test_a_file_where_an_entry_should_be(cache: Cache, said: list[str]) -> None:
    cache.path("images", "abc").parent.mkdir(parents=True)
    cache.path("images", "abc").write_text("mine")
    entry = cache.get_or_build("images", "abc", _two_files)
    assert entry.is_dir()
    assert len(said) == 1


def test_failing_builds_leave_nothing(cache: Cache) -> None:
    def fails(folder: Path) -> None:
        (folder / "a.bin").write_bytes(b"half")
        raise FileNotFoundError(errno.ENOENT, "no such font", "/elsewhere/font.ttf")

    with pytest.raises(FileNotFoundError):  # not the cache's fault: told as it is
        cache.get_or_build("images", "abc", fails)
    assert cache.get("images", "abc") is None
    assert list((cache.root / "images").iterdir()) == []
    assert cache.get_or_build("images", "abc", _two_files).is_dir()


FULL = {
    "no space": OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "quota": OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    "NumPy's short write": OSError("784000 requested and 405376 written"),
}


@pytest.mark.parametrize("error", FULL.values(), ids=FULL)
def test_a_full_disk_is_one_line_that_names_the_cache(error: OSError, cache: Cache) -> None:
    def full(folder: Path) -> None:
        raise error

    reason = error.strerror or os.strerror(errno.ENOSPC)
    line = f"cache: cannot write in '{cache.root}': {reason}"
    with pytest.raises(StorageError) as refusal:
        cache.get_or_build("images", "abc", full)
    assert str(refusal.value) == line
    assert list((cache.root / "images").iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_line_that_names_the_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    blocked = Cache(tmp_path / "file" / "cache")
    assert blocked.get("images", "abc") is None
    for write in (blocked.get_or_build, blocked.publish):
        with pytest.raises(StorageError, match=r"^cache: cannot write in .*: Not a directory$"):
            write("images", "abc", _two_files)


def test_what_cannot_be_read_now_is_left_as_it_is(
    cache: Cache, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = cache.get_or_build("images", "abc", _two_files)

    def fail(path: Path, **how: str) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken:
        broken.setattr(Path, "read_text", fail)
        assert cache.get("images", "abc") is None
        assert cache.prune() == 0
    assert said == [f"cache: {entry} is not used: it cannot be read now"]
    assert cache.get_or_build("images", "abc", _never) == entry


def test_the_default_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONVTL_CACHE", str(tmp_path / "here"))
    assert default_root() == tmp_path / "here"
    monkeypatch.setenv("CONVTL_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_root() == tmp_path / "xdg" / "convtl"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_root() == tmp_path / ".cache" / "convtl"


def test_locks_exclude_each_other_and_nothing_else(cache: Cache) -> None:
    other = Cache(cache.root)
    with cache.lock("images", "abc") as held:
        assert held
        with other.lock("images", "abc", blocking=False) as second:
            assert not second
        with other.lock("images", "abd", blocking=False) as unrelated:
            assert unrelated
    with other.lock("images", "abc", blocking=False) as free:
        assert free


def test_of_many_threads_one_builds(cache: Cache) -> None:
    builds: list[Path] = []

    def build(folder: Path) -> None:
        builds.append(folder)
        time.sleep(0.1)
        _two_files(folder)

    threads = [
        threading.Thread(target=lambda: Cache(cache.root).get_or_build("images", "abc", build))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_the_same_is_built_twice_and_one_is_kept(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    def refused(*_args: object, **_kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refused)
    other = Cache(cache.root)

    def build(folder: Path) -> None:
        other.get_or_build("images", "abc", _two_files)
        assert folder.is_dir(), "a process that lives has lost what it builds"
        (folder / "a.bin").write_bytes(b"late")

    entry = cache.get_or_build("images", "abc", build)
    assert (entry / "a.bin").read_bytes() == b"first" * 100
    assert [path.name for path in entry.parent.iterdir()] == ["abc"]
    line = f"convtl: cache: no file locks in '{cache.root}': processes may do the same work twice\n"
    assert capsys.readouterr().err == line


HOLDER = """
import sys, time
from pathlib import Path
from convtl.storage.cache import Cache
with Cache(Path(sys.argv[1])).lock("images", "abc"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_gives_its_lock_back(cache: Cache) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(cache.root)], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with cache.lock("images", "abc", blocking=False) as held:
            assert not held
        holder.kill()
    with cache.lock("images", "abc", blocking=False) as held:
        assert held


WORKER = """
import random, sys, time
from pathlib import Path
from convtl.storage.cache import Cache

def build(key, folder):
    for name in range(8):
        with (folder / f"{name}.bin").open("wb") as file:
            for _ in range(8):
                file.write(bytes([key, name]) * 2048)
                file.flush()
                time.sleep(0.0005)

cache = Cache(Path(sys.argv[1]))
keys = list(range(24))
random.Random(sys.argv[2]).shuffle(keys)  # each builds another entry first, and meets the others
for _ in range(2):
    for key in keys:
        entry = cache.get_or_build("images", f"key{key}", lambda folder: build(key, folder))
        found = {path.name: path.read_bytes() for path in entry.glob("*.bin")}
        assert found == {f"{name}.bin": bytes([key, name]) * 16384 for name in range(8)}, key
"""


def test_eight_processes_and_random_kills_leave_entries_complete_or_absent(
    cache: Cache, said: list[str]
) -> None:
    draw = random.Random(0)

    def start(place: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", WORKER, str(cache.root), str(place)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    workers = [start(place) for place in range(8)]
    for _ in range(24):
        time.sleep(draw.uniform(0.02, 0.3))
        for entry in (cache.root / "images").glob("key*"):
            assert cache.get("images", entry.name) == entry  # whatever is there is complete
        place = draw.randrange(8)
        workers[place].send_signal(signal.SIGKILL)
        _, errors = workers[place].communicate()
        assert workers[place].returncode in (0, -signal.SIGKILL), errors.decode()
        workers[place] = start(place)
    for worker in workers:
        _, errors = worker.communicate(timeout=60)
        assert worker.returncode == 0, errors.decode()
    assert len(cache.entries()) == 24
    assert all(cache.get("images", f"key{key}") for key in range(24))
    assert said == []
    cache.get_or_build("images", "last", _two_files)
    assert not list((cache.root / "images").glob(".*"))  # what killed builders left is swept
