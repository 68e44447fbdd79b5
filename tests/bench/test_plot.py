"""The plot: well-formed SVG whose bars are as long as their values, from zero."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from bench.plot import Panel, svg

SVG = "{http://www.w3.org/2000/svg}"


def test_bars_are_in_proportion_and_ours_has_its_own_colour() -> None:
    picture = ElementTree.fromstring(svg([Panel("a < b", {"ours": 100.0, "R & D": 25.0}, str)], "ours"))

    background, ours, other = picture.findall(f"{SVG}rect")
    assert float(ours.attrib["width"]) == pytest.approx(4 * float(other.attrib["width"]))
    assert background.attrib["fill"] != ours.attrib["fill"] != other.attrib["fill"]
    assert [text.text for text in picture.findall(f"{SVG}text")] == ["a < b", "ours", "100.0", "R & D", "25.0"]
