"""`python -m convtl.describe model=lenet5`: units, output shapes, weights and multiply-adds."""

import sys
from collections.abc import Sequence

from convtl.cli import compose, guarded
from convtl.errors import UserError, unknown_name
from convtl.models.network import Network, weight_count
from convtl.models.registry import build_network, with_plain_lowering
from convtl.parsing import parse
from convtl.training.cost import multiply_adds

HELP = """usage: python -m convtl.describe model=NAME [classes=10] [size=28] [channels=1] [models.NAME.KEY=VALUE ...]

Prints a model's units in order: output shape, weights, multiply-adds for one image.
"""


def table(words: Sequence[str]) -> str:
    """The description of each model that `words` name."""
    own = {"classes": 10, "size": 28, "channels": 1}
    rest = []
    for word in words:
        key, _, value = word.partition("=")
        if key in own:
            if not value.isdigit() or int(value) < 1:
                raise UserError(f"{key}: got '{value}'; accepted: a whole number from 1")
            own[key] = int(value)
        else:
            rest.append(word)
    config = parse(compose(rest))
    shape = (own["size"], own["size"], own["channels"])
    parts = []
    for name in config.model:
        if name not in config.models:
            raise unknown_name("model", name, config.models)
        parts.append(
            _one(name, build_network(with_plain_lowering(config.models[name]), shape, own["classes"]))
        )
    return "\n\n".join(parts)


def _one(name: str, network: Network) -> str:
    weights = {unit: weight_count(network.abstract_variables[unit]) for unit in network.names}
    costs = multiply_adds(network)
    depths = {unit: len(network.weighted) - i for i, unit in enumerate(network.weighted)}
    lines = [
        f"{name}, input {_shape(network.input_shape)}",
        f"{'unit':<10}{'output':>14}{'weights':>12}{'multiply-adds':>16}{'depth':>8}",
    ]
    for unit, shape in zip(network.names, network.output_shapes, strict=True):
        depth = depths.get(unit, "")
        lines.append(f"{unit:<10}{_shape(shape):>14}{weights[unit]:>12,}{costs[unit]:>16,}{depth:>8}")
    lines.append(f"{'total':<10}{'':>14}{sum(weights.values()):>12,}{sum(costs.values()):>16,}")
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
