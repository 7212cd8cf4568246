"""Full, read-only and vanished disks: one line that says what is saved, and nothing that a later run trips over."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import disks
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> Iterator[dict[str, Any]]:
    """What came of each case of `disks`, all run by one process in a mount namespace of its own."""
    root = tmp_path_factory.mktemp("disks")
    tried = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", str(root)]
    try:
        subprocess.run(tried, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("nothing can be mounted here (unshare -rm)")
    command = ["unshare", "-rm", sys.executable, disks.__file__, str(root)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def refused(case: dict[str, Any]) -> str:
    """The one line of a run that was refused or ended."""
    assert case["code"] == 2, case
    said = "\n".join(case["said"])
    assert "Traceback" not in said
    assert "Warning" not in said
    (line,) = [line for line in case["said"] if line.startswith("convtl: ")]
    assert not [name for name in case["left"] if name.startswith(".") and name != ".locks"]
    return line.removeprefix("convtl: ")


def test_a_disk_that_fills_up_keeps_whole_rows_and_the_next_run_goes_on(cases) -> None:
    line = refused(cases["full"])
    assert re.fullmatch(r"out: cannot write in '.*': No space left on device", line)
    assert 0 < cases["full rows"] < disks.TRIALS
    assert cases["room again"]["code"] == 0
    assert cases["room again is whole"]


def test_a_report_that_finds_no_room_is_written_later(cases) -> None:
    line = refused(cases["no room for the report"])
    assert line.startswith("out: cannot write in ")
    assert cases["room for the report"]["code"] == 0
    assert {"report.html", "report.md", "figures"} <= set(cases["room for the report"]["left"])


def test_a_full_cache_is_no_damaged_cache(cases) -> None:
    line = refused(cases["full cache"])
    assert re.match(r"cache: .*/sources/\w+/net: cannot be written \(no space left on device", line)
    assert cases["room in the cache"]["code"] == 0
    assert cases["room in the cache is whole"]


def test_a_cache_that_can_only_be_read_will_do(cases) -> None:
    assert cases["cache that is only read"]["code"] == 0
    assert not [line for line in cases["cache that is only read"]["said"] if "arning" in line]
    assert cases["cache that is only read is whole"]
    line = refused(cases["empty cache that is only read"])
    assert line.startswith("cache: cannot write in ")
    assert "Read-only file system" in line


def test_an_out_that_can_only_be_read(cases) -> None:
    assert refused(cases["out that is only read"]).endswith(": Read-only file system")


@pytest.mark.parametrize("case", ["unmounted", "renamed"])
def test_an_out_that_goes_away_is_missed_and_not_made_anew(cases, case) -> None:
    line = refused(cases[case])
    assert re.fullmatch(r"out: cannot write in '.*': No such file or directory", line)
    assert cases[case]["left"] == []
    assert cases["renamed rows"] == 4
