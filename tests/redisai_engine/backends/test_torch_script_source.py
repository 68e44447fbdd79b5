"""Limits on scripts: anything that makes the compiler's tree deep is refused before PyTorch sees it."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redisai_engine.backends.torch_script_source import (
    _TOKEN,
    MAX_DEPTH,
    MAX_LINES,
    MAX_SOURCE,
    _Depth,
    check_source,
)
from redisai_engine.errors import ModelLoadError
from support.torch_scripts import DEEP, HEAD, deep


def nested_blocks(count: int, between: str = "") -> str:
    lines = [f"{' ' * (4 + level)}if x > 0:\n{between}" for level in range(count)]
    return HEAD + "    x = 1\n" + "".join(lines) + " " * (4 + count) + "x = 2\n    return x\n"


@pytest.mark.parametrize("kind", DEEP)
def test_whatever_makes_the_tree_deep_is_refused(kind: str) -> None:
    with pytest.raises(
        ModelLoadError, match=f"^ERR the script is nested deeper than {MAX_DEPTH} levels in line [0-9]+$"
    ):
        check_source(deep(kind, MAX_DEPTH + 100))


@pytest.mark.parametrize("between", ["", "\n", "# here\n", "      \n"])
def test_nested_blocks_are_refused_also_with_lines_between(between: str) -> None:
    """Each level is indented further, so a script of so many levels has too many bytes anyway."""
    with pytest.raises(ModelLoadError, match=r"nested deeper|has [0-9]+ bytes"):
        check_source(nested_blocks(MAX_DEPTH + 50, between))
    assert most_levels(nested_blocks(MAX_DEPTH + 50, between)) > MAX_DEPTH


@pytest.mark.parametrize("kind", DEEP)
def test_a_tenth_of_the_limit_is_fine(kind: str) -> None:
    check_source(deep(kind, MAX_DEPTH // 10))


def test_a_table_of_any_length_is_fine() -> None:
    """Elements are siblings, so they add no depth."""
    numbers = ", ".join(["-1.0", "2 * (3 + 4)"] * 3000)

    check_source(f"{HEAD}    return [{numbers}]\n")


def test_many_lines_and_functions_are_fine() -> None:
    check_source("".join(f"def g{i}(x: int):\n    y = x * (x + 1)\n    return y\n" for i in range(MAX_LINES // 3)))


def test_text_and_comments_make_no_levels() -> None:
    check_source(f"{HEAD}    # {'(' * 2000}\n    x = '{'[' * 2000}'\n    return tensors\n")


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("#" * (MAX_SOURCE + 1), f"has {MAX_SOURCE + 1} bytes; at most {MAX_SOURCE} are allowed"),
        ("#" + "é" * MAX_SOURCE, f"has {2 * MAX_SOURCE + 1} bytes; at most {MAX_SOURCE} are allowed"),
        ("\n" * (MAX_LINES + 1), f"has {MAX_LINES + 1} lines; at most {MAX_LINES} are allowed"),
        ("\n" * MAX_LINES + "x", f"has {MAX_LINES + 1} lines; at most {MAX_LINES} are allowed"),
    ],
    ids=["bytes", "bytes of UTF-8", "lines", "a line without an end"],
)
def test_a_long_script_is_refused_with_its_size_and_the_limit(source: str, problem: str) -> None:
    with pytest.raises(ModelLoadError) as refusal:
        check_source(source)

    assert refusal.value.wire == f"ERR the script {problem}"


def test_as_many_bytes_and_lines_as_allowed_are_fine() -> None:
    check_source("#" * (MAX_SOURCE - MAX_LINES) + "\n" * MAX_LINES)


@pytest.mark.parametrize("text", ['"abc', "'abc\n'", '"""abc""', '"abc\\"'])
def test_a_text_without_an_end_is_refused_where_it_begins(text: str) -> None:
    with pytest.raises(ModelLoadError, match=r"^ERR the script has a text in quotes without an end in line 3$"):
        check_source(f"{HEAD}    x = 1\n    y = {text}")


def most_levels(source: str) -> int:
    depth = _Depth()
    levels = 0
    for token in _TOKEN.finditer(source):
        depth.take(str(token.lastgroup), token[0])
        levels = max(levels, depth.levels)
    return levels


def tree_depth(node: ast.AST) -> int:
    """Count the nesting of expressions and of blocks, as Python's parser sees it."""
    below = max((tree_depth(child) for child in ast.iter_child_nodes(node)), default=0)
    return below + isinstance(node, (ast.BinOp, ast.UnaryOp, ast.Call, ast.Subscript, ast.Attribute, ast.List, ast.If))


EXPRESSIONS = st.recursive(
    st.sampled_from(["x", "1", "'(['", "'''[\n'''", '"a\\"("']),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" + ", " ** ", "-", " * ( 1 - "]), inner).map(
            lambda parts: "".join(parts) + (")" if "(" in parts[1] else "")
        ),
        inner.map("-{}".format),
        inner.map("({})".format),
        inner.map("x.y[{}]".format),
        inner.map("f(x, {})(x)".format),
        st.lists(inner, max_size=4).map(lambda parts: f"[{', '.join(parts)}]"),
    ),
    max_leaves=25,
)
BLOCKS = st.recursive(
    EXPRESSIONS.map(lambda expression: [f"y = {expression}  # ({expression[:1]}"]),
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(
        lambda blocks: ["if x:", *(f"  {line}" for block in blocks for line in ["", *block, "# it's"])]
    ),
    max_leaves=10,
)


@given(BLOCKS)
@settings(max_examples=300, deadline=None)
def test_the_depth_is_never_less_than_that_of_the_tree(lines: list[str]) -> None:
    source = "\n".join(lines) + "\n"

    assert most_levels(source) >= tree_depth(ast.parse(source))
