"""
A program that runs operators of ONNX with extreme integers, and prints those that end the process: operator and signal.

Each form of an operator, with each type of integers, is a model of one node, which is run in a child process with
limits on time and memory. The last line is the number of forms that were run.
"""

from __future__ import annotations

import itertools
import os
import random
import resource
import signal
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, defs, helper

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
TYPES = {name: getattr(TensorProto, name.upper()) for name in [*INTEGERS, "float", "bool", "double", "float16"]}
SHAPES: list[tuple[int, ...]] = [(), (2,), (2, 2), (1, 1, 2, 2)]
OPSETS = {"": 20, "ai.onnx.ml": 3}  # every supported ONNX Runtime has them
ATTRIBUTES = {"INT": 1, "INTS": [1], "FLOAT": 1.0, "FLOATS": [1.0], "STRING": "a", "STRINGS": ["a"]}
SPECIAL = {"direction": "LEFT", "kernel_shape": [1, 1], "equation": "i,i->i", "to": 1}
MOST_TYPES, MOST_RUNS, MOST_INPUTS = 64, 400, 5
SECONDS, BYTES = 60, 6 << 30


def schemas() -> Iterator[defs.OpSchema]:
    """Yield the operators that contain no graphs."""
    for domain, name in sorted({(each.domain, each.name) for each in defs.get_all_schemas()}):
        if domain in OPSETS and defs.has(name, domain=domain):
            try:
                schema = defs.get_schema(name, OPSETS[domain], domain)
            except defs.SchemaError:  # it is newer
                continue
            if not any(each.type.name == "GRAPH" for each in schema.attributes.values()):
                yield schema


def choices(schema: defs.OpSchema, variable: str) -> list[str]:
    """Return the types of integers that a type variable allows, or another type."""
    allowed = {each.type_param_str: each.allowed_type_strs for each in schema.type_constraints}
    names = [each.removeprefix("tensor(").removesuffix(")") for each in allowed.get(variable, [variable])]
    known = [each for each in names if each in TYPES]
    return [each for each in known if each in INTEGERS] or known[:1]


def forms(schema: defs.OpSchema) -> Iterator[list[str]]:
    """Yield types of all inputs, for the least and for the greatest number of inputs."""
    if not schema.inputs:
        return
    is_variadic = schema.inputs[-1].option.name == "Variadic"
    counts = {max(1, schema.min_input), min(len(schema.inputs), MOST_INPUTS)} | ({2} if is_variadic else set())
    for count in sorted(counts):
        variables = [schema.inputs[min(i, len(schema.inputs) - 1)].type_str for i in range(count)]
        different = sorted(set(variables))
        for kinds in itertools.islice(itertools.product(*(choices(schema, each) for each in different)), MOST_TYPES):
            if set(kinds) & set(INTEGERS):
                chosen = dict(zip(different, kinds, strict=True))
                yield [chosen[each] for each in variables]


def model(schema: defs.OpSchema, types: Sequence[str]) -> bytes:
    required = [name for name, each in schema.attributes.items() if each.required]
    attributes = {name: SPECIAL.get(name, ATTRIBUTES.get(schema.attributes[name].type.name)) for name in required}
    inputs = [f"i{k}" for k in range(len(types))]
    outputs = [f"o{k}" for k in range(max(1, schema.min_output))]
    graph = helper.make_graph(
        [helper.make_node(schema.name, inputs, outputs, domain=schema.domain, **attributes)],
        "one",
        [helper.make_tensor_value_info(name, TYPES[kind], None) for name, kind in zip(inputs, types, strict=True)],
        [onnx.ValueInfoProto(name=name) for name in outputs],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def values(kind: str) -> list[Any]:
    if kind not in INTEGERS:
        return [1]
    limits = np.iinfo(kind)
    return [limits.min, 0, 1, limits.max, *([-1] if limits.min else [])]


def feeds(types: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield inputs: all combinations of two, or some of more."""
    each = [list(itertools.product([kind], SHAPES, values(kind))) for kind in types]
    chance = random.Random(0)
    some = ([chance.choice(one) for one in each] for _ in range(MOST_RUNS))
    for combination in itertools.product(*each) if len(types) <= 2 else some:
        yield {
            f"i{k}": np.full(shape, value, helper.tensor_dtype_to_np_dtype(TYPES[kind]))
            for k, (kind, shape, value) in enumerate(combination)
        }


def run(blob: bytes, types: Sequence[str]) -> None:
    """Run a model with all inputs. Errors are as good as outputs."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(blob, options, providers=["CPUExecutionProvider"])
    for feed in feeds(types):
        try:
            session.run(None, feed)
        except Exception:  # what is looked for is no exception
            continue


def end_of(blob: bytes, types: Sequence[str]) -> int:
    """Return the signal that ended a child process that ran the model, or 0."""
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        signal.alarm(SECONDS)
        resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        run(blob, types)
    finally:
        os._exit(0)


def main() -> None:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime  # noqa: F401  # so that the children need not

    count = 0
    for schema in schemas():
        for types in forms(schema):
            count += 1
            ended_by = end_of(model(schema, types), types)
            if ended_by and ended_by != signal.SIGALRM:
                print(schema.name, signal.Signals(ended_by).name, *types, flush=True)
    print(f"{count} forms")


if __name__ == "__main__":
    main()
