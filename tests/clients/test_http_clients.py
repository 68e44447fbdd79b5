"""KServe's and MLServer's own clients for Open Inference V2, each in its own environment, against the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from redisai_engine.fronts.http.v2.tensors import DATATYPES
from support.client_environments import Unavailable, python_with
from support.client_programs import Outcomes, checks_of, run_program
from support.http_calls import http_engine
from support.saved_models import save_rent
from support.tiny_models import passing, product_and_sum

pytestmark = pytest.mark.network

#: The requirements of each program.
CLIENTS = {
    "kserve_client": ("kserve==0.21.0",),
    # Its codec for frames doesn't know pandas 3's type of texts.
    "mlserver_client": ("mlserver==1.7.1", "pandas==2.3.3"),
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """What a client's program is given: the address of an engine with models for numbers, texts and columns."""
    import mlflow_redisai

    folder = tmp_path_factory.mktemp("http-clients")
    models = {f"pass:{datatype}": passing("ONNX", dtype.name) for datatype, dtype in DATATYPES.items()}
    models["tiny"] = product_and_sum("ONNX")
    with http_engine(folder / "engine") as server:
        for name, model in models.items():
            server.engine.client().execute_command("AI.MODELSTORE", name, "ONNX", "CPU", "BLOB", model.blob)
        mlflow_redisai.RedisAIClient(server.engine.target).create_deployment("rent", save_rent(folder / "rent").uri)
        yield {"host": server.host, "port": server.port, "protocol": 2, "models": {}}


@pytest.fixture(scope="module")
def run_of(told: dict[str, object]) -> Callable[[str], Outcomes | str]:
    """A function that returns the outcomes of a client's program, which runs once, or why it can't run."""
    done: dict[str, Outcomes | str] = {}

    def run(program: str) -> Outcomes | str:
        if program not in done:
            client, *others = CLIENTS[program]
            try:
                python = python_with(client.replace("==", "-"), [client, *others])
                done[program] = run_program(python, program, told)
            except Unavailable as reason:
                done[program] = str(reason)
        return done[program]

    return run


@pytest.mark.parametrize(
    ("program", "check"),
    [
        pytest.param(program, check, id=f"{program}-{check.removeprefix('check_')}")
        for program in CLIENTS
        for check in checks_of(program)
    ],
)
def test_a_client_finds_what_it_expects(run_of: Callable[[str], Outcomes | str], program: str, check: str) -> None:
    outcomes = run_of(program)
    if isinstance(outcomes, str):
        pytest.skip(outcomes)
    outcomes.report(check)
