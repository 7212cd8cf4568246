import pytest

from convtl import cores


@pytest.mark.parametrize(
    ("limit", "found"), [("150000 100000", 1), ("max 100000", None), ("100 100000", 1), ("", None)]
)
def test_a_containers_quota_is_kept(tmp_path, monkeypatch, limit, found) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text(limit)
    monkeypatch.setattr(cores, "_QUOTA", quota)
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda process: set(range(4)), raising=False)
    assert cores.core_count() == (found or 4)
