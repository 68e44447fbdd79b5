"""
What RedisAI 1.2.7 says about a command's arguments: its checks in its order, written down apart from the engine's own.

The positions are those of the whole command, because RedisAI counts so: a negative count moves a position backwards.
`Reader.error_of` returns the error text, or None if RedisAI has nothing against the arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

WRONGTYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
NO_TENSOR = "ERR tensor key is empty or in a different shard"
NO_MODEL = "ERR model key is empty"
NO_SCRIPT = "ERR script key is empty"
TYPES = {"FLOAT": 4, "DOUBLE": 8, "INT8": 1, "INT16": 2, "INT32": 4, "INT64": 8, "UINT8": 1, "UINT16": 2}


class Refused(Exception):
    """RedisAI answers with this text."""


def refuse(text: str, *, when: bool = True) -> None:
    if when:
        raise Refused(text)


def number(word: str) -> int | None:
    """A whole number in its one canonical form."""
    try:
        value = int(word)
    except ValueError:
        return None
    return value if str(value) == word and -(2**63) <= value < 2**63 else None


def loose_number(word: str) -> int | None:
    """A whole number, or a fraction that is one: 1e3, 2.0."""
    value = number(word)
    if value is not None or word != word.strip():
        return value
    try:
        fraction = float(word)
    except ValueError:
        return None
    return int(fraction) if fraction.is_integer() and abs(fraction) < 2**63 else None


@dataclass
class Reader:
    """Reads commands against keys of these kinds: "tensor", "model" (of two inputs and one output), "script"."""

    kinds: dict[str, str] = field(default_factory=dict)

    def error_of(self, command: Sequence[str]) -> str | None:
        name, words = command[0], [*command]
        try:
            if name.startswith("AI.DAG"):
                self._dag(words)
            elif name in _STORING:
                _STORING[name](words)
            else:
                self._single(name, words)
        except Refused as refused:
            return str(refused)
        return None

    def _single(self, name: str, words: list[str]) -> None:
        least, most = {"AI.TENSORSET": (4, None), "AI.TENSORGET": (2, 4)}.get(name, (0, None))
        refuse(_arity(name), when=len(words) < least or (most is not None and len(words) > most))
        if name == "AI.TENSORSET":
            refuse(WRONGTYPE, when=self.kinds.get(words[1], "tensor") != "tensor")
            _tensor(words)
        elif name == "AI.TENSORGET":
            self._lookup(words[1], "tensor", NO_TENSOR)
            _format(words)
        else:
            inputs, _ = self._operation(name, words, single=True)
            for key in inputs:
                self._lookup(key, "tensor", NO_TENSOR)

    def _lookup(self, key: str, kind: str, missing: str) -> None:
        refuse(missing, when=key not in self.kinds)
        refuse(WRONGTYPE, when=self.kinds[key] != kind)

    # Runs and calls

    def _operation(self, name: str, words: list[str], *, single: bool) -> tuple[list[str], list[str]]:
        """Return the names of inputs and outputs."""
        least = {"AI.MODELEXECUTE": 8, "AI.MODELRUN": 6}.get(name, 3)
        refuse(f"ERR wrong number of arguments for '{name}' command", when=len(words) < least)
        if name.startswith("AI.MODEL"):
            self._lookup(words[1], "model", NO_MODEL)
            inputs, outputs, timed = (_modelexecute if name == "AI.MODELEXECUTE" else _modelrun)(words)
        else:
            self._lookup(words[1], "script", NO_SCRIPT)
            read = _scriptrun if name == "AI.SCRIPTRUN" else _scriptexecute
            inputs, outputs, timed = read(words, single=single)
        refuse("ERR TIMEOUT not allowed within a DAG command", when=timed and not single)
        return inputs, outputs

    # DAGs

    def _dag(self, words: list[str]) -> None:
        name, old = words[0], words[0].startswith("AI.DAGRUN")
        refuse(f"ERR wrong number of arguments for '{name}' command", when=old and len(words) < 4)
        refuse(f"ERR missing arguments for '{name}' command", when=not old and len(words) < 6)
        known: set[str] = set()
        persisted: list[str] = []
        operations = self._scopes(words, known, persisted, read_only=name.endswith("_RO"))
        read = [self._dag_operation(operation, name) for operation in operations]
        for needed, filled in read:
            refuse("ERR INPUT key cannot be found in DAG", when=not known.issuperset(needed))
            known.update(filled)
        refuse("ERR PERSIST key cannot be found in DAG", when=not known.issuperset(persisted))

    def _scopes(self, words: list[str], known: set[str], persisted: list[str], *, read_only: bool) -> list[list[str]]:
        at, seen, operations = 1, set[str](), list[list[str]]()
        while at < len(words):
            word = words[at].upper()
            if word == "|>" and at < len(words) - 1:
                end = next((i for i in range(at + 1, len(words)) if words[i] == "|>"), len(words))
                operations.append(words[at + 1 : end])
                at = end
            elif word in {"LOAD", "PERSIST", "ROUTING", "TIMEOUT"} and word not in seen and not operations:
                seen.add(word)
                at = self._scope(words, at, known, persisted, read_only=read_only)
            else:
                refuse(f"ERR Invalid DAG command. Unexpected argument:  {words[at]}")
        refuse(
            "ERR AI.DAGEXECUTE and AI.DAGEXECUTE_RO commands must contain at least one out of ROUTING, LOAD, PERSIST "
            "keywords",
            when=words[0].startswith("AI.DAGEXECUTE") and not seen - {"TIMEOUT"},
        )
        refuse("ERR DAG is empty", when=not operations)
        return operations

    def _scope(self, words: list[str], at: int, known: set[str], persisted: list[str], *, read_only: bool) -> int:
        """Read one scope and return the position behind it."""
        scope, behind = words[at].upper(), words[at + 1 :]
        if scope == "ROUTING":
            refuse("ERR Missing ROUTING value", when=not behind)
            return at + 2
        if scope == "TIMEOUT":
            refuse("ERR No value provided for TIMEOUT", when=not behind)
            refuse("ERR Invalid value for TIMEOUT", when=number(behind[0]) is None)
            return at + 2
        refuse("ERR PERSIST cannot be specified in a read-only DAG", when=scope == "PERSIST" and read_only)
        refuse(f"ERR missing arguments after {scope} keyword in DAG command", when=len(behind) < 2)
        count = number(behind[0])
        if count is None or count <= 0:
            raise Refused(f"ERR invalid or negative value found in number of keys to {scope}")
        keys = behind[1 : count + 1]
        for key in keys:
            if scope == "LOAD":
                self._lookup(key, "tensor", NO_TENSOR)
                known.add(key)
            else:
                refuse("ERR PERSIST keys must be unique", when=key in persisted)
                persisted.append(key)
        what = "LOAD into DAG" if scope == "LOAD" else "PERSIST after DAG execution"
        refuse(f"ERR number of keys to {what} does not match the number of given arguments", when=len(keys) < count)
        return at + 2 + count

    def _dag_operation(self, words: list[str], dag: str) -> tuple[list[str], list[str]]:
        name = words[0].upper() if words else ""
        old = dag.startswith("AI.DAGRUN")
        if name == "AI.TENSORSET":
            refuse("wrong number of arguments for 'AI.TENSORSET' command", when=len(words) < 4)
            _tensor(words)
            return [], [words[1]]
        if name == "AI.TENSORGET":
            refuse("wrong number of arguments for 'AI.TENSORGET' command", when=not 2 <= len(words) <= 4)
            _format(words)
            return [words[1]], []
        if name in {"AI.MODELEXECUTE", "AI.SCRIPTEXECUTE"}:
            refuse(f"{name} cannot be used in a deprecated AI.DAGRUN command", when=old)
            refuse(
                f"ERR {name} command cannot be specified in a read-only DAG",
                when=name == "AI.SCRIPTEXECUTE" and dag.endswith("_RO"),
            )
        elif name in {"AI.MODELRUN", "AI.SCRIPTRUN"}:
            refuse(f"Deprecated {name} cannot be used in AI.DAGEXECUTE command", when=not old)
        else:
            refuse("Unsupported command within DAG")
        return self._operation(name, words, single=False)


def _arity(name: str) -> str:
    return f"ERR wrong number of arguments for '{name.lower()}' command"


def _timeout(word: str) -> None:
    value = number(word)
    refuse("ERR Invalid value for TIMEOUT", when=value is None or value <= 0)


def _modelexecute(words: list[str]) -> tuple[list[str], list[str], bool]:
    end, at = len(words), 2
    lists = []
    for keyword, kind, needed in (("INPUTS", "input", 2), ("OUTPUTS", "output", 1)):
        refuse(f"ERR {keyword} not specified", when=at >= end or words[at].upper() != keyword)
        count = number(words[at + 1]) if at + 1 < end else None
        if count is None:
            raise Refused(f"ERR Invalid argument for {kind}_count")
        refuse(f"ERR {kind.capitalize()} count must be a positive integer", when=count <= 0)
        refuse(f"Number of keys given as {keyword} here does not match model definition", when=count != needed)
        at += 2 + count
        refuse(
            f"ERR number of {kind} keys to AI.MODELEXECUTE command does not match the number of given arguments",
            when=at > end,
        )
        lists.append(words[at - count : at])
    if at == end:
        return lists[0], lists[1], False
    refuse(f"Invalid argument: {words[at]}", when=words[at].upper() != "TIMEOUT")
    refuse("ERR No value provided for TIMEOUT", when=at + 1 == end)
    _timeout(words[at + 1])
    refuse(f"Invalid argument: {words[-1] if at + 2 == end else words[at + 2]}", when=at + 2 != end)
    return lists[0], lists[1], True


def _modelrun(words: list[str]) -> tuple[list[str], list[str], bool]:
    at = 2
    timed = words[at].upper() == "TIMEOUT"
    if timed:
        _timeout(words[3])
        at = 4
    refuse("ERR INPUTS not specified", when=words[at].upper() != "INPUTS")
    rest = words[at + 1 :]
    cut = next((i for i, word in enumerate(rest) if word.upper() == "OUTPUTS"), len(rest))
    inputs, outputs = rest[:cut], rest[cut + 1 :]
    refuse("Number of keys given as INPUTS here does not match model definition", when=len(inputs) != 2)
    refuse("Number of keys given as OUTPUTS here does not match model definition", when=len(outputs) != 1)
    return inputs, outputs, timed


def _scriptexecute(words: list[str], *, single: bool) -> tuple[list[str], list[str], bool]:
    at, end = 3, len(words)
    lists: dict[str, list[str]] = {}
    if single:
        first = words[3].upper() if end > 3 else ""
        refuse(
            "ERR KEYS or INPUTS scope must be provided first for AI.SCRIPTEXECUTE command",
            when=first not in {"KEYS", "INPUTS"},
        )
    while at < end:
        scope, at = words[at].upper(), at + 1
        if scope == "TIMEOUT":
            refuse("ERR No value provided for TIMEOUT in AI.SCRIPTEXECUTE", when=at == end)
            _timeout(words[at])
            refuse("ERR Encountered problem parsing AI.SCRIPTEXECUTE", when=at + 1 != end)
            return lists.get("INPUTS", []), lists.get("OUTPUTS", []), True
        if scope not in {"KEYS", "INPUTS", "ARGS", "OUTPUTS"}:
            refuse(f"ERR Invalid AI.SCRIPTEXECUTE command. Unexpected argument: {words[at - 1]}")
        refuse(f"ERR Already Encountered {scope} scope in AI.SCRIPTEXECUTE command", when=scope in lists)
        lists[scope], at = _scope_of_script(words, at, scope)
    return lists.get("INPUTS", []), lists.get("OUTPUTS", []), False


def _scope_of_script(words: list[str], at: int, scope: str) -> tuple[list[str], int]:
    end = len(words)
    count = number(words[at]) if at < end else None
    if scope == "KEYS":
        refuse("ERR Missing arguments after KEYS keyword", when=end - at < 2)
        refuse("ERR Invalid or negative value found in number of KEYS", when=count is None or count <= 0)
        too_few = (
            "ERR Number of pre declared KEYS to be used in the command does not match the number of given arguments"
        )
    else:
        refuse("ERR Invalid arguments provided to AI.SCRIPTEXECUTE", when=at == end)
        plural = "keys" if scope == "ARGS" else scope.lower()
        refuse(f"ERR Invalid argument for {plural} count in AI.SCRIPTEXECUTE", when=count is None)
        too_few = (
            f"ERR number of {scope.lower()} to AI.SCRIPTEXECUTE command does not match the number of given arguments"
        )
    assert count is not None
    behind = (at + 1 + count) % 2**64  # an unsigned number
    refuse(too_few, when=behind > end)
    return (words[at + 1 : behind], behind) if count > 0 else ([], at + 1)


def _scriptrun(words: list[str], *, single: bool) -> tuple[list[str], list[str], bool]:
    inputs: list[str] = []
    outputs: list[str] = []
    section: list[str] | None = None
    timed = marked = False
    rest = iter(words[3:])
    for word in rest:
        keyword = word.upper()
        if keyword == "TIMEOUT":
            refuse("ERR Already encountered an TIMEOUT section in SCRIPTRUN", when=timed)
            value = next(rest, None)
            if value is None:
                raise Refused("ERR No value provided for TIMEOUT")  # RedisAI reads behind its arguments
            _timeout(value)
            timed = True
        elif keyword == "INPUTS":
            refuse("ERR Already encountered an INPUTS section in SCRIPTRUN", when=section is outputs)
            refuse("ERR Already encountered an INPUTS keyword in SCRIPTRUN", when=section is inputs)
            section = inputs
        elif keyword == "OUTPUTS":
            refuse("ERR Already encountered an OUTPUTS keyword in SCRIPTRUN", when=section is outputs)
            section = outputs
        elif word == "$":
            refuse(
                "ERR Encountered a variable size list of tensors outside of input section", when=section is not inputs
            )
            refuse("ERR Already encountered a variable size list of tensors", when=marked)
            marked = True
        elif section is None:
            refuse("ERR Unrecongnized parameter to SCRIPTRUN")
        else:
            section.append(word)
    return inputs, outputs, timed


def _tensor(words: list[str]) -> None:
    size = TYPES.get(words[2].upper())
    if size is None:
        raise Refused("ERR invalid data type")
    elements = 1
    for at, word in enumerate(words[3:], 3):
        behind = words[at + 1 :]
        if word.upper() == "BLOB":
            refuse(
                "ERR a single binary string should come after the BLOB argument in 'AI.TENSORSET' command",
                when=len(behind) != 1,
            )
            mismatch = "ERR data length does not match tensor shape and type"
            return refuse(mismatch, when=len(behind[0].encode()) != size * elements)
        if word.upper() == "VALUES":
            wrong = "ERR wrong number of values was given in 'AI.TENSORSET' command"
            refuse(wrong, when=len(behind) != elements)
            return refuse("ERR invalid value", when=any(not _is_value(value, words[2]) for value in behind))
        dimension = number(word)
        if dimension is None or dimension <= 0:
            raise Refused("ERR invalid or negative value found in tensor shape")
        elements *= dimension
        # RedisAI doesn't survive all of these, so the engine refuses what no string of Redis can hold.
        refuse("ERR invalid or negative value found in tensor shape", when=elements * size > 2**29 - 512)
    return None


def _is_value(word: str, type_: str) -> bool:
    if type_.upper() in {"FLOAT", "DOUBLE"}:
        try:
            return word == word.strip() and float(word) == float(word)
        except ValueError:
            return False
    value = number(word)
    return value is not None and value >= 0


def _format(words: list[str]) -> None:
    formats = {word.upper() for word in words[2:]}
    refuse("ERR unsupported data format", when=not formats <= {"META", "BLOB", "VALUES"})
    refuse("ERR both BLOB and VALUES specified", when={"BLOB", "VALUES"} <= formats)


# Storing

_NO_BLOB = "ERR Insufficient arguments, missing model BLOB"
_BACKENDS = {"ONNX", "TORCH", "TF", "TFLITE"}


class Cursor:
    """Words from left to right."""

    def __init__(self, words: list[str]) -> None:
        self.words = words

    def next(self) -> str | None:
        return self.words.pop(0) if self.words else None

    def skip(self, keyword: str) -> bool:
        found = bool(self.words) and self.words[0].upper() == keyword
        if found:
            self.words.pop(0)
        return found

    def option(self, name: str) -> int:
        """Return the value behind the option's name."""
        word = self.next()
        value = None if word is None else loose_number(word)
        if value is None or value < 0:
            raise Refused(f"ERR Invalid argument for {name}")
        return value


def _modelstore(words: list[str]) -> None:
    refuse(_arity("AI.MODELSTORE"), when=len(words) < 6)
    backend, device, cursor = words[2].upper(), words[3].upper(), Cursor(words[4:])
    refuse("ERR unsupported backend", when=backend not in _BACKENDS)
    refuse("ERR Invalid DEVICE", when=device not in {"CPU", "GPU"} and device[:4] not in {"CPU:", "GPU:"})
    if cursor.skip("TAG"):
        cursor.next()
    batch = cursor.option("BATCHSIZE") if cursor.skip("BATCHSIZE") else 0
    least = cursor.option("MINBATCHSIZE") if cursor.skip("MINBATCHSIZE") else 0
    refuse("ERR MINBATCHSIZE specified without BATCHSIZE", when=least > 0 and not batch)
    wait = cursor.option("MINBATCHTIMEOUT") if cursor.skip("MINBATCHTIMEOUT") else 0
    refuse("ERR MINBATCHTIMEOUT specified without MINBATCHSIZE", when=wait > 0 and not least)
    refuse(_NO_BLOB, when=not cursor.words)
    if backend == "TF":
        for keyword, kind in (("INPUTS", "input"), ("OUTPUTS", "output")):
            refuse(f"ERR {keyword} not specified for TF", when=not cursor.skip(keyword))
            word = cursor.next()
            count = None if word is None else loose_number(word)
            if count is None or count <= 0:
                raise Refused(f"ERR Invalid argument for {kind}_count")
            mismatch = f"ERR number of model {kind}s does not match the number of given arguments"
            refuse(mismatch, when=len(cursor.words) < count)
            cursor.words = cursor.words[count:]
    else:
        refuse("ERR INPUTS argument should not be specified for this backend", when=cursor.skip("INPUTS"))
    refuse("ERR Invalid argument, expected BLOB", when=not cursor.skip("BLOB"))
    refuse(_NO_BLOB, when=not cursor.words)


def _modelset(words: list[str]) -> None:
    refuse(_arity("AI.MODELSET"), when=len(words) < 4)
    backend, device, cursor = words[2].upper(), words[3].upper(), Cursor(words[4:])
    refuse("ERR unsupported backend", when=backend not in _BACKENDS)
    keywords = {"INPUTS", "OUTPUTS", "TAG", "BATCHSIZE", "MINBATCHSIZE", "MINBATCHTIMEOUT", "BLOB"}
    refuse("ERR Invalid DEVICE", when=device in keywords)
    if cursor.skip("TAG"):
        cursor.next()
    batch = least = 0
    if cursor.skip("BATCHSIZE"):
        refuse("ERR Auto-batching not supported by the TFLITE backend", when=backend == "TFLITE")
        batch = cursor.option("BATCHSIZE")
    if cursor.skip("MINBATCHSIZE"):
        refuse("ERR MINBATCHSIZE specified without BATCHSIZE", when=not batch)
        least = cursor.option("MINBATCHSIZE")
    if cursor.skip("MINBATCHTIMEOUT"):
        refuse("ERR MINBATCHTIMEOUT specified without BATCHSIZE", when=not batch)
        refuse("ERR MINBATCHTIMEOUT specified without MINBATCHSIZE", when=not least)
        cursor.option("MINBATCHTIMEOUT")
    refuse(_NO_BLOB, when=not cursor.words)
    cut = next((i for i, word in enumerate(cursor.words) if word.upper() == "BLOB"), len(cursor.words))
    options, blob = [word.upper() for word in cursor.words[:cut]], cursor.words[cut + 1 :]
    if backend == "TF":
        refuse("ERR Insufficient arguments, INPUTS and OUTPUTS not specified", when=not options)
        refuse("ERR INPUTS not specified", when=options[0] != "INPUTS")
        refuse("ERR OUTPUTS not specified", when="OUTPUTS" not in options[1:])
    refuse(_NO_BLOB, when=not blob)
    refuse("ERR unsupported device", when=device[:3] not in {"CPU", "GPU"})


def _scriptstore(words: list[str]) -> None:
    refuse(_arity("AI.SCRIPTSTORE"), when=len(words) < 8)
    cursor = Cursor(words[3:])
    if cursor.skip("TAG"):
        cursor.next()
    missing = "ERR Insufficient arguments, missing script entry points"
    refuse(missing, when=not cursor.skip("ENTRY_POINTS"))
    word = cursor.next()
    count = None if word is None else loose_number(word)
    if count is None:
        raise Refused("ERR Non numeric entry points number provided to AI.SCRIPTSTORE command")
    refuse(missing, when=not 0 <= count <= len(cursor.words))  # RedisAI doesn't survive a negative one
    cursor.words = cursor.words[count:]
    _source(cursor, words[2])


def _scriptset(words: list[str]) -> None:
    refuse(_arity("AI.SCRIPTSET"), when=len(words) not in {5, 7})
    cursor = Cursor(words[3:])
    if cursor.skip("TAG"):
        cursor.next()
    _source(cursor, words[2])


def _source(cursor: Cursor, device: str) -> None:
    missing = not cursor.skip("SOURCE") or not cursor.words
    refuse("ERR Insufficient arguments, missing script SOURCE", when=missing)
    refuse("ERR unsupported device", when=device.upper()[:3] not in {"CPU", "GPU"})


_STORING: dict[str, Callable[[list[str]], None]] = {
    "AI.MODELSTORE": _modelstore,
    "AI.MODELSET": _modelset,
    "AI.SCRIPTSTORE": _scriptstore,
    "AI.SCRIPTSET": _scriptset,
}
