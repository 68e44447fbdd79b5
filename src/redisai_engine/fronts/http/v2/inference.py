"""
`POST /v2/models/{name}/infer`: from a request to the model's run, and from its outputs to the response.
"""

from __future__ import annotations

from redisai_engine.commands.ai.resolving import resolve_model
from redisai_engine.commands.budget import reply_budget
from redisai_engine.commands.steps import Encode, Run, RunRequest
from redisai_engine.execution.job import Job
from redisai_engine.fronts.http.access.answers import HttpAnswer
from redisai_engine.fronts.http.access.calls import SMALL_BODY, Call, body_of, check_weight
from redisai_engine.fronts.http.access.connection import Steps
from redisai_engine.fronts.http.access.failures import RequestRefused
from redisai_engine.fronts.http.v2.columns import infer_by_signature, is_by_signature
from redisai_engine.fronts.http.v2.models import v2_model
from redisai_engine.fronts.http.v2.outputs import QUICK_TEXTS, VERSION, inputs_of, is_quick, outputs_of, response
from redisai_engine.fronts.http.v2.requests import JSON_SIZE, ManyTexts, json_size_of, parse_request


def infer(call: Call) -> Steps[HttpAnswer]:
    """Run the model on the request's inputs. Raise EngineError."""
    watch = call.watch
    check_version(call)
    json_size = json_size_of(call.header(JSON_SIZE))
    body = yield from body_of(call)
    if (len(body) if json_size is None else json_size) > SMALL_BODY:
        check_weight(body if json_size is None else body[:json_size], call.client.engine.settings.tensor_limit)
        request = yield Encode(lambda: parse_request(body, json_size))
    else:
        try:
            request = parse_request(body, json_size, most_texts=QUICK_TEXTS)
        except ManyTexts:
            request = yield Encode(lambda: parse_request(body, json_size))
    seconds = request.timeout_seconds
    deadline = None if seconds is None else call.client.engine.loop.time() + seconds
    stored = yield from resolve_model(call.client, call.name)
    if is_by_signature(request, stored):
        outputs = yield from infer_by_signature(call, request, deadline, watch)
    else:
        model = v2_model(stored)
        arrays = inputs_of(request, model)
        watch.end(b"prepare")
        jobs: list[Job] = []
        (outcome,) = yield Run([RunRequest(model.form or stored, arrays)], deadline, jobs=jobs)
        outputs = outputs_of(request, model, outcome)
        watch.ran(jobs)
        reply_budget(call.client.engine.settings).take(sum([array.nbytes for array in outputs.values()]))
    if is_quick(request, outputs):
        answer = response(call.name, request, outputs)
    else:
        answer = yield Encode(lambda: response(call.name, request, outputs))
    watch.end(b"encode")
    answer.headers = [*answer.headers, (b"x-deployment", call.shown), watch.header()]
    return answer


def check_version(call: Call) -> None:
    """Raise RequestRefused for a version that no deployment has."""
    if call.version not in ("", VERSION):
        raise RequestRefused(404, f"there is no version {call.version!r:.40} of this model; it has version {VERSION}")
