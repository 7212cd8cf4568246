"""`python -m convtl.describe model=lenet5`: units, output shapes, weights and multiply-adds."""

from collections.abc import Mapping

from convtl.cli import compose
from convtl.config.models import ModelConfig
from convtl.config.parsing import parse
from convtl.entry import command
from convtl.errors import UserError, unknown_name
from convtl.models.network import Network, weight_count
from convtl.models.registry import build_network
from convtl.runtime.backend import check_backend
from convtl.training.cost import multiply_adds

HELP = """usage: python -m convtl.describe model=NAME [classes=N] [size=PIXELS] [channels=N] [models.NAME.KEY=VALUE ...]

Prints a model's units in order: output shape, weights, multiply-adds for one image. Unless told otherwise
images and classes are those that the model was made for.
"""


def _main(words: list[str]) -> int:
    if {"-h", "--help"} & set(words):
        print(HELP)
        return 0
    sizes = ("classes", "size", "channels")
    typed = {key: value for key, _, value in (w.partition("=") for w in words) if key in sizes}
    for key, value in typed.items():
        if not value.isdecimal() or int(value) < 1:
            raise UserError(f"{key}: got '{value}'; accepted: a whole number from 1")
    check_backend()
    config = parse(compose([word for word in words if word.partition("=")[0] not in sizes]))
    for name in config.model:
        if name not in config.models:
            raise unknown_name("model", name, config.models)
        network = _built(config.models[name], {key: int(value) for key, value in typed.items()})
        print(
            f"{name}, input {_shape(network.input_shape)}", *_table(network), sep="\n", end="\n\n"
        )
    return 0


def _built(model: ModelConfig, sizes: Mapping[str, int]) -> Network:
    height, width, channels = model.usual_images
    pixels = (sizes.get("size", height), sizes.get("size", width))
    shape = (*pixels, sizes.get("channels", channels))
    return build_network(model, shape, sizes.get("classes", model.usual_classes), plain=True)


def _table(network: Network) -> list[str]:
    """Lines of a unit, its output's shape, weights, multiply-adds, and the depth that begins with it."""
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


def main() -> None:
    """Run the command."""
    command(_main)


if __name__ == "__main__":
    main()
