"""
redis-py's exceptions and the server's error texts become MlflowExceptions with the right code and a useful message.
"""

from __future__ import annotations

import inspect
import pickle

import pytest
import redis.exceptions
from mlflow.exceptions import MlflowException

from mlflow_redisai import errors
from mlflow_redisai.errors import BY_CLASS, RedisAIError, ServerProblem, translate
from redisai_engine.codec import errors as codec

WHERE = "Redis at example.org:6379"


def redis_exceptions() -> list[type[Exception]]:
    return [
        kind
        for _, kind in inspect.getmembers(redis.exceptions, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__.startswith("redis")
    ]


def test_no_exception_of_redis_py_is_unmapped() -> None:
    """A new class in a new version of redis-py must be mapped on purpose, not caught by chance."""
    unmapped = [kind.__name__ for kind in redis_exceptions() if kind.__name__ not in BY_CLASS]

    assert unmapped == []


@pytest.mark.parametrize("kind", redis_exceptions(), ids=lambda kind: kind.__name__)
def test_every_exception_of_redis_py_becomes_an_mlflow_exception(kind: type[Exception]) -> None:
    error = Exception.__new__(kind)  # some constructors parse their arguments

    assert isinstance(translate(error, WHERE, "text"), BY_CLASS[kind.__name__])


def response(text: str) -> Exception:
    """Return what redis-py raises for an error reply."""
    from redis._parsers.base import BaseParser

    found: Exception = BaseParser.parse_error(text)
    return found


CASES = [
    (
        redis.exceptions.ConnectionError("Error 111 connecting to example.org:6379. Connection refused."),
        "TEMPORARILY_UNAVAILABLE",
        (
            f"can't reach {WHERE}: Error 111 connecting to example.org:6379. Connection refused. "
            "Check that the server is running, and the target's host, port and tls."
        ),
    ),
    (
        redis.exceptions.TimeoutError("Timeout reading from socket"),
        "TEMPORARILY_UNAVAILABLE",
        (
            f"can't reach {WHERE}: Timeout reading from socket. "
            "Check that the server is running, and the target's host, port and tls."
        ),
    ),
    (
        response("WRONGPASS invalid username-password pair or user is disabled."),
        "UNAUTHENTICATED",
        (
            f"{WHERE} rejected the user name or password: invalid username-password pair or user is disabled; "
            "set them in the target as redisai://user:password@host:port/db, or in REDIS_USERNAME and REDIS_PASSWORD"
        ),
    ),
    (
        response("NOAUTH Authentication required."),
        "UNAUTHENTICATED",
        (
            f"{WHERE} rejected the user name or password: Authentication required; set them in the target as "
            "redisai://user:password@host:port/db, or in REDIS_USERNAME and REDIS_PASSWORD"
        ),
    ),
    (
        response("NOPERM this user has no permissions to run the 'ai.modelstore' command"),
        "PERMISSION_DENIED",
        (
            f"{WHERE} denied permission: this user has no permissions to run the 'ai.modelstore' command; the user "
            "needs AI.*, TYPE, HGET, HGETALL, HSET, DEL, PEXPIRE, WATCH, MULTI and EXEC on the model's key and on "
            "mlflow-redisai:*"
        ),
    ),
    (
        response("OOM command not allowed when used memory > 'maxmemory'."),
        "RESOURCE_EXHAUSTED",
        (
            f"{WHERE} is out of memory: command not allowed when used memory > 'maxmemory'; raise maxmemory, "
            "or delete keys that are no longer needed"
        ),
    ),
    (
        response("READONLY You can't write against a read only replica."),
        "INVALID_STATE",
        f"{WHERE} accepts no writes: You can't write against a read only replica; set a writable primary as the target",
    ),
    (
        response("WRONGTYPE Operation against a key holding the wrong kind of value"),
        "RESOURCE_CONFLICT",
        (
            f"a key on {WHERE} holds a value of an unexpected type: Operation against a key holding the wrong "
            "kind of value"
        ),
    ),
    (
        response("LOADING Redis is loading the dataset in memory"),
        "TEMPORARILY_UNAVAILABLE",
        f"{WHERE} can't serve requests right now: Redis is loading the dataset in memory; try again later",
    ),
    (
        response("BUSY Redis is busy running a script."),
        "TEMPORARILY_UNAVAILABLE",
        f"{WHERE} can't serve requests right now: Redis is busy running a script; try again later",
    ),
    (
        response("ERR max number of clients reached"),
        "TEMPORARILY_UNAVAILABLE",
        f"{WHERE} can't serve requests right now: max number of clients reached; try again later",
    ),
    (
        response("CLUSTERDOWN The cluster is down"),
        "TEMPORARILY_UNAVAILABLE",
        f"{WHERE} can't serve requests right now: The cluster is down; try again later",
    ),
    (
        response("MOVED 3999 127.0.0.1:6381"),
        "INVALID_PARAMETER_VALUE",
        f"{WHERE} is a node of a Redis Cluster: 3999 127.0.0.1:6381; add ?cluster=true to the target",
    ),
    (
        response("ERR unknown command 'AI._MODELSCAN', with args beginning with: "),
        "NOT_IMPLEMENTED",
        (
            f"{WHERE} has no AI commands: unknown command 'AI._MODELSCAN', with args beginning with:; load the RedisAI "
            "module there, or start redisai-engine in front of it and set the engine's address as the target"
        ),
    ),
    (response("ERR strange"), "INTERNAL_ERROR", f"{WHERE} replied with an error: strange"),
    (response("Strange without prefix."), "INTERNAL_ERROR", f"{WHERE} replied with an error: Strange without prefix"),
]


@pytest.mark.parametrize(("error", "code", "message"), CASES, ids=[message[:60] for _, _, message in CASES])
def test_each_cause_has_its_code_and_its_sentence(error: Exception, code: str, message: str) -> None:
    problem = translate(error, WHERE, str(error))

    assert problem.message == message
    assert problem.error_code == code


def test_what_a_command_says_itself_gets_the_class_that_the_caller_names() -> None:
    """The error text of a framework that can't load a model has no prefix that would identify it."""
    refused = translate(response("No graph was found in the protobuf."), WHERE, "x", errors.ModelRefused)

    assert refused.message == f"{WHERE} can't load this model: x"
    assert refused.error_code == "INVALID_PARAMETER_VALUE"


def test_a_cause_that_is_known_wins_over_the_class_that_the_caller_names() -> None:
    error = response("OOM command not allowed when used memory > 'maxmemory'.")

    assert isinstance(translate(error, WHERE, str(error), errors.ModelRefused), errors.ServerOutOfMemory)


@pytest.mark.parametrize(("text", "expected"), [("ERR model key is empty", True), ("ERR tensor key is empty", False)])
def test_a_missing_model_is_recognised(text: str, expected: bool) -> None:  # noqa: FBT001  # a parameter of the test
    assert errors.is_missing(response(text)) is expected


def test_facts_become_sentences() -> None:
    cases = {
        errors.DeploymentExists("iris", WHERE): (
            "RESOURCE_ALREADY_EXISTS",
            f"a model named 'iris' is already deployed on {WHERE}; update or delete it, or choose another name",
        ),
        errors.DeploymentMissing("iris", WHERE): (
            "RESOURCE_DOES_NOT_EXIST",
            f"no model named 'iris' is deployed on {WHERE}; list the deployments to see which are",
        ),
        errors.NotAModel("iris", "string", WHERE): (
            "RESOURCE_CONFLICT",
            f"the key 'iris' on {WHERE} holds a string, not a model, and was not changed; choose another name",
        ),
        errors.ConcurrentChange("iris", 20): (
            "ABORTED",
            "other clients changed the deployment 'iris' during each of 20 attempts; try again later",
        ),
        errors.PredictionTimedOut(WHERE, "50"): (
            "DEADLINE_EXCEEDED",
            (
                f"{WHERE} didn't start the prediction within 50 ms; raise the option timeout, or send fewer requests "
                "at once"
            ),
        ),
    }

    assert {error: (error.error_code, error.message) for error in cases} == cases


def test_the_tree_has_one_root() -> None:
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]

    assert all(issubclass(kind, RedisAIError) for kind in classes)
    assert issubclass(RedisAIError, MlflowException)
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in classes)
    assert all(issubclass(kind, ServerProblem) for kind in BY_CLASS.values())


@pytest.mark.parametrize("kind", codec.CodecError.__subclasses__(), ids=lambda kind: kind.__name__)
def test_every_error_of_the_codec_becomes_an_mlflow_exception(kind: type[codec.CodecError]) -> None:
    error = kind.__new__(kind)
    ValueError.__init__(error, "the sentence")

    with pytest.raises(RedisAIError) as caught, errors.of_codec():
        raise error

    assert type(caught.value) is errors.BY_CODEC_CLASS[kind]
    assert caught.value.message == "the sentence"
    assert caught.value.error_code in ("INVALID_PARAMETER_VALUE", "INVALID_STATE")


@pytest.mark.parametrize(
    "error",
    [
        errors.MissingConverter("xgboost", "xgboost", "xgboost"),
        errors.ConversionTooLong("sklearn", "models:/m/1", 120),
        errors.VerificationFailed("mlflow.pyfunc", "3 of 3 labels differ"),
        errors.ModelRefused(WHERE, "no"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_the_way_from_another_process(error: RedisAIError) -> None:
    """A conversion raises in a child. Constructors take facts, which a pickle doesn't have."""
    again = pickle.loads(pickle.dumps(error))

    assert (type(again), again.message, again.error_code) == (type(error), error.message, error.error_code)
    assert again.reason == error.reason


def frames(count: int) -> str:
    """Return stack frames as libtorch prints them and RedisAI sends them: in one line."""
    frame = "frame #{}: c10::Error::Error(c10::SourceLocation, std::string) + 0x57 (0x7f16a8d0e617 in libc10.so) "
    return (
        "Exception raised from reportError at ../torch/csrc/jit/serialization/unpickler.cpp:83 (most recent call "
        + ("first): " + "".join(frame.format(number) for number in range(count)))
    )


SOURCE = (
    'Serialized   File "code/__torch__.py", line 7   def forward(self: __torch__.Net,     x: Tensor) -> Tensor:     '
    "return torch.novel(x)            ~~~~~~~~~~~ <--- HERE "
)
LONG = [
    (
        "Unknown builtin op: aten::novel. Could not find any similar ops to aten::novel. : " + SOURCE + frames(40),
        "Unknown builtin op: aten::novel. Could not find any similar ops to aten::novel",
    ),
    (
        "Attempted to read a PyTorch file with version 11. Your installation may be too old. " + frames(40),
        "Attempted to read a PyTorch file with version 11. Your installation may be too old",
    ),
    (
        "The following operation failed in the TorchScript interpreter. Traceback of TorchScript (most recent call "
        "last):   "
        + SOURCE
        + "RuntimeError: The size of tensor a (3) must match the size of tensor b (2) "
        + frames(9),
        "The size of tensor a (3) must match the size of tensor b (2)",
    ),
    ("first\nsecond\n" + frames(3), "first"),
    ("nowhere" * 1000, ("nowhere" * 43)[:300] + " ..."),
    ("one word " * 1000, ("one word " * 34)[:300].rsplit(" ", 1)[0] + " ..."),
]


@pytest.mark.parametrize(("text", "said"), LONG, ids=[said[:20] for _, said in LONG])
def test_a_library_s_text_is_one_short_sentence(text: str, said: str) -> None:
    """A refusal of libtorch in RedisAI is 3,841 characters, nearly all of them stack frames."""
    refused = translate(response(f"ERR {text}"), WHERE, text, errors.ModelRefused)

    assert refused.message == f"{WHERE} can't load this model: {said}"
    assert errors.first_line(RuntimeError(text)) == said
    assert errors.first_line(RuntimeError()) == "RuntimeError"


def test_the_longest_refusal_seen_is_cut() -> None:
    text = f"Unknown type name novel: {SOURCE}{frames(60)}"[:3841]

    refused = translate(response(text), WHERE, text, errors.ModelRefused)

    assert len(text) == 3841
    assert refused.message == f"{WHERE} can't load this model: Unknown type name novel"
