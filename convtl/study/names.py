"""What the names of a study stand for: whether they exist, and digests of their content."""

from collections.abc import Mapping
from typing import Any

from convtl.config.domains import MixtureConfig
from convtl.config.roles import content
from convtl.config.schema import Config
from convtl.data.domains import identity
from convtl.errors import UserError, unknown_name
from convtl.keys import digest
from convtl.models.weights import origin_identity
from convtl.study.sources import (
    FRESH_SOURCES,
    RELATIVE_SOURCES,
    check_source,
    mixture_of,
    source_name,
)

_REGISTRY = {"model": "models", "source": "domains", "target": "domains", "regime": "regimes"}
"""Axis -> the registry in which its values are looked up."""


def check_names(settings: Config) -> None:
    """Refuse names that no registry holds, and names of domains or weights that are taken.

    Raises:
      UserError: the first of them, with those that are known.
    """
    reserved = (*FRESH_SOURCES, *RELATIVE_SOURCES)
    for name in reserved:
        if name in settings.domains:
            raise UserError(
                f"domains.{name}: this name is taken by the source '{name}'; choose another"
            )
    for name in settings.source:
        check_source(settings, name)
    for name in settings.weights:
        if name in (*settings.domains, *reserved):
            raise UserError(f"weights.{name}: this name is taken by another source; choose another")
    mixtures = {key: d for key, d in settings.domains.items() if isinstance(d, MixtureConfig)}
    images = [name for name in settings.domains if name not in mixtures]
    names = [
        *(("model", name, settings.models) for name in settings.model),
        *(("target", name, images) for name in settings.target),
        *(("regime", name, settings.regimes) for name in settings.regime),
    ]
    for key, mixture in mixtures.items():
        names.append((f"domains.{key}.near", mixture.near, ["own", *images]))
        names.append((f"domains.{key}.far", mixture.far, images))
    for key, name, known in names:
        if name not in known:
            raise unknown_name(key, name, known)


def contents_of(settings: Config, **names: str) -> dict[str, str]:
    """Axis -> digest of what its value stands for, with the target that is named beside it."""
    return {axis: content_of(settings, axis, name, names["target"]) for axis, name in names.items()}


def content_of(settings: Config, axis: str, name: str, target: str) -> str:
    """Digest of what a value of an axis stands for.

    Args:
      axis: model, source, target or regime.
      target: the target that a relative source or a mixture is meant for.
    """
    if axis == "source":
        return _source_content(settings, name, target)
    if axis == "target":
        return digest(domain_content(settings, name))
    return digest(content(getattr(settings, _REGISTRY[axis])[name]))


def _source_content(settings: Config, text: str, target: str) -> str:
    name = source_name(text)
    if name.fresh:
        return digest({"fresh": text})
    if name.base in settings.weights:
        origin = origin_identity(settings.weights[name.base], f"weights.{name.base}")
        return digest([origin, name.variant])
    plain = digest(domain_content(settings, name.domain(target), target))
    alias = name.base if name.base in RELATIVE_SOURCES else ""
    return digest([plain, alias, name.variant]) if alias or name.variant else plain


def domain_content(settings: Config, name: str, target: str = "") -> dict[str, Any]:
    """Plain content that determines a domain; that of a mixture holds those of its two sides."""
    domain = settings.domains[name]
    if isinstance(domain, MixtureConfig):
        sides = {"near": target if domain.near == "own" else domain.near, "far": domain.far}
        return {"mixture": {side: domain_content(settings, name) for side, name in sides.items()}}
    try:
        return identity(domain)
    except UserError as error:
        raise UserError(f"domains.{name}.{error}") from None


def equivalent_source(settings: Config, source: str, similarity: float | None) -> str | None:
    """The source that a mixture of one kind of classes equals; of no mixture the source itself."""
    name = source_name(source)
    mixture = mixture_of(settings, name)
    if mixture is None:
        return source
    if similarity not in (0.0, 1.0):
        return None
    side = mixture.near if similarity else mixture.far
    return f"{side}:{name.variant}" if name.variant else side


def accepts(
    settings: Config, contents: Mapping[str, Mapping[str, str]], row: Mapping[str, Any]
) -> bool:
    """Whether a row's names stand for what they stand for in a study, so that the two can be compared.

    What an additional axis varies inside a registry (`models.lenet5.activation`) is not compared.

    Args:
      contents: axis -> name -> digest of what the name stood for when the study was run; other names are
        looked up in `settings`.
    """
    varied = {key.split(".")[0] for key in row.get("axes", {})}
    return all(
        registry in varied or _agrees(settings, contents.get(axis, {}), axis, row)
        for axis, registry in _REGISTRY.items()
    )


def _agrees(settings: Config, known: Mapping[str, str], axis: str, row: Mapping[str, Any]) -> bool:
    name, recorded = str(row.get(axis)), row.get("contents", {}).get(axis)
    base = source_name(name)
    relative = base.base in RELATIVE_SOURCES or mixture_of(settings, base) is not None
    varies = axis == "source" and relative
    if name in known and not varies:
        return bool(recorded == known[name])
    try:
        stands_for = equivalent_source(settings, name, row.get("similarity")) if varies else None
        return bool(
            recorded == content_of(settings, axis, stands_for or name, str(row.get("target")))
        )
    except KeyError:
        return False
    except UserError:  # its data are not at hand, and the study at hand does not use them
        return True
