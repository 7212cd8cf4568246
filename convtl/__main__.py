"""The `convtl` command: `convtl run ...` is `python -m convtl.run ...`, and so are the others."""

import sys
from importlib import import_module

COMMANDS = ("run", "report", "describe", "predict", "cache")


def main() -> None:
    """Run the subcommand that the first word names; exit with code 2 for any other word."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(f"usage: convtl {'|'.join(COMMANDS)} ...\n\n`convtl COMMAND --help` explains each.")
        return
    if name not in COMMANDS:
        print(f"convtl: got '{name}'; accepted: {', '.join(COMMANDS)}", file=sys.stderr)
        raise SystemExit(2)
    del sys.argv[1]
    import_module(f"convtl.{name}").main()


if __name__ == "__main__":
    main()
