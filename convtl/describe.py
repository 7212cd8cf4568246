"""usage: python -m convtl.describe model=NAME [models.NAME.KEY=VALUE ...]

Prints a model's units in order, for the images and classes that it was made for: output shape, weights,
multiply-adds for one image, and the depth that begins with the unit.
"""

from convtl.cli import compose
from convtl.config.parsing import parse
from convtl.entry import command
from convtl.errors import unknown_name
from convtl.models.network import Network, multiply_adds, weight_count
from convtl.models.registry import build_network
from convtl.runtime.backend import prepare_jax


def main(words: list[str]) -> int:
    """Print a table for each model."""
    prepare_jax()
    config = parse(compose(words))
    for name in config.model:
        if name not in config.models:
            raise unknown_name("model", name, config.models)
        model = config.models[name]
        network = build_network(model, model.usual_images, model.usual_classes)
        print(f"{name}, input {_shape(network.input_shape)}", *_table(network), "", sep="\n")
    return 0


def _table(network: Network) -> list[str]:
    weights = {unit: weight_count(network.abstract_variables[unit]) for unit in network.names}
    costs = multiply_adds(network)
    depths = {unit: len(network.weighted) - i for i, unit in enumerate(network.weighted)}
    width = max(10, *(len(unit) + 2 for unit in network.names))
    lines = [f"{'unit':<{width}}{'output':>14}{'weights':>14}{'multiply-adds':>17}{'depth':>8}"]
    for unit, shape in zip(network.names, network.output_shapes, strict=True):
        cells = f"{_shape(shape):>14}{weights[unit]:>14,}{costs[unit]:>17,}"
        lines.append(f"{unit:<{width}}{cells}{depths.get(unit, ''):>8}")
    sums = f"{'':>14}{sum(weights.values()):>14,}{sum(costs.values()):>17,}"
    return [*lines, f"{'total':<{width}}{sums}"]


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape)


if __name__ == "__main__":
    command(main)
