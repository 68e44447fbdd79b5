"""Compiling and running scripts: the names they know, what they may return, and what they ask Redis for."""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from redisai_engine.backends import registry  # noqa: E402
from redisai_engine.backends.base import Array, BackendSettings, LoadedModel, Outputs  # noqa: E402
from redisai_engine.backends.scripts import ScriptCall  # noqa: E402
from redisai_engine.backends.torch_script import compile_script  # noqa: E402
from redisai_engine.errors import DeviceUnavailable, ModelLoadError, ModelRunError  # noqa: E402
from redisai_engine.protocol.frames import ReplyError, Value  # noqa: E402
from support.tiny_models import product_and_sum  # noqa: E402
from support.torch_scripts import ADD, BOTH, COMMAND, RUN_MODEL, entry_point  # noqa: E402

ONE_TWO = np.array([1, 2], np.float32)
Execute = Callable[[Sequence[bytes]], Value]


class Asked:
    """Answers a script's commands and records them."""

    def __init__(self, answer: Value = None) -> None:
        self.answer = answer
        self.commands: list[list[bytes]] = []
        self.thread: threading.Thread | None = None

    def command(self, arguments: Sequence[bytes]) -> Value:
        self.commands.append(list(arguments))
        self.thread = threading.current_thread()
        return self.answer

    def model(self, key: bytes) -> LoadedModel:
        if key != b"m":
            raise ModelRunError("ERR model key is empty")
        tiny = product_and_sum("TORCH")
        return registry.backend("TORCH").load(tiny.blob, "CPU", inputs=(), outputs=(), settings=BackendSettings())


def run(
    source: str,
    function: str,
    *arrays: Array,
    outputs: int = 1,
    keys: Sequence[bytes] = (),
    arguments: Sequence[bytes] = (),
    entry_points: Sequence[str] | None = None,
    caller: Asked | None = None,
) -> Outputs:
    """Compile a script and call its function, which is an entry point unless stated otherwise."""
    names = [function] if entry_points is None else entry_points
    script = compile_script(source, names, "CPU", BackendSettings())
    return ScriptCall(script, function, keys, arguments, outputs, caller or Asked()).run(arrays)


def returns(expression: str, *arrays: Array, outputs: int = 1) -> list[list[float]]:
    """Return the outcome of a function that returns this expression."""
    made = run(entry_point("f", f"return {expression}"), "f", *arrays, outputs=outputs)
    return [array.tolist() for array in made if array is not None]


def compiled(source: str, *entry_points: str, device: str = "CPU") -> None:
    compile_script(source, entry_points, device, BackendSettings())


# -- compiling ------------------------------------------------------------------------------------


def test_compiling_gives_no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled(ADD, "add")


def test_an_entry_point_has_to_be_there():
    with pytest.raises(ModelLoadError, match=r"^Function nope does not exist in the given script\.$"):
        compiled(ADD, "add", "nope")


def test_an_entry_point_has_three_arguments():
    with pytest.raises(ModelLoadError, match=r"^Wrong number of inputs in function f\. Expected 3 but was 2$"):
        compiled("def f(a, b):\n    return a\n", "f")


@pytest.mark.parametrize("types", ["List[Tensor], List[str], List[int]", "Tensor, List[str], List[str]"])
def test_an_entry_point_has_lists_of_tensors_and_of_text(types: str):
    arguments = ", ".join(f"a{i}: {kind}" for i, kind in enumerate(types.split(", ")))
    expected = (
        "Wrong inputs type in function f. Expected signature similar to: "
        "def f(tensors: List[Tensor], keys: List[str], args: List[str])"
    )

    with pytest.raises(ModelLoadError) as raised:
        compiled(f"def f({arguments}):\n    return 1\n", "f")

    assert raised.value.wire == expected


def test_a_mistake_in_the_source_is_told_in_the_compilers_words():
    with pytest.raises(ModelLoadError, match="undefined value nothing"):
        compiled("def f(a):\n    return nothing\n")


def test_a_gpu_that_is_not_there():
    with pytest.raises(DeviceUnavailable, match="GPU requested but Torch couldn't find CUDA"):
        compiled(ADD, device="GPU:99")


def test_without_torch_the_error_names_the_pip_command():
    """Runs in a process where the import system reports torch as missing."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from redisai_engine.backends.base import BackendSettings\n"
        "from redisai_engine.backends.torch_script import compile_script\n"
        "try: compile_script('', (), 'CPU', BackendSettings())\n"
        "except Exception as error: print(error.wire)"
    )

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    package = "mlflow-redisai[torch]"
    assert result.stdout == f"ERR Could not load backend: TORCH needs {package}: pip install '{package}'\n"


# -- the names that a script knows ----------------------------------------------------------------


@pytest.mark.parametrize(
    "expression",
    ["torch.relu(-tensors[0])", "Torch.zeros([2], dtype=torch.float64)", "torch.stack(tensors).sum(0) * 0 * torch.pi"],
)
def test_torch_has_operators_and_constants_in_any_letter_case(expression: str):
    assert returns(expression, ONE_TWO) == [[0, 0]]


@pytest.mark.parametrize(
    "name", ["os", "nn", "ops", "load", "save", "from_file", "__dict__", "__class__", "_find", "jit", "nothing"]
)
def test_torch_has_nothing_of_python_and_nothing_that_opens_files(name: str):
    with pytest.raises(ModelLoadError, match=f"no attribute {name}"):
        compiled(f"def f(a):\n    return torch.{name}(a)\n")


@pytest.mark.parametrize("name", ["os", "open", "python", "sys"])
def test_other_names_are_not_known(name: str):
    with pytest.raises(ModelLoadError, match=f"undefined value {name}"):
        compiled(f"def f(a):\n    return {name}(a)\n")


def test_an_error_shows_nothing_of_an_earlier_script():
    with pytest.raises(ModelLoadError):
        compiled("def secret(a):\n    return redis.__class__\n")

    with pytest.raises(ModelLoadError) as raised:
        compiled("def f(a):\n    return nothing\n")

    assert "secret" not in raised.value.wire


# -- what goes in ---------------------------------------------------------------------------------


def test_an_entry_point_gets_tensors_keys_and_arguments():
    source = entry_point("f", "return tensors[0] * len(keys) + int(args[0])")

    (made,) = run(source, "f", ONE_TWO, keys=[b"a", b"b"], arguments=[b"10"])

    assert made is not None
    assert made.tolist() == [12, 14]


def test_another_function_gets_tensors_as_its_arguments_ask():
    source = "def f(a, others: List[Tensor]):\n    return a + torch.stack(others).sum(0)\n"

    (made,) = run(source, "f", ONE_TWO, ONE_TWO, ONE_TWO, entry_points=())

    assert made is not None
    assert made.tolist() == [3, 6]


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("def f(a, b):\n    return a\n", "Wrong number of inputs provided to function: f"),
        ("def f(a: int):\n    return a\n", "Unsupported input type in function definition: f"),
        ("def g(a):\n    return a\n", "Function does not exist: f"),
    ],
)
def test_a_function_that_can_not_be_given_these_tensors(source: str, error: str):
    with pytest.raises(ModelRunError) as raised:
        run(source, "f", ONE_TWO, entry_points=())

    assert raised.value.wire == error


def test_text_can_not_go_in():
    with pytest.raises(ModelRunError, match=r"^Unsupported code 7$"):
        run(ADD, "add", np.array(["a"], object))


def test_the_callers_arrays_stay_as_they_are():
    array = ONE_TWO.copy()

    run(entry_point("f", "tensors[0].add_(1)", "return tensors[0]"), "f", array)

    assert array.tolist() == [1, 2]


# -- what comes out -------------------------------------------------------------------------------


def test_a_tensor_a_tuple_and_a_list():
    assert returns("tensors[0]", ONE_TWO) == [[1, 2]]
    assert returns("(tensors[0], tensors[0] * 2)", ONE_TWO, outputs=2) == [[1, 2], [2, 4]]
    assert returns("[tensors[0], tensors[0] * 2]", ONE_TWO, outputs=2) == [[1, 2], [2, 4]]


@pytest.mark.parametrize("outputs", [1, 3])
def test_another_number_of_outputs_than_asked_for(outputs: int):
    with pytest.raises(ModelRunError, match=r"^Function returned unexpected number of outputs - both$"):
        run(BOTH, "both", ONE_TWO, outputs=outputs)


@pytest.mark.parametrize("expression", ["1", "'text'", "(tensors[0], 1)", "None", "[1, 2]"])
def test_something_else_than_tensors(expression: str):
    with pytest.raises(ModelRunError, match=r"^Function returned non-tensor valuesf$"):
        returns(expression, ONE_TWO, outputs=2)


def test_without_outputs_anything_may_come():
    assert run(entry_point("f", "return 'text'"), "f", outputs=0) == []


def test_an_error_inside_is_told_in_torchs_words_without_lines_of_the_engines():
    with pytest.raises(ModelRunError) as raised:
        run(ADD, "add", ONE_TWO, np.zeros(3, np.float32))

    assert raised.value.wire.startswith("The following operation failed in the TorchScript interpreter.")
    assert ".py" not in raised.value.wire


# -- redis.execute, redis.asList ------------------------------------------------------------------


def test_execute_takes_words_one_by_one_and_as_a_list():
    asked = Asked()
    source = entry_point("f", 'redis.execute("SET", keys[0], args[0])', 'redis.execute("MGET", keys)')

    run(source, "f", outputs=0, keys=[b"k"], arguments=[b"1"], caller=asked)

    assert asked.commands == [[b"SET", b"k", b"1"], [b"MGET", b"k"]]
    assert asked.thread is threading.current_thread()


@pytest.mark.parametrize(
    ("reply", "seen"),
    [(b"OK", "OK"), (b"\xc3\xa4", "ä"), (b"", ""), (41, "41"), (True, "1"), (1.5, "1.5"), (None, "None")],
)
def test_a_reply_as_a_script_sees_it(reply: Value, seen: str):
    asked = Asked(reply)
    source = entry_point("f", 'r = redis.execute("A", "b")', 'redis.execute("SEEN", str(r))')

    run(source, "f", outputs=0, caller=asked)

    assert asked.commands[1] == [b"SEEN", seen.encode()]


def test_an_integer_may_be_used_as_one():
    source = entry_point(
        "f", 'r = redis.execute("INCR", keys[0])', "assert isinstance(r, int)", "return tensors[0] + r"
    )

    (made,) = run(source, "f", ONE_TWO, keys=[b"k"], caller=Asked(2))

    assert made is not None
    assert made.tolist() == [3, 4]


@pytest.mark.parametrize(
    ("reply", "seen"),
    [
        ([b"1", b"2"], "1 2"),
        ([], ""),
        ([b"a", 7, None], "a 7 None"),
        ([[b"a"], [1, [b"b"]]], "[a] (1, [b])"),
        ([ReplyError("ERR inside")], "ERR inside"),
    ],
)
def test_an_array_becomes_a_list(reply: Value, seen: str):
    asked = Asked(reply)
    lines = ["words: List[str] = []", 'for r in redis.asList(redis.execute("A", "b")):', "    words.append(str(r))"]

    run(entry_point("f", *lines, 'redis.execute("SEEN", " ".join(words))'), "f", outputs=0, caller=asked)

    assert asked.commands[1] == [b"SEEN", seen.encode()]


def test_what_is_no_array_becomes_no_list():
    with pytest.raises(ModelRunError, match=r"redis\.asList takes an array from a reply of Redis, not 'OK'"):
        run(entry_point("f", 'redis.asList(redis.execute("A", "b"))'), "f", caller=Asked(b"OK"))


def test_redis_error_fails_the_script():
    with pytest.raises(ModelRunError, match=r"\nRuntimeError: Redis command returned an error: WRONGTYPE no$"):
        run(COMMAND, "command", arguments=[b"A"], caller=Asked(ReplyError("WRONGTYPE no")))


def test_a_reply_that_is_no_text_fails_the_script():
    with pytest.raises(ModelRunError, match="can't decode byte 0xff"):
        run(COMMAND, "command", arguments=[b"GET", b"k"], caller=Asked(b"\xff"))


# -- redisAI.model_execute ------------------------------------------------------------------------


def test_a_model_runs_inside_a_script():
    product, total = run(RUN_MODEL, "run_model", ONE_TWO, ONE_TWO, outputs=2, keys=[b"m"], arguments=[b"2"])

    assert product is not None
    assert total is not None
    assert (product.tolist(), total.tolist()) == ([1, 4], [2, 4])


@pytest.mark.parametrize(
    ("key", "arrays", "outputs", "error"),
    [
        (b"nothing", 2, b"2", "ERR model key is empty"),
        (b"m", 1, b"2", "Number of keys given as INPUTS here does not match model definition"),
        (b"m", 2, b"1", "Number of keys given as OUTPUTS here does not match model definition"),
    ],
)
def test_a_model_that_can_not_be_run_so(key: bytes, arrays: int, outputs: bytes, error: str):
    with pytest.raises(ModelRunError, match=error):
        run(RUN_MODEL, "run_model", *[ONE_TWO] * arrays, outputs=2, keys=[key], arguments=[outputs])
