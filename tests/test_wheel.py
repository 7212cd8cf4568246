"""convtl as others get it: from its wheel, in a folder that is not the checkout, with their own conf/."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import tiny

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The wheel's content, unpacked where nothing else is."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(ROOT),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("convtl-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """A working directory with an experiment and a domain of the user's own."""
    work = tmp_path / "else where"
    for name, text in {
        "domains/runes.yaml": "kind: typed_script\nscript: greek\nsize: 16\n"
        "per_class: {train: 16, validation: 4, test: 8}\n",
        "experiment/mine.yaml": "# @package _global_\nstudy: mine\nsource: [random, scratch]\ntarget: runes\n"
        "depth: [1, 5]\nn_per_class: 2\nlr: 1e-2\n",
    }.items():
        path = work / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return work


def python(site: Path, work: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs a module of the unpacked wheel; the checkout is not on the path."""
    environment = dict(os.environ, PYTHONPATH=str(site))
    command = [sys.executable, "-W", "error::UserWarning:convtl", *words]
    return subprocess.run(
        command, cwd=work, env=environment, capture_output=True, text=True, timeout=280, check=False
    )


def test_the_wheel_holds_conf_and_no_tests(installed) -> None:
    conf = installed / "convtl" / "conf"
    files = {path.relative_to(conf) for path in conf.rglob("*.yaml")}
    assert files == {path.relative_to(ROOT / "conf") for path in (ROOT / "conf").rglob("*.yaml")}
    assert not (installed / "tests").exists()
    assert not (installed / "conf").exists()


def test_the_code_that_runs_is_the_wheels(installed, elsewhere) -> None:
    done = python(installed, elsewhere, "-c", "import convtl; print(convtl.__file__)")
    assert done.stdout.strip() == str(installed / "convtl" / "__init__.py")


def test_describe_works_anywhere(installed, elsewhere) -> None:
    done = python(installed, elsewhere, "-m", "convtl.describe", "model=lenet5")
    assert done.returncode == 0, done.stderr
    assert "61,706" in done.stdout


def test_a_study_of_the_users_own_works_anywhere(installed, elsewhere) -> None:
    named = ("source", "target", "depth", "n_per_class", "domains")
    words = [word for word in tiny.WORDS if not word.startswith(named)]
    done = python(
        installed, elsewhere, "-m", "convtl.run", "+experiment=mine", "debug=smoke", *words
    )
    assert done.returncode == 0, done.stderr
    out = elsewhere / "outputs" / "mine-smoke"
    assert sorted(path.name for path in elsewhere.iterdir()) == ["conf", "outputs"]
    assert (out / "results.csv").read_text().count("\n") == 1 + 3
    for name in ("report.md", "report.html"):
        assert (out / name).stat().st_size > 1000
    rebuilt = python(installed, elsewhere, "-m", "convtl.report", f"out={out}")
    assert rebuilt.returncode == 0, rebuilt.stderr
    refused = python(installed, elsewhere, "-m", "convtl.run", "+experiment=mein")
    assert refused.returncode == 2
    assert "Did you mean mine?" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
