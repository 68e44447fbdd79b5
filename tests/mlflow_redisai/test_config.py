"""The options: strings from the command line and typed values from Python, checked by one table."""

from __future__ import annotations

from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from mlflow_redisai import config
from mlflow_redisai.config import CREATE, OPTIONS, RUN_LOCAL, UPDATE, DeploymentOptions

CREATE_OPTIONS = (
    "device, batchsize, minbatchsize, minbatchtimeout, tag, backend, opset, outputs, verify, timeout, isolate, "
    "convert_timeout, convert_memory"
)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"device": "cpu"}, {"device": "CPU"}),
        ({"device": "GPU"}, {"device": "GPU"}),
        ({"device": " gpu:1 "}, {"device": "GPU:1"}),
        ({"batchsize": "8"}, {"batchsize": 8}),
        ({"batchsize": 8}, {"batchsize": 8}),
        ({"batchsize": 8.0}, {"batchsize": 8}),
        ({"minbatchsize": "2", "minbatchtimeout": 5}, {"minbatchsize": 2, "minbatchtimeout": 5}),
        ({"tag": ""}, {"tag": ""}),
        ({"tag": "a=b ü"}, {"tag": "a=b ü"}),
        ({"backend": "onnx"}, {"backend": "ONNX"}),
        ({"backend": "AUTO"}, {"backend": "auto"}),
        ({"opset": "15"}, {"opset": 15}),
        ({"outputs": "label, probabilities"}, {"outputs": "label,probabilities"}),
        ({"outputs": ["label", "probabilities"]}, {"outputs": "label,probabilities"}),
        ({"verify": "off"}, {"verify": False}),
        ({"verify": "True"}, {"verify": True}),
        ({"verify": False}, {"verify": False}),
        ({"verify": 1}, {"verify": True}),
        ({"timeout": "500"}, {"timeout": 500}),
        ({"convert_timeout": "600", "convert_memory": 0}, {"convert_timeout": 600, "convert_memory": 0}),
        ({"device": None}, {}),
        ({}, {}),
        (None, {}),
    ],
)
def test_strings_and_typed_values_give_the_same(given: dict[str, object] | None, expected: dict[str, Any]) -> None:
    assert config.parse(given, CREATE) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"device": "TPU"}, "option device='TPU' is not allowed; it must be CPU, GPU or GPU:n, upper or lower case"),
        (
            {"device": "GPU:x"},
            "option device='GPU:x' is not allowed; it must be CPU, GPU or GPU:n, upper or lower case",
        ),
        ({"device": ""}, "option device='' is not allowed; it must be CPU, GPU or GPU:n, upper or lower case"),
        ({"batchsize": "-1"}, "option batchsize='-1' is not allowed; it must be a whole number, 0 or greater"),
        ({"batchsize": -1}, "option batchsize=-1 is not allowed; it must be a whole number, 0 or greater"),
        ({"batchsize": "2.5"}, "option batchsize='2.5' is not allowed; it must be a whole number, 0 or greater"),
        ({"batchsize": 2.5}, "option batchsize=2.5 is not allowed; it must be a whole number, 0 or greater"),
        ({"batchsize": True}, "option batchsize=True is not allowed; it must be a whole number, 0 or greater"),
        ({"batchsize": float("nan")}, "option batchsize=nan is not allowed; it must be a whole number, 0 or greater"),
        ({"batchsize": [1]}, "option batchsize=[1] is not allowed; it must be a whole number, 0 or greater"),
        ({"tag": 1}, "option tag=1 is not allowed; it must be text"),
        (
            {"backend": "PMML"},
            "option backend='PMML' is not allowed; it must be one of auto, ONNX, TORCH, TF, TFLITE, PYFUNC",
        ),
        ({"opset": "six"}, "option opset='six' is not allowed; it must be a whole number from 7 to 99"),
        ({"outputs": " , "}, "option outputs=' , ' is not allowed; it must be output names, separated by commas"),
        ({"verify": "maybe"}, "option verify='maybe' is not allowed; it must be on or off"),
        (
            {"timeout": "0"},
            "option timeout='0' is not allowed; it must be a whole number of milliseconds, 1 or greater",
        ),
        (
            {"convert_timeout": "2m"},
            "option convert_timeout='2m' is not allowed; it must be a whole number of seconds, 0 or greater",
        ),
        (
            {"convert_memory": -1},
            "option convert_memory=-1 is not allowed; it must be a whole number of MiB, 0 or greater",
        ),
        ({"batch_size": "8"}, f"create has no option 'batch_size'; the options are {CREATE_OPTIONS}"),
        ({"port": "1"}, f"create has no option 'port'; the options are {CREATE_OPTIONS}"),
        ({1: "1"}, f"create has no option 1; the options are {CREATE_OPTIONS}"),
        ("device=CPU", "config must be a dict such as {'device': 'CPU'}, got 'device=CPU'"),
    ],
)
def test_what_is_not_allowed_is_named_with_what_is(given: Any, message: str) -> None:
    with pytest.raises(MlflowException) as caught:
        config.parse(given, CREATE)

    assert caught.value.message == message
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"batchsize": 8, "minbatchsize": 2},
            (
                "option minbatchsize=2 needs minbatchtimeout, or a lone request would wait forever; "
                "set the milliseconds that it may wait"
            ),
        ),
        (
            {"minbatchsize": 2, "minbatchtimeout": 5},
            "option minbatchsize=2 needs batchsize; set both",
        ),
        ({"minbatchtimeout": 5}, "option minbatchtimeout=5 needs minbatchsize; set both"),
        (
            {"batchsize": 4, "minbatchsize": 9, "minbatchtimeout": 5},
            "option minbatchsize=9 must not be greater than batchsize=4",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused_with_the_reason(given: dict[str, object], message: str) -> None:
    with pytest.raises(MlflowException) as caught:
        DeploymentOptions.of(config.parse(given, CREATE))

    assert caught.value.message == message
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


def test_options_of_a_deployment_have_defaults() -> None:
    assert DeploymentOptions.of({}) == DeploymentOptions(
        device="CPU", batchsize=0, tag="", backend="auto", opset=None, outputs=None, verify=True, timeout=30000
    )


def test_an_update_keeps_what_it_does_not_name() -> None:
    before = DeploymentOptions.of(config.parse({"device": "GPU", "tag": "v1", "batchsize": 8}, CREATE))

    after = before.changed(config.parse({"tag": "v2"}, UPDATE))

    assert after == DeploymentOptions(device="GPU", tag="v2", batchsize=8)


def test_an_update_verifies_even_where_the_creation_did_not() -> None:
    before = DeploymentOptions.of(config.parse({"verify": "off"}, CREATE))

    assert before.changed({}).verify


def test_an_update_checks_new_options_together_with_the_old_ones() -> None:
    before = DeploymentOptions(batchsize=8, minbatchsize=4, minbatchtimeout=5)

    with pytest.raises(MlflowException, match=r"^option minbatchsize=4 needs batchsize; set both$"):
        before.changed({"batchsize": 0})


@pytest.mark.parametrize("name", ["backend", "opset", "outputs", "verify", "convert_timeout", "convert_memory"])
def test_options_of_a_conversion_need_a_model(name: str) -> None:
    """Without a model URI, an update stores the same bytes again and converts nothing."""
    with pytest.raises(MlflowException) as caught:
        config.refuse_without_model({name: "x"})

    assert (
        caught.value.message
        == f"option {name} changes how a model is converted; add the model's URI, or omit the option"
    )


def test_options_of_a_stored_model_need_none() -> None:
    config.refuse_without_model({"device": "CPU", "batchsize": 1, "tag": "", "timeout": 1})


def test_run_local_takes_the_options_of_create_and_those_of_the_server() -> None:
    values = config.parse({"port": "0", "runtime": "Docker", "tag": "v1"}, RUN_LOCAL)

    assert config.local_part(values) == {"port": 0, "runtime": "docker"}
    assert config.deployment_part(values) == {"tag": "v1"}


def test_every_option_that_is_not_for_the_local_server_is_kept_with_the_deployment() -> None:
    assert [option.name for option in OPTIONS if not option.is_local] == list(DeploymentOptions.__dataclass_fields__)


def test_the_defaults_in_the_table_are_those_of_the_deployment() -> None:
    """The help and the documentation show the table's defaults; the dataclass's take effect."""
    shown = {option.name: option.default for option in OPTIONS if option.name in ("device", "backend")}
    shown |= {
        option.name: option.read(option.default)
        for option in OPTIONS
        if option.name in ("batchsize", "minbatchsize", "minbatchtimeout", "verify", "timeout", "convert_timeout")
    }
    defaults = DeploymentOptions()

    assert shown == {name: getattr(defaults, name) for name in shown}
