"""
MLflow's deployment interface: what `mlflow deployments ...` and `get_deploy_client()` call.

The methods check their arguments and delegate to `deploy/`, `server/` and `predict/`.

Invariant: a method raises only MlflowException, or passes on the user's interruption.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from functools import cached_property
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from mlflow.deployments import BaseDeploymentClient

from mlflow_redisai import interrupts
from mlflow_redisai.config import CREATE, DELETE, UPDATE, DeploymentOptions, parse, refuse_without_model
from mlflow_redisai.deadline import Limit
from mlflow_redisai.errors import CallTimedOut, ConcurrentChange, DeploymentMissing, InvalidRequest, RedisAIError
from mlflow_redisai.server import facts
from mlflow_redisai.server.commands import raw
from mlflow_redisai.server.connection import Connection
from mlflow_redisai.server.record import check_name
from mlflow_redisai.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflow_redisai.deploy.prepare import Order
    from mlflow_redisai.predict.predictor import Predictor
    from mlflow_redisai.predict.response import Predictions
    from mlflow_redisai.server.deployments import Deployment, Deployments

_logger = logging.getLogger(__name__)

DEFAULT_CALL_S = 3600.0
_MORE_BY_TARGET = "allow more with the parameter timeout of the target (seconds)"
_MORE_BY_OPTION = "allow more with -C timeout=... (milliseconds)"
ATTEMPTS = 10  # changes by other clients while an update of options is prepared, before giving up


class RedisAIClient(BaseDeploymentClient):
    """
    A client that deploys MLflow models to Redis and predicts with them, as returned by
    `mlflow.deployments.get_deploy_client`.
    """

    def __init__(self, target_uri: str) -> None:
        super().__init__(target_uri)  # type: ignore[no-untyped-call]
        self._target = Target.parse(target_uri)
        password = self._target.password
        if password and target_uri in sys.argv and password in unquote(target_uri):
            _logger.warning(
                "the target on the command line has Redis' password, which everybody on this machine can read there; "
                "use the parameter password_file, or the variables REDIS_PASSWORD or REDIS_PASSWORD_FILE"
            )

    def __repr__(self) -> str:
        return f"RedisAIClient({self._target.label})"

    # -- MLflow's contract ------------------------------------------------------------------------

    def create_deployment(
        self,
        name: str,
        model_uri: str | PathLike[str],
        flavor: str | None = None,
        config: Mapping[str, object] | None = None,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """
        Deploy a model under a name that is not in use, and return what `get_deployment` returns.

        `mlflow deployments help -t redisai` explains the options in `config`. Raise DeploymentExists if the name is in
        use.
        """
        from mlflow_redisai.deploy.prepare import prepare

        _no_endpoint(endpoint)
        values = parse(config, CREATE)
        options = DeploymentOptions.of(values)
        name, uri = check_name(name), _uri_of(model_uri)
        with self._call(f"creating the deployment {name!r}", values):
            # `create` checks again, inside the transaction. This check saves the conversion.
            self._store.refuse_taken(name)
            order = self._order(name, options)
            with prepare(order, uri, flavor) as prepared:
                self._store.create(name, prepared)
            return self._done(name)

    def update_deployment(
        self,
        name: str,
        model_uri: str | PathLike[str] | None = None,
        flavor: str | None = None,
        config: Mapping[str, object] | None = None,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """
        Replace the model, change the options in `config`, or both; return what `get_deployment` returns.

        Without `model_uri`, the stored model is kept. Options that `config` doesn't name keep their values. Raise
        DeploymentMissing if there is no deployment of that name.
        """
        _no_endpoint(endpoint)
        values = parse(config, UPDATE)
        name, uri = check_name(name), None if model_uri is None else _uri_of(model_uri)
        with self._call(f"updating the deployment {name!r}", values):
            if uri is None:
                self._update_options(name, flavor, values)
            else:
                self._update_model(name, uri, flavor, values)
            return self._done(name)

    def delete_deployment(
        self, name: str, config: Mapping[str, object] | None = None, endpoint: str | None = None
    ) -> None:
        """Remove a deployment. Raise DeploymentMissing if there is none of that name."""
        _no_endpoint(endpoint)
        values = parse(config, DELETE)
        name = check_name(name)
        with self._call(f"deleting the deployment {name!r}", values):
            self._store.delete(name)
        self._predictor.forget(name)

    def list_deployments(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        """
        List all models on the server, including those that other clients stored.

        A model that can't be read is listed with its name and the error.
        """
        _no_endpoint(endpoint)
        with self._call("listing the deployments"):
            return list(self._listed())

    def get_deployment(self, name: str, endpoint: str | None = None) -> dict[str, Any]:
        """Describe a deployment. Raise DeploymentMissing if there is none of that name."""
        _no_endpoint(endpoint)
        name = check_name(name)
        with self._call(f"reading the deployment {name!r}"):
            return _described(self._store.read(name))

    def predict(
        self,
        deployment_name: str | None = None,
        inputs: Any = None,
        endpoint: str | None = None,
        params: dict[str, Any] | None = None,
    ) -> Predictions:
        """
        Predict with a deployment. The answer holds what `mlflow.pyfunc` returns for the same input, as `predictions`.

        `inputs` is a DataFrame, a Series, an array, a dict of arrays, or a list; for a Python model, whatever pyfunc
        takes. `params` are values of the signature's parameters. Raise DeploymentMissing, InvalidInput,
        PredictionTimedOut, CallTimedOut or ModelFailed.
        """
        from mlflow_redisai.predict.command_line import document_of
        from mlflow_redisai.predict.response import Predictions

        _no_endpoint(endpoint)
        name = check_name(deployment_name)
        try:
            # Once it is known, the deployment has a limit of its own.
            if self._target.timeout is None and self._predictor.knows(name):
                return Predictions(self._predictor.predict(name, inputs, document_of(inputs), params))
            with Limit(f"the prediction with {name!r}", *self._limit({})):
                return Predictions(self._predictor.predict(name, inputs, document_of(inputs), params))
        except KeyboardInterrupt:
            interrupts.leave_command_line(f"the prediction with {name!r}")
            raise

    def predict_stream(
        self,
        deployment_name: str | None = None,
        inputs: Any = None,
        endpoint: str | None = None,
        params: dict[str, Any] | None = None,
    ) -> Iterator[Any]:
        """
        Yield what the `predict_stream` of `mlflow.pyfunc` yields for the same input, each item as soon as it is there.

        Only Python models that have one can. The model makes an item when it is asked for, within the time that a
        prediction may take, and ends when the generator is closed. Errors are those of `predict`.
        """
        _no_endpoint(endpoint)
        return self._predictor.stream(check_name(deployment_name), inputs, params)

    # -- internals --------------------------------------------------------------------------------

    @cached_property
    def _store(self) -> Deployments:
        from mlflow_redisai.server.deployments import Deployments

        return Deployments(Connection(self._target))

    @cached_property
    def _predictor(self) -> Predictor:
        from mlflow_redisai.predict.predictor import Predictor

        return Predictor(self._store)

    @contextlib.contextmanager
    def _call(self, what: str, values: Mapping[str, Any] | None = None) -> Iterator[None]:
        """Limit the time of a call, and make signals end it in order."""
        with interrupts.as_exceptions(what), Limit(what, *self._limit(values or {})):
            yield

    def _limit(self, values: Mapping[str, Any]) -> tuple[float | None, str]:
        """Return how many seconds a call may take, and how to allow more. What the target says comes first."""
        if self._target.timeout is not None:
            return self._target.timeout or None, _MORE_BY_TARGET
        if "timeout" in values:
            return values["timeout"] / 1000, _MORE_BY_OPTION
        return DEFAULT_CALL_S, _MORE_BY_TARGET

    def _listed(self) -> Iterator[dict[str, Any]]:
        for name in self._store.names():
            try:
                yield _in_short(self._store.read(name))
            except CallTimedOut:
                raise
            except DeploymentMissing:
                continue  # deleted in the meantime, or renamed: RedisAI's list doesn't follow RENAME
            except RedisAIError as error:
                yield {"name": name, "error": error.message}

    def _order(self, name: str, options: DeploymentOptions) -> Order:
        from mlflow_redisai.deploy.prepare import Order

        if options.isolate:
            self._store.check_isolation(name)
        found = facts.ask(self._store.connection, raw(name))
        if self._store.is_engine(raw(name)):
            found = facts.with_python_models(found, self._store.connection, raw(name))
        return Order(self._store, found, name, options)

    def _update_options(self, name: str, flavor: str | None, values: dict[str, Any]) -> None:
        """Store the current model again with other options."""
        from mlflow_redisai.deploy.prepare import with_options

        if flavor is not None:
            raise InvalidRequest(f"flavor {flavor!r} needs a model URI; add one, or omit the flavor")
        refuse_without_model(values)
        if not values:
            raise InvalidRequest("there is nothing to update; give a model URI, or options such as -C batchsize=8")
        # The stored model is read and stored again. If another client updates it in between, start over.
        for _ in range(ATTEMPTS):
            current = self._store.read(name)
            order = self._order(name, _options_of(current).changed(values))
            with with_options(order, current) as prepared:
                if self._store.replace(name, prepared, instead_of=current):
                    return
        raise ConcurrentChange(name, ATTEMPTS)

    def _update_model(self, name: str, model_uri: str, flavor: str | None, values: dict[str, Any]) -> None:
        """Put another model under the name. Options that other clients set while it was prepared are kept."""
        from mlflow_redisai.deploy.prepare import prepare, with_other_options

        before = _options_of(self._store.read(name))
        with contextlib.ExitStack() as staged:
            prepared = staged.enter_context(prepare(self._order(name, before.changed(values)), model_uri, flavor))
            for _ in range(ATTEMPTS):
                current = self._store.read(name)
                options = _options_of(current)
                if options != before:
                    order, before = self._order(name, options.changed(values)), options
                    prepared = staged.enter_context(with_other_options(order, prepared))
                if self._store.replace(name, prepared, instead_of=current):
                    return
        raise ConcurrentChange(name, ATTEMPTS)

    def _done(self, name: str) -> dict[str, Any]:
        self._predictor.forget(name)
        described = _described(self._store.read(name))
        for note in described["notes"]:
            _logger.warning("%s: %s", name, note)
        return described


def _no_endpoint(endpoint: str | None) -> None:
    if endpoint is not None:
        raise InvalidRequest(f"this target has no endpoints, got endpoint {endpoint!r}; omit it")


def _uri_of(model_uri: object) -> str:
    """Return the model's URI, which may be the path of its folder. Raise InvalidRequest."""
    uri = fspath(model_uri) if isinstance(model_uri, PathLike) else model_uri
    if not isinstance(uri, str) or not uri:
        raise InvalidRequest(f"a model's URI must be a non-empty string or a path, got {model_uri!r}")
    return uri


def _options_of(deployment: Deployment) -> DeploymentOptions:
    """Return the options of a deployment. For a model without a record, those that RedisAI stores."""
    if deployment.record is not None:
        return deployment.record.options
    meta = deployment.meta
    return DeploymentOptions(
        device=meta.device.upper(),
        tag=meta.tag,
        batchsize=meta.batchsize,
        minbatchsize=meta.minbatchsize,
        minbatchtimeout=meta.minbatchtimeout,
    )


def _in_short(deployment: Deployment) -> dict[str, Any]:
    """Return what `list_deployments` shows of a deployment."""
    shown = ("name", "flavor", "model_uri", "backend", "device", "tag")
    described = _described(deployment)
    return {name: described[name] for name in shown}


def _described(deployment: Deployment) -> dict[str, Any]:
    """Return what get, create and update show: the record's contents, if there is a record, and RedisAI's metadata."""
    found, meta = deployment.record, deployment.meta
    return {
        "name": deployment.name,
        "flavor": found.flavor if found else None,
        "model_uri": found.model_uri if found else None,
        "version": found.version if found else None,
        "run_id": found.run_id if found else None,
        "created": found.created if found else None,
        "deployed_by": found.deployed_by if found else None,
        "revision": found.revision if found else None,
        "signature": found.signature if found else None,
        "input_example": _example(found.example) if found else None,
        "verification": _verification(found.verification) if found else None,
        "notes": list(found.notes) if found else [],
        "timeout": found.options.timeout if found else None,
        "isolate": found.options.isolate if found else None,
        "backend": meta.backend,
        "device": meta.device,
        "tag": meta.tag,
        "batchsize": meta.batchsize,
        "minbatchsize": meta.minbatchsize,
        "minbatchtimeout": meta.minbatchtimeout,
        "inputs": list(meta.inputs),
        "outputs": list(meta.outputs),
    }


def _example(text: str) -> Any:
    """Return the input example in the form that `/invocations` takes; None if the record has none, or not as JSON."""
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None


def _verification(found: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a record's verification. Records written by earlier versions lack `reference`; it is None then."""
    return None if found is None else {**found, "reference": found.get("reference")}
