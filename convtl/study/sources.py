"""What the word behind `source=` means: `NAME` or `NAME:VARIANT`.

Names beside those of domains:

- `scratch`: a fresh net that trains everything; `random`: a fresh net, frozen below the boundary;
- a name in `weights`: a net whose weights come from elsewhere (ImageNet);
- `own`: pretrained on other classes of the target's own domain;
- `same_classes`: pretrained on the target's very classes, without its `shift`, in other images;
- `self`: pretrained on the trial's own labelled images, with a source's updates: what more updates do.

Variants turn a pretrained net into a control (`convtl.transfer.controls`; Maennel et al. 2020).
"""

from dataclasses import dataclass

from convtl.config.domains import MixtureConfig
from convtl.config.schema import Config
from convtl.data.inputs import Normalisation
from convtl.errors import UserError, unknown_name

FRESH_SOURCES = ("scratch", "random")
RELATIVE_SOURCES = ("own", "same_classes", "self")
"""Sources that are defined by the target."""
VARIANTS = ("shuffled", "statistics", "random_labels", "random_labels_rescaled")


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


def check_source(settings: Config, text: str, key: str = "source") -> SourceName:
    """Return a source's name if it exists and can have its variant.

    Raises:
      UserError: no such name or variant.
    """
    name = source_name(text)
    known = [*settings.domains, *settings.weights, *FRESH_SOURCES, *RELATIVE_SOURCES]
    if name.base not in known:
        raise unknown_name(key, name.base, known)
    if ":" in text and name.fresh:
        raise UserError(
            f"{key}: got '{text}'; a fresh net has no variants; accepted: '{name.base}'"
        )
    if name.base in settings.weights and name.variant.startswith("random_labels"):
        raise UserError(
            f"{key}: got '{text}'; imported weights have the variants shuffled and statistics only"
        )
    if ":" in text and name.variant not in VARIANTS:
        raise unknown_name(f"{key}, variant of '{name.base}'", name.variant, VARIANTS)
    return name


def mixture_of(settings: Config, name: SourceName) -> MixtureConfig | None:
    """Mixture that a source name stands for; None for any other source."""
    domain = settings.domains.get(name.base)
    return domain if isinstance(domain, MixtureConfig) else None


def normalisation_of(settings: Config, source: str) -> Normalisation | None:
    """Normalisation that imported weights expect; None standardises each image."""
    weights = settings.weights.get(source_name(source).base)
    return None if weights is None else Normalisation(weights.mean, weights.std)


def similarities(settings: Config, name: SourceName) -> tuple[float | None, ...]:
    """Values of `similarity` that a source takes: those of the axis for a mixture.

    Raises:
      UserError: a mixture without `similarity`, another source with it, or a share that is no whole
        number of classes.
    """
    given = settings.similarity
    if name.fresh:
        return (None,)
    if mixture_of(settings, name) is None:
        if given is not None:
            mixtures = [n for n, d in settings.domains.items() if isinstance(d, MixtureConfig)]
            raise UserError(
                f"similarity: got {list(given)} with source '{name.base}', which is no mixture; "
                "accepted: similarity with "
                f"source={' or '.join(mixtures) or 'a domain of kind mixture'} only"
            )
        return (None,)
    classes = settings.pretrain.classes or settings.classes
    if classes is None:
        raise UserError(
            "classes: got null; accepted with a mixture: how many classes it has, such as 12"
        )
    shares = ", ".join(f"{index / 4:g}" for index in range(5) if index * classes % 4 == 0)
    if given is None:
        raise UserError(
            f"similarity: missing; source '{name.base}' is a mixture; accepted: one or more of {shares}"
        )
    for value in given:
        if value * 4 != round(value * 4) or value * classes != round(value * classes):
            raise UserError(f"similarity: got {value:g}; accepted with {classes} classes: {shares}")
    return given
