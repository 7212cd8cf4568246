"""usage: convtl run|report|describe|predict|cache ...

`convtl COMMAND` is `python -m convtl.COMMAND`; `convtl COMMAND --help` explains each.
"""

import sys
from importlib import import_module

from convtl.entry import command
from convtl.errors import unknown_name

COMMANDS = ("run", "report", "describe", "predict", "cache")


def _other(words: list[str]) -> int:
    if words:
        raise unknown_name("convtl", words[0], COMMANDS)
    print(__doc__)
    return 0


def main() -> None:
    """Run the command that the first word names."""
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        command(import_module(f"convtl.{sys.argv.pop(1)}").main)
    command(_other)


if __name__ == "__main__":
    main()
