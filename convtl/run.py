"""`python -m convtl.run [+experiment=NAME] [KEY=VALUE ...]`: runs what is missing of a study and reports it."""

import os
import sys

from convtl.entry import guarded, options
from convtl.runtime.stopping import STOPPED, on_signals

HELP = """usage: python -m convtl.run [+experiment=NAME] [KEY=VALUE ...] [-m]

Any axis takes one value or a list; the study is their product, and only what is missing is run.
  model source target regime depth n_per_class updates replicate   axes
  replicates=N out=DIR cache=DIR debug=smoke dry_run=true save=best tracking.mode=offline   around them
  shards=4 -m hydra/launcher=slurm, devices=2, checkpoint_minutes=5   where and how it runs
Examples:
  python -m convtl.run +experiment=finetune_depth
  python -m convtl.run +experiment=finetune_depth depth=3 'n_per_class=[5,50]'
  python -m convtl.run source=latin target=cyrillic depth=2 n_per_class=10
"""


def _main(words: list[str]) -> int:
    if {"-h", "--help"} & set(words):
        print(
            f"{HELP}\nexperiments: {', '.join(options('experiment'))}\ndomains: {', '.join(options('domains'))}"
        )
        print(f"models: {', '.join(options('models'))}\nregimes: {', '.join(options('regimes'))}")
        return 0
    with on_signals():
        from convtl.command import conduct  # Hydra and JAX: not for --help

        return conduct(words)


def main() -> None:
    """Entry point of `convtl-run`."""
    code = guarded(_main)
    if (
        code in STOPPED
    ):  # threads of XLA may be at work: the interpreter's way out would pull their memory away
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
