"""Expansion of axes to trials, each with an identity."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from itertools import product
from typing import Any

from convtl.config.domains import MadeConfig
from convtl.config.parsing import parse
from convtl.config.schema import (
    AXES,
    PER_STUDY,
    RECIPE,
    RESULTS_VERSION,
    ROLES,
    VARIABLE,
    Config,
    LimitsConfig,
)
from convtl.config.values import content, dump
from convtl.data.domains import largest_class
from convtl.errors import UserError
from convtl.keys import digest
from convtl.models.network import Network
from convtl.models.registry import build_network
from convtl.study.names import check_names, content_of, equivalent_source, similarities, source_name
from convtl.transfer.plan import Plan, make_plan, resolve_depth

_ANY_SHAPE, _ANY_CLASSES = (64, 64, 1), 10  # names and order of units do not depend on them
_IRRELEVANT = {"random": ("pretrain",), "scratch": ("pretrain", "upper_init", "n_transferred")}
"""Source -> keys without effect on its trials, left out of their ids."""
_RATES = ("lr", "lr_extend")
"""Keys of the rates to choose from: set by a block, they are no axis."""


@dataclass(frozen=True)
class Trial:
    """One point of a study.

    Attributes:
      id: digest of all that can change the trial's numbers.
      config: digest of the recipe that the trials of a study share (no axis in it).
      contents: digest of what each name stands for, by axis.
      settings: the study's config, with the values of `blocks` and `axes` for this trial.
      depth, depth_unit: number of trained weighted units, and the lowest of them (`conv1+fc5` where they are not
        simply the last ones).
      n_units: number of weighted units of the net.
    """

    id: str
    config: str
    contents: Mapping[str, str]
    settings: Config
    model: str
    source: str
    target: str
    regime: str
    depth: int
    depth_unit: str
    n_units: int
    trained_units: tuple[str, ...]
    n_per_class: int
    updates: int
    similarity: float | None
    replicate: int
    plan: Plan
    axes: Mapping[str, Any]


def expand(study: Config) -> tuple[Config, list[Trial]]:
    """Return the config after its limits, and its points, each once, in fixed order.

    Two points may be one trial where their difference does not concern it, such as scratch on an axis of pretraining;
    two trials are not at one point.
    """
    limited = apply_limits(study)
    points: dict[tuple[str, ...], Trial] = {}
    trials: dict[tuple[Any, ...], str] = {}
    for settings, varied in products(study):
        axes = {key: varied[key] for key in varied if key in limited.axes or key not in _RATES}
        for point in _trials_of(settings, varied, axes):
            beside = repr((point.similarity, sorted(point.axes.items())))
            names = point.model, point.source, point.target, point.regime
            numbers = point.trained_units, point.n_per_class, point.updates, point.replicate
            if trials.setdefault((point.config, beside, *names, *numbers), point.id) == point.id:
                points.setdefault((point.id, point.config, point.source, beside), point)
            elif limited.limits == LimitsConfig():  # else what set them apart was cut
                raise UserError("blocks: got two that differ in lr alone; accepted: lr under axes")
    return limited, list(points.values())


def distinct(points: Sequence[Trial]) -> list[Trial]:
    """Return one point for each trial, in their order."""
    trials: dict[str, Trial] = {}
    for point in points:
        trials.setdefault(point.id, point)
    return list(trials.values())


def _trials_of(
    settings: Config, varied: Collection[str], axes: Mapping[str, Any]
) -> Iterator[Trial]:
    """Yield a config's product of axes; `varied` keys are not in `Trial.config`."""
    check_names(settings)
    if settings.n_transferred is not None and settings.upper_init != "fresh":
        raise UserError(
            f"n_transferred: got {settings.n_transferred}; accepted with upper_init=fresh only"
        )
    config = digest(_recipe(settings, varied))
    for values in product(settings.model, settings.regime, settings.target, settings.source):
        names = dict(zip(("model", "regime", "target", "source"), values, strict=True))
        yield from _trials_of_names(settings, config, axes, names)


def _trials_of_names(
    settings: Config, config: str, axes: Mapping[str, Any], names: dict[str, str]
) -> Iterator[Trial]:
    model, regime, target, source = names.values()
    network = build_network(settings.models[model], _ANY_SHAPE, _ANY_CLASSES)
    depths = [resolve_depth(network, d) for d in settings.depth]
    # Scratch trains everything at one rate, so that it appears once whatever depth and regime say.
    if source == "scratch":
        regime = names["regime"] = "fine_tune" if "fine_tune" in settings.regimes else regime
        depths = [resolve_depth(network, "all")]
    recipe = _recipe(settings, {}, without=_IRRELEVANT.get(source, ()))
    for similarity in similarities(settings, source):
        contents = {
            axis: content_of(settings, axis, name, target, similarity)
            for axis, name in names.items()
        }
        shared: dict[str, Any] = {"protocol": recipe, "contents": contents}
        if similarity is not None and equivalent_source(settings, source, similarity) == source:
            shared["similarity"] = similarity  # else it is the very trial of another source
        for depth, n, updates in product(depths, _labels(settings, target), settings.updates):
            plan = _plan(network, settings, source, regime, depth, updates)
            trained = tuple(unit for unit in network.weighted if unit in plan.trained)
            place = {"trained": sorted(plan.trained), "n_per_class": n, "updates": updates}
            identity = digest({**shared, **place})
            is_last = trained == network.weighted[-len(trained) :]
            for replicate in settings.replicate or range(settings.replicates):
                yield Trial(
                    id=digest([identity, replicate]),
                    config=config,
                    contents=contents,
                    settings=settings,
                    **names,
                    depth=len(trained),
                    depth_unit=network.names[plan.boundary] if is_last else "+".join(trained),
                    n_units=len(network.weighted),
                    trained_units=trained,
                    n_per_class=n,
                    updates=updates,
                    similarity=similarity,
                    replicate=replicate,
                    plan=plan,
                    axes=dict(axes),
                )


def _labels(settings: Config, target: str) -> tuple[int, ...]:
    """Resolve numbers of labels a class; beside `all` larger ones are left out."""
    numbers = tuple(n for n in settings.n_per_class if n != "all")
    if len(numbers) == len(settings.n_per_class):
        return numbers
    most = largest_class(settings.domains[target])
    return (*(n for n in numbers if n < most), most)


def _plan(
    network: Network, settings: Config, source: str, regime: str, depth: int, updates: int
) -> Plan:
    try:
        plan = make_plan(network, settings.regimes[regime], depth, updates)
    except UserError as error:  # a plan does not know what its regime is called
        raise UserError(str(error).replace("regimes.*", f"regimes.{regime}")) from None
    keeps_head = settings.head_init == "source" and not source_name(source).fresh
    if network.head not in plan.trained and not keeps_head:
        raise UserError(
            f"regime: got '{regime}', which leaves the head alone, with source '{source}' and "
            f"head_init={settings.head_init}; accepted: head_init=source, with source same_classes or self"
        )
    return plan


def _recipe(
    settings: Config, axes: Collection[str], without: Collection[str] = ()
) -> dict[str, Any]:
    """Return the content of the recipe but for additional axes."""
    shared = content(settings, without=(ROLES.keys() - RECIPE) | set(without))
    for key in axes:
        parent, _, last = key.rpartition(".")
        node = value_at(shared, parent) if parent else shared
        if isinstance(node, dict):
            node.pop(last, None)
    return {"protocol": RESULTS_VERSION, **shared}


def products(study: Config) -> list[tuple[Config, dict[str, Any]]]:
    """Return each product's limited config, and the values of its varied keys."""
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
    # Nodes that nothing changes enter as they are, so that only the others are validated again.
    whole = {**vars(study), "blocks": None, "axes": {}}
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
    """Merge changes at dotted keys into content, or replace its nodes."""
    result = dict(content)
    for path, value in changes.items():
        key, _, rest = path.partition(".")
        change = {rest: value} if rest else value
        if isinstance(change, Mapping) and (rest or not replaces):
            inner = result.get(key)
            inner = dump(inner) if is_dataclass(inner) else inner
            change = _merged(inner if isinstance(inner, Mapping) else {}, change, replaces)
        result[key] = change
    return result


def value_at(content: Any, path: str) -> Any:
    """Return the value at a dotted key; None where its node is absent."""
    for step in path.split("."):
        content = content.get(step) if isinstance(content, Mapping) else None
    return content


def refuse_hidden(keys: Sequence[str], content: Mapping[str, Any]) -> None:
    """Refuse typed dotted keys that a block overrides."""
    blocks = content.get("blocks")
    for name, block in blocks.items() if isinstance(blocks, Mapping) else ():
        for key in _leaves(block) if isinstance(block, Mapping) else ():
            if any(key == typed or key.startswith(f"{typed}.") for typed in keys):
                raise UserError(
                    f"{key}: given beside a block that sets it itself; accepted: blocks.{name}.{key}=..."
                )


def apply_limits(config: Config) -> Config:
    """Return the config cut by its `limits`, whatever an experiment sets."""
    limits = config.limits
    if limits == LimitsConfig():
        return config

    def least(number: int, limit: int | None) -> int:
        return number if limit is None else min(number, limit)

    if limits.images_per_class is not None:
        config = _with_fewer_images(config, limits.images_per_class)
    if (most := limits.values_per_axis) is not None:
        # Of every axis the first values and the last one.
        axes = {axis: getattr(config, axis) for axis in AXES if axis != "replicate"} | config.axes
        cut: dict[str, Any] = {
            key: (*values[: most - 1], values[-1]) if len(values) > most else tuple(values)
            for key, values in axes.items()
            if values is not None
        }
        more = {key: cut.pop(key) for key in config.axes}
        config = replace(config, **cut, axes=more)
    return replace(
        config,
        study=f"{config.study or 'trials'}{limits.suffix}" if limits.suffix else config.study,
        replicates=least(config.replicates, limits.replicates),
        replicate=config.replicate and config.replicate[: limits.replicates],
        updates=tuple(dict.fromkeys(least(number, limits.updates) for number in config.updates)),
        pretrain=replace(
            config.pretrain, updates=least(config.pretrain.updates, limits.pretrain_updates)
        ),
    )


def _with_fewer_images(config: Config, most: int) -> Config:
    """Limit the images a class to `most`, for labels and sources too."""
    labelled = images = most
    if any(source_name(source).base == "same_classes" for source in config.source):
        labelled, images = most - most // 2, most // 2  # they take their images from one pool
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
