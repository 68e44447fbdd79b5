"""MLflow's own scoring server beside the engine's, and requests for both: every form of input, and wrong ones."""

from __future__ import annotations

import io
import json
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from support.http_calls import HttpReply, HttpServer
from support.mlflow_models import LoggedModel
from support.waiting import free_port, wait_until

JSON = "application/json"
CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"


@dataclass(frozen=True)
class Sides:
    """The same model behind both servers."""

    mlflow: HttpServer
    ours: HttpServer
    name: str
    model: LoggedModel

    def ask(self, body: bytes, content_type: str) -> tuple[HttpReply, HttpReply]:
        headers = {"content_type": content_type}
        return (
            self.mlflow.ask("POST", "/invocations", body, **headers),
            self.ours.ask("POST", f"/invocations/{self.name}", body, **headers),
        )


class scoring_server:  # used as a statement
    """MLflow's own application in uvicorn, in a thread."""

    def __init__(self, model: LoggedModel, http: HttpServer) -> None:
        import uvicorn
        from mlflow.pyfunc import scoring_server

        self._port = free_port()
        config = uvicorn.Config(
            scoring_server.init(model.pyfunc), port=self._port, log_config=None, loop="asyncio", lifespan="off"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._http = http

    def __enter__(self) -> HttpServer:
        self._thread.start()
        wait_until(lambda: self._server.started, what="MLflow's server")
        return HttpServer(self._port, self._http.engine)

    def __exit__(self, *error: object) -> None:
        self._server.should_exit = True
        self._thread.join(20)


def same(ours: Any, theirs: Any) -> bool:
    """Return whether two answers agree, apart from rounding. JSON has no NaN, so null stands for it in ours."""
    if isinstance(theirs, float):
        if math.isnan(theirs):
            return ours is None
        return isinstance(ours, int | float) and math.isclose(ours, theirs, rel_tol=1e-5, abs_tol=1e-6)
    if isinstance(theirs, list):
        return isinstance(ours, list) and len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(theirs, dict):
        return isinstance(ours, dict) and ours.keys() == theirs.keys() and all(same(ours[k], theirs[k]) for k in theirs)
    return bool(ours == theirs)


def parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.rename(columns=str).to_parquet(buffer)
    return buffer.getvalue()


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


FRAMES: dict[str, Callable[[pd.DataFrame], tuple[bytes, str]]] = {
    "split": lambda frame: (dumped({"dataframe_split": json.loads(frame.to_json(orient="split"))}), JSON),
    "split without index": lambda frame: (
        dumped({"dataframe_split": {"columns": list(frame.columns), "data": frame.to_numpy().tolist()}}),
        JSON,
    ),
    "records": lambda frame: (dumped({"dataframe_records": frame.to_dict(orient="records")}), JSON),
    "inputs of columns": lambda frame: (dumped({"inputs": frame.to_dict(orient="list")}), JSON),
    "instances of records": lambda frame: (dumped({"instances": frame.to_dict(orient="records")}), JSON),
    "instances of rows": lambda frame: (dumped({"instances": frame.to_numpy().tolist()}), JSON),
    "inputs of rows": lambda frame: (dumped({"inputs": frame.to_numpy().tolist()}), JSON),
    "with params": lambda frame: (
        dumped({"dataframe_records": frame.to_dict(orient="records"), "params": {"unknown": 1}}),
        JSON,
    ),
    "params of nothing": lambda frame: (dumped({"inputs": frame.to_numpy().tolist(), "params": None}), JSON),
    "with a charset": lambda frame: (
        dumped({"dataframe_split": json.loads(frame.to_json(orient="split"))}),
        "application/json; charset=utf-8",
    ),
    "more columns": lambda frame: (
        dumped({"dataframe_records": frame.assign(more=1).to_dict(orient="records")}),
        JSON,
    ),
    "other order": lambda frame: (
        dumped({"dataframe_records": frame[frame.columns[::-1]].to_dict(orient="records")}),
        JSON,
    ),
    "csv": lambda frame: (frame.to_csv(index=False).encode(), CSV),
    "parquet": lambda frame: (parquet(frame), PARQUET),
}


WRONG: dict[str, tuple[bytes, str]] = {
    "no json": (b"{", JSON),
    "no utf-8": (b'{"inputs": "\xff"}', JSON),
    "a list": (b"[1, 2]", JSON),
    "a number": (b"3", JSON),
    "nothing": (b"", JSON),
    "no form": (b'{"rows": [1]}', JSON),
    "two forms": (b'{"inputs": [1], "instances": [1]}', JSON),
    "records that are none": (b'{"dataframe_records": {"a": 1}}', JSON),
    "split that is none": (b'{"dataframe_split": [1]}', JSON),
    "split without data": (b'{"dataframe_split": {"columns": ["a"]}}', JSON),
    "split with more": (b'{"dataframe_split": {"data": [[1]], "more": 1}}', JSON),
    "missing columns": (b'{"dataframe_records": [{"a": 1}]}', JSON),
    "text for numbers": (b'{"instances": [["x"]]}', JSON),
    "another charset": (b"{}", "application/json; charset=latin-1"),
    "other parameters": (b"{}", "application/json; format=pandas-split"),
    "another type": (b"<a/>", "application/xml"),
    "csv that is none": (b'a,b\n"', CSV),
    "csv not in utf-8": (b"a\n\xff", CSV),
    "csv of nothing": (b"", CSV),
    "parquet that is none": (b"PAR1", PARQUET),
}
