"""What `import tq` offers: the names in `__all__`, each found where it is said to be."""

from __future__ import annotations

import ast
import inspect

import pytest

import tq


def imported_for_type_checkers() -> list[str]:
    tree = ast.parse(inspect.getsource(tq))
    branch = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in branch.body if isinstance(node, ast.ImportFrom)]
    return [alias.asname or alias.name for node in imports for alias in node.names]


def test_the_package_exports_exactly_what_it_says() -> None:
    assert sorted(imported_for_type_checkers()) == sorted(tq.__all__)


@pytest.mark.parametrize("name", sorted(tq.__all__))
def test_every_exported_name_is_there(name: str) -> None:
    assert getattr(tq, name) is not None
    assert name in dir(tq)


@pytest.mark.parametrize("name", ["Broker", "annotations_", "import_tq"])
def test_another_name_is_not(name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        getattr(tq, name)
