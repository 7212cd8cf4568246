"""Foreign names and layouts -> the net's: every value lands where it belongs, and nothing is left over."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from foreign_files import drawn, listings, shapes
from safetensors.numpy import save_file

from convtl.cli import compose
from convtl.config.models import FileWeights
from convtl.config.parsing import parse
from convtl.errors import UserError
from convtl.models.classic import AlexNetConfig, VggConfig
from convtl.models.registry import build_network
from convtl.models.resnet import ResNetConfig
from convtl.models.weights import (
    check,
    import_weights,
    imported,
    imported_key,
    match_leaves,
    network_of,
    origin_identity,
)
from convtl.models.weights.naming import leaf_shapes
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
    "vgg11": VggConfig(layers=11, width=4),
    "vgg11_bn": VggConfig(layers=11, norm="batch", width=4),
    "alexnet": AlexNetConfig(width=4),
}
SMALL = (
    "resnet18_torchvision",
    "resnet50_timm",
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


def written(tmp_path: Path, arrays) -> Path:
    save_file(arrays, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def check_values(leaf: str, value: np.ndarray, given: np.ndarray, before: tuple[int, ...]) -> None:
    """Compares a leaf with the file's array by index, at random places."""
    rng = np.random.default_rng(len(leaf))
    for _ in range(12):
        at = tuple(int(rng.integers(side)) for side in value.shape)
        if value.ndim == 4:
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


LONG = (*(f"efficientnet_lite{variant}" for variant in (1, 2, 3, 4)), "resnet34", "vgg16")
EVERY = [
    pytest.param(name, marks=pytest.mark.slow) if name.startswith(LONG) else name
    for name in listings()
]


@pytest.mark.parametrize("listing", EVERY)
def test_every_leaf_of_every_listing_has_one_counterpart(listing: str) -> None:
    model, naming = listings()[listing]
    net, given = network(model), shapes(listing)
    origins = match_leaves(weights(model, naming), net, given)
    assert origins.keys() == leaf_shapes(net.abstract_variables).keys()
    names = [name for name, _ in origins.values()]
    assert len(set(names)) == len(names)
    assert all(name.endswith("num_batches_tracked") for name in given.keys() - set(names))


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
    origins = match_leaves(weights(model, naming), network(model), shapes(listing))
    assert origins[leaf][0] == name


@pytest.mark.parametrize("listing", [*SMALL, "efficientnet_lite0_timm", "mobilenet_v2_torchvision"])
def test_every_value_lands_in_its_place(tmp_path: Path, listing: str) -> None:
    model, naming = listings()[listing]
    tiny = TINY.get(model)
    arrays = drawn(shapes(listing, 4 if tiny else 64))
    net = build_network(tiny or MODELS[model], (224, 224, 3), 1000)
    config = weights(model, naming, written(tmp_path, arrays))
    found = import_weights(config, net)
    origins = match_leaves(config, net, {name: a.shape for name, a in arrays.items()})
    assert list(found.variables) == list(net.names)
    values = flat(found.variables)
    assert values.keys() == origins.keys()
    assert jax.tree.structure(found.variables) == jax.tree.structure(net.abstract_variables)
    for leaf, value in values.items():
        assert value.dtype == np.float32
        assert value.flags.c_contiguous
        before = net.shape_before(net.index(leaf.partition("/")[0]))
        check_values(leaf, value, arrays[origins[leaf][0]], before)


@pytest.fixture
def resnet(tmp_path: Path):
    """A tiny ResNet-18, its arrays, and how they are imported."""
    net = build_network(TINY["resnet18"], (32, 32, 3), 1000)
    arrays = drawn(shapes("resnet18_torchvision", 4))

    def bring(change=lambda arrays: None, net=net, **others):
        change(arrays)
        path = written(tmp_path, arrays)
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
        match_leaves(weights("resnet18", "torchvision"), network("resnet18"), given)


def test_names_of_another_family_are_refused() -> None:
    with pytest.raises(
        UserError,
        match=r"^weights\.naming: got 'efficientnet_lite_pytorch' for a net of vgg; accepted: nets of inverted_",
    ):
        match_leaves(weights("vgg11", "efficientnet_lite_pytorch"), network("vgg11"), {})


def test_leaves_of_training_only_are_left_out(resnet) -> None:
    _, _, bring = resnet
    bring(lambda arrays: arrays.update({"aux_classifier.0.weight": np.ones(3, np.float32)}))


def renamed(arrays, rename) -> None:
    for name in list(arrays):
        arrays[rename(name)] = arrays.pop(name)


@pytest.mark.parametrize(
    ("change", "zeros"),
    [
        (lambda arrays: renamed(arrays, "module.{}".format), False),
        (lambda arrays: renamed(arrays, "_orig_mod.module.{}".format), False),
        (lambda arrays: renamed(arrays, "module.encoder_q.{}".format), False),
        (
            lambda arrays: (
                renamed(arrays, "backbone.{}".format)
                or arrays.update({"projector.0.weight": np.ones((4, 4), np.float32)})
            ),
            False,
        ),
        (lambda arrays: [arrays.pop(name) for name in ("fc.weight", "fc.bias")], True),
        (lambda arrays: renamed(arrays, lambda name: name.replace("fc.", "fc.1.")), True),
    ],
    ids=["DDP", "compiled DDP", "MoCo", "other module beside", "no head", "head of another form"],
)
def test_wrapped_state_dicts_are_imported(resnet, change, zeros: bool) -> None:
    _, _, bring = resnet
    plain = flat(bring().variables)
    for leaf, value in flat(bring(change).variables).items():
        expected = 0 if zeros and leaf.startswith("head/") else plain[leaf]
        np.testing.assert_array_equal(value, np.broadcast_to(expected, value.shape))


def test_two_nets_in_a_file_are_refused(resnet) -> None:
    _, _, bring = resnet

    def twice(arrays) -> None:
        arrays |= {f"encoder_{which}.{name}": arrays[name] for name in arrays for which in "qk"}
        for name in [name for name in arrays if not name.startswith("encoder")]:
            del arrays[name]

    with pytest.raises(UserError, match=r"several nets, of the prefixes encoder_k\., encoder_q\."):
        bring(twice)


def test_another_number_of_classes_is_named(resnet) -> None:
    _, _, bring = resnet
    net = build_network(TINY["resnet18"], (32, 32, 3), 14)
    with pytest.raises(UserError, match=r"^weights\.mine\.classes: got 14; accepted: 1000"):
        bring(net=net, classes=14)


def test_weights_that_do_not_fit_are_refused_before_anything_is_imported(stored) -> None:
    config, model, cache, _ = stored
    with pytest.raises(UserError, match="does not fit model 'resnet18'"):
        check(config, replace(model, layers=34), cache)


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
    path = written(tmp_path, arrays)
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
    monkeypatch.setattr("convtl.models.weights.import_weights", None)
    again = imported(config, model, cache)
    assert same(first.variables, again.variables)
    assert list(again.variables) == list(first.variables)
    assert again.digest == first.digest


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
    assert "is not used: " in said[0]


def test_identities_follow_content_and_not_place(stored, tmp_path: Path) -> None:
    config, model, _, _ = stored
    moved = tmp_path / "else where.safetensors"
    moved.write_bytes(Path(config.path).read_bytes())
    elsewhere = replace(config, path=str(moved), install="x")
    assert origin_identity(elsewhere) == origin_identity(config)
    assert imported_key(elsewhere, model) == imported_key(config, model)
    for other in (
        replace(config, classes=10),
        replace(config, size=32),
        replace(config, mean=(0.0, 0.0, 0.0)),
    ):
        assert origin_identity(other) != origin_identity(config)
        assert imported_key(other, model) != imported_key(config, model)
    assert imported_key(config, replace(model, norm="group")) != imported_key(config, model)


def test_before_a_study_it_is_known_whether_its_weights_are_at_hand(stored) -> None:
    config, model, cache, _ = stored
    check(config, model, cache, "weights.mine")
    named = replace(config, sha256=imported(config, model, cache).digest)
    Path(config.path).unlink()
    check(named, model, cache)
    with pytest.raises(UserError, match=r"^weights\.mine\.path: there is no file"):
        check(named, replace(model, norm="group"), cache, "weights.mine")
