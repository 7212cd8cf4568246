import contextlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_nets import same_bits
from source_requests import RECIPE, request, stripes

from convtl.config.training import AugmentConfig, OptimConfig, ScheduleConfig
from convtl.data.inputs import standardise
from convtl.models.lenet import LeNet5Config
from convtl.storage import checkpoint
from convtl.storage.cache import Cache
from convtl.training.features import Forward
from convtl.training.loop import Trainer
from convtl.training.pretrain import KIND, SourceNet, SourceRequest, ensure_sources
from convtl.training.runs import Run

UPDATES: list[dict[str, Any]] = [
    {"batch_size": 9},
    {"optim": OptimConfig(clip=1.0)},
    {"schedule": ScheduleConfig(kind="constant")},
    {"augment": AugmentConfig(flip=True)},
    {"precision": "bfloat16"},
]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of lanes of every call that trains."""
    widths: list[int] = []
    train = Trainer.train

    def counted(self: Trainer, lanes: list[Run], *given: Any) -> Any:
        widths.append(len(lanes))
        return train(self, lanes, *given)

    monkeypatch.setattr(Trainer, "train", counted)
    return widths


def test_nets_are_trained_once_and_kept(cache: Cache, trained: list[int]) -> None:
    requests = [request(replicate) for replicate in range(3)]
    ready: list[int] = []
    first = ensure_sources([*requests, requests[0]], cache, ready.append)
    assert set(first) == {own.key for own in requests}
    # Two devices with one lane each: three nets are two batches.
    assert trained == [2, 1]
    assert ready[0] == 0
    assert ready[-1] == 3
    assert 2 in ready
    again = ensure_sources(requests, cache)
    assert trained == [2, 1]
    for own in requests:
        assert same_bits(again[own.key].variables, first[own.key].variables)
        assert again[own.key].metadata == first[own.key].metadata
        entry = cache.get(KIND, own.key)
        assert entry is not None
        assert same_bits(checkpoint.load(entry / "net")[0], first[own.key].variables)
    one, other = (first[own.key].variables["fc1"] for own in requests[:2])
    assert not same_bits(one, other)


def test_all_keys_of_an_update_reach_a_source_net(tmp_path: Path) -> None:
    recipes = [RECIPE, *(replace(RECIPE, **key) for key in UPDATES[-2:])]
    requests = [request(recipe=recipe) for recipe in recipes]
    nets = ensure_sources(requests, Cache(tmp_path)).values()
    assert len({str(checkpoint.digests(net.variables)) for net in nets}) == len(recipes)


def test_company_and_order_change_no_bit(tmp_path: Path) -> None:
    requests = [request(replicate) for replicate in range(3)]
    together = ensure_sources(requests, Cache(tmp_path / "one"))
    (alone,) = ensure_sources([requests[2]], Cache(tmp_path / "other")).values()
    assert same_bits(alone.variables, together[requests[2].key].variables)


def test_what_is_known_of_a_net(cache: Cache) -> None:
    own = request()
    (source,) = ensure_sources([own], cache).values()
    known = source.metadata
    [(domain, draw)] = own.parts
    assert known["classes"] == [domain.class_names[index] for index in draw.classes]
    assert (known["images"], known["diverged"]) == (36, False)
    # It learned, and says on its own validation images how well.
    split = domain.splits(0, 0)["validation"]
    chosen = draw.validation
    logits = Forward(own.network(), 0)(source.variables, standardise(split.images[chosen]))
    right = np.asarray(draw.classes)[logits.argmax(1)] == split.labels[chosen]
    assert known["accuracy"] == pytest.approx(right.mean())
    assert known["accuracy"] > 0.8


def test_requests_of_different_shapes_are_different_programs(
    cache: Cache, trained: list[int]
) -> None:
    requests = [request(0, classes=3), request(0, classes=4), request(1, classes=3)]
    sources = ensure_sources(requests, cache)
    assert sorted(trained) == [1, 2]
    for own, classes in zip(requests, (3, 4, 3), strict=True):
        assert sources[own.key].variables["out"]["params"]["dense"]["bias"].shape == (classes,)


def test_a_net_that_diverges_is_kept_and_known(cache: Cache, trained: list[int]) -> None:
    """It would diverge again; nobody is to wait for it twice."""
    wild = request(recipe=replace(RECIPE, lr=1e38))
    sources = ensure_sources([wild], cache)
    assert sources[wild.key].metadata["diverged"]
    assert not np.isfinite(sources[wild.key].variables["out"]["params"]["dense"]["kernel"]).all()
    ensure_sources([wild], cache)
    assert trained == [1]


CHANGES: list[Callable[[], Any]] = [
    lambda: request(1),
    lambda: request(classes=2),
    lambda: request(domain=stripes("other pixels")),
    lambda: request(model=LeNet5Config(activation="relu")),
    lambda: request(recipe=replace(RECIPE, updates=41)),
    *(lambda key=key: request(recipe=replace(RECIPE, **key)) for key in UPDATES),
    lambda: request(seed=1),
    lambda: request(runs_per_device=2),
    lambda: request(steps_per_call=10),
]


def test_whatever_changes_the_weights_changes_the_key() -> None:
    keys = [request().key, *(change().key for change in CHANGES)]
    assert len(set(keys)) == len(keys)
    assert request().key == keys[0]


def test_a_damaged_net_is_trained_again(cache: Cache, trained: list[int]) -> None:
    own = request()
    quiet = Cache(cache.root, say=lambda line: None)
    (first,) = ensure_sources([own], quiet).values()
    entry = quiet.path(KIND, own.key)
    victim = max(
        (path for path in entry.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    victim.write_bytes(victim.read_bytes()[:-1] + b"?")
    (second,) = ensure_sources([own], quiet).values()
    assert trained == [1, 1]
    assert same_bits(second.variables, first.variables)


def test_nets_that_another_process_trains_are_waited_for(
    cache: Cache, trained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found locked; published by the time the lock is free."""
    own, other = request(0), request(1)
    elsewhere = ensure_sources([other], Cache(cache.root.parent / "elsewhere"))[other.key]
    trained.clear()
    lock = Cache.lock
    blocked: list[str] = []

    def held(self: Cache, kind: str, key: str, blocking: bool = True) -> Any:
        if key != other.key:
            return lock(self, kind, key, blocking)
        if not blocking:
            return contextlib.nullcontext(False)
        blocked.append(key)
        save = partial(_save_net, elsewhere)
        self.publish(kind, key, save)
        return lock(self, kind, key, blocking)

    monkeypatch.setattr(Cache, "lock", held)
    sources = ensure_sources([own, other], cache)
    assert set(sources) == {own.key, other.key}
    assert (trained, blocked) == ([1], [other.key])


def _save_net(net: SourceNet, folder: Path) -> None:
    checkpoint.save(folder / "net", *net)


def _taken(cache: Cache, requests: list[SourceRequest]) -> list[int]:
    """Which nets another process could not take now."""
    other = Cache(cache.root)
    found = []
    for index, own in enumerate(requests):
        with other.lock(KIND, own.key, blocking=False) as free:
            found += [] if free else [index]
    return found


def test_no_more_nets_are_taken_than_are_trained_at_once(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another process may take the others meanwhile; those that it has finished are not trained again."""
    requests = [request(replicate) for replicate in range(6)]
    elsewhere = ensure_sources(requests[2:3], Cache(tmp_path / "elsewhere"))[requests[2].key]
    taken: list[list[int]] = []
    train = Trainer.train

    def watched(self: Trainer, lanes: list[Run], *given: Any) -> Any:
        taken.append(_taken(cache, requests))
        assert len(taken[-1]) == len(lanes) <= self.width
        if len(taken) == 1:
            save = partial(_save_net, elsewhere)
            Cache(cache.root).publish(KIND, requests[2].key, save)
        return train(self, lanes, *given)

    monkeypatch.setattr(Trainer, "train", watched)
    sources = ensure_sources(requests, cache)
    assert taken == [[0, 1], [3, 4], [5]]
    assert set(sources) == {own.key for own in requests}
    assert _taken(cache, requests) == []


def test_a_net_whose_trainer_died_is_trained_by_who_waited(
    cache: Cache, trained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, other = request(0), request(1)
    lock = Cache.lock
    waited: list[bool] = []

    def held(self: Cache, kind: str, key: str, blocking: bool = True) -> Any:
        if key == other.key and not blocking and not waited:
            return contextlib.nullcontext(False)
        waited.extend([True] if blocking else [])
        return lock(self, kind, key, blocking)

    monkeypatch.setattr(Cache, "lock", held)
    sources = ensure_sources([own, other], cache)
    assert set(sources) == {own.key, other.key}
    assert (trained, waited) == ([1, 1], [True])


PROCESS = """
import sys
import jax
jax.config.update("jax_num_cpu_devices", 2)
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from source_requests import request
from convtl.storage.cache import Cache
from convtl.training.loop import Trainer
from convtl.training.pretrain import ensure_sources

train = Trainer.train
lanes = []
Trainer.train = lambda self, given, *rest: (lanes.extend(given), train(self, given, *rest))[1]
sources = ensure_sources([request(replicate) for replicate in range(4)], Cache(Path(sys.argv[2])))
print(len(lanes), len(sources))
"""


@pytest.mark.slow
def test_two_processes_share_the_work(tmp_path: Path) -> None:
    folder = str(Path(__file__).parent)
    command = [sys.executable, "-c", PROCESS, folder, str(tmp_path / "cache")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=240)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert [int(ready) for _, ready in said] == [4, 4]
    assert sum(int(lanes) for lanes, _ in said) == 4
    assert len(list((tmp_path / "cache" / KIND).iterdir())) == 4
