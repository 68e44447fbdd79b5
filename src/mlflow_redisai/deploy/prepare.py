"""
From a model URI to a model that the server has run correctly: convert, stage, verify. No deployment is changed here.

With `backend=auto`, each of the flavor's backends is tried in order, ONNX first. The next one is tried if the model
can't be converted, if the server refuses it, or if its answers differ. Notes say why. The model that works stays under
the key of its trial until the block of `prepare` ends, so that it can take its name without being sent again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from mlflow_redisai import deadline, errors
from mlflow_redisai.config import DeploymentOptions
from mlflow_redisai.deploy import memory
from mlflow_redisai.deploy.assignment import Assignment
from mlflow_redisai.deploy.choice import choose_flavor, first_backend_that_works
from mlflow_redisai.deploy.example import kept_example
from mlflow_redisai.deploy.origin import Origin, origin_of
from mlflow_redisai.deploy.process import ConversionProcess, InThisProcess, conversion_process
from mlflow_redisai.deploy.verification import OFF, Verification, verify
from mlflow_redisai.models.base import Deployable
from mlflow_redisai.models.loading import MlflowModel, open_model
from mlflow_redisai.models.registry import PYTHON
from mlflow_redisai.predict import foreign
from mlflow_redisai.server import commands
from mlflow_redisai.server import facts as server
from mlflow_redisai.server.commands import ModelMeta, ModelToStore
from mlflow_redisai.server.connection import Connection
from mlflow_redisai.server.deployments import Deployment, Deployments, Prepared
from mlflow_redisai.server.facts import ServerFacts
from mlflow_redisai.server.record import Record
from mlflow_redisai.server.replies import tensors_of
from redisai_engine.codec.mapping import Mapping
from redisai_engine.protocol.tensor import Tensor

# Errors after which the next backend is tried. The model causes them, never the server or the network.
_REFUSALS = (errors.NotConvertible, errors.ModelRefused, errors.ModelFailed, errors.VerificationFailed)


@dataclass(frozen=True)
class _Tried:
    """A model that works, and the block that keeps it under the key of its trial."""

    deployable: Deployable
    meta: ModelMeta
    verification: Verification
    trial: bytes
    staged: contextlib.ExitStack


@dataclass(frozen=True)
class Order:
    """What to deploy, where, and how."""

    store: Deployments
    facts: ServerFacts
    name: str
    options: DeploymentOptions


@contextlib.contextmanager
def prepare(order: Order, model_uri: str, flavor: str | None) -> Iterator[Prepared]:
    """
    Convert the model and verify it on the server. Nothing stays on the server after the block.

    Raise ModelNotFound, FlavorMissing, NotConvertible, MissingConverter, ModelRefused, ModelFailed or
    VerificationFailed.
    """
    with contextlib.ExitStack() as staged:
        # The child comes first: it starts while the model is fetched and the server is asked.
        with errors.of_codec(), conversion_process() as child, _opened(model_uri) as (model, origin):
            with deadline.step("asking the server what it loads"):
                order = _with_limits(order)
            tried = _chosen(order, child, model, flavor)
            staged.enter_context(tried.staged)
            new = _record(order, tried, model, model_uri, origin)
        yield Prepared(_to_store(order, tried.deployable), new, tried.trial)


def _record(order: Order, tried: _Tried, model: MlflowModel, model_uri: str, origin: Origin) -> Record:
    deployable, verification = tried.deployable, tried.verification
    return Record(
        **Record.new_identity(),
        flavor=deployable.flavor,
        model_uri=model_uri,
        version=origin.version,
        run_id=origin.run_id or model.run_id,
        signature=None if model.signature is None else model.signature.to_dict(),
        mapping=deployable.mapping,
        verification=verification.to_json(),
        notes=(*deployable.notes, *verification.notes),
        options=order.options,
        fingerprint=tried.meta.fingerprint(),
        example=kept_example(model),
    )


@contextlib.contextmanager
def _opened(model_uri: str) -> Iterator[tuple[MlflowModel, Origin]]:
    """Open a model, and tell where it comes from. An alias that moves meanwhile makes no difference."""
    with deadline.step("fetching the model"):
        origin = origin_of(model_uri)
        opened = open_model(origin.pinned)
    with opened as model:
        model.uri = model_uri
        yield model, origin


def _with_limits(order: Order) -> Order:
    """
    Return the order with what the server's ONNX Runtime can load.

    RedisAI and the engine report a framework's version only once they have loaded it, with the first model for it.
    Asking earlier can crash RedisAI (`facts.with_runtime`). So a model that does nothing is staged while the server is
    asked.
    """
    options, facts = order.options, order.facts
    # With an opset given, or for another backend, it makes no difference what the server's ONNX Runtime can load.
    if options.opset is not None or options.backend not in ("auto", "ONNX"):
        return order
    nothing = ModelToStore(ModelMeta(backend="ONNX", device="CPU"), _model_of_nothing(), facts.chunk_bytes)
    # A server without the ONNX backend refuses this model. Then the limits stay those that load everywhere.
    with contextlib.suppress(errors.ModelRefused), order.store.staged(order.name, nothing, options.timeout):
        facts = server.with_runtime(facts, order.store.connection, commands.raw(order.name))
    return replace(order, facts=facts)


def _model_of_nothing() -> bytes:
    """Return an ONNX model that every version loads."""
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "nothing", ends[:1], ends[1:])
    blob: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=4).SerializeToString()
    return blob


def _chosen(order: Order, child: ConversionProcess | InThisProcess, model: MlflowModel, flavor: str | None) -> _Tried:
    """Choose a flavor and a backend. A refusal says why the model doesn't run as Python either."""
    backend, python = order.options.backend, order.facts.python_models
    if backend == PYTHON and python is not None:
        raise errors.NotConvertible(f"backend PYFUNC isn't to be had: {python}")
    try:
        chosen = choose_flavor(model, flavor, python=python is None)
        return _first_that_works(order, child, model, chosen)
    except errors.NotConvertible as refusal:
        # What is no refusal of the model's, such as a time limit, has its own way out.
        if backend != "auto" or python is None or type(refusal) is not errors.NotConvertible:
            raise
        raise errors.NotConvertible(f"{refusal.message}; it can't run as Python either: {python}") from refusal


def _first_that_works(
    order: Order, child: ConversionProcess | InThisProcess, model: MlflowModel, flavor: str
) -> _Tried:
    tried, notes = first_backend_that_works(
        flavor,
        order.options.backend,
        lambda backend: _attempt(order, child, model, flavor, backend),
        _REFUSALS,
        python=order.facts.python_models is None,
    )
    return replace(tried, deployable=replace(tried.deployable, notes=(*tried.deployable.notes, *notes)))


def _attempt(
    order: Order, child: ConversionProcess | InThisProcess, model: MlflowModel, flavor: str, backend: str
) -> _Tried:
    """Convert for one backend, stage the model, which shows that the server can load it, and verify it."""
    options = order.options
    with deadline.step(f"converting the model for {backend}"):
        deployable = child.convert(_assignment(order, model, flavor, backend))
    _check_batching(options, deployable.mapping)
    with contextlib.ExitStack() as staged:
        key, meta = staged.enter_context(order.store.staged(order.name, _to_store(order, deployable), options.timeout))
        verification = Verification(OFF)
        if options.verify:
            run = _runner(order.store.connection, key, deployable, options)
            with deadline.step("verifying the model"):
                verification = verify(run, deployable, model)
        return _Tried(deployable, meta, verification, key, staged.pop_all())


def _check_batching(options: DeploymentOptions, mapping: Mapping) -> None:
    if options.batchsize and not mapping.independent:
        raise errors.InvalidRequest(
            f"batchsize={options.batchsize} would run rows of several requests together, but the answers of this "
            "model's rows depend on each other; use batchsize=0"
        )


def _assignment(order: Order, model: MlflowModel, flavor: str, backend: str) -> Assignment:
    options = order.options
    return Assignment(
        uri=model.uri,
        path=str(model.path.absolute()),
        flavor=flavor,
        backend=backend,
        opset=options.opset,
        limits=order.facts.limits,
        outputs=options.outputs,
        environment=options.env,
        replicas=options.replicas,
        compare=options.verify,
        timeout_s=options.convert_timeout or None,
        memory=_memory_limit(options),
    )


def _memory_limit(options: DeploymentOptions) -> int | None:
    """Return the most bytes that a conversion may take. With less than a fifth left, a machine begins to swap."""
    if options.convert_memory is not None:
        return options.convert_memory << 20 or None
    free = memory.free()
    return None if free is None else free * 4 // 5


def _runner(
    connection: Connection, key: bytes, deployable: Deployable, options: DeploymentOptions
) -> Callable[[list[Tensor]], list[Tensor]]:
    mapping = deployable.mapping

    def run(tensors: list[Tensor]) -> list[Tensor]:
        command = commands.dag(key, tensors, len(mapping.outputs), mapping.fetch, deadline.wait_ms(options.timeout))
        [reply] = connection.pipeline(key, [command])
        return tensors_of(connection, reply, len(mapping.fetch), options.timeout)

    return run


def _to_store(order: Order, deployable: Deployable) -> ModelToStore:
    meta = ModelMeta(
        backend=deployable.backend,
        inputs=deployable.tf_inputs,
        outputs=deployable.tf_outputs,
        **_stored(order.options),
    )
    return ModelToStore(meta, deployable.blob, order.facts.chunk_bytes, order.options.isolate)


def _stored(options: DeploymentOptions) -> dict[str, Any]:
    """Return the options that RedisAI stores with the model."""
    names = ("device", "tag", "batchsize", "minbatchsize", "minbatchtimeout")
    return {name: getattr(options, name) for name in names}


def with_options(order: Order, current: Deployment) -> AbstractContextManager[Prepared]:
    """Prepare the stored model again with other options, for a block. A model without a record gets one."""
    options = order.options
    if current.record is not None:
        _check_batching(options, current.record.mapping)
    meta = replace(current.meta, **_stored(options))
    model = ModelToStore(meta, order.store.blob(current.name), order.facts.chunk_bytes, options.isolate)
    return _with_record(order, model, current.record or _record_of_foreign(current, model.blob))


def with_other_options(order: Order, prepared: Prepared) -> AbstractContextManager[Prepared]:
    """Return a prepared model with the order's options instead of its own, for a block."""
    _check_batching(order.options, prepared.record.mapping)
    meta = replace(prepared.model.meta, **_stored(order.options))
    model = replace(prepared.model, meta=meta, isolate=order.options.isolate)
    return _with_record(order, model, prepared.record)


@contextlib.contextmanager
def _with_record(order: Order, model: ModelToStore, record: Record) -> Iterator[Prepared]:
    """Yield a model with its record, once the server has loaded it with the order's options and reported them."""
    with order.store.staged(order.name, model, order.options.timeout) as (trial, seen):
        new = replace(record, **Record.new_identity(), options=order.options, fingerprint=seen.fingerprint())
        yield Prepared(model, new, trial)


def _record_of_foreign(deployment: Deployment, blob: bytes) -> Record:
    mapping = foreign.mapping_of(deployment.name, deployment.meta, lambda: blob)
    return Record(
        **Record.new_identity(),
        flavor="unknown",
        model_uri="",
        run_id=None,
        signature=None,
        mapping=mapping,
        verification=None,
        notes=("stored by another client than mlflow-redisai",),
        options=DeploymentOptions(),
        fingerprint="",
    )
