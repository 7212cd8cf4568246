"""What the machine can do: the rates that measured figures are held against."""

from dataclasses import dataclass
from functools import partial
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from timing import seconds

_SIDE = 1024
_BYTES = 2**27


@dataclass(frozen=True)
class Machine:
    """Measured with all of JAX's devices at work.

    Attributes:
      gemm: floating-point operations a second of square float32 matrix products.
      bandwidth: bytes a second, read and written, of an elementwise sum too large for any cache.
    """

    devices: str
    gemm: float
    bandwidth: float

    def share(self, operations: float, time: float) -> str:
        """How much of the matrix products' rate so many operations in so many seconds are, in words."""
        rate = operations / time
        return f"{rate / 1e9:.0f} GFLOP/s, {100 * rate / self.gemm:.0f}% of matrix products"


def measure_machine(devices: str, rounds: int) -> Machine:
    """Times matrix products and sums over all devices at once."""
    mesh = Mesh(np.asarray(jax.local_devices()), ("device",))
    split = NamedSharding(mesh, PartitionSpec("device"))
    count = len(jax.local_devices())
    square = jax.device_put(jnp.ones((count, _SIDE, _SIDE), jnp.float32), split)
    long = jax.device_put(jnp.ones((count, _BYTES // 4 // count), jnp.float32), split)
    own = partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=PartitionSpec("device"),
        out_specs=PartitionSpec("device"),
    )
    product = jax.jit(own(lambda x: x @ x))
    add = jax.jit(own(lambda x: x + 1))
    return Machine(
        devices,
        gemm=2 * count * _SIDE**3 / _typical(product, square, rounds),
        bandwidth=2 * _BYTES / _typical(add, long, rounds),
    )


def _typical(program: jax.stages.Wrapped, argument: jax.Array, rounds: int) -> float:
    jax.block_until_ready(program(argument))
    return median(seconds(lambda: jax.block_until_ready(program(argument))) for _ in range(rounds))
