"""The OpenAPI file: it describes every route, and what schemathesis makes of it gets the answers that it promises."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from redisai_engine.fronts.http.application import all_routes
from redisai_engine.fronts.http.description import FILE
from support.http_calls import HttpServer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    schemathesis = pytest.importorskip("schemathesis")
    from schemathesis import checks

DOCUMENT = json.loads(FILE.read_text())
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
EXAMPLES = 15  # of each operation


@schemathesis.serializer("application/vnd.apache.parquet")
def _bytes_as_they_are(_: object, value: object) -> bytes:
    return bytes(getattr(value, "data", value))  # type: ignore[call-overload,no-any-return]


def test_every_route_is_described() -> None:
    described = {(method.upper(), path) for path, operations in DOCUMENT["paths"].items() for method in operations}
    routes = {(method, re.sub(r":path(?=})", "", path)) for method, path in all_routes() if method != "HEAD"}

    assert routes - {("GET", "/v2/")} == described


def test_the_page_names_every_path() -> None:
    page = (Path(__file__).parents[4] / "docs" / "http.md").read_text()
    paths = {path.replace("{name}", "NAME") for path in DOCUMENT["paths"] if "{version}" not in path}
    short = {path: path.rpartition("/")[2] for path in paths}

    assert {path for path in paths if path not in page and f"`.../{short[path]}`" not in page} == set()


def test_the_engine_serves_its_description(http: HttpServer) -> None:
    assert http.ask("GET", "/openapi.json").json() == DOCUMENT


@SCHEMA.parametrize()
@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True
)
def test_every_answer_is_as_described(case: schemathesis.Case, http: HttpServer) -> None:
    if "name" in (case.path_parameters or {}) and len(str(case.path_parameters["name"])) % 2:
        case.path_parameters["name"] = "http:tiny"  # or nothing would ever be found

    response = case.call(base_url=f"http://{http.host}:{http.port}")

    assert response.status_code != 500
    case.validate_response(response, checks=CHECKS)
