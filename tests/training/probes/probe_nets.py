"""Made-up materials and small networks for the probes."""

import numpy as np

from convtl.config.models import PlainConfig
from convtl.models.network import Network
from convtl.models.registry import build_network
from convtl.training.probes.bench import Materials

CLASSES = 3


def materials(replicates: int = 2, seed: int = 0) -> Materials:
    """Images of 4x4 pixels whose class shows in their mean."""
    rng = np.random.default_rng(seed)

    def split(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, CLASSES, (replicates, n)).astype(np.int32)
        images = (
            rng.normal(size=(replicates, n, 4, 4, 1)) + 2.0 * labels[:, :, None, None, None] - 2
        )
        return images.astype(np.float32), labels

    return Materials(seed, CLASSES, split(24), split(12), split(20))


def chain(hidden: int = 3, activation: str = "tanh", initialiser: str = "lecun_normal") -> Network:
    config = PlainConfig(hidden=hidden, width=8, activation=activation, initialiser=initialiser)  # type: ignore[arg-type]
    return build_network(config, (4, 4, 1), CLASSES)
