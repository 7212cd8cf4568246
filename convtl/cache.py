"""`python -m convtl.cache list|verify|prune`: sizes of the cache, its soundness, and removal."""

import time
from collections import Counter

from convtl.entry import folder, guarded
from convtl.errors import UserError
from convtl.storage.cache import Cache, default_root, folder_size

HELP = """usage: python -m convtl.cache list|verify|prune [cache=DIR] [kind=NAME] [older_than=DAYS]

list    entries and bytes of each kind
verify  check every entry against its manifest; exit code 1 if one is damaged
prune   remove damaged entries and leftovers of killed processes; with older_than=DAYS also sound entries that
        were made longer ago, with kind=NAME only those of one kind. Runs make anew what they need.
cache=DIR is the folder (default: $CONVTL_CACHE, or convtl in your cache folder).
"""


def _main(words: list[str]) -> int:
    if not words or {"-h", "--help"} & set(words):
        print(HELP)
        return 0
    action, *options = words
    given = dict(word.split("=", 1) for word in options if "=" in word)
    unknown = set(given) - {"cache", "kind", "older_than"}
    if action not in ("list", "verify", "prune") or len(given) != len(options) or unknown:
        raise UserError(
            f"got '{' '.join(words)}'; accepted: list, verify or prune, then cache=DIR, kind=NAME, older_than=DAYS"
        )
    days = given.get("older_than")
    if days is not None and (action != "prune" or not days.isdigit()):
        raise UserError(f"older_than: got '{days}'; accepted: a number of days, with prune")
    cache = Cache(folder("cache", given["cache"]) if "cache" in given else default_root())
    entries = [entry for entry in cache.entries() if given.get("kind") in (None, entry[0])]
    if action == "list":
        return _list(cache, entries)
    if action == "verify":
        return _verify(cache, entries)
    return _prune(cache, entries, None if days is None else int(days))


def _list(cache: Cache, entries: list[tuple[str, str]]) -> int:
    counts, sizes = Counter[str](), Counter[str]()
    for kind, key in entries:
        counts[kind] += 1
        sizes[kind] += folder_size(cache.path(kind, key))
    for kind in sorted(counts):
        print(f"{kind:24} {counts[kind]:7,} entries {sizes[kind] / 1e6:12,.1f} MB")
    print(
        f"{'all':24} {len(entries):7,} entries {folder_size(cache.root) / 1e6:12,.1f} MB in {cache.root}"
    )
    return 0


def _verify(cache: Cache, entries: list[tuple[str, str]]) -> int:
    faults = {entry: fault for entry in entries if (fault := cache.fault(*entry)) is not None}
    for (kind, key), fault in faults.items():
        print(f"{kind}/{key}: {fault}")
    print(f"{len(entries) - len(faults):,} of {len(entries):,} entries are sound")
    return 1 if faults else 0


def _prune(cache: Cache, entries: list[tuple[str, str]], days: int | None) -> int:
    before, removed = folder_size(cache.root), 0
    for kind, key in entries:
        age = time.time() - cache.path(kind, key).stat().st_mtime
        if (days is not None and age > days * 86_400) or cache.fault(kind, key) is not None:
            removed += cache.remove(kind, key)
    cache.remove_leftovers()
    print(f"{removed:,} entries removed, {(before - folder_size(cache.root)) / 1e6:,.1f} MB freed")
    return 0


def main() -> None:
    """Run the command of `python -m convtl.cache`."""
    raise SystemExit(guarded(_main))


if __name__ == "__main__":
    main()
