"""Pictures that are there more than once: told, since copies in two splits make a test too easy."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from convtl.data.splits import SPLITS

_NAMED = 3
"""Files that are named in a line."""


@dataclass(frozen=True)
class Member:
    """A picture of a split."""

    name: str
    label: int
    content: str | None
    """digest of its file; None where it is not known"""


def told_twins(splits: Mapping[str, Sequence[Member]]) -> str | None:
    """What to say about files of the same content in two splits, or in two classes; None where there are none."""
    found = [_in_both(splits, *pair) for pair in combinations(SPLITS, 2)]
    found.append(_in_several_classes(member for members in splits.values() for member in members))
    return "; ".join(line for line in found if line) or None


def _in_both(splits: Mapping[str, Sequence[Member]], earlier: str, later: str) -> str | None:
    known = {member.content for member in splits.get(earlier, ())} - {None}
    twins = [member.name for member in splits.get(later, ()) if member.content in known]
    if not twins:
        return None
    return f"{len(twins)} {later} {_pictures(len(twins))} in {earlier}, too ({listed(twins)})"


def _in_several_classes(members: Iterable[Member]) -> str | None:
    by_content: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for member in members:
        if member.content is not None:
            by_content[member.content].setdefault(member.label, member.name)
    twins = [" = ".join(names.values()) for names in by_content.values() if len(names) > 1]
    if not twins:
        return None
    return f"{len(twins)} {_pictures(len(twins))} in more than one class ({listed(twins)})"


def _pictures(count: int) -> str:
    return "picture is" if count == 1 else "pictures are"


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
