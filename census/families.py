"""The families of the census, and rows by name."""

from __future__ import annotations

from functools import cache

from census import boosting, keras_layers, scikit, torch_layers
from census.rows import Family, Row

FAMILIES: dict[str, Family] = {
    family.name: family for family in (scikit.FAMILY, *boosting.FAMILIES, torch_layers.FAMILY, keras_layers.FAMILY)
}


@cache
def all_rows() -> dict[str, Row]:
    """Return every row by name, in the order of the families."""
    return {row.name: row for family in FAMILIES.values() for row in family.rows()}


def row_named(name: str) -> Row:
    """Return the row of that name, without listing the others."""
    return Row(*name.split("/"))
