"""What takes longest begins first, so that processes that share the tests end together."""

from __future__ import annotations

import pytest

_LONG = ("test_viewer_browser.py", "test_training.py", "test_train_and_evaluate.py", "test_ag_recipe.py", "test_demo.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _LONG.index(item.path.name) if item.path.name in _LONG else len(_LONG))
