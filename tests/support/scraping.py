"""What a Prometheus would read from an engine: the port that answers it, and its metrics as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.request import Request, urlopen

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Scrape:
    """All samples of one answer, as name, labels and value."""

    samples: list[tuple[str, dict[str, str], float]]

    def sum(self, name: str, **labels: str) -> float:
        """Add up the samples of this name that have these labels."""
        return sum(value for each, told, value in self.samples if each == name and labels.items() <= told.items())

    def values(self, name: str, label: str) -> set[str]:
        """Return all values of a label."""
        return {told[label] for each, told, _ in self.samples if each == name}

    def names(self) -> set[str]:
        return {name for name, _, _ in self.samples}


def fetch(port: int, path: str = "/metrics", accept: str = "text/plain") -> tuple[str, str]:
    """Return content type and text."""
    with urlopen(Request(f"http://127.0.0.1:{port}{path}", headers={"Accept": accept}), timeout=TIMEOUT_S) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def scrape(port: int, accept: str = "text/plain") -> Scrape:
    """Read the metrics as Prometheus does."""
    content_type, text = fetch(port, accept=accept)
    return parsed(text, is_open=content_type.startswith("application/openmetrics-text"))


def parsed(text: str, *, is_open: bool = False) -> Scrape:
    families = openmetrics.text_string_to_metric_families(text) if is_open else text_string_to_metric_families(text)
    return Scrape([(each.name, each.labels, each.value) for family in families for each in family.samples])
