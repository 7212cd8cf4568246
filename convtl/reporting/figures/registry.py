"""Every figure of a report, in order. A figure is one edit: a function with `@figure` in a module below."""

from convtl.reporting.figures import compare, depth, layers, learning, pictures
from convtl.reporting.figures.drawing import Figure

FIGURES: tuple[Figure, ...] = tuple(
    value
    for module in (depth, learning, compare, layers, pictures)
    for value in vars(module).values()
    if isinstance(value, Figure)
)
