"""
The kernels of old versions of ONNX Runtime: for which types does an operator exist on the server?

`kernels.txt` beside this file holds the facts, and says how they are written.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

Version = tuple[int, int]
# An alternative of a kernel: by type parameter, the types that it takes.
Alternative = dict[str, frozenset[str]]
# By operator (with its domain, unless that is ai.onnx) and the operator's version.
Table = dict[tuple[str, int], tuple[Alternative, ...]]

# The first version whose kernels are known to suffice.
COMPLETE: Version = (1, 14)


class Kernels:
    """The kernels of one version of ONNX Runtime."""

    def __init__(self, version: Version) -> None:
        self.version = version
        self._table = _table(version)

    def lacking(self, operator: str, version: int, types: Mapping[str, str]) -> tuple[str, frozenset[str]] | None:
        """
        Return a type parameter for whose type there is no kernel, and the types that there are kernels for, or None.

        `types` are the types by parameter, named as in ONNX (`float`, `double`); those that are unknown are left out.
        """
        alternatives = self._table.get((operator, version), ({},))
        objections = [
            next(((name, taken) for name, taken in each.items() if types.get(name, "") not in {"", *taken}), None)
            for each in alternatives
        ]
        return None if None in objections else objections[0]


@cache
def _table(version: Version) -> Table:
    found: dict[tuple[str, int], tuple[Version, list[Alternative]]] = {}
    for line in (files(__package__) / "kernels.txt").read_text("utf-8").splitlines():
        if line.startswith("#"):
            continue
        release, operator, since, *parameters = line.split()
        major, _, minor = release.partition(".")
        first, key = (int(major), int(minor)), (operator, int(since))
        if first <= version:
            if key not in found or found[key][0] < first:
                found[key] = (first, [])
            found[key][1].append(_alternative(parameters))
    return {key: tuple(alternatives) for key, (_, alternatives) in found.items()}


def _alternative(parameters: list[str]) -> Alternative:
    pairs = [parameter.split("=") for parameter in parameters if parameter != "*"]
    return {name: frozenset(types.split(",")) for name, types in pairs}
