"""The families of the census, and rows by name."""

from __future__ import annotations

from functools import cache

from census import scikit
from census.rows import Family, Row

FAMILIES: dict[str, Family] = {family.name: family for family in (scikit.FAMILY,)}


@cache
def all_rows() -> dict[str, Row]:
    """Return every row by name, in the order of the families."""
    return {row.name: row for family in FAMILIES.values() for row in family.rows()}


def row_named(name: str) -> Row:
    """Return the row of that name. Raise KeyError."""
    return all_rows()[name]
