"""`python -m pytorch.process TRIAL.npz THREADS`: one trial in a process of its own, as scripts do."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pytorch.trials import UNITS, TorchTrial, run_trial


def save(trial: TorchTrial, path: Path) -> None:
    """Writes a trial where `main` reads it."""
    leaves = {
        f"net/{unit}/{layer}/{leaf}": np.asarray(value)
        for unit in UNITS
        for layer, own in trial.variables[unit]["params"].items()
        for leaf, value in own.items()
    }
    np.savez(
        path,
        allow_pickle=False,
        depth=trial.depth,
        images=trial.images,
        labels=trial.labels,
        batches=trial.batches,
        factors=trial.factors,
        rates=np.asarray(trial.rates),
        validation_images=trial.validation[0],
        validation_labels=trial.validation[1],
        test_images=trial.test[0],
        test_labels=trial.test[1],
        **leaves,
    )


def load(path: Path) -> TorchTrial:
    with np.load(path, allow_pickle=False) as there:
        variables: dict[str, Any] = {}
        for name in there.files:
            if name.startswith("net/"):
                _, unit, layer, leaf = name.split("/")
                variables.setdefault(unit, {"params": {}})["params"].setdefault(layer, {})[leaf] = (
                    there[name]
                )
        return TorchTrial(
            variables,
            int(there["depth"]),
            there["images"],
            there["labels"],
            there["batches"],
            there["factors"],
            [float(rate) for rate in there["rates"]],
            (there["validation_images"], there["validation_labels"]),
            (there["test_images"], there["test_labels"]),
        )


def main() -> None:
    torch.set_num_threads(int(sys.argv[2]))
    rate, accuracy = run_trial(load(Path(sys.argv[1])))
    print(f"{rate!r} {accuracy!r}")


if __name__ == "__main__":
    main()
