"""Axes -> trials, each with an identity: what a study consists of, before anything is run."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from convtl.config.roles import content
from convtl.config.schema import RECIPE, RESULTS_VERSION, ROLES, Config
from convtl.data.domains import largest_class
from convtl.errors import UserError
from convtl.keys import digest
from convtl.models.network import Network
from convtl.models.registry import build_network
from convtl.study.assignments import products
from convtl.study.limits import apply_limits
from convtl.study.names import (
    check_names,
    content_of,
    contents_of,
    equivalent_source,
)
from convtl.study.sources import check_source, similarities, source_name
from convtl.transfer.plan import Plan, make_plan, resolve_depth

_ANY_SHAPE, _ANY_CLASSES = (64, 64, 1), 10
"""Unit names and their order do not depend on the images."""


@dataclass(frozen=True)
class Trial:
    """One point of a study.

    Attributes:
      id: digest of all that can change the trial's numbers.
      config: digest of the recipe it shares with the rest of its study (no axis in it).
      contents: digest of what each name stands for, by axis; two rows are comparable only if equal names
        stand for equal contents.
      settings: the study's config, with the values of `blocks` and `axes` for this trial.
      depth, depth_unit: number of trained weighted units, and the lowest of them (`conv1+fc5` where the
        trained units are not simply the last ones).
      plan: what is trained when.
      axes: values of the additional axes, by key.
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
    trained_units: tuple[str, ...]
    n_per_class: int
    updates: int
    similarity: float | None
    replicate: int
    plan: Plan
    axes: Mapping[str, Any]


def expand(study: Config) -> tuple[Config, list[Trial]]:
    """Return the study's config after its limits, and its points in a fixed order, each once.

    Two points may be one trial (with one `id`) where what tells them apart does not concern it: scratch on
    an axis of pretraining; a mixture of near classes only and the source that it equals. `distinct` keeps one
    of them to be run; a report needs them all.

    Raises:
      UserError: a key, name, depth or value is not accepted.
    """
    limited = apply_limits(study)
    _check_claims(limited)
    points: dict[tuple[str, ...], Trial] = {}
    for settings, values in products(study):
        for point in trials_of(settings, values):
            varied = repr((point.similarity, sorted(point.axes.items())))
            points.setdefault((point.id, point.config, point.source, varied), point)
    return limited, list(points.values())


def distinct(points: Sequence[Trial]) -> list[Trial]:
    """One point for each trial, in their order."""
    trials: dict[str, Trial] = {}
    for point in points:
        trials.setdefault(point.id, point)
    return list(trials.values())


def _check_claims(study: Config) -> None:
    for index, claim in enumerate(study.claims):
        check_source(study, claim.source, f"claims[{index}].source")
        if claim.n_low >= claim.n_high:
            raise UserError(
                f"claims[{index}].n_low: got {claim.n_low}; accepted: less than n_high, {claim.n_high}"
            )


def trials_of(settings: Config, axes: Mapping[str, Any]) -> list[Trial]:
    """Return the product of one config's axes.

    Args:
      axes: values of what varies in the study beside them; no part of the digest that its trials share.
    """
    check_names(settings)
    if settings.n_transferred is not None and settings.upper_init != "fresh":
        raise UserError(
            f"n_transferred: got {settings.n_transferred}; accepted with upper_init=fresh only"
        )
    replicates = settings.replicate or tuple(range(settings.replicates))
    shared: dict[str, Any] = {
        "config": digest(_recipe(settings, axes)),
        "settings": settings,
        "axes": dict(axes),
    }
    return [
        Trial(**shared, **condition, id=digest([identity, replicate]), replicate=replicate)
        for names in product(settings.model, settings.regime, settings.target, settings.source)
        for condition, identity in _conditions(settings, *names)
        for replicate in replicates
    ]


def _conditions(
    settings: Config, model: str, regime: str, target: str, source: str
) -> Iterator[tuple[dict[str, Any], str]]:
    """The conditions of one net, regime, target and source, each with its digest."""
    network = build_network(settings.models[model], _ANY_SHAPE, _ANY_CLASSES)
    depths = [resolve_depth(network, d) for d in settings.depth]
    # Scratch trains everything at one rate, so that it appears once whatever depth and regime say.
    if source == "scratch":
        regime = "fine_tune" if "fine_tune" in settings.regimes else regime
        depths = [resolve_depth(network, "all")]
    names = {"model": model, "source": source, "target": target, "regime": regime}
    named = contents_of(settings, **names)
    recipe = _recipe(settings, {}, without=_irrelevant(source))
    for similarity, depth, n, updates in product(
        similarities(settings, source_name(source)),
        depths,
        _labels(settings, target),
        settings.updates,
    ):
        plan = _plan(network, settings, regime, depth, updates)
        _check_head(network, settings, plan, source, regime)
        place = {"trained": sorted(plan.trained), "n_per_class": n, "updates": updates}
        contents, equal = named, equivalent_source(settings, source, similarity)
        if equal is None:
            place["similarity"] = similarity
        elif equal != source:  # the very trial of that source
            contents = named | {"source": content_of(settings, "source", equal, target)}
        condition = {
            **names,
            "contents": contents,
            "depth": len(plan.trained),
            "depth_unit": _depth_unit(network, plan),
            "trained_units": tuple(unit for unit in network.weighted if unit in plan.trained),
            "n_per_class": n,
            "updates": updates,
            "similarity": similarity,
            "plan": plan,
        }
        yield condition, digest({"protocol": recipe, "contents": contents, **place})


def _labels(settings: Config, target: str) -> tuple[int, ...]:
    """Numbers of labels a class: `all` is those of the largest class; larger numbers are left out beside it."""
    numbers = tuple(n for n in settings.n_per_class if n != "all")
    if len(numbers) == len(settings.n_per_class):
        return numbers
    try:
        most = largest_class(settings.domains[target])
    except UserError as error:
        raise UserError(str(error).replace("path:", f"domains.{target}.path:", 1)) from None
    return (*(n for n in numbers if n < most), most)


def _irrelevant(source: str) -> set[str]:
    """Keys that cannot change a trial of this source, so that they do not make it another trial."""
    keys = {"pretrain"} if source_name(source).fresh else set()
    return keys | {"upper_init", "n_transferred"} if source == "scratch" else keys


def _plan(network: Network, settings: Config, regime: str, depth: int, updates: int) -> Plan:
    try:
        return make_plan(network, settings.regimes[regime], depth, updates)
    except UserError as error:  # a plan does not know what its regime is called
        raise UserError(str(error).replace("regimes.*", f"regimes.{regime}")) from None


def _check_head(network: Network, settings: Config, plan: Plan, source: str, regime: str) -> None:
    keeps_head = settings.head_init == "source" and not source_name(source).fresh
    if network.head not in plan.trained and not keeps_head:
        raise UserError(
            f"regime: got '{regime}', which leaves the head alone, with source '{source}' and "
            f"head_init={settings.head_init}; accepted: head_init=source, with source same_classes or self"
        )


def _depth_unit(network: Network, plan: Plan) -> str:
    """The lowest trained unit; all of them where they are not simply the last ones."""
    trained = [unit for unit in network.weighted if unit in plan.trained]
    last = list(network.weighted[-len(trained) :])
    return network.names[plan.boundary] if trained == last else "+".join(trained)


def _recipe(
    settings: Config, axes: Collection[str], without: Collection[str] = ()
) -> dict[str, Any]:
    """What all trials of a study share: the content of the recipe but for additional axes."""
    shared = content(settings, without=(ROLES.keys() - RECIPE) | set(without))
    for key in axes:
        *path, last = key.split(".")
        node: Any = shared
        for step in path:
            node = node.get(step, {}) if isinstance(node, dict) else {}
        if isinstance(node, dict):
            node.pop(last, None)
    return {"protocol": RESULTS_VERSION, **shared}
