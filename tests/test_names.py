"""Every class has a unique name, so that a name identifies it without its path."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src"


def files_by_class() -> dict[str, list[str]]:
    """Return the files that define a class of each name, private and inner classes included."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(str(path.relative_to(SOURCE)))
    return found


def test_every_class_has_a_name_of_its_own() -> None:
    assert {name: files for name, files in files_by_class().items() if len(files) > 1} == {}
