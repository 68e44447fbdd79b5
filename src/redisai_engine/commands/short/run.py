"""
The short way of AI.MODELEXECUTE: one write asks for the inputs and for what the outputs' keys hold, the model runs, and
one write stores the outputs.

Both go over the connection that clients share, if this client may and the tensors are small (`sharing.py`). The first
run of a form goes over the client's own and shows how large its inputs are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from redisai_engine.commands.ai.resolving import known_model
from redisai_engine.commands.ai.run import check_and_keep, most_read, reading, run_on
from redisai_engine.commands.ai.run import keep as keep_outputs
from redisai_engine.commands.ai.run import kept as kept_outputs
from redisai_engine.commands.client import Client
from redisai_engine.commands.grammar.calls import ModelCall, parse_modelexecute
from redisai_engine.commands.short.sharing import AND_READ, MOST_SHARED, SharingWay, keep, may_keep, script_before
from redisai_engine.commands.short.sharing import reading as reading_to_keep
from redisai_engine.commands.short.stored import NO_TENSOR_YET, TENSOR, StoredTensor, head_for, tensor_in
from redisai_engine.commands.steps import Plan
from redisai_engine.commands.task import ShortWay
from redisai_engine.commands.tensor_script import WRITTEN, WRITTEN_AND_READ, lacks_script, load_script
from redisai_engine.execution.job import Job, RunnableModel
from redisai_engine.protocol import replies
from redisai_engine.protocol.frames import ReplyError, decode
from redisai_engine.service.memory.tensors import AskedAt, KeptTensors
from redisai_engine.service.shared import SharedConnection

_MOST_WORDS = 64
_MOST_BYTES = 1024  # of all words, which are kept
_MOST_FORMS = 1024


class RunForm:
    """What the words of a request say, with Redis' commands already encoded."""

    def __init__(self, call: ModelCall) -> None:
        self.call = call
        self.inputs = len(call.inputs)
        self.outputs = len(call.outputs)
        self.places, commands = reading(call.inputs)
        self.heads_at = len(commands)
        self.keys = list(dict.fromkeys(call.inputs))  # which `places` refer to
        commands += [(b"GETRANGE", key, b"0", b"7") for key in call.outputs]
        self.asked = len(commands)
        self.reads = b"".join([replies.command(*command) for command in commands])
        self.reads_to_keep = [reading_to_keep(key) for key in self.keys]
        self.is_small = False  # its inputs were tensors of numbers last time, and few bytes
        self.sets = [b"*3\r\n$3\r\nSET\r\n%b" % replies.bulk(key) for key in call.outputs]
        self.script = script_before(call.outputs)
        self.script_and_read = script_before(call.outputs, more=1)


@lru_cache(maxsize=_MOST_FORMS)
def _form(arguments: tuple[bytes, ...]) -> RunForm | None:
    """Return the form of a request; None for one that only the ordinary way can carry out."""
    call = parse_modelexecute(arguments[2:])
    # Of two outputs to one key the last one stays, which is left to the ordinary way.
    if call.error is not None or len(set(call.outputs)) < len(call.outputs):
        return None
    return RunForm(call)


class ShortRun(SharingWay):
    """
    AI.MODELEXECUTE of a known model on tensors of numbers.

    If tensors are kept in memory, only those inputs are read that aren't there, and a script looks at what the outputs'
    keys hold when it writes them.
    """

    def __init__(
        self,
        client: Client,
        arguments: list[bytes],
        form: RunForm,
        model: RunnableModel,
        shared: SharedConnection | None,
    ) -> None:
        super().__init__(client, arguments, shared, busy=True)
        self._form = form
        self._model = model
        self._deadline = client.engine.deadline(form.call.timeout_ms)
        self._are_small = False  # the outputs
        self._found: list[StoredTensor | None] = []  # by the form's keys, if tensors are kept
        self._may_keep: list[bool] = []  # for those that are read
        self._made: list[StoredTensor] = []  # the outputs
        self._is_checked = True  # what the outputs' keys hold

    def begin(self) -> None:
        kept = self.keeps
        if kept is not None and self._client.tensor_script.is_worth_trying:
            self._is_checked = False
            self._find(kept)
            return
        form = self._form
        self._is_checked = True
        self._found = []
        most, refusal = most_read(self._client.engine.settings)
        self.ask(form.reads, form.asked, most=most, refusal=refusal)

    def _find(self, kept: KeptTensors) -> None:
        """Take the inputs from memory, and ask for the others."""
        form = self._form
        keys: list[bytes] = []
        requests: list[bytes] = []
        for key, request in zip(form.keys, form.reads_to_keep):  # noqa: B905  # one for each
            found: StoredTensor | None = kept.find(key, self._began_at)
            self._found.append(found)
            if found is None:
                keys.append(key)
                requests.append(request)
        if keys:
            self.read(kept, keys, b"".join(requests))
        else:
            self._run([found.array() for found in self._found if found is not None])

    @property
    def written(self) -> Sequence[bytes]:
        return self._form.call.outputs

    def settle(self, kept: KeptTensors, asked: AskedAt, got: list[bytes]) -> None:
        if self._writes:
            self.settle_written(kept, asked, self._made, got[0])
            return
        self._may_keep = []
        for key, found in zip(self._form.keys, self._found):  # noqa: B905  # one for each
            if found is None:
                place = 2 * len(self._may_keep)
                self._may_keep.append(may_keep(kept, key, asked, got[place], got[place + 1]))

    def take(self, got: list[bytes]) -> None:
        if self._writes:
            self._end(got)
        elif self._is_checked:
            self._take_all(got)
        else:
            self._take_missing(got)

    def _take_missing(self, got: list[bytes]) -> None:
        """Take the inputs that weren't in memory."""
        kept, asked = self.keeps, self.asked
        read = 0
        for place, found in enumerate(self._found):
            if found is not None:
                continue
            tensor = tensor_in(got[2 * read])
            if tensor is None:
                self._form.is_small = False
                self.begin_apart()
                return
            self._found[place] = tensor
            if self._may_keep[read] and kept is not None and asked is not None:
                keep(kept, self._form.keys[place], tensor, asked)
            read += 1
        self._run([found.array() for found in self._found if found is not None])

    def _take_all(self, got: list[bytes]) -> None:
        form = self._form
        arrays: list[Any] = []
        size = 0
        for raw in got[: form.heads_at]:
            tensor = tensor_in(raw)
            if tensor is None:
                break
            size += tensor.size
            arrays.append(tensor.array())
        is_plain = len(arrays) == form.heads_at and self._may_write(got)
        form.is_small = is_plain and size <= MOST_SHARED
        if is_plain:
            self._run(arrays)
        elif self.shared is not None:
            self.begin_apart()
        else:
            read = [decode(raw) for raw in got]
            self.go_on(run_on(self._client, self._model, form.call, form.places, read, deadline=self._deadline))

    def _run(self, arrays: list[Any]) -> None:
        """Run the model on what the form's keys hold."""
        client, form = self._client, self._form
        inputs = [arrays[place] for place in form.places]
        job = Job(self._model, inputs, self._deadline, self._ran, taken_at=self._began_at, front=client.front_number)
        engine = client.engine
        engine.turn.plan()  # submitted jobs run in a turn
        engine.executor.submit(job)

    def _may_write(self, got: list[bytes]) -> bool:
        """Return whether each output's key holds a tensor or nothing."""
        for raw in got[self._form.heads_at :]:  # noqa: SIM110  # a generator costs more than all the comparisons
            if raw not in (TENSOR, NO_TENSOR_YET):
                return False
        return True

    def _ran(self, outcome: Any) -> None:
        """Store the outputs."""
        if self.reply is not None or self._client.lost:
            return
        try:
            self._store(outcome)
        except Exception:
            self.fail()

    def _store(self, outcome: Any) -> None:
        client, form = self._client, self._form
        size = self._make(outcome) if type(outcome) is list else -1
        self._are_small = 0 <= size <= MOST_SHARED
        self.shared = client.shared if self.shared is not None and self._are_small else None
        if size < 0 or (self.shared is None and not self._is_checked):
            self.go_on(self._keep_in_steps(outcome))
            return
        if self._is_checked:
            self.write(self._plain_sets(), form.outputs)
        else:
            self.write(self._script(), 1)
        client.answered()  # so that it is sent at the end of this turn

    def _make(self, outputs: list[Any]) -> int:
        """Make tensors of the outputs. Return their bytes, or -1 if they are large, or one is not made of numbers."""
        size = 0
        room = min(replies.LARGE, self._client.engine.settings.tensor_limit)
        for array in outputs:
            head = None if array is None else head_for(array.dtype, array.shape)
            if head is None:
                return -1
            size += head.header_size + head.blob_size
            room -= head.blob_size
            if room < 0:
                return -1
            self._made.append(StoredTensor(head, array.tobytes()))
        return size

    def _keep_in_steps(self, outcome: Any) -> Plan:
        client, call = self._client, self._form.call
        return keep_outputs(client, call, outcome) if self._is_checked else check_and_keep(client, call, outcome)

    def _plain_sets(self) -> bytes:
        pieces: list[bytes] = []
        for start, tensor in zip(self._form.sets, self._made):  # noqa: B905  # as many outputs as the model's are checked
            pieces += (start, tensor.head.in_argument, tensor.blob, b"\r\n")
        return b"".join(pieces)

    def _script(self) -> bytes:
        self.reads_back = self._are_wanted()
        pieces: list[bytes] = [self._form.script_and_read if self.reads_back else self._form.script]
        for tensor in self._made:
            pieces += (tensor.head.in_argument, tensor.blob, b"\r\n")
        if self.reads_back:
            pieces.append(AND_READ)
        return b"".join(pieces)

    def _are_wanted(self) -> bool:
        """Return whether any output is likely to be looked for in memory."""
        kept = self.keeps
        if kept is None:
            return False
        for key in self._form.call.outputs:  # noqa: SIM110  # a generator costs more
            if kept.wants(key):
                return True
        return False

    def _end(self, got: list[bytes]) -> None:
        if self._is_checked:
            for raw in got:
                if raw != replies.OK:
                    self.go_on(kept_outputs([decode(raw) for raw in got]))
                    return
        elif got[0] != WRITTEN_AND_READ and got[0] != WRITTEN:
            self._write_in_steps(decode(got[0]))
            return
        if self._are_small:
            small_keys = self._client.engine.shared.small_keys
            for key in self._form.call.outputs:
                small_keys.add(key)
        self.end(replies.OK)

    def _write_in_steps(self, answer: Any) -> None:
        """Write what the script hasn't written."""
        client, call = self._client, self._form.call
        outputs = [tensor.array() for tensor in self._made]
        if isinstance(answer, ReplyError) and lacks_script(answer):
            self.go_on(_load_and_keep(client, call, outputs))
            return
        if isinstance(answer, ReplyError):
            client.tensor_script.refused()
        self.go_on(check_and_keep(client, call, outputs))


def _load_and_keep(client: Client, call: ModelCall, outputs: list[Any]) -> Plan:
    yield from load_script()
    return (yield from check_and_keep(client, call, outputs))


def short_run(client: Client, arguments: list[bytes]) -> ShortWay | None:
    """Return the short way of AI.MODELEXECUTE; None if the request must take the ordinary one."""
    if len(arguments) > _MOST_WORDS or len(arguments) < 8 or not client.may_trust:
        return None
    size = 0
    for word in arguments:
        size += len(word)
    if size > _MOST_BYTES:
        return None
    known = known_model(client, arguments[1])
    if known is None:
        return None
    form = _form(tuple(arguments))
    loaded = known.model.loaded
    if form is None or len(loaded.inputs) != form.inputs or len(loaded.outputs) != form.outputs:
        return None
    return ShortRun(client, arguments, form, known.model, client.shared if form.is_small else None)
