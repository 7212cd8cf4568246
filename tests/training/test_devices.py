import jax
import pytest

from convtl.training import devices
from convtl.training.devices import device_line, use_all_cores


def test_devices_are_taken_as_they_are_once_jax_is_used() -> None:
    before = jax.local_devices()
    use_all_cores()
    assert jax.local_devices() == before
    assert device_line() == f"{len(before)} x {before[0].device_kind}"


@pytest.mark.parametrize(
    ("limit", "cores"), [("150000 100000", 1), ("max 100000", None), ("100 100000", 1), ("", None)]
)
def test_a_containers_quota_is_kept(tmp_path, monkeypatch, limit, cores) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text(limit)
    monkeypatch.setattr(devices, "_QUOTA", quota)
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda process: set(range(4)), raising=False)
    assert devices._cores() == (cores or 4)
