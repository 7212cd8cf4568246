"""Numbers must not depend on how many threads XLA's CPU backend has (its pool: cores, or devices if more)."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

THREADS = (1, 8)
pytestmark = pytest.mark.skipif(
    jax.__version_info__ < (0, 12),
    reason="JAX 0.10 cuts sums by threads (Python 3.11 has no newer)",
)
GRADIENT = """
import hashlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

from convtl.models.registry import build_network
from convtl.models.NAME import CONFIG

network = build_network(CONFIG(), SHAPE, 4)
variables = jax.vmap(network.init)(jax.random.split(jax.random.key(0), 2))
images = np.random.default_rng(0).normal(size=(2, 32, *SHAPE)).astype(np.float32)


def loss(variables, images):
    logits = network.apply(variables, images, train=network.names)[0]
    return jnp.square(logits - 1).mean()


@jax.jit
def train(variables):
    def update(variables, _):
        gradients = jax.vmap(jax.grad(loss, allow_int=True))(variables, images)
        return jax.tree.map(lambda v, g: v - 0.01 * g, variables, gradients), None

    return jax.lax.scan(update, variables, None, 3)[0]


leaves = jax.tree.leaves(train(variables))
print(hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in leaves)).hexdigest())
"""


def python(threads: int, *words: str) -> str:
    """Output of a Python process whose XLA has so many threads."""
    environment = {**os.environ, "NPROC": str(threads)}
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env=environment, check=True
    )
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "config", "shape"), [("lenet", "LeNet5Config", (28, 28, 1))], ids=["lenet5"]
)
def test_updates_have_the_same_bits_whatever_the_threads(name, config, shape) -> None:
    code = GRADIENT.replace("NAME", name).replace("CONFIG", config).replace("SHAPE", str(shape))
    assert len({python(threads, "-c", code) for threads in THREADS}) == 1


@pytest.mark.slow
def test_a_study_has_the_same_numbers_whatever_the_threads(tmp_path: Path) -> None:
    tables = []
    for threads in THREADS:
        out, cache = tmp_path / f"out{threads}", tmp_path / f"cache{threads}"
        words = ("+experiment=finetune_depth", "debug=smoke", "devices=1", f"out={out}")
        python(threads, "-m", "convtl.run", *words, f"cache={cache}")
        with (out / "results.csv").open(newline="", encoding="utf-8") as file:
            rows = [{**row, "seconds": ""} for row in csv.DictReader(file)]
        tables.append(sorted(rows, key=lambda row: row["trial"]))
    assert tables[0] == tables[1]
