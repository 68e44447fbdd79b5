"""
The short way of AI.MODELEXECUTE: one write asks for the inputs and for what the outputs' keys hold, the model runs, and
one write stores the outputs.

Both go over the connection that clients share, if this client may and the tensors are small (`sharing.py`). The first
run of a form goes over the client's own and shows how large its inputs are.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from redisai_engine.commands.ai.resolving import known_model
from redisai_engine.commands.ai.run import keep, kept, most_read, reading, run_on
from redisai_engine.commands.client import Client
from redisai_engine.commands.grammar.calls import ModelCall, parse_modelexecute
from redisai_engine.commands.short.sharing import MOST_SHARED, SharingWay
from redisai_engine.commands.short.stored import NO_TENSOR_YET, TENSOR, array_in, value_before_blob
from redisai_engine.commands.task import ShortWay
from redisai_engine.execution.job import Job, RunnableModel
from redisai_engine.protocol import replies
from redisai_engine.protocol.frames import decode
from redisai_engine.protocol.tensor import Buffer
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
        commands += [(b"GETRANGE", key, b"0", b"7") for key in call.outputs]
        self.asked = len(commands)
        self.reads = b"".join([replies.command(*command) for command in commands])
        self.is_small = False  # its inputs were tensors of numbers last time, and few bytes
        self.sets = [b"*3\r\n$3\r\nSET\r\n%b" % replies.bulk(key) for key in call.outputs]


@lru_cache(maxsize=_MOST_FORMS)
def _form(arguments: tuple[bytes, ...]) -> RunForm | None:
    """Return the form of a request; None for one that only the ordinary way can carry out."""
    call = parse_modelexecute(arguments[2:])
    # Of two outputs to one key the last one stays, which is left to the ordinary way.
    if call.error is not None or len(set(call.outputs)) < len(call.outputs):
        return None
    return RunForm(call)


class ShortRun(SharingWay):
    """AI.MODELEXECUTE of a known model on tensors of numbers."""

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

    def begin(self) -> None:
        form = self._form
        most, refusal = most_read(self._client.engine.settings)
        self.ask(form.reads, form.asked, most=most, refusal=refusal)

    def take(self, got: list[bytes]) -> None:
        if self._writes:
            self._end(got)
        else:
            self._run(got)

    def _run(self, got: list[bytes]) -> None:
        form, client, model = self._form, self._client, self._model
        arrays = []
        size = 0
        for place in form.places:
            array = array_in(got[place])
            if array is None:
                break
            size += array.nbytes
            arrays.append(array)
        is_plain = len(arrays) == form.inputs and self._may_write(got)
        form.is_small = is_plain and size <= MOST_SHARED
        if not is_plain:
            if self.shared is not None:
                self.begin_apart()
                return
            read = [decode(raw) for raw in got]
            self.go_on(run_on(client, model, form.call, form.places, read, deadline=self._deadline))
            return
        job = Job(model, arrays, self._deadline, self._ran, taken_at=self._began_at, front=client.front_number)
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
        pieces = self._values(outcome) if type(outcome) is list else None
        if pieces is None:
            self.go_on(keep(client, form.call, outcome))
            return
        values = b"".join(pieces)
        self._are_small = len(values) <= MOST_SHARED
        self.shared = client.shared if self.shared is not None and self._are_small else None
        self.write(values, form.outputs)
        client.answered()  # so that it is sent at the end of this turn

    def _values(self, outputs: list[Any]) -> list[Buffer] | None:
        """Return SET for each output, in pieces; None if they are large, or one is not made of numbers."""
        pieces: list[Buffer] = []
        room = min(replies.LARGE, self._client.engine.settings.tensor_limit)
        for start, array in zip(self._form.sets, outputs):  # noqa: B905  # as many outputs as the model's are checked
            before = None if array is None else value_before_blob(array.dtype, array.shape)
            if before is None:
                return None
            room -= array.nbytes
            if room < 0:
                return None
            pieces += (start, before, array.tobytes(), b"\r\n")
        return pieces

    def _end(self, got: list[bytes]) -> None:
        for raw in got:
            if raw != replies.OK:
                self.go_on(kept([decode(raw) for raw in got]))
                return
        if self._are_small:
            small_keys = self._client.engine.shared.small_keys
            for key in self._form.call.outputs:
                small_keys.add(key)
        self.end(replies.OK)


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
