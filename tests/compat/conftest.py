"""An engine for the scenarios alone, because they empty it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.servers import Server, start_engine


@pytest.fixture(scope="session")
def private_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An engine that any test may empty with FLUSHALL; users that a test makes it deletes."""
    server = start_engine(tmp_path_factory.mktemp("transcripts"))
    yield server
    server.stop()
