"""The short ways of AI.TENSORSET and AI.TENSORGET."""

from __future__ import annotations

from collections.abc import Sequence

from redisai_engine.commands.ai.tensor import reply_with, set_in_steps, tensorset
from redisai_engine.commands.client import Client
from redisai_engine.commands.grammar.tensors import parse_tensor
from redisai_engine.commands.short.sharing import (
    AND_READ,
    MOST_SHARED,
    SharingWay,
    keep,
    let_in,
    may_keep,
    reading,
    shared_for,
)
from redisai_engine.commands.short.stored import StoredHead, StoredTensor, head_in, head_of
from redisai_engine.commands.task import ShortWay
from redisai_engine.commands.tensor_script import DIGEST, LARGEST, WRITTEN, WRITTEN_AND_READ, lacks_script
from redisai_engine.errors import CommandError
from redisai_engine.protocol import dtypes, replies
from redisai_engine.protocol.frames import ReplyError, decode
from redisai_engine.redis import store
from redisai_engine.service.memory.tensors import AskedAt, KeptTensors
from redisai_engine.service.shared import SharedConnection

_MOST_WORDS = 40
_LONGEST_WORD = 16  # bytes of a dtype, a dimension or a keyword
_MOST_FORMS = 1024

_CALL = b"$7\r\nEVALSHA\r\n$%d\r\n%b\r\n$1\r\n1\r\n" % (len(DIGEST), DIGEST)
_BEFORE = b"*5\r\n" + _CALL
_BEFORE_TWO = b"*6\r\n" + _CALL  # arguments


class TensorForm:
    """What the words from the dtype to BLOB say: the head of the tensor; None if it can't take the short way."""

    def __init__(self, head: StoredHead | None) -> None:
        self.head = head


_NO_FORM = TensorForm(None)
_forms: dict[tuple[bytes, ...], TensorForm] = {}


def _form(arguments: list[bytes]) -> TensorForm | None:
    """Return the form of a request; None for one that only the ordinary way can carry out."""
    words = tuple(arguments[2:-1])
    found = _forms.get(words)
    if found is None:
        for word in words:
            if len(word) > _LONGEST_WORD:
                return None
        found = _new_form(arguments)
        if found is not None:
            if len(_forms) >= _MOST_FORMS:
                _forms.clear()
            _forms[words] = found
    return found


def _new_form(arguments: list[bytes]) -> TensorForm | None:
    try:
        words = parse_tensor(arguments[2:])
    except CommandError:
        return None
    tensor = words.tensor
    # A BOOL blob's values must be checked, and the elements of a STRING's be counted.
    if words.blob_at is None or tensor.dtype is dtypes.BOOL or tensor.dtype.is_string:
        return _NO_FORM
    head = head_of(store.header(tensor.dtype.code, tensor.shape))
    return _NO_FORM if head is None or head.header_size + head.blob_size > LARGEST else TensorForm(head)


class ShortSet(SharingWay):
    """AI.TENSORSET of a small blob of numbers: one call of the script that checks the key and writes it."""

    def __init__(self, client: Client, arguments: list[bytes], head: StoredHead) -> None:
        super().__init__(client, arguments, shared_for(client), busy=True)
        self._head = head

    def begin(self) -> None:
        key, blob = self._request[1], self._request[-1]
        kept = self.keeps
        self.reads_back = kept is not None and kept.wants(key)
        before, after = (_BEFORE_TWO, AND_READ) if self.reads_back else (_BEFORE, b"")
        words = (before, b"$%d\r\n" % len(key), key, b"\r\n", self._head.in_argument, blob, b"\r\n", after)
        self.write(b"".join(words), 1)

    @property
    def written(self) -> Sequence[bytes]:
        return [self._request[1]]

    def settle(self, kept: KeptTensors, asked: AskedAt, got: list[bytes]) -> None:
        tensor = StoredTensor(self._head, self._request[-1])
        self.settle_written(kept, asked, [tensor], got[0])

    def take(self, got: list[bytes]) -> None:
        client = self._client
        if got[0] == WRITTEN_AND_READ or got[0] == WRITTEN:
            if self.shared is None:
                let_in(client)
            client.engine.shared.small_keys.add(self._request[1])
            self.end(replies.OK)
            return
        answer = decode(got[0])
        if isinstance(answer, ReplyError) and lacks_script(answer):
            self.go_on(tensorset(client, self._request))
            return
        if isinstance(answer, ReplyError):
            client.tensor_script.refused()
        self.go_on(set_in_steps(self._request[1], parse_tensor(self._request[2:]).tensor))


class ShortGet(SharingWay):
    """AI.TENSORGET of a tensor of numbers as a blob: Redis' own bytes behind another head."""

    def __init__(self, client: Client, arguments: list[bytes], shared: SharedConnection | None, *, meta: bool) -> None:
        # On its own connection, Redis keeps the client's requests in order.
        super().__init__(client, arguments, shared, busy=shared is not None)
        self._meta = meta
        self._may_keep = False

    def remember(self, tensor: StoredTensor) -> None:
        """End with a tensor that was in memory."""
        self.busy = False
        self.is_detached = True
        self.reply = tensor.reply(meta=self._meta)

    def begin(self) -> None:
        if self.reply is not None:
            return
        key = self._request[1]
        kept = self.keeps
        if kept is None:
            self.ask(b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key), 1)
        else:
            self.read(kept, [key], reading(key))

    def settle(self, kept: KeptTensors, asked: AskedAt, got: list[bytes]) -> None:
        self._may_keep = may_keep(kept, self._request[1], asked, got[0], got[1])

    def take(self, got: list[bytes]) -> None:
        raw = got[0]
        start = raw.find(b"\n") + 1
        head = head_in(raw, start)
        if self.shared is None:
            self._note_size(head)
        elif head is None:
            self.begin_apart()
            return
        if head is None or head.blob_size > self._client.engine.settings.reply_limit:
            self.go_on(reply_with(self._client, decode(raw), self._request[2:]))
            return
        before = head.in_whole_reply if self._meta else head.in_reply
        blob_at = start + head.header_size
        if self._may_keep:
            self._keep(StoredTensor(head, raw[blob_at:-2]))
        if head.blob_size < replies.LARGE:
            self.end(before + raw[blob_at:])
        else:
            self.end([before, memoryview(raw)[blob_at:]])

    def _keep(self, tensor: StoredTensor) -> None:
        kept, asked = self.keeps, self.asked
        if kept is not None and asked is not None:
            keep(kept, self._request[1], tensor, asked)

    def _note_size(self, head: StoredHead | None) -> None:
        """Note what the client's own connection has shown."""
        small_keys = self._client.engine.shared.small_keys
        if head is None or head.blob_size > MOST_SHARED - head.header_size:
            small_keys.discard(self._request[1])
        else:
            small_keys.add(self._request[1])
            let_in(self._client)


def short_set(client: Client, arguments: list[bytes]) -> ShortWay | None:
    """Return the short way of AI.TENSORSET; None if the request must take the ordinary one."""
    count = len(arguments)
    if count < 5 or count > _MOST_WORDS or not client.tensor_script.is_worth_trying:
        return None
    form = _form(arguments)
    head = None if form is None else form.head
    if head is None or head.blob_size != len(arguments[-1]):
        return None
    return ShortSet(client, arguments, head)


def short_get(client: Client, arguments: list[bytes], *, alone: bool) -> ShortWay | None:
    """
    Return the short way of AI.TENSORGET; None if the request must take the ordinary one.

    `alone`: no other request is behind it, which would have to wait if this one took the shared connection.
    """
    count = len(arguments)
    if count == 2:
        meta = True
    elif count == 3 and arguments[2] == b"BLOB":
        meta = False
    elif count == 4 and arguments[2] == b"META" and arguments[3] == b"BLOB":
        meta = True
    else:
        return None
    shared = shared_for(client) if arguments[1] in client.engine.shared.small_keys else None
    found = _kept(client, arguments[1], shared)
    way = ShortGet(client, arguments, shared if alone else None, meta=meta)
    if found is not None:
        way.remember(found)
    return way


def _kept(client: Client, key: bytes, shared: SharedConnection | None) -> StoredTensor | None:
    """Return a tensor that need not be asked for, and may be answered."""
    if shared is None:
        return None
    found: StoredTensor | None = shared.kept.find(key, client.engine.turn.began_at)
    if found is None or found.head.blob_size > client.engine.settings.reply_limit:
        return None
    return found
