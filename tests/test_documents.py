"""Documents in step with what they describe: the source map names every package and module, links lead somewhere."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "bench").rglob("*.md")])


def test_the_source_map_names_every_package_folder() -> None:
    told = (ROOT / "docs" / "internals.md").read_text()
    folders = {path.parent for path in SOURCE.rglob("*.py")} - {SOURCE / "redisai_engine"}

    missing = [str(folder.relative_to(ROOT)) for folder in folders if f"{folder.relative_to(ROOT)}/" not in told]

    assert missing == []


def test_the_source_map_names_every_module() -> None:
    told = (ROOT / "docs" / "internals.md").read_text()
    modules = {path for path in SOURCE.rglob("*.py") if not path.name.startswith("_")}

    missing = [str(path.relative_to(SOURCE)) for path in sorted(modules) if path.stem not in told]

    assert missing == []


def test_the_source_map_names_no_file_that_is_not_there() -> None:
    told = (ROOT / "docs" / "internals.md").read_text()
    names = {Path(name).name for name in re.findall(r"[\w/]+\.py\b", told)}
    folders = (SOURCE.rglob("*.py"), (ROOT / "tests").rglob("*.py"), ROOT.glob("*.py"))
    there = {path.name for folder in folders for path in folder}

    assert names - there == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text())
    local = [target for target in targets if "://" not in target]

    missing = [target for target in local if not (document.parent / target).exists()]

    assert missing == []


def texts(*folders: str) -> Iterator[tuple[Path, str]]:
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            with contextlib.suppress(UnicodeDecodeError):  # a model, a picture
                yield path.relative_to(ROOT), path.read_text()


def test_nothing_is_read_from_beside_the_repository() -> None:
    """A plain clone has all that its tests, scripts, measurements and documents use."""
    beside = re.compile(r"\bshared[\"'`]* ?/")

    assert [str(path) for path, text in texts("tests", "scripts", "bench", "docs", ".ci") if beside.search(text)] == []


def test_no_program_looks_above_the_repository() -> None:
    """`parents[n]` of a program's own file reaches the root at most."""
    above = re.compile(r"__file__\)(?:\.\w+\(\))?\.parents\[(\d)")

    assert [
        str(path)
        for path, text in texts("tests", "scripts", "bench", "examples")
        if any(int(number) >= len(path.parts) for number in above.findall(text))
    ] == []


def test_the_readme_is_short_and_shows_code_at_once() -> None:
    """Its first screen decides whether anybody reads on."""
    text = (ROOT / "README.md").read_text()
    lines = text.splitlines()
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)

    assert next(number for number, line in enumerate(lines, 1) if line.startswith("```")) <= 25
    assert len(prose.split()) < 600


def test_every_module_of_the_source_says_what_it_is_for_and_stays_small() -> None:
    """Below 500 lines, as one can know a room by heart."""
    too_long = [str(path) for path in SOURCE.rglob("*.py") if len(path.read_text().splitlines()) > 500]

    assert too_long == []
