"""Documents match what they describe: the architecture names every package and module, and links lead somewhere."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from redisai_engine.backends.torch_script_source import MAX_DEPTH, MAX_LINES, MAX_SOURCE

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "bench").rglob("*.md")])


# -- docs/architecture.md ---------------------------------------------------------------------------

ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
PACKAGES = (SOURCE / "redisai_engine", SOURCE / "mlflow_redisai")
#: Text between single backticks: paths, classes and functions, but also commands and options.
QUOTED = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", ARCHITECTURE)


def test_the_architecture_names_every_folder_of_the_source() -> None:
    folders = {path.parent for path in SOURCE.rglob("*.py")} - set(PACKAGES)
    relative = {folder.relative_to(next(root for root in PACKAGES if root in folder.parents)) for folder in folders}

    missing = [f"{folder}/" for folder in sorted(relative) if f"`{folder}/`" not in ARCHITECTURE]

    assert missing == []


def test_the_architecture_names_every_module_of_the_source() -> None:
    """Relative to its package, so that a search for the path finds it."""
    modules = [
        str(path.relative_to(package))
        for package in PACKAGES
        for path in sorted(package.rglob("*.py"))
        if not path.name.startswith("__")
    ]

    assert [module for module in modules if f"`{module}`" not in ARCHITECTURE] == []


def test_every_path_that_the_architecture_names_exists() -> None:
    """Paths are relative to one of the packages or to the root. A bare file name is at the top of one of them."""
    named = [name for name in QUOTED if re.fullmatch(r"[\w./-]+(\.py|\.md|\.toml|/)", name)]
    roots = (*PACKAGES, SOURCE, ROOT)

    missing = [name for name in named if not any((root / name).exists() for root in roots)]

    assert len(named) > 100
    assert missing == []


def test_every_class_and_function_that_the_architecture_names_exists() -> None:
    source = "\n".join(
        path.read_text() for path in [*SOURCE.rglob("*.py"), *(ROOT / "tests" / "support").rglob("*.py")]
    )
    classes = [name for name in QUOTED if re.fullmatch(r"[A-Z][a-z]\w+(\.\w+)?", name)]
    functions = [name for name in QUOTED if re.fullmatch(r"[a-z]+(_[a-z]+)*", name)]
    words_of_python = {"yield"}

    missing = [name for name in classes if f"class {name.partition('.')[0]}" not in source]
    missing += [name for name in classes if "." in name and f"def {name.partition('.')[2]}(" not in source]
    missing += [name for name in functions if f"def {name}(" not in source and name not in words_of_python | PROGRAMS]

    assert classes
    assert functions
    assert missing == []


PROGRAMS = {"mlflow_redisai", "redisai_engine"}


def test_the_architecture_tells_where_each_kind_of_thing_is_added() -> None:
    for kind in ("an AI command", "a backend", "a front", "a flavor"):
        assert re.search(rf"^\| {kind}\b.*`[\w/]+(\.py|/)`", ARCHITECTURE, flags=re.MULTILINE), kind


# -- all documents ----------------------------------------------------------------------------------

GENERATED = {"benchmarks.md", "census.md", "reliability.md", "flavors.md", "reference.md", "settings.md", "commands.md"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_lines_of_documents_fit_a_screen(document: Path) -> None:
    """Up to 120 columns, except for tables, links and the output of programs."""
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    lines = [] if document.name in GENERATED else text.splitlines()

    assert [line for line in lines if len(line) > 120 and not line.lstrip().startswith("|")] == []


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


@pytest.mark.parametrize("document", ["security.md", "engine/compatibility.md"])
def test_the_limits_of_scripts_are_those_of_the_engine(document: str) -> None:
    limits = f"{MAX_SOURCE // 1024} KiB, {MAX_LINES:,} lines and {MAX_DEPTH} levels"

    assert limits in " ".join((ROOT / "docs" / document).read_text().split())


def test_nothing_is_read_from_beside_the_repository() -> None:
    """A plain clone contains everything that its tests, scripts, measurements and documents use."""
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
    """Its first screen decides whether anyone reads on."""
    text = (ROOT / "README.md").read_text()
    lines = text.splitlines()
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)

    assert next(number for number, line in enumerate(lines, 1) if line.startswith("```")) <= 25
    assert len(prose.split()) < 600


def test_every_module_of_the_source_says_what_it_is_for_and_stays_small() -> None:
    """At most 500 lines, few enough to know a module by heart."""
    too_long = [str(path) for path in SOURCE.rglob("*.py") if len(path.read_text().splitlines()) > 500]

    assert too_long == []
