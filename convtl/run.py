"""usage: python -m convtl.run [+experiment=NAME] [KEY=VALUE ...] [-m] [--cfg job]

Runs what is missing of a study and reports it. Any axis takes one value or a list; the study is their product.
  model source target regime depth n_per_class updates replicate   axes
  replicates=N out=DIR cache=DIR debug=smoke dry_run=true save=best tracking.mode=offline   around them
  -m worker=0,1,2,3 hydra/launcher=slurm, devices=2, checkpoint_minutes=5   where and how it runs
--cfg job prints the composed config and runs nothing.
Examples:
  python -m convtl.run +experiment=finetune_depth
  python -m convtl.run +experiment=finetune_depth depth=3 'n_per_class=[5,50]'
  python -m convtl.run source=latin target=cyrillic depth=2 n_per_class=10

experiment: {experiment}
domains: {domains}
models: {models}
regimes: {regimes}
"""

from convtl.entry import command
from convtl.runtime.stopping import on_signals


def main(words: list[str]) -> int:
    """Run a study, or a sweep of studies."""
    with on_signals():
        from convtl.conduct import conduct  # Hydra and JAX: not for --help

        return conduct(words)


if __name__ == "__main__":
    command(main)
