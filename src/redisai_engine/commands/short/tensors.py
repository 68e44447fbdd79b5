"""The short ways of AI.TENSORSET and AI.TENSORGET."""

from __future__ import annotations

from redisai_engine.commands.ai.tensor import reply_with, set_in_steps, tensorset
from redisai_engine.commands.client import Client
from redisai_engine.commands.grammar.tensors import parse_tensor
from redisai_engine.commands.short.sharing import MOST_SHARED, SharingWay, let_in, shared_for
from redisai_engine.commands.short.stored import StoredHead, head_in
from redisai_engine.commands.task import ShortWay
from redisai_engine.commands.tensor_script import DIGEST, LARGEST, lacks_script
from redisai_engine.errors import CommandError
from redisai_engine.protocol import dtypes, replies
from redisai_engine.protocol.frames import ReplyError, decode
from redisai_engine.redis import store
from redisai_engine.service.shared import SharedConnection

_MOST_WORDS = 40
_LONGEST_WORD = 16  # bytes of a dtype, a dimension or a keyword
_MOST_FORMS = 1024

_SCRIPT = b"*5\r\n$7\r\nEVALSHA\r\n$%d\r\n%b\r\n$1\r\n1\r\n" % (len(DIGEST), DIGEST)
_DONE = b":1\r\n"


class TensorForm:
    """What the words from the dtype to BLOB say: the bytes of the blob, and those that SET has before it."""

    def __init__(self, blob_size: int, before_blob: bytes) -> None:
        self.blob_size = blob_size
        self.before_blob = before_blob


_NO_FORM = TensorForm(-1, b"")
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
    header = store.header(tensor.dtype.code, tensor.shape)
    size = len(header) + len(tensor.blob)
    return TensorForm(len(tensor.blob), b"$%d\r\n%b" % (size, header)) if size <= LARGEST else _NO_FORM


class ShortSet(SharingWay):
    """AI.TENSORSET of a small blob of numbers: one call of the script that checks the key and writes it."""

    def __init__(self, client: Client, arguments: list[bytes], form: TensorForm) -> None:
        super().__init__(client, arguments, shared_for(client), busy=True)
        self._form = form

    def begin(self) -> None:
        key, blob = self._request[1], self._request[-1]
        request = b"".join((_SCRIPT, b"$%d\r\n" % len(key), key, b"\r\n", self._form.before_blob, blob, b"\r\n"))
        self.write(request, 1)

    def take(self, got: list[bytes]) -> None:
        client = self._client
        if got[0] == _DONE:
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

    def begin(self) -> None:
        key = self._request[1]
        self.ask(b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key), 1)

    def take(self, got: list[bytes]) -> None:
        raw = got[0]
        start = raw.find(b"\n") + 1
        head = head_in(raw, start)
        if self.shared is None:
            self._note(head)
        elif head is None:
            self.begin_apart()
            return
        if head is None or head.blob_size > self._client.engine.settings.reply_limit:
            self.go_on(reply_with(self._client, decode(raw), self._request[2:]))
            return
        before = head.before_blob if self._meta else b"$%d\r\n" % head.blob_size
        blob_at = start + head.header_size
        if head.blob_size < replies.LARGE:
            self.end(before + raw[blob_at:])
        else:
            self.end([before, memoryview(raw)[blob_at:]])

    def _note(self, head: StoredHead | None) -> None:
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
    if form is None or form.blob_size != len(arguments[-1]):
        return None
    return ShortSet(client, arguments, form)


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
    may_share = alone and arguments[1] in client.engine.shared.small_keys
    return ShortGet(client, arguments, shared_for(client) if may_share else None, meta=meta)
