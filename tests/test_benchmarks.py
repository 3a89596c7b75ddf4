"""Benchmarks take minutes and are not run here; that what they import from the package is there, is seen."""

import ast
import importlib
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).parent.parent / "benchmarks").glob("*.py"))


def imported(path: Path) -> list[tuple[str, str]]:
    """(module, name) of everything that a file imports from the package, also inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("beats_jax")]
    return [(node.module or "", alias.name) for node in nodes for alias in node.names]


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_what_a_benchmark_imports_is_there(path):
    for module, name in imported(path):
        if not hasattr(importlib.import_module(module), name):
            importlib.import_module(f"{module}.{name}")


def test_benchmarks_use_the_package():
    assert sum(len(imported(path)) for path in BENCHMARKS) > 30
