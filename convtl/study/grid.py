"""Axes -> trials, each with an identity: what a study consists of, before anything is run."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Any

from convtl.config.domains import MixtureConfig
from convtl.config.parsing import parse
from convtl.config.roles import content as identified
from convtl.config.roles import dump
from convtl.config.schema import RESULTS_VERSION, Config
from convtl.data.domains import identity, largest_class
from convtl.errors import UserError
from convtl.keys import digest, digests
from convtl.models.network import Network
from convtl.models.registry import build_network
from convtl.models.weights import origin_identity
from convtl.study.assignments import assigned, assignments
from convtl.study.limits import apply_limits
from convtl.study.names import check_names
from convtl.study.sources import (
    RELATIVE_SOURCES,
    check_source,
    mixture_of,
    similarities,
    source_name,
)
from convtl.transfer.plan import Plan, make_plan, resolve_depth

_NAMING_SHAPE, _NAMING_CLASSES = (
    (64, 64, 1),
    10,
)  # unit names and their order do not depend on the images

AXES = (
    "model",
    "source",
    "target",
    "regime",
    "depth",
    "n_per_class",
    "updates",
    "similarity",
    "replicate",
)
_AROUND = (
    "claims",
    "scorecard",
    "question",
    "save",
    "out",
    "cache",
    "dry_run",
    "tracking",
    "limits",
    "study",
    "replicates",
    "axes",
    "blocks",
    "gradients",
    "movement",
    "distances",
    "path",
    "advice",
    "data",
    "checkpoint_minutes",
    "devices",
    "distributed",
    "shards",
    "shard",
)
_OWN_COLUMNS = (*AXES, "replicates", "movement")
"""Keys of which a row says the value anyway; any other that a block or an axis sets is an additional axis."""
_UNSAID = object()
_REGISTRIES = ("models", "domains", "regimes", "weights")
_ROLES = {"model": "models", "source": "domains", "target": "domains", "regime": "regimes"}


@dataclass(frozen=True)
class Trial:
    """One point of a study.

    Attributes:
      id: digest of all that can change the trial's numbers.
      config: digest of the protocol it shares with the rest of its study (no axis in it).
      contents: digest of what each name stands for, by role; two rows are comparable only if equal names
        stand for equal contents.
      settings: the study's config, with the values of `blocks` and `axes` for this trial.
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
    similarity: float | None
    replicate: int
    axes: Mapping[str, Any]


def expand(content: Mapping[str, Any]) -> tuple[Config, list[Trial]]:
    """The study's config after its limits, and its points in a fixed order, each once.

    Two points may be one trial (with one `id`) where what tells them apart does not concern it: scratch on
    an axis of pretraining; a mixture of near classes only and its rung. `distinct` keeps one of them to be
    run; a report needs them all.

    Args:
      content: plain data, as `convtl.parsing.parse` takes it.

    Raises:
      UserError: a key, name, depth or value is not accepted.
    """
    study = apply_limits(parse(content))
    _check_claims(study)
    points: dict[tuple[str, ...], Trial] = {}
    for settings, values in settings_of(content, study):
        for point in trials_of(settings, values):
            place = (
                point.id,
                point.config,
                point.source,
                repr((point.similarity, sorted(point.axes.items()))),
            )
            points.setdefault(place, point)
    return study, list(points.values())


def settings_of(
    content: Mapping[str, Any], study: Config | None = None
) -> list[tuple[Config, dict[str, Any]]]:
    """Each product that a study is made of, with the values of what varies beside the axes proper."""
    study = apply_limits(parse(content)) if study is None else study
    parts = assignments(study, content)
    varied = list(
        dict.fromkeys(
            key for part in parts for key in part if key.split(".")[0] not in _OWN_COLUMNS
        )
    )
    found = []
    for part in parts:
        given = assigned({**content, "blocks": None, "axes": {}}, part)
        settings = apply_limits(parse(given)) if part else study
        whole = dump(settings) if varied else {}
        found.append((settings, {key: _value_at(whole, key) for key in varied}))
    return found


def _value_at(content: Mapping[str, Any], path: str) -> Any:
    """What a dotted key holds; None where nothing was said."""
    node: Any = content
    for step in path.split("."):
        node = node.get(step) if isinstance(node, Mapping) else None
    return node


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


def trials_of(settings: Config, assignment: Mapping[str, Any]) -> list[Trial]:
    """The product of one config's axes; `assignment` holds what varies in the study beside them."""
    check_names(settings)
    replicates = (
        settings.replicate if settings.replicate is not None else tuple(range(settings.replicates))
    )
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
        protocol = _protocol(settings, {}, without=_of_no_concern(source))
        for similarity, depth, n, updates in product(
            similarities(settings, source_name(source)),
            depths,
            _labels(settings, target),
            settings.updates,
        ):
            plan = _plan(network, settings, regime, depth, updates)
            keeps_head = settings.head_init == "source" and not source_name(source).fresh
            if network.head not in plan.trained and not keeps_head:
                raise UserError(
                    f"regime: got '{regime}', which leaves the head alone, with source '{source}' and "
                    f"head_init={settings.head_init}; accepted: head_init=source, with source same_classes or self"
                )
            place = {"trained": sorted(plan.trained), "n_per_class": n, "updates": updates}
            stands_for = _rung(settings, source, similarity)
            own = contents
            if stands_for is None:
                place["similarity"] = similarity
            elif stands_for != source:  # the very trial of that source
                own = contents | {"source": _source_content(settings, stands_for, target)}
            identify = digests({"protocol": protocol, "contents": own, **place}, "replicate")
            depth_unit = _depth_unit(network, plan)
            units = tuple(unit for unit in network.weighted if unit in plan.trained)
            trials += [
                Trial(
                    id=identify(replicate),
                    config=shared,
                    contents=own,
                    settings=settings,
                    model=model,
                    source=source,
                    target=target,
                    regime=regime,
                    depth=len(plan.trained),
                    depth_unit=depth_unit,
                    trained_units=units,
                    n_per_class=n,
                    updates=updates,
                    similarity=similarity,
                    replicate=replicate,
                    axes=dict(assignment),
                )
                for replicate in replicates
            ]
    return trials


def _labels(settings: Config, target: str) -> tuple[int, ...]:
    """Numbers of labels a class; `all` is those of the largest class, and what is no less is left out."""
    numbers = [n for n in settings.n_per_class if n != "all"]
    if len(numbers) == len(settings.n_per_class):
        return tuple(numbers)
    try:
        most = largest_class(settings.domains[target])
    except UserError as error:
        raise UserError(str(error).replace("path:", f"domains.{target}.path:", 1)) from None
    return (*(n for n in numbers if n < most), most)


def _rung(settings: Config, source: str, similarity: float | None) -> str | None:
    """The source that a mixture of one kind of classes only stands for; of any other source the source itself."""
    name = source_name(source)
    mixture = mixture_of(settings, name)
    if mixture is None:
        return source
    if mixture.amount or similarity not in (0.0, 1.0):
        return None
    side = mixture.near if similarity else mixture.far
    return f"{side}:{name.variant}" if name.variant else side


def _of_no_concern(source: str) -> set[str]:
    """Keys that cannot change a trial of this source, so that they do not make it another trial."""
    skipped = set()
    if source_name(source).fresh:
        skipped |= {"pretrain"}
    if source == "scratch":
        skipped |= {"upper_init", "kept"}
    return skipped


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


def _protocol(
    settings: Config, assignment: Mapping[str, Any], without: Collection[str] = ()
) -> dict[str, Any]:
    """What all trials of a study share: everything but axes, registries and what is around the trials."""
    skipped = {*AXES, *_AROUND, *_REGISTRIES, *without}
    shared = {
        item.name: _dump_field(settings, item.name)
        for item in fields(settings)
        if item.name not in skipped
        and settings.neutral.get(item.name, _UNSAID) != getattr(settings, item.name)
    }
    if "shift" in shared:  # what its images are, not what they are called
        blend, partner = settings.shift.blend, shared["shift"].pop("blend_with")
        shared["shift"] |= {"blend_with": _identity(settings, partner)} if blend else {}
    for key in assignment:
        *path, last = key.split(".")
        node: Any = shared
        for step in path:
            node = node.get(step, {}) if isinstance(node, dict) else {}
        if isinstance(node, dict):
            node.pop(last, None)
    return {"protocol": RESULTS_VERSION, **shared}


def _dump_field(settings: Config, name: str) -> Any:
    """Plain data of one field of a config."""
    value = getattr(settings, name)
    if isinstance(value, tuple):
        return list(value)
    return identified(value) if hasattr(value, "__dataclass_fields__") else value


def _contents(settings: Config, **names: str) -> dict[str, str]:
    return {role: _content(settings, role, name, names["target"]) for role, name in names.items()}


def _content(settings: Config, role: str, name: str, target: str) -> str:
    """Digest of what a name stands for, on this target."""
    if role == "source":
        return _source_content(settings, name, target)
    if role == "model":
        return digest(identified(settings.models[name]))
    if role == "regime":
        return digest(identified(settings.regimes[name]))
    return digest(_identity(settings, name))


def _source_content(settings: Config, text: str, target: str) -> str:
    name = source_name(text)
    if name.fresh:
        return digest({"fresh": text})
    if name.base in settings.weights:
        return digest(
            [origin_identity(settings.weights[name.base], f"weights.{name.base}"), name.variant]
        )
    plain = digest(_identity(settings, name.domain(target), target))
    alias = name.base if name.base in RELATIVE_SOURCES else ""
    return digest([plain, alias, name.variant]) if alias or name.variant else plain


def _identity(settings: Config, name: str, target: str = "") -> dict[str, Any]:
    """Plain content that determines a domain; that of a mixture holds those of its two sides."""
    domain = settings.domains[name]
    if isinstance(domain, MixtureConfig):
        sides = {"near": target if domain.near == "own" else domain.near, "far": domain.far}
        return {
            "mixture": {side: _identity(settings, own) for side, own in sides.items()},
            "amount": domain.amount,
        }
    try:
        return identity(domain)
    except UserError as error:
        raise UserError(f"domains.{name}.{error}") from None


def accepts(
    settings: Config, contents: Mapping[str, Mapping[str, str]], row: Mapping[str, Any]
) -> bool:
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
    base = source_name(name)
    varies = role == "source" and (
        base.base in RELATIVE_SOURCES or mixture_of(settings, base) is not None
    )
    if name in known and not varies:
        return found == known[name]
    try:
        stands_for = _rung(settings, name, row.get("similarity")) if varies else None
        return found == _content(settings, role, stands_for or name, str(row.get("target")))
    except KeyError:
        return False
    except UserError:  # its data are not at hand, and the study at hand does not use them
        return True
