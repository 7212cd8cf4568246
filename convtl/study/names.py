"""Whether the names that a config uses are in its registries, and stand for one thing each."""

from collections.abc import Sequence

from convtl.config.domains import MixtureConfig
from convtl.config.schema import Config
from convtl.errors import UserError, unknown_name
from convtl.study.sources import FRESH_SOURCES, RELATIVE_SOURCES, check_source


def check_names(settings: Config) -> None:
    """Refuses names that no registry holds, and names that are taken twice.

    Raises:
      UserError: the first of them, with those that are known.
    """
    for name in (*FRESH_SOURCES, *RELATIVE_SOURCES):
        if name in settings.domains:
            raise UserError(
                f"domains.{name}: this name is taken by the source '{name}'; choose another"
            )
    for name in settings.source:
        check_source(settings, name)
    for name in settings.weights:
        if name in settings.domains or name in (*FRESH_SOURCES, *RELATIVE_SOURCES):
            raise UserError(f"weights.{name}: this name is taken by another source; choose another")
    images = [
        name for name, domain in settings.domains.items() if not isinstance(domain, MixtureConfig)
    ]
    registries: list[tuple[str, tuple[str, ...], Sequence[str]]] = [
        ("model", settings.model, list(settings.models)),
        ("target", settings.target, images),
        ("regime", settings.regime, list(settings.regimes)),
        ("shift.blend_with", (settings.shift.blend_with,), images),
    ]
    for name, domain in settings.domains.items():
        if isinstance(domain, MixtureConfig):
            registries += [
                (f"domains.{name}.near", (domain.near,), ["own", *images]),
                (f"domains.{name}.far", (domain.far,), images),
            ]
    if settings.kept is not None and settings.upper_init != "fresh":
        raise UserError(f"kept: got {settings.kept}; accepted with upper_init=fresh only")
    for key, names, known in registries:
        for name in names:
            if name not in known:
                raise unknown_name(key, name, known)
