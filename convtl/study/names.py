"""Meaning of names in a study, and digests of their content.

A source is `NAME` or `NAME:VARIANT`; conf/README.md explains names that are neither domains nor weights. A variant is
a control (Maennel et al. 2020).
"""

from dataclasses import dataclass
from typing import Any

from convtl.config.domains import MixtureConfig
from convtl.config.schema import Config
from convtl.config.values import content
from convtl.data.domains import identity
from convtl.data.inputs import Normalisation
from convtl.errors import UserError, shown, unknown_name
from convtl.keys import digest
from convtl.models.weights import origin_identity

FRESH_SOURCES = ("scratch", "random")
RELATIVE_SOURCES = ("own", "same_classes", "self")
"""Sources that are defined by the target."""
VARIANTS = ("shuffled", "statistics", "random_labels")


@dataclass(frozen=True)
class SourceName:
    """A source as typed, split at its colon."""

    base: str
    variant: str = ""

    @property
    def fresh(self) -> bool:
        return self.base in FRESH_SOURCES

    def domain(self, target: str) -> str:
        """Name of the domain that the source's classes come from, or of the mixture."""
        return target if self.base in RELATIVE_SOURCES else self.base


def source_name(text: str) -> SourceName:
    """Split `NAME` or `NAME:VARIANT`, without looking either up."""
    base, _, variant = text.partition(":")
    return SourceName(base, variant)


def mixture_of(settings: Config, name: SourceName) -> MixtureConfig | None:
    """Return the mixture that a source name stands for; None for any other source."""
    domain = settings.domains.get(name.base)
    return domain if isinstance(domain, MixtureConfig) else None


def normalisation_of(settings: Config, source: str) -> Normalisation | None:
    """Return the normalisation of imported weights; None standardises each image."""
    weights = settings.weights.get(source_name(source).base)
    return None if weights is None else Normalisation(weights.mean, weights.std)


def similarities(settings: Config, source: str) -> tuple[float | None, ...]:
    """Return a source's values of `similarity`; refuse fractions of a class."""
    given, name = settings.similarity, source_name(source)
    if name.fresh:
        return (None,)
    if mixture_of(settings, name) is None:
        if given is not None:
            raise UserError(
                f"similarity: got {list(given)} with source '{name.base}', which is no mixture"
            )
        return (None,)
    classes = settings.pretrain.classes or settings.classes
    if classes is None:
        raise UserError("classes: got null; accepted with a mixture: a number, such as 12")
    shares = [index / 4 for index in range(5) if index * classes % 4 == 0]
    for value in given or (None,):
        if value not in shares:
            accepted = ", ".join(f"{share:g}" for share in shares)
            raise UserError(
                f"similarity: got {shown(value)}; accepted with a mixture of {classes} classes: {accepted}"
            )
    return given or ()


def check_names(settings: Config) -> None:
    """Refuse unknown names, and names of domains or weights that are taken."""
    reserved = (*FRESH_SOURCES, *RELATIVE_SOURCES)
    for registry, others in (("domains", reserved), ("weights", (*settings.domains, *reserved))):
        for name in getattr(settings, registry):
            if name in others:
                line = "this name is taken by another source; choose another"
                raise UserError(f"{registry}.{name}: {line}")
    mixtures = {key: d for key, d in settings.domains.items() if isinstance(d, MixtureConfig)}
    images = [name for name in settings.domains if name not in mixtures]
    sources = [*settings.domains, *settings.weights, *reserved]
    names = [
        *(("source", source_name(text).base, sources) for text in settings.source),
        *(("model", name, [*settings.models]) for name in settings.model),
        *(("target", name, images) for name in settings.target),
        *(("regime", name, [*settings.regimes]) for name in settings.regime),
    ]
    for key, mixture in mixtures.items():
        names.append((f"domains.{key}.near", mixture.near, ["own", *images]))
        names.append((f"domains.{key}.far", mixture.far, images))
    for key, name, known in names:
        if name not in known:
            raise unknown_name(key, name, known)
    for text in settings.source:
        source = source_name(text)
        variants = VARIANTS[:1] if source.base in settings.weights else VARIANTS
        if ":" in text and (source.fresh or source.variant not in variants):
            known = [] if source.fresh else [*variants]
            raise unknown_name(f"source, variant of '{source.base}'", source.variant, known)


def content_of(
    settings: Config, axis: str, name: str, target: str, similarity: float | None = None
) -> str:
    """Return the digest of the content of a model, source, target or regime."""
    if axis == "source":
        return _source_content(settings, equivalent_source(settings, name, similarity), target)
    if axis == "target":
        return digest(domain_content(settings, name))
    return digest(content(getattr(settings, f"{axis}s")[name]))


def equivalent_source(settings: Config, source: str, similarity: float | None) -> str:
    """Return the source that a one-sided mixture equals; any other as it is."""
    name = source_name(source)
    mixture = mixture_of(settings, name)
    if mixture is None or similarity not in (0.0, 1.0):
        return source
    side = mixture.near if similarity else mixture.far
    return f"{side}:{name.variant}" if name.variant else side


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
    """Return plain content that determines a domain, or both sides of a mixture."""
    domain = settings.domains[name]
    if isinstance(domain, MixtureConfig):
        sides = {"near": target if domain.near == "own" else domain.near, "far": domain.far}
        return {"mixture": {side: domain_content(settings, name) for side, name in sides.items()}}
    try:
        return identity(domain)
    except UserError as error:
        raise UserError(f"domains.{name}.{error}") from None
