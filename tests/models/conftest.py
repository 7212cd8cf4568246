"""Tests against other people's packages and data run only where their marker is asked for by name."""

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "foreign" in config.option.markexpr:
        return
    foreign = [item for item in items if item.get_closest_marker("foreign")]
    if foreign:
        config.hook.pytest_deselected(items=foreign)
        items[:] = [item for item in items if not item.get_closest_marker("foreign")]
