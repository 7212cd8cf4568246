"""Axes -> trials, each with an identity: what a study consists of, before anything is run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Any

from convtl.config import PROTOCOL, Config, dump
from convtl.data.domains import identity
from convtl.errors import UserError, nearest, unknown_name
from convtl.keys import digest
from convtl.models.network import Network
from convtl.models.registry import build_network
from convtl.parsing import known_keys, parse
from convtl.study.limits import apply_limits
from convtl.transfer.plan import Plan, make_plan, resolve_depth

FRESH_SOURCES = ("scratch", "random")
"""Sources that are no domain: a fresh net that trains everything, and one frozen below the boundary."""
_NAMING_SHAPE, _NAMING_CLASSES = (64, 64, 1), 10  # unit names and their order do not depend on the images

AXES = ("model", "source", "target", "regime", "depth", "n_per_class", "updates", "replicate")
_AROUND = (
    "claims", "question", "save", "out", "cache", "dry_run", "tracking", "limits", "study", "replicates", "axes",
)  # fmt: skip
_REGISTRIES = ("models", "domains", "regimes")
_ROLES = {"model": "models", "source": "domains", "target": "domains", "regime": "regimes"}


@dataclass(frozen=True)
class Trial:
    """One point of a study.

    Attributes:
      id: digest of all that can change the trial's numbers.
      config: digest of the protocol it shares with the rest of its study (no axis in it).
      contents: digest of what each name stands for, by role; two rows are comparable only if equal names
        stand for equal contents.
      settings: the study's config, with the values of `axes` for this trial.
      depth, depth_unit: number of trained weighted units, and the lowest of them (`conv1+fc5` where the
        trained units are not simply the last ones).
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
    replicate: int
    axes: Mapping[str, Any]


def expand(content: Mapping[str, Any]) -> tuple[Config, list[Trial]]:
    """The study's config after its limits, and its points in a fixed order, each once.

    Two points may be one trial (with one `id`) where what tells them apart does not concern it: scratch on
    an axis of pretraining. `distinct` keeps one of them to be run; a report needs them all.

    Args:
      content: plain data, as `convtl.parsing.parse` takes it.

    Raises:
      UserError: a key, name, depth or value is not accepted.
    """
    study = apply_limits(parse(content))
    _check_claims(study)
    points: dict[tuple[str, str, str], Trial] = {}
    for assignment in _assignments(study, content):
        settings = apply_limits(parse(_assigned(content, assignment))) if assignment else study
        for point in _points(settings, assignment):
            points.setdefault((point.id, point.config, repr(sorted(point.axes.items()))), point)
    return study, list(points.values())


def distinct(points: Sequence[Trial]) -> list[Trial]:
    """One point for each trial, in their order."""
    trials: dict[str, Trial] = {}
    for point in points:
        trials.setdefault(point.id, point)
    return list(trials.values())


def _check_claims(study: Config) -> None:
    for index, claim in enumerate(study.claims):
        known = [*study.domains, *FRESH_SOURCES]
        if claim.source not in known:
            raise unknown_name(f"claims[{index}].source", claim.source, known)
        if claim.n_low >= claim.n_high:
            raise UserError(
                f"claims[{index}].n_low: got {claim.n_low}; accepted: less than n_high, {claim.n_high}"
            )


def _assignments(study: Config, content: Mapping[str, Any]) -> list[dict[str, Any]]:
    for key, values in study.axes.items():
        if key.split(".")[0] in (*AXES, *_AROUND):
            raise UserError(f"axes: got '{key}'; it is given as {key}=... itself, not under axes")
        if key.split(".")[0] not in content:
            raise UserError(f"axes: unknown key '{key}'.{nearest(key, known_keys())}")
        if not values:
            raise UserError(f"axes.{key}: got []; accepted: at least one value")
    return [dict(zip(study.axes, values, strict=True)) for values in product(*study.axes.values())]


def _assigned(content: Mapping[str, Any], assignment: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = dict(content) | {"axes": {}}
    for key, value in assignment.items():
        *path, last = key.split(".")
        node = result
        for step in path:
            inner = node.get(step)
            if inner is not None and not isinstance(inner, Mapping):
                raise UserError(f"axes: unknown key '{key}'; {step} holds a value, not further keys")
            node[step] = dict(inner or {})
            node = node[step]
        node[last] = value
    return result


def _points(settings: Config, assignment: Mapping[str, Any]) -> list[Trial]:
    _check_names(settings)
    replicates = settings.replicate if settings.replicate is not None else tuple(range(settings.replicates))
    shared = digest(_protocol(settings, assignment))
    trials = []
    for model, regime, target, source in product(
        settings.model, settings.regime, settings.target, settings.source
    ):
        network = build_network(settings.models[model], _NAMING_SHAPE, _NAMING_CLASSES)
        # Scratch trains everything at one rate, so that it appears once whatever depth and regime say.
        scratch = source == "scratch"
        regime = "fine_tune" if scratch and "fine_tune" in settings.regimes else regime
        depths: Sequence[int | str] = ("all",) if scratch else settings.depth
        contents = _contents(settings, model=model, source=source, target=target, regime=regime)
        protocol = _protocol(settings, {}, pretrained=source not in FRESH_SOURCES)
        for depth, n, updates, replicate in product(
            depths, settings.n_per_class, settings.updates, replicates
        ):
            plan = _plan(network, settings, regime, depth, updates)
            identity_content = {
                "protocol": protocol,
                "contents": contents,
                "trained": sorted(plan.trained),
                "n_per_class": n,
                "updates": updates,
                "replicate": replicate,
            }
            trials.append(
                Trial(
                    id=digest(identity_content),
                    config=shared,
                    contents=contents,
                    settings=settings,
                    model=model,
                    source=source,
                    target=target,
                    regime=regime,
                    depth=len(plan.trained),
                    depth_unit=_depth_unit(network, plan),
                    trained_units=tuple(unit for unit in network.weighted if unit in plan.trained),
                    n_per_class=n,
                    updates=updates,
                    replicate=replicate,
                    axes=dict(assignment),
                )
            )
    return trials


def _plan(network: Network, settings: Config, regime: str, depth: int | str, updates: int) -> Plan:
    try:
        return make_plan(network, settings.regimes[regime], resolve_depth(network, depth), updates)
    except UserError as error:  # a plan does not know what its regime is called
        raise UserError(str(error).replace("regimes.*", f"regimes.{regime}")) from None


def _depth_unit(network: Network, plan: Plan) -> str:
    """The lowest trained unit; all of them where they are not simply the last ones."""
    trained = [unit for unit in network.weighted if unit in plan.trained]
    last = list(network.weighted[-len(trained) :])
    return network.names[plan.boundary] if trained == last else "+".join(trained)


def _check_names(settings: Config) -> None:
    for name in FRESH_SOURCES:
        if name in settings.domains:
            raise UserError(f"domains.{name}: this name is taken by the source '{name}'; choose another")
    registries: tuple[tuple[str, tuple[str, ...], Sequence[str]], ...] = (
        ("model", settings.model, list(settings.models)),
        ("source", settings.source, [*settings.domains, *FRESH_SOURCES]),
        ("target", settings.target, list(settings.domains)),
        ("regime", settings.regime, list(settings.regimes)),
    )
    for key, names, known in registries:
        for name in names:
            if name not in known:
                raise unknown_name(key, name, known)


def _protocol(settings: Config, assignment: Mapping[str, Any], pretrained: bool = True) -> dict[str, Any]:
    """What all trials of a study share: everything but axes, registries and what is around the trials."""
    skipped = {*AXES, *_AROUND, *_REGISTRIES} | (set() if pretrained else {"pretrain"})
    shared = {
        item.name: _dump_field(settings, item.name) for item in fields(settings) if item.name not in skipped
    }
    for key in assignment:
        *path, last = key.split(".")
        node: Any = shared
        for step in path:
            node = node.get(step, {}) if isinstance(node, dict) else {}
        if isinstance(node, dict):
            node.pop(last, None)
    return {"protocol": PROTOCOL, **shared}


def _dump_field(settings: Config, name: str) -> Any:
    """Plain data of one field of a config."""
    value = getattr(settings, name)
    if isinstance(value, tuple):
        return list(value)
    return dump(value) if hasattr(value, "__dataclass_fields__") else value


def _contents(settings: Config, **names: str) -> dict[str, str]:
    return {role: _content(settings, role, name) for role, name in names.items()}


def _content(settings: Config, role: str, name: str) -> str:
    """Digest of what a name stands for."""
    if role == "source" and name in FRESH_SOURCES:
        return digest({"fresh": name})
    if role == "model":
        return digest(dump(settings.models[name]))
    if role == "regime":
        return digest(dump(settings.regimes[name]))
    try:
        return digest(identity(settings.domains[name]))
    except UserError as error:
        raise UserError(f"domains.{name}.{error}") from None


def accepts(settings: Config, contents: Mapping[str, Mapping[str, str]], row: Mapping[str, Any]) -> bool:
    """Whether a row's names stand for what they stand for in a study, so that the two can be compared.

    What an additional axis varies inside a registry (`models.lenet5.activation`) is not compared.

    Args:
      contents: role -> name -> digest of what the name stood for when the study was run; other names are
        looked up in `settings`.
    """
    varied = {key.split(".")[0] for key in row.get("axes", {})}
    return all(
        registry in varied or _agrees(settings, contents.get(role, {}), role, row)
        for role, registry in _ROLES.items()
    )


def _agrees(settings: Config, known: Mapping[str, str], role: str, row: Mapping[str, Any]) -> bool:
    name, found = str(row.get(role)), row.get("contents", {}).get(role)
    if name in known:
        return found == known[name]
    try:
        return found == _content(settings, role, name)
    except KeyError:
        return False
    except UserError:  # its data are not at hand, and the study at hand does not use them
        return True
