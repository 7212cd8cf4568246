"""The `convtl` command: `convtl run ...` is `python -m convtl.run ...`, and so are the others."""

import re
import sys
from importlib import import_module

from convtl.entry import GROUPS, command, conf_folders, options
from convtl.errors import unknown_name

COMMANDS = ("run", "report", "describe", "predict", "cache")
HELP = f"""usage: convtl {"|".join(COMMANDS)} ...

`convtl COMMAND --help` explains each. For completion in bash: eval "$(convtl completion)"
"""
BASH = """_convtl() { mapfile -t COMPREPLY < <(convtl complete "${COMP_LINE:0:COMP_POINT}"); }
complete -o nospace -F _convtl convtl
"""
_NAMED = {"model": "models", "source": "domains", "target": "domains", "regime": "regimes"}
"""Axes -> the folder of conf/ with what they name."""


def _main(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "completion"):
        print(BASH if words == ["completion"] else HELP)
        return 0
    if words[0] == "complete":
        print(*completions(" ".join(words[1:])), sep="\n")
        return 0
    if words[0] not in COMMANDS:
        raise unknown_name("convtl", words[0], COMMANDS)
    del sys.argv[1]
    code: int = import_module(f"convtl.{words[0]}")._main(words[1:])
    return code


def completions(line: str) -> list[str]:
    """Return what the last word of a command line may become: after `=` the value alone, as bash wants it."""
    _, *words = line.split(" ")
    key, equals, value = words[-1].partition("=")
    if len(words) == 1:
        choices = [f"{name} " for name in COMMANDS]
    elif equals:
        group = key.lstrip("+")
        choices = options(_NAMED.get(group, group)) if group in (*_NAMED, *GROUPS) else []
    else:
        keys = re.findall(r"^(\w+):", (conf_folders()[0] / "config.yaml").read_text(), re.MULTILINE)
        choices = [f"{name}=" for name in (*keys, *GROUPS, "+experiment")]
    start = value if equals else words[-1]
    return sorted({choice for choice in choices if choice.startswith(start)})


def main() -> None:
    """Run the command."""
    command(_main)


if __name__ == "__main__":
    main()
