"""What a `-m` sweep is made of: a job for each share, and the one study that its points are parts of."""

from collections.abc import Mapping, Sequence
from typing import Any

from convtl.cli import compose, compose_overrides, points, typed_keys
from convtl.config.parsing import parse
from convtl.config.schema import AXES, VARIABLE
from convtl.errors import UserError
from convtl.study.grid import Trial, expand

_SHARES = ("shards", "shard")


def unshared_words(words: Sequence[str]) -> list[str]:
    """The words of the study itself: without shares, and without what is said to Hydra."""
    return [
        word for word in words if _key(word) not in _SHARES and not _key(word).startswith("hydra")
    ]


def _key(word: str) -> str:
    return next(iter(typed_keys([word])), "")


def with_shards(words: Sequence[str]) -> list[str]:
    """`shards=4` alone -> `shard=0,1,2,3` beside it.

    Raises:
      UserError: the words cannot be composed, or `shards` is no one number.
    """
    shards = [word for word in words if _key(word) == "shards"]
    if len(points([*shards])) > 1:
        raise UserError(f"shards: got '{shards[-1].partition('=')[2]}'; accepted: one number")
    if "shard" in typed_keys(words):
        return list(words)
    config = parse(compose_overrides(points(words)[0]))
    if config.shards == 1 or config.shard is not None or config.dry_run:
        return list(words)
    return [*words, f"shard={','.join(map(str, range(config.shards)))}"]


def whole_of(
    words: Sequence[str], studies: Sequence[Mapping[str, Any]], trials: Sequence[Trial]
) -> list[str] | None:
    """Words of the study that all points of a sweep are parts of; None where they are studies of their own.

    Axes are merged to lists, any other key that may vary within a study becomes one of `axes`; the outcome counts
    only if its trials are just those of the points.

    Args:
      studies: what the points are composed to, each once and without shares.
      trials: those of all points.
    """
    varied = _varied(studies)
    others = {key: values for key, values in varied.items() if key not in AXES}
    if any(key.split(".")[0] not in VARIABLE for key in others):
        return None
    kept = [word for word in unshared_words(words) if _key(word) not in varied]
    merged = [f"{key}={_flow(values)}" for key, values in varied.items() if key in AXES]
    if others:
        kept = [word for word in kept if _key(word).split(".")[0] != "axes"]
        merged.append(f"axes={_flow({**studies[0]['axes'], **others})}")
    try:
        content = compose([*kept, *merged])
        found = expand(parse(content))[1]
    except UserError:
        return None
    return (
        [*kept, *merged]
        if {trial.id for trial in found} == {trial.id for trial in trials}
        else None
    )


def _varied(studies: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Dotted key -> its values, in order, for every key in which the studies differ."""
    found: dict[str, list[Any]] = {}
    for key in dict.fromkeys(key for study in studies for key in study):
        values: list[Any] = [study.get(key) for study in studies]
        if all(value == values[0] for value in values):
            continue
        if key not in AXES and all(isinstance(value, Mapping) for value in values):
            found |= {f"{key}.{inner}": own for inner, own in _varied(values).items()}
        else:
            listed = [
                v
                for value in values
                for v in (value if isinstance(value, list) and key in AXES else [value])
            ]
            found[key] = [
                value for index, value in enumerate(listed) if value not in listed[:index]
            ]
    return found


def _flow(value: Any) -> str:
    """A value as it is typed, in Hydra's grammar."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_flow(own)}" for key, own in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_flow, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = str(value)
    plain = isinstance(value, int | float) or text.replace("_", "").isalnum()
    return text if plain else "'" + text.replace("'", "\\'") + "'"
