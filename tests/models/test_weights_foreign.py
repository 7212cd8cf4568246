"""Imported nets compute what PyTorch computes: random weights for every importer, the packages' own on photographs.

    CONVTL_REAL_DATA=DEST pytest -m foreign tests/models/test_weights_foreign.py

needs the extra `foreign`; DEST/folders/groceries/test/CLASS/*.jpg are photographs of goods in shops.
"""

import os
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest

from convtl.cli import compose
from convtl.config.models import FileWeights
from convtl.config.parsing import parse
from convtl.errors import UserError
from convtl.models.weights import import_weights, imported, network_of
from convtl.models.weights.files import read
from convtl.storage.cache import Cache

pytestmark = pytest.mark.foreign

CONFIG = parse(compose([]))
SIZES = {
    "efficientnet_lite1": 240,
    "efficientnet_lite2": 260,
    "efficientnet_lite3": 300,
    "efficientnet_lite4": 380,
}
NETS = [
    ("resnet18", "torchvision"),
    ("resnet34", "torchvision"),
    ("resnet50", "torchvision"),
    ("resnet50", "timm"),
    ("vgg11", "torchvision"),
    ("vgg11_bn", "torchvision"),
    ("vgg16", "timm"),
    ("alexnet", "torchvision"),
    ("mobilenet_v2", "torchvision"),
    ("mobilenet_v2", "timm"),
    ("convnext_tiny", "torchvision"),
    ("convnext_tiny", "timm"),
    ("efficientnet_lite0", "efficientnet_lite_pytorch"),
    ("efficientnet_lite0", "timm"),
    ("efficientnet_lite1", "timm"),
    ("efficientnet_lite2", "timm"),
    ("efficientnet_lite3", "timm"),
    ("efficientnet_lite4", "timm"),
]


def logits(network, variables, images: np.ndarray, batch: int = 16) -> np.ndarray:
    run = jax.jit(lambda variables, x: network.apply(variables, x)[0])
    parts = [run(variables, images[at : at + batch]) for at in range(0, len(images), batch)]
    return np.concatenate([np.asarray(part) for part in parts])


def torch_logits(net, images: np.ndarray, batch: int = 16) -> np.ndarray:
    import torch

    with torch.inference_mode():
        parts = [
            net(
                torch.from_numpy(
                    np.ascontiguousarray(images[at : at + batch].transpose(0, 3, 1, 2))
                )
            )
            for at in range(0, len(images), batch)
        ]
    return torch.cat(parts).numpy()


def agree(name: str, ours: np.ndarray, theirs: np.ndarray) -> None:
    """To 1e-3 of each image's largest logit, and the same five best in the same order."""
    relative = np.abs(ours - theirs).max(1) / np.abs(theirs).max(1)
    print(f"{name}: largest relative difference {relative.max():.1e}, {len(ours)} images")
    assert relative.max() < 1e-3
    np.testing.assert_array_equal(np.argsort(-ours, 1)[:, :5], np.argsort(-theirs, 1)[:, :5])


@pytest.mark.parametrize(("model", "naming"), NETS, ids=lambda value: value)
@pytest.mark.filterwarnings("default")
def test_logits_of_random_weights_are_those_of_pytorch(
    tmp_path: Path, model: str, naming: str
) -> None:
    import torch
    from safetensors.torch import save_file
    from torch_nets import original, randomised

    torch.manual_seed(0)
    net = randomised(original(model, naming))
    path = tmp_path / ("net.safetensors" if naming == "timm" else "net.pth")
    save_file(net.state_dict(), path) if naming == "timm" else torch.save(net.state_dict(), path)
    config = FileWeights(model=model, naming=naming, path=str(path), size=SIZES.get(model, 224))
    network = network_of(config, CONFIG.models[model])
    found = import_weights(config, network)
    images = np.random.default_rng(0).standard_normal((3, *network.input_shape)).astype(np.float32)
    agree(
        f"{model} ({naming})", logits(network, found.variables, images), torch_logits(net, images)
    )


# --- files ------------------------------------------------------------------------------------------


def test_state_dicts_come_back_however_they_are_wrapped(tmp_path: Path) -> None:
    import torch

    state = {"a.weight": torch.randn(2, 3, dtype=torch.float64), "a.count": torch.tensor(3)}
    half = {"b": torch.ones(3, dtype=torch.bfloat16).requires_grad_()}
    for content in (
        state,
        {"state_dict": state, "epoch": 3},
        {"model": state, "model_ema": state, "args": {"lr": 0.1}},
        {"net": state, "acc": 90.0},
    ):
        torch.save(content, tmp_path / "net.pth")
        found = read(tmp_path / "net.pth")
        assert found.keys() == state.keys()
        assert found["a.weight"].dtype == np.float32
        np.testing.assert_array_equal(found["a.weight"], state["a.weight"].float().numpy())
        assert found["a.count"] == 3
    torch.save(half, tmp_path / "net.pth", _use_new_zipfile_serialization=False)
    np.testing.assert_array_equal(read(tmp_path / "net.pth")["b"], np.ones(3, np.float32))


class _Harmful:
    def __reduce__(self):
        return os.system, ("touch harmed",)


@pytest.mark.parametrize("content", ["object", "list", "text", "nested"])
@pytest.mark.filterwarnings("default")
def test_what_is_no_state_dict_is_refused_and_never_run(
    tmp_path: Path, monkeypatch, content: str
) -> None:
    import torch

    monkeypatch.chdir(tmp_path)
    kinds = {
        "object": {"a": _Harmful()},
        "list": [torch.ones(3)],
        "text": {"a": "b"},
        "nested": {"a": {"b": 1}},
    }
    torch.save(kinds[content], "net.pth")
    with pytest.raises(
        UserError, match=r"holds a program or Python object|is no state dict|is not a plain tensor"
    ) as error:
        read(tmp_path / "net.pth")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("modern", [True, False])
@pytest.mark.filterwarnings("default")
def test_a_truncated_pytorch_file_is_never_read(tmp_path: Path, modern: bool) -> None:
    import torch

    torch.save(
        {"a": torch.randn(50, 50)}, tmp_path / "net.pth", _use_new_zipfile_serialization=modern
    )
    whole = (tmp_path / "net.pth").read_bytes()
    for size in (0, 1, 50, 1000, len(whole) - 100):
        (tmp_path / "net.pth").write_bytes(whole[:size])
        with pytest.raises(UserError, match="is damaged or"):
            read(tmp_path / "net.pth")


@pytest.mark.filterwarnings("default")
def test_python_objects_and_programs_are_named_with_what_to_save_instead(tmp_path: Path) -> None:
    import argparse

    import torch

    net = torch.nn.Linear(2, 3)
    cases = {
        "args.pth": ({"state_dict": net.state_dict(), "args": argparse.Namespace()}, "Namespace"),
        "model.pth": (net, "Linear"),
    }
    for name, (content, named) in cases.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(UserError, match=rf"{named}.*torch.save\(model.state_dict\(\), PATH\)"):
            read(tmp_path / name)
    torch.jit.script(net).save(tmp_path / "script.pt")
    with pytest.raises(UserError, match=r"\(TorchScript\).*; save the weights alone"):
        read(tmp_path / "script.pt")


# --- real photographs -------------------------------------------------------------------------------


@cache
def photographs(size: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """64 photographs (uint8) of the test split and their classes, spread over the classes."""
    from PIL import Image

    place = os.environ.get("CONVTL_REAL_DATA")
    folder = Path(place or "").expanduser() / "folders" / "groceries" / "test"
    if not place or not folder.is_dir():
        pytest.fail(
            f"set CONVTL_REAL_DATA to a folder with folders/groceries/test/CLASS/*.jpg; got {place!r}"
        )
    classes = [sorted(one.glob("*.jpg")) for one in sorted(folder.iterdir())]
    paths = [paths[place] for place in range(8) for paths in classes if place < len(paths)][:64]
    assert len(paths) == 64
    side = round(size / 0.875)
    images = []
    for path in paths:
        image = Image.open(path).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
        edge = (side - size) // 2
        images.append(np.asarray(image.crop((edge, edge, edge + size, edge + size))))
    return np.stack(images), tuple(path.parent.name for path in paths)


EXPECTED = {"Granny-Smith": 948, "Orange": 950}
"""Class of the photographs -> ImageNet's index for it."""


def plausible(values: np.ndarray, classes: tuple[str, ...]) -> float:
    """Share of the obvious photographs of which ImageNet's class is among the five best."""
    best = np.argsort(-values, 1)[:, :5]
    hits = [EXPECTED[name] in best[at] for at, name in enumerate(classes) if name in EXPECTED]
    print(f"obvious goods among the five best: {sum(hits)} of {len(hits)}")
    return float(np.mean(hits))


def prepared(name: str):
    """A registry entry's net, imported, and the photographs as it expects them."""
    config = CONFIG.weights[name]
    pixels, classes = photographs(config.size)
    images = (pixels - np.float32(config.mean)) / np.float32(config.std)
    return (
        config,
        network_of(config, CONFIG.models[config.model]),
        images.astype(np.float32),
        classes,
    )


@pytest.mark.parametrize("name", ["imagenet_efficientnet_lite0", "imagenet_mobilenet_v2"])
@pytest.mark.filterwarnings("default")
def test_packaged_nets_see_photographs_as_pytorch_does(tmp_path: Path, name: str) -> None:
    import torch
    from torch_nets import original

    from convtl.models.weights.files import find

    config, network, images, classes = prepared(name)
    found = imported(config, CONFIG.models[config.model], Cache(tmp_path))
    net = original(config.model, config.naming)
    net.load_state_dict(torch.load(find(config), weights_only=True, map_location="cpu"))
    ours = logits(network, found.variables, images)
    agree(name, ours, torch_logits(net, images))
    assert plausible(ours, classes) > 0.7
