"""usage: python -m convtl.cache list|verify|prune [cache=DIR] [older_than=DAYS]

list    entries and bytes of each kind
verify  check every entry against its manifest; exit code 1 if one is damaged
prune   remove damaged entries and leftovers of killed processes; with older_than=DAYS also sound entries that
        were made longer ago. Runs make anew what they need.
cache=DIR is the folder (default: $CONVTL_CACHE, or convtl in your cache folder).
"""

from convtl.entry import command, folder, keywords
from convtl.errors import UserError
from convtl.storage.cache import Cache, default_root, folder_size


def main(words: list[str]) -> int:
    """List, verify or prune the entries of a cache."""
    usage = "list, verify or prune, then [cache=DIR], and with prune [older_than=DAYS]"
    action = words[0] if words else ""
    typed = keywords(words[1:], {"cache": "", "older_than": "never"}, usage)
    days = typed["older_than"]
    if action not in ("list", "verify", "prune"):
        raise UserError(f"got '{' '.join(words)}'; accepted: {usage}")
    if days != "never" and (action != "prune" or not days.isdigit()):
        raise UserError(f"older_than: got '{days}'; accepted: a number of days, with prune")
    cache = Cache(folder("cache", typed["cache"] or str(default_root())))
    before, entries = folder_size(cache.root), cache.entries()
    if action == "prune":
        removed = cache.prune(older_than=None if days == "never" else 86_400.0 * int(days))
        freed = before - folder_size(cache.root)
        print(f"{removed:,} entries removed, {freed / 1e6:,.1f} MB freed")
        return 0
    if action == "verify":
        faults = {entry: fault for entry in entries if (fault := cache.fault(*entry)) is not None}
        for (name, key), fault in faults.items():
            print(f"{name}/{key}: {fault}")
        print(f"{len(entries) - len(faults):,} of {len(entries):,} entries are sound")
        return 1 if faults else 0
    for name in dict.fromkeys(name for name, _ in entries):
        sizes = [folder_size(cache.path(*entry)) for entry in entries if entry[0] == name]
        print(f"{name:24} {len(sizes):7,} entries {sum(sizes) / 1e6:12,.1f} MB")
    print(f"{'all':24} {len(entries):7,} entries {before / 1e6:12,.1f} MB in {cache.root}")
    return 0


if __name__ == "__main__":
    command(main)
