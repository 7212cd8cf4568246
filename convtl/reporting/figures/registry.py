"""Every figure of a report, in order. A figure is one edit: a function with `@figure` in a file below."""

from convtl.reporting import samples
from convtl.reporting.figures import accuracy, compare
from convtl.reporting.figures.drawing import Figure

FIGURES: tuple[Figure, ...] = tuple(
    value
    for module in (accuracy, compare, samples)
    for value in vars(module).values()
    if isinstance(value, Figure)
)
