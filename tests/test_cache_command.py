"""`python -m convtl.cache` and the `convtl` command."""

import os
from pathlib import Path

import pytest

from convtl import cache
from convtl.storage.cache import Cache


def build(folder: Path) -> None:
    (folder / "data.bin").write_bytes(b"x" * 1000)


@pytest.fixture
def store(tmp_path: Path) -> Cache:
    store = Cache(tmp_path)
    for kind, key in (("nets", "a"), ("nets", "b"), ("features", "c")):
        store.publish(kind, key, build)
    return store


def run(store: Cache, *words: str) -> int:
    return cache.main([*words, f"cache={store.root}"])


def test_list_counts_entries_of_each_kind(store: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(store, "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["features", "1"], ["nets", "2"], ["all", "3"]]


def test_verify_names_a_damaged_entry(store: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(store, "verify") == 0
    (store.path("nets", "b") / "data.bin").write_bytes(b"y" * 1000)
    assert run(store, "verify") == 1
    assert "nets/b: its files are not those of its manifest" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ((), ["features/c", "nets/a"]),
        (("older_than=30",), ["features/c"]),
    ],
)
def test_prune_removes_damaged_and_old(
    store: Cache, words: tuple[str, ...], left: list[str]
) -> None:
    (store.path("nets", "b") / "data.bin").write_bytes(b"y" * 1000)
    os.utime(store.path("nets", "a"), (0, 0))
    assert run(store, "prune", *words) == 0
    assert ["/".join(entry) for entry in store.entries()] == left


def test_prune_leaves_an_entry_that_another_process_holds(store: Cache) -> None:
    os.utime(store.path("nets", "a"), (0, 0))
    with Cache(store.root).lock("nets", "a"):
        assert run(store, "prune", "older_than=1") == 0
    assert store.get("nets", "a") is not None


@pytest.mark.parametrize(
    "words",
    [
        ["lst"],
        ["list", "x"],
        ["list", "older_than=3"],
        ["prune", "older_than=x"],
    ],
)
def test_bad_words_are_refused(words: list[str]) -> None:
    with pytest.raises(cache.UserError, match="accepted"):
        cache.main(words)
