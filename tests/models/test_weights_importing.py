"""Foreign names and layouts -> the net's: every value lands where it belongs, and nothing is left over."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from foreign_files import drawn, listings, shapes, write_shards
from safetensors.numpy import save_file

from convtl.cli import compose
from convtl.config.models import AlexNetConfig, ResNetConfig, VggConfig
from convtl.config.parsing import parse
from convtl.config.weights import FileWeights
from convtl.errors import UserError
from convtl.models.registry import build_network
from convtl.models.weights import (
    import_weights,
    imported,
    imported_key,
    locate,
    network_of,
    origin_identity,
)
from convtl.models.weights.importing import leaves, make_plan
from convtl.storage.cache import Cache

MODELS = parse(compose([])).models
SIZES = {
    "efficientnet_lite1": 240,
    "efficientnet_lite2": 260,
    "efficientnet_lite3": 300,
    "efficientnet_lite4": 380,
}
TINY = {
    "resnet18": ResNetConfig(layers=18, width=4),
    "resnet50": ResNetConfig(layers=50, width=4),
    "resnet50_keras": replace(MODELS["resnet50_keras"], width=4),
    "vgg11": VggConfig(layers=11, width=4),
    "vgg11_bn": VggConfig(layers=11, norm="batch", width=4),
    "alexnet": AlexNetConfig(width=4),
}
SMALL = (
    "resnet18_torchvision",
    "resnet50_timm",
    "resnet50_keras",
    "vgg11_timm",
    "vgg11_bn_torchvision",
    "alexnet_torchvision",
)


def weights(model: str, naming: str, path: Path | str = "net.safetensors", **others) -> FileWeights:
    return FileWeights(model=model, naming=naming, path=str(path), **others)


def network(model: str, classes: int = 1000, size: int | None = None):
    side = size or SIZES.get(model, 224)
    return build_network(MODELS[model], (side, side, 3), classes)


def flat(variables) -> dict[str, np.ndarray]:
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        found["/".join(str(step.key) for step in path)] = leaf
    return found


def written(tmp_path: Path, arrays, naming: str) -> Path:
    if naming == "keras":
        return write_shards(tmp_path / "shards", arrays, 10**6)
    save_file(arrays, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def check_values(
    leaf: str, value: np.ndarray, given: np.ndarray, before: tuple[int, ...], naming: str
) -> None:
    """Compares a leaf with the file's array by index, at random places."""
    rng = np.random.default_rng(len(leaf))
    for _ in range(12):
        at = tuple(int(rng.integers(side)) for side in value.shape)
        if naming == "keras":
            there = given[at]
        elif value.ndim == 4:
            row, column, incoming, out = at
            there = given[out, incoming, row, column] if given.ndim == 4 else given[out, incoming]
        elif value.ndim == 2:
            pixel, out = at
            if len(before) == 3 and np.prod(before) == value.shape[0]:
                _, width, channels = before
                row, column, channel = (
                    pixel // (width * channels),
                    pixel // channels % width,
                    pixel % channels,
                )
                maps = given.reshape(given.shape[0], channels, before[0], width)
                there = maps[out, channel, row, column]
            else:
                there = given.reshape(value.shape[::-1])[out, pixel]
        else:
            there = given.reshape(-1)[at[0]]
        assert value[at] == there, f"{leaf} at {at}"


LONG = [
    f"efficientnet_lite{variant}_timm" for variant in (1, 2, 3)
]  # 4 is the longest of their kind
EVERY = [
    pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in listings()
]


@pytest.mark.parametrize("listing", EVERY)
def test_every_leaf_of_every_listing_has_one_counterpart(listing: str) -> None:
    model, naming = listings()[listing]
    net, given = network(model), shapes(listing)
    report = make_plan(weights(model, naming), net, given).report
    wanted = dict(leaves(net.abstract_variables))
    assert report.loaded.keys() == wanted.keys()
    assert not report.fresh
    assert set(report.loaded.values()) | report.ignored.keys() == given.keys()
    assert len(set(report.loaded.values())) == len(report.loaded)
    assert all(name.endswith("num_batches_tracked") for name in report.ignored)


@pytest.mark.parametrize(
    ("listing", "leaf", "name"),
    [
        ("resnet18_torchvision", "stem/params/conv/kernel", "conv1.weight"),
        (
            "resnet18_torchvision",
            "stage2_block1/batch_stats/down_norm/var",
            "layer2.0.downsample.1.running_var",
        ),
        ("resnet50_torchvision", "stage3_block2/params/norm3/scale", "layer3.1.bn3.weight"),
        ("resnet50_timm", "head/params/dense/bias", "fc.bias"),
        ("resnet50_keras", "stem/params/norm/bias", "bn_conv1/beta"),
        ("resnet50_keras", "stage3_block6/params/conv2/bias", "res4f_branch2b/bias"),
        ("resnet50_keras", "stage1_block1/batch_stats/down_norm/mean", "bn2a_branch1/moving_mean"),
        ("vgg11_torchvision", "conv5_2/params/conv/kernel", "features.18.weight"),
        ("vgg16_bn_torchvision", "conv5_3/batch_stats/norm/mean", "features.41.running_mean"),
        ("vgg16_timm", "fc6/params/dense/kernel", "pre_logits.fc1.weight"),
        ("vgg16_torchvision", "fc7/params/dense/kernel", "classifier.3.weight"),
        ("alexnet_torchvision", "conv4/params/conv/bias", "features.8.bias"),
        ("alexnet_torchvision", "fc8/params/dense/bias", "classifier.6.bias"),
        ("mobilenet_v2_torchvision", "block01/params/project/kernel", "features.1.conv.1.weight"),
        (
            "mobilenet_v2_torchvision",
            "block02/params/depthwise/kernel",
            "features.2.conv.1.0.weight",
        ),
        (
            "mobilenet_v2_torchvision",
            "block17/params/project_norm/scale",
            "features.17.conv.3.weight",
        ),
        ("mobilenet_v2_timm", "block01/params/project_norm/scale", "blocks.0.0.bn2.weight"),
        ("mobilenet_v2_timm", "block04/params/expand/kernel", "blocks.2.0.conv_pw.weight"),
        ("efficientnet_lite0_timm", "block16/params/project/kernel", "blocks.6.0.conv_pwl.weight"),
        (
            "efficientnet_lite4_timm",
            "block02/batch_stats/depthwise_norm/var",
            "blocks.1.0.bn2.running_var",
        ),
        (
            "efficientnet_lite0_efficientnet_lite_pytorch",
            "block01/params/project_norm/bias",
            "_blocks.0._bn2.bias",
        ),
        ("efficientnet_lite0_efficientnet_lite_pytorch", "top/params/norm/scale", "_bn1.weight"),
        ("convnext_tiny_torchvision", "down3/params/conv/kernel", "features.4.1.weight"),
        ("convnext_tiny_torchvision", "stage3_block9/params/gamma", "features.5.8.layer_scale"),
        (
            "convnext_tiny_timm",
            "stage4_block3/params/project/kernel",
            "stages.3.blocks.2.mlp.fc2.weight",
        ),
        ("convnext_tiny_timm", "head/params/norm/scale", "head.norm.weight"),
    ],
)
def test_leaves_come_from_the_layer_that_stands_in_their_place(
    listing: str, leaf: str, name: str
) -> None:
    model, naming = listings()[listing]
    assert (
        make_plan(weights(model, naming), network(model), shapes(listing)).report.loaded[leaf]
        == name
    )


@pytest.mark.parametrize("listing", [*SMALL, "efficientnet_lite0_timm", "mobilenet_v2_torchvision"])
def test_every_value_lands_in_its_place(tmp_path: Path, listing: str) -> None:
    model, naming = listings()[listing]
    tiny = TINY.get(model)
    arrays = drawn(shapes(listing, 4 if tiny else 64))
    net = build_network(tiny or MODELS[model], (224, 224, 3), 1000)
    found = import_weights(weights(model, naming, written(tmp_path, arrays, naming)), net)
    assert list(found.variables) == list(net.names)
    values = flat(found.variables)
    assert values.keys() == found.report.loaded.keys()
    assert jax.tree.structure(found.variables) == jax.tree.structure(net.abstract_variables)
    for leaf, value in values.items():
        assert value.dtype == np.float32
        assert value.flags.c_contiguous
        before = net.shape_before(net.index(leaf.partition("/")[0]))
        check_values(leaf, value, arrays[found.report.loaded[leaf]], before, naming)


@pytest.fixture
def resnet(tmp_path: Path):
    """A tiny ResNet-18, its arrays, and how they are imported."""
    net = build_network(TINY["resnet18"], (32, 32, 3), 1000)
    arrays = drawn(shapes("resnet18_torchvision", 4))

    def bring(change=lambda arrays: None, net=net, **others):
        change(arrays)
        path = written(tmp_path, arrays, "torchvision")
        return import_weights(
            weights("resnet18", "torchvision", path, **others), net, "weights.mine"
        )

    return net, arrays, bring


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda arrays: arrays.pop("layer2.0.conv1.weight"),
            "leaves 1 of the net not in the file: stage2_block1/params/conv1/kernel (layer2.0.conv1.weight)",
        ),
        (
            lambda arrays: arrays.update({"layer9.0.conv1.weight": np.ones(3, np.float32)}),
            "leaves 1 of the file not in the net: layer9.0.conv1.weight",
        ),
        (
            lambda arrays: arrays.update({"conv1.weight": np.ones((4, 3, 5, 5), np.float32)}),
            "leaves 1 of another shape: conv1.weight (4, 3, 5, 5) for stem/params/conv/kernel (7, 7, 3, 4)",
        ),
        (
            lambda arrays: arrays.update({"fc.weight": arrays["fc.weight"].T.copy()}),
            "leaves 1 of another shape: fc.weight (32, 1000) for head/params/dense/kernel (32, 1000)",
        ),
        (
            lambda arrays: (
                arrays.update({"bn1.extra": np.ones(4, np.float32)}) or arrays.pop("bn1.bias")
            ),
            "leaves 1 of the net not in the file: stem/params/norm/bias (bn1.bias); 1 of the file not in the net: "
            "bn1.extra",
        ),
    ],
)
def test_a_leaf_without_a_counterpart_is_an_error_that_names_it(
    resnet, change, expected: str
) -> None:
    _, _, bring = resnet
    with pytest.raises(UserError) as error:
        bring(change)
    text = str(error.value)
    assert text.startswith("weights.mine: ")
    assert "does not fit model 'resnet18' by the names of torchvision" in text
    assert text.endswith(expected)


def test_of_many_leaves_the_first_are_named() -> None:
    given = shapes("resnet50_torchvision")
    with pytest.raises(
        UserError, match=r"leaves \d+ of another shape: .*, \.\.\.; \d+ of the file not in the net"
    ):
        make_plan(weights("resnet18", "torchvision"), network("resnet18"), given)


def test_names_of_another_family_are_refused() -> None:
    with pytest.raises(
        UserError,
        match=r"^weights\.naming: got 'keras', which is known for .* resnet; this one is vgg",
    ):
        make_plan(weights("vgg11", "keras"), network("vgg11"), {})


def test_grey_images_are_refused() -> None:
    net = build_network(TINY["resnet18"], (32, 32, 1), 1000)
    with pytest.raises(
        UserError, match=r"for images of three channels; got images of shape \(32, 32, 1\)"
    ):
        make_plan(weights("resnet18", "torchvision"), net, {})


def test_auxiliary_heads_are_left_out_and_said(resnet) -> None:
    _, _, bring = resnet
    report = bring(
        lambda arrays: arrays.update({"aux_classifier.0.weight": np.ones(3, np.float32)})
    ).report
    assert report.ignored["aux_classifier.0.weight"] == "auxiliary head, used in training only"
    assert report.ignored["bn1.num_batches_tracked"] == "counts the batches of training"


def test_a_head_for_other_classes_stays_fresh_and_says_why(resnet) -> None:
    _, _, bring = resnet
    net = build_network(TINY["resnet18"], (32, 32, 3), 14)
    found = bring(net=net)
    reason = "the file's head is for 1000 classes, the net's for 14"
    assert found.report.fresh == {
        "head/params/dense/kernel": reason,
        "head/params/dense/bias": reason,
    }
    assert found.report.ignored["fc.weight"] == found.report.ignored["fc.bias"] == reason
    assert not np.any(found.variables["head"]["params"]["dense"]["kernel"])
    assert found.variables["head"]["params"]["dense"]["kernel"].shape == (32, 14)


def test_a_first_kernel_for_blue_green_red_takes_red_green_blue_afterwards(resnet) -> None:
    _, arrays, bring = resnet
    plain, turned = bring(), bring(channels="bgr")
    kernel = turned.variables["stem"]["params"]["conv"]["kernel"]
    assert kernel[6, 1, 0, 3] == arrays["conv1.weight"][3, 2, 6, 1]
    others = [
        leaf
        for leaf, value in flat(plain.variables).items()
        if not np.array_equal(value, flat(turned.variables)[leaf])
    ]
    assert others == ["stem/params/conv/kernel"]


def test_another_file_than_the_one_meant_is_refused(resnet) -> None:
    _, _, bring = resnet
    right = bring().digest
    assert bring(sha256=right).digest == right
    with pytest.raises(
        UserError, match=r"^weights\.mine\.sha256: .* is not the file that is meant"
    ):
        bring(sha256="0" * 64)


# --- in the cache -----------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path: Path):
    arrays = drawn(shapes("resnet18_torchvision", 4))
    path = written(tmp_path, arrays, "torchvision")
    said: list[str] = []
    return (
        weights("resnet18", "torchvision", path),
        TINY["resnet18"],
        Cache(tmp_path / "cache", said.append),
        said,
    )


def same(one, two) -> bool:
    return all(
        np.array_equal(a, b) for a, b in zip(flat(one).values(), flat(two).values(), strict=True)
    )


def test_an_imported_net_comes_from_the_cache_when_it_is_there(stored, monkeypatch) -> None:
    config, model, cache, _ = stored
    first = imported(config, model, cache)
    assert same(first.variables, import_weights(config, network_of(config, model)).variables)
    monkeypatch.setattr("convtl.models.weights.stored.import_weights", None)
    again = imported(config, model, cache)
    assert same(first.variables, again.variables)
    assert list(again.variables) == list(first.variables)
    assert (again.report, again.digest) == (first.report, first.digest)


def test_with_a_known_digest_the_file_is_not_needed_again(stored) -> None:
    config, model, cache, _ = stored
    first = imported(config, model, cache)
    Path(config.path).unlink()
    named = replace(config, sha256=first.digest)
    assert same(imported(named, model, cache).variables, first.variables)
    with pytest.raises(UserError, match="there is no file"):
        imported(config, model, cache)


def test_a_damaged_entry_is_imported_again(stored) -> None:
    config, model, cache, said = stored
    first = imported(config, model, cache)
    metadata = cache.path("imported", imported_key(config, model)) / "net" / "metadata.json"
    metadata.write_text(json.dumps(json.loads(metadata.read_text())) + " ")
    assert same(imported(config, model, cache).variables, first.variables)
    assert "is not used (net/metadata.json is damaged)" in said[0]


def test_identities_follow_content_and_not_place(stored, tmp_path: Path) -> None:
    config, model, _, _ = stored
    moved = tmp_path / "else where.safetensors"
    moved.write_bytes(Path(config.path).read_bytes())
    elsewhere = replace(config, path=str(moved), install="x")
    assert origin_identity(elsewhere) == origin_identity(config)
    assert imported_key(elsewhere, model) == imported_key(config, model)
    for other in (
        replace(config, channels="bgr"),
        replace(config, classes=10),
        replace(config, size=32),
    ):
        assert origin_identity(other) != origin_identity(config)
        assert imported_key(other, model) != imported_key(config, model)
    seen_otherwise = replace(config, mean=(0.0, 0.0, 0.0))
    assert origin_identity(seen_otherwise) != origin_identity(config)
    assert imported_key(seen_otherwise, model) == imported_key(config, model)
    assert imported_key(config, replace(model, epsilon=1e-3)) != imported_key(config, model)


def test_before_a_study_it_is_known_whether_its_weights_are_at_hand(stored) -> None:
    config, model, cache, _ = stored
    locate(config, model, cache, "weights.mine")
    named = replace(config, sha256=imported(config, model, cache).digest)
    Path(config.path).unlink()
    locate(named, model, cache)
    with pytest.raises(UserError, match=r"^weights\.mine\.path: there is no file"):
        locate(named, replace(model, epsilon=1e-3), cache, "weights.mine")
