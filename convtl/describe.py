"""`python -m convtl.describe model=lenet5`: units, output shapes, weights and multiply-adds."""

import sys
from collections.abc import Mapping, Sequence

from convtl.cli import compose
from convtl.config.models import ModelConfig
from convtl.config.parsing import parse
from convtl.entry import guarded
from convtl.errors import UserError, unknown_name
from convtl.models.network import Network, weight_count
from convtl.models.registry import build_network, usual_classes, usual_images
from convtl.training.cost import multiply_adds

HELP = """usage: python -m convtl.describe model=NAME [classes=N] [size=PIXELS] [channels=N] [models.NAME.KEY=VALUE ...]

Prints a model's units in order: output shape, weights, multiply-adds for one image. Unless told otherwise
images and classes are those that the model was made for.
"""


def table(words: Sequence[str]) -> str:
    """The description of each model that `words` name."""
    own: dict[str, int] = {}
    rest = []
    for word in words:
        key, _, value = word.partition("=")
        if key in ("classes", "size", "channels"):
            if not value.isdigit() or int(value) < 1:
                raise UserError(f"{key}: got '{value}'; accepted: a whole number from 1")
            own[key] = int(value)
        else:
            rest.append(word)
    config = parse(compose(rest))
    parts = []
    for name in config.model:
        if name not in config.models:
            raise unknown_name("model", name, config.models)
        parts.append(_one(name, _built(config.models[name], own)))
    return "\n\n".join(parts)


def _built(model: ModelConfig, own: Mapping[str, int]) -> Network:
    height, width, channels = usual_images(model)
    shape = (own.get("size", height), own.get("size", width), own.get("channels", channels))
    return build_network(model, shape, own.get("classes", usual_classes(model)), plain=True)


def _one(name: str, network: Network) -> str:
    weights = {unit: weight_count(network.abstract_variables[unit]) for unit in network.names}
    costs = multiply_adds(network)
    depths = {unit: len(network.weighted) - i for i, unit in enumerate(network.weighted)}
    first = max(10, *(len(unit) + 2 for unit in network.names))
    lines = [
        f"{name}, input {_shape(network.input_shape)}",
        f"{'unit':<{first}}{'output':>14}{'weights':>14}{'multiply-adds':>17}{'depth':>8}",
    ]
    for unit, shape in zip(network.names, network.output_shapes, strict=True):
        depth = depths.get(unit, "")
        lines.append(
            f"{unit:<{first}}{_shape(shape):>14}{weights[unit]:>14,}{costs[unit]:>17,}{depth:>8}"
        )
    lines.append(
        f"{'total':<{first}}{'':>14}{sum(weights.values()):>14,}{sum(costs.values()):>17,}"
    )
    return "\n".join(lines)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape)


def _main(words: list[str]) -> int:
    print(HELP if {"-h", "--help"} & set(words) else table(words))
    return 0


def main() -> None:
    """Entry point of `convtl-describe`."""
    sys.exit(guarded(_main))


if __name__ == "__main__":
    main()
