"""The products that a study is made of: what `blocks` and `axes` set, and what `debug=` cuts."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from typing import Any

from convtl.config.domains import MadeConfig
from convtl.config.parsing import parse
from convtl.config.roles import dump
from convtl.config.schema import AXES, PER_STUDY, ROLES, VARIABLE, Config, LimitsConfig
from convtl.errors import UserError
from convtl.study.names import source_name


def products(study: Config) -> list[tuple[Config, dict[str, Any]]]:
    """Return the limited config of every product, with its values of what varies beside the axes."""
    limited = apply_limits(study)
    for key, values in limited.axes.items():
        if key.split(".")[0] in ROLES.keys() - set(VARIABLE):
            raise UserError(f"axes: got '{key}'; it is given as {key}=... itself, not under axes")
        if not values:
            raise UserError(f"axes.{key}: got []; accepted: at least one value")
    blocks = {"": {}} if limited.blocks is None else limited.blocks
    for name, block in blocks.items():
        if fixed := [key for key in block if key.split(".")[0] in PER_STUDY]:
            raise UserError(
                f"blocks.{name}: got '{fixed[0]}'; accepted beside `blocks` only: it is the same for all of a study"
            )
    changes = [
        (block, dict(zip(limited.axes, values, strict=True)))
        for block in blocks.values()
        for values in product(*limited.axes.values())
    ]
    leaves = dict.fromkeys(key for block, axes in changes for key in (*_leaves(block), *axes))
    varied = [key for key in leaves if key.split(".")[0] in VARIABLE]
    whole = dump(study) | {"blocks": None, "axes": {}}
    configs = []
    for block, axes in changes:
        changed = _merged(_merged(whole, block), axes, replaces=True)
        settings = apply_limits(parse(changed)) if block or axes else limited
        content = dump(settings) if varied else {}
        configs.append((settings, {key: value_at(content, key) for key in varied}))
    return configs


def _leaves(block: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield the dotted key of every value in a block."""
    for key, value in block.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}"


def _merged(
    content: Mapping[str, Any], changes: Mapping[str, Any], replaces: bool = False
) -> dict[str, Any]:
    """Content with changes at dotted keys, into whose nodes they are merged or which they replace."""
    result = dict(content)
    for path, value in changes.items():
        key, _, rest = path.partition(".")
        change = {rest: value} if rest else value
        if isinstance(change, Mapping) and (rest or not replaces):
            inner = result.get(key)
            change = _merged(inner if isinstance(inner, Mapping) else {}, change, replaces)
        result[key] = change
    return result


def value_at(content: Any, path: str) -> Any:
    """Return what a dotted key holds; None where its node is absent."""
    for step in path.split("."):
        content = content.get(step) if isinstance(content, Mapping) else None
    return content


def refuse_hidden(keys: Sequence[str], content: Mapping[str, Any]) -> None:
    """Refuse typed dotted keys that a block sets itself, so that they would change nothing."""
    blocks = content.get("blocks")
    for name, block in blocks.items() if isinstance(blocks, Mapping) else ():
        for key in _leaves(block) if isinstance(block, Mapping) else ():
            if any(key == typed or key.startswith(f"{typed}.") for typed in keys):
                raise UserError(
                    f"{key}: given beside a block that sets it itself; accepted: blocks.{name}.{key}=..."
                )


def apply_limits(config: Config) -> Config:
    """Return the config cut as its `limits` say: the last word, whatever an experiment sets."""
    whole, limits = config, config.limits
    if limits == LimitsConfig():
        return config

    def least(number: int, limit: int | None) -> int:
        return number if limit is None else min(number, limit)

    if limits.values_per_axis is not None:
        config = _with_fewer_values(config, limits.values_per_axis)
    if limits.images_per_class is not None:
        config = _with_fewer_images(config, whole, limits.images_per_class)
    recipe = config.pretrain
    return replace(
        config,
        study=f"{config.study or 'trials'}{limits.suffix}" if limits.suffix else config.study,
        replicates=least(config.replicates, limits.replicates),
        replicate=config.replicate and config.replicate[: limits.replicates],
        updates=tuple(dict.fromkeys(least(number, limits.updates) for number in config.updates)),
        pretrain=replace(recipe, updates=least(recipe.updates, limits.pretrain_updates)),
    )


def _with_fewer_values(config: Config, most: int) -> Config:
    """At most `most` values of every axis, the first and the last among them."""

    def ends(values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(values) if len(values) <= most else (*values[: most - 1], values[-1])

    axes = [axis for axis in AXES if axis != "replicate" and getattr(config, axis) is not None]
    values: dict[str, Any] = {axis: ends(getattr(config, axis)) for axis in axes}
    return replace(config, **values, axes={key: ends(more) for key, more in config.axes.items()})


def _with_fewer_images(config: Config, whole: Config, most: int) -> Config:
    """At most so many images a class, for labels and sources too; `whole` has all its axes' values."""
    sources = {source_name(source).base for source in whole.source}
    labelled = images = most
    if "same_classes" in sources:  # it takes its images from the pool of the labels
        labelled, images = most - most // 2, most // 2
    domains: dict[str, Any] = dict(config.domains)
    for name, domain in domains.items():
        if caps := getattr(domain, "per_class", None):
            fewer = {split: min(cap or most, most) for split, cap in asdict(caps).items()}
            domains[name] = replace(domain, per_class=replace(caps, **fewer))
    targets = (config.domains.get(name) for name in config.target)
    pool = min((d.per_class.train for d in targets if isinstance(d, MadeConfig)), default=math.inf)
    # What the domains lack is refused later, as it is without limits.
    labels = (
        labelled if n == "all" else n if n > pool else min(n, labelled) for n in config.n_per_class
    )
    images = min(config.pretrain.images_per_class, images)
    return replace(
        config,
        pretrain=replace(config.pretrain, images_per_class=images),
        validation_per_class=min(config.validation_per_class, most),
        test_per_class=min(config.test_per_class, most),
        n_per_class=tuple(dict.fromkeys(labels)),
        domains=domains,
    )
