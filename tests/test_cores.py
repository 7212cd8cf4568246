import pytest

from convtl.runtime import backend as cores


@pytest.mark.parametrize(
    ("limit", "found"), [("150000 100000", 1), ("max 100000", None), ("100 100000", 1), ("", None)]
)
def test_a_containers_quota_is_kept(tmp_path, monkeypatch, limit, found) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text(limit)
    monkeypatch.setattr(cores, "_QUOTA", quota)
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda process: set(range(4)), raising=False)
    assert cores.core_count() == (found or 4)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"SLURM_CPUS_PER_TASK": "2"}, 2),
        ({"CONVTL_CORES": "1"}, 1),
        ({"SLURM_CPUS_PER_TASK": "64"}, 4),
        ({"SLURM_CPUS_PER_TASK": "3", "CONVTL_CORES": "2"}, 2),
        ({"CONVTL_CORES": "0"}, 1),
        ({"CONVTL_CORES": "x"}, 4),
    ],
)
def test_what_a_cluster_or_a_launcher_gives_is_kept(tmp_path, monkeypatch, said, found) -> None:
    monkeypatch.setattr(cores, "_QUOTA", tmp_path / "none")
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda process: set(range(4)), raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert cores.core_count() == found
