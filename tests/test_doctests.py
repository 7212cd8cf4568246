"""Examples in docstrings hold."""

import doctest
import importlib

import pytest

MODULES = (
    "convtl.keys",
    "convtl.measure.distance",
    "convtl.measure.metrics",
    "convtl.measure.representation",
    "convtl.measure.transferability",
    "convtl.transfer.optim",
    "convtl.transfer.plan",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_hold(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted > 0
    assert outcome.failed == 0
