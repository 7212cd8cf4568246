"""`python -m convtl.cache list|verify|prune`: sizes of the cache, its soundness, and removal."""

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
    days, kind = given.get("older_than"), given.get("kind")
    if days is not None and (action != "prune" or not days.isdigit()):
        raise UserError(f"older_than: got '{days}'; accepted: a number of days, with prune")
    if kind is not None and not kind.isidentifier():
        raise UserError(f"kind: got '{kind}'; accepted: a name that `list` shows")
    cache = Cache(folder("cache", given["cache"]) if "cache" in given else default_root())
    before, entries = folder_size(cache.root), cache.entries(kind)
    if action == "prune":
        removed = cache.prune(kind, None if days is None else 86_400.0 * int(days))
        freed = before - folder_size(cache.root)
        print(f"{removed:,} entries removed, {freed / 1e6:,.1f} MB freed")
        return 0
    if action == "verify":
        faults = {entry: cache.fault(*entry) for entry in entries}
        damaged = {entry: fault for entry, fault in faults.items() if fault is not None}
        for (name, key), fault in damaged.items():
            print(f"{name}/{key}: {fault}")
        print(f"{len(entries) - len(damaged):,} of {len(entries):,} entries are sound")
        return 1 if damaged else 0
    for name in dict.fromkeys(name for name, _ in entries):
        sizes = [folder_size(cache.path(*entry)) for entry in entries if entry[0] == name]
        print(f"{name:24} {len(sizes):7,} entries {sum(sizes) / 1e6:12,.1f} MB")
    print(f"{'all':24} {len(entries):7,} entries {before / 1e6:12,.1f} MB in {cache.root}")
    return 0


def main() -> None:
    """Run the command of `python -m convtl.cache`."""
    raise SystemExit(guarded(_main))


if __name__ == "__main__":
    main()
