"""usage: convtl run|report|describe|predict|cache ...

`convtl COMMAND` is `python -m convtl.COMMAND`; `convtl COMMAND --help` explains each.
For completion in bash: eval "$(convtl completion)"
"""

import sys
from importlib import import_module

from convtl.entry import GROUPS, command, options
from convtl.errors import unknown_name

COMMANDS = ("run", "report", "describe", "predict", "cache")
BASH = """_convtl() { mapfile -t COMPREPLY < <(convtl complete "${COMP_LINE:0:COMP_POINT}"); }
complete -o nospace -F _convtl convtl
"""
_NAMED = {"model": "models", "source": "domains", "target": "domains", "regime": "regimes"}
"""Axes -> the folder of conf/ with what they name."""


def _other(words: list[str]) -> int:
    match words:
        case []:
            print(__doc__)
        case ["completion"]:
            print(BASH)
        case ["complete", *line]:
            print(*completions(" ".join(line)), sep="\n")
        case [name, *_]:
            raise unknown_name("convtl", name, COMMANDS)
    return 0


def completions(line: str) -> list[str]:
    """Return completions of a line's last word: after `=`, values without the key."""
    _, *words = line.split(" ")
    key, equals, value = words[-1].partition("=")
    if len(words) == 1:
        choices = [f"{name} " for name in COMMANDS]
    elif equals:
        group = key.lstrip("+")
        choices = options(_NAMED.get(group, group)) if group in (*_NAMED, *GROUPS) else []
    else:
        from convtl.config.schema import REGISTRIES, ROLES  # takes longer than the rest

        keys = ROLES.keys() - REGISTRIES
        choices = [f"{name}=" for name in (*keys, *GROUPS, "+experiment")]
    start = value if equals else words[-1]
    return sorted({choice for choice in choices if choice.startswith(start)})


def main() -> None:
    """Run the command that the first word names."""
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        command(import_module(f"convtl.{sys.argv.pop(1)}").main)
    command(_other)


if __name__ == "__main__":
    main()
