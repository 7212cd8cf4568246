"""Where files of weights are found, and what is said where they are not."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from convtl.cli import compose
from convtl.config.models import FileWeights, HubWeights, PackageWeights
from convtl.config.parsing import parse
from convtl.errors import UserError
from convtl.models.weights import files

KEY = "weights.mine"
PACKAGE = PackageWeights(
    model="resnet18", naming="torchvision", package="carrier-of-weights", file="carrier/net.pth"
)
HUB = HubWeights(model="resnet18", naming="timm", repo="timm/resnet18.tv_in1k", revision="abc")


def line(config) -> str:
    with pytest.raises(UserError) as error:
        files.find(config, KEY)
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith(KEY)
    return text


@pytest.fixture
def installed(tmp_path: Path, monkeypatch) -> Path:
    """A folder of installed packages, one of which carries weights and must not be run."""
    site = tmp_path / "site-packages"
    (site / "carrier").mkdir(parents=True)
    (site / "carrier" / "__init__.py").write_text("raise SystemExit('the code of the package ran')")
    facts = site / "carrier_of_weights-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: carrier-of-weights\nVersion: 1.0\n"
    )
    monkeypatch.syspath_prepend(str(site))
    return site


def test_a_file_in_a_package_is_found_without_running_the_package(installed: Path) -> None:
    (installed / "carrier" / "net.pth").write_bytes(b"x")
    assert files.find(PACKAGE) == installed / "carrier" / "net.pth"
    assert "carrier" not in sys.modules


def test_what_a_package_does_not_have_is_said(installed: Path) -> None:
    text = line(PACKAGE)
    assert text.startswith(f"{KEY}.file: package carrier-of-weights has no file carrier/net.pth")


def test_a_missing_package_says_how_to_get_it() -> None:
    assert line(PACKAGE).endswith(
        "carrier-of-weights is not installed; pip install carrier-of-weights"
    )


def test_paths_are_taken_as_typed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my nets [1]").mkdir()
    (tmp_path / "my nets [1]" / "net.pth").write_bytes(b"x")
    for typed in ("~/my nets [1]/net.pth", "my nets [1]/net.pth"):
        found = files.find(FileWeights(model="resnet18", naming="torchvision", path=typed))
        assert found == tmp_path / "my nets [1]" / "net.pth"
    gone = FileWeights(model="resnet18", naming="torchvision", path="gone.pth", install="fetch it")
    assert line(gone) == f"{KEY}.path: there is no file {tmp_path / 'gone.pth'}; fetch it"


FILE = {"repo_id": HUB.repo, "filename": "model.safetensors", "revision": "abc"}


@pytest.fixture
def hub(monkeypatch, tmp_path: Path):
    """A stand-in for the hub's client."""

    def fetch(**request):
        client.requests.append(request)
        if client.fault:
            raise client.fault
        return str(tmp_path / "fetched.safetensors")

    client = SimpleNamespace(
        requests=[],
        fault=None,
        try_to_load_from_cache=lambda **file: None,
        hf_hub_download=fetch,
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)
    return client


def test_what_the_hub_has_on_this_machine_needs_no_network(hub, tmp_path: Path) -> None:
    cached = str(tmp_path / "cached.safetensors")
    hub.try_to_load_from_cache = lambda **file: cached if file == FILE else None
    assert files.find(HUB) == Path(cached)
    assert not hub.requests


def test_a_file_is_fetched_once_and_faults_are_one_line(hub, tmp_path: Path) -> None:
    assert files.find(HUB) == tmp_path / "fetched.safetensors"
    assert hub.requests == [FILE | {"etag_timeout": 5.0}]
    hub.fault = RuntimeError("404 Client Error.\n\nRepository not found")
    assert line(HUB) == (
        f"{KEY}: model.safetensors of hub repository timm/resnet18.tv_in1k is not on this machine and cannot be "
        "fetched (404 Client Error. Repository not found)"
    )
    assert len(hub.requests) == 2


def test_without_the_hubs_client_the_line_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'convtl[hub]'" in line(HUB)


def test_every_entry_is_for_a_model_that_there_is() -> None:
    config = parse(compose([]))
    assert {"imagenet_efficientnet_lite0", "imagenet_mobilenet_v2"} <= set(config.weights)
    for name, entry in config.weights.items():
        assert entry.model in config.models, name
        assert name.startswith("imagenet_")
