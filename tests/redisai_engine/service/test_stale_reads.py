"""
No client of the engine reads a tensor that is older than what any of them had been told before it asked.

Several clients change tensors in all ways that there are, each over a connection to Redis that dawdles in its own way.
Some change them past the engine. That counts as soon as a client of the engine has seen it. With several workers, the
clients are spread over them.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from support.connection import Connect, Connection
from support.dawdling import dawdling
from support.freshness import NOTHING, Record, Write
from support.gateway import Pair
from support.int64_tensors import MISSING, Command, setting, store_identity, value
from support.replies import OK, bulk
from support.servers import Server, bundled_redis_server, bundled_valkey_server, redis_server_binary
from support.shared_connections import APART
from support.workers import connect_to

SERVERS = list(dict.fromkeys(filter(None, (redis_server_binary(), bundled_redis_server(), bundled_valkey_server()))))
KEYS = ("k:0", "k:1", "k:2")
STEPS = 1500
NO_TENSOR = -2  # what a key holds that is a hash
SET = "redis.call('SET', KEYS[1], ARGV[1])"
PLACES = (0, 0, 1, 1, 2)  # at which worker each client is; the first two may have logged in and share a connection
WATCHING_AT = 1

Deed = tuple[float, Callable[[], None]]  # how often it is done beside others


@dataclass(frozen=True)
class Habits:
    """
    How often clients send plain commands beside AI commands, and how many requests they send ahead.

    Plain commands, and AI commands on connections of clients' own, end what is kept.
    """

    plain: float
    outstanding: int
    past: int = 0  # clients that aren't the engine's
    reading: float = 1  # how often they read beside writing
    logged_in: int = 0  # clients that have logged in, and share another connection than those that haven't


class Client:
    """A client that sends what it likes without waiting for answers, and checks them when they come."""

    def __init__(self, number: int, opened: Connection, record: Record, choose: random.Random) -> None:
        self.due: deque[Callable[[bytes], str]] = deque()
        self.record, self.choose = record, choose
        self._number, self._opened = number, opened
        self._own = f"own:{number}"

    def act(self, number: int, habits: Habits) -> None:
        """Read, or write `number`."""
        deeds = [(habits.reading * weight, deed) for weight, deed in self.reading_deeds()]
        deeds += [*self.ai_deeds(number), *((habits.plain * weight, deed) for weight, deed in self.plain_deeds(number))]
        self.choose.choices([deed for _, deed in deeds], [weight for weight, _ in deeds])[0]()

    def reading_deeds(self) -> list[Deed]:
        key = self.choose.choice(KEYS)
        return [(6, lambda: self.read(key)), (3, lambda: self._run(key))]

    def ai_deeds(self, number: int) -> list[Deed]:
        key = self.choose.choice(KEYS)
        return [
            (6, lambda: self.write(key, number, setting(key, number))),
            (2, lambda: self._make(key, number)),
        ]

    def plain_deeds(self, number: int) -> list[Deed]:
        key, other, own, held = self.choose.choice(KEYS), self.choose.choice(KEYS), self._own, value(number)
        persisted = f"AI.DAGEXECUTE PERSIST 1 {key} |> AI.TENSORSET {key} INT64 1 VALUES {number}"
        watched: list[Command] = [f"WATCH {key}", "MULTI", ("SET", key, held), "EXEC"]
        return [
            (2, lambda: self.write(key, number, f"AI.TENSORSET {key} INT64 1 VALUES {number}")),
            (2, lambda: self.write(key, number, setting(key, number, 3))),
            (1, lambda: self.write(key, number, ("SET", key, held))),
            (1, lambda: self.write(key, number, ("GETSET", key, held))),
            (1, lambda: self.write(key, number, ("MSET", "any", "", key, held))),
            (1, lambda: self.write(key, number, ("SET", key, held, "EX", 1000))),
            (1, lambda: self.write(key, NOTHING, f"DEL {key}")),
            (1, lambda: self.write(key, NOTHING, f"UNLINK {key}")),
            (1, lambda: self.write(key, NOTHING, f"EXPIRE {key} -1")),
            (1, lambda: self.write(key, number, ("SET", own, held), f"RENAME {own} {key}")),
            (1, lambda: self.write(key, number, ("EVAL", SET, 1, key, held))),
            (1, lambda: self.write(key, number, ("EVAL", SET.replace("KEYS[1]", f"'{key}'"), 0, held))),
            (1, lambda: self.write(key, number, "MULTI", ("SET", key, held), "EXEC")),
            (1, lambda: self.write(key, number, *watched)),
            (1, lambda: self.write(key, number, "MULTI", setting(key, number), "EXEC")),
            (1, lambda: self.write(key, number, persisted)),
            (1, lambda: self.write(key, NO_TENSOR, "MULTI", f"DEL {key}", f"HSET {key} f v", "EXEC")),
            (1, lambda: self.write(key, NOTHING, f"RENAME {key} {own}")),
            (1, lambda: self._elsewhere(key)),
            (0.3, self._flush),
            (2, lambda: self.look(other)),
        ]

    def settle(self) -> str:
        """Take the next answer, and return what is wrong with it."""
        return self.due.popleft()(self._opened.reply())

    def write(self, key: str, number: int, *commands: Command) -> None:
        write = self.record.begin(key, number, self._number)
        self._send(lambda answer: self.written(key, write, answer), *commands)

    def written(self, key: str, write: Write, answer: bytes) -> str:
        is_refused = answer.startswith((b"-", b"*-1\r\n")) or (answer.startswith(b"*") and b"\r\n-" in answer)
        if is_refused:
            self.record.forget(key, write)
        else:
            self.record.end(write)
        return ""

    def _send(self, last: Callable[[bytes], str], *commands: Command) -> None:
        """Send commands, of which only the last one's answer counts."""
        self._opened.send(*commands)
        self.due.extend([lambda answer: ""] * (len(commands) - 1))
        self.due.append(last)

    def _make(self, key: str, number: int) -> None:
        """Have a model write the key."""
        self.write(
            key, number, setting(self._own, number), f"AI.MODELEXECUTE same INPUTS 1 {self._own} OUTPUTS 1 {key}"
        )

    def _elsewhere(self, key: str) -> None:
        """Write the key in another database."""
        self._send(lambda answer: "", "SELECT 1", ("SET", key, value(10**9)), "SELECT 0")

    def _flush(self) -> None:
        writes = [(key, self.record.begin(key, NOTHING, self._number)) for key in KEYS]
        self._send(lambda answer: "".join(self.written(key, write, answer) for key, write in writes), "FLUSHDB")

    def read(self, key: str) -> None:
        sent = self.record.tick()
        self._send(lambda answer: self._has_read(key, sent, answer), f"AI.TENSORGET {key} BLOB")

    def _run(self, key: str) -> None:
        """Run a model on the key, and read what it makes of it."""
        sent = self.record.tick()
        made = f"made:{self._number}"
        ran: list[bytes] = []
        self._opened.send(f"AI.MODELEXECUTE same INPUTS 1 {key} OUTPUTS 1 {made}", f"AI.TENSORGET {made} BLOB")
        self.due.append(lambda answer: ran.append(answer) or "")  # type: ignore[func-returns-value]
        self.due.append(lambda answer: self._has_run(key, sent, ran[0], answer))

    def _has_run(self, key: str, sent: int, ran: bytes, made: bytes) -> str:
        if ran == OK:
            return self._has_read(key, sent, made) if made != MISSING else ""  # flushed in between
        return "" if b"model key is empty" in ran else self._has_read(key, sent, ran)

    def look(self, key: str) -> None:
        """Read with a plain command."""
        sent = self.record.tick()
        self._send(
            lambda answer: self._has_read(key, sent, MISSING if answer == bulk("") else answer), f"GETRANGE {key} 48 -1"
        )

    def _has_read(self, key: str, sent: int, answer: bytes) -> str:
        if answer.startswith(b"$"):
            number = int.from_bytes(answer.partition(b"\r\n")[2][:8], "little")
        else:
            number = NOTHING if answer == MISSING else NO_TENSOR
        wrong = self.record.has_read(key, number, self._number, sent)
        return wrong and f"{answer!r}: {wrong}"


class Watcher(Client):
    """A client that only reads, over a connection of its own. So it may know of a change before others do."""

    def reading_deeds(self) -> list[Deed]:
        key = self.choose.choice(KEYS)
        return [(1, lambda: self.read(key)), (1, lambda: self.look(key))]

    def ai_deeds(self, number: int) -> list[Deed]:
        return []

    plain_deeds = ai_deeds


class Stranger(Client):
    """A client of Redis. When it is answered, the engine may not have heard of what it did."""

    def reading_deeds(self) -> list[Deed]:
        return []

    def ai_deeds(self, number: int) -> list[Deed]:
        key, held = self.choose.choice(KEYS), value(number)
        return [
            (4, lambda: self.write(key, number, ("SET", key, held))),
            (1, lambda: self.write(key, NOTHING, f"DEL {key}")),
            (1, lambda: self.write(key, NOTHING, f"EXPIRE {key} -1")),
            (1, lambda: self.write(key, number, ("EVAL", SET, 1, key, held))),
            (1, lambda: self.write(key, number, "MULTI", ("SET", key, held), "EXEC")),
            (1, lambda: self.write(key, NO_TENSOR, "MULTI", f"DEL {key}", f"HSET {key} f v", "EXEC")),
        ]

    def plain_deeds(self, number: int) -> list[Deed]:
        return []

    def written(self, key: str, write: Write, answer: bytes) -> str:
        return repr(answer) if answer.startswith(b"-") else ""


def restore_model(client: Connection) -> None:
    if client.ask("AI._MODELID same").startswith(b"-"):
        store_identity(client, "same")


def play(engine: Pair, connect: Connect, habits: Habits, seed: int, steps: int = STEPS) -> str:
    """Have clients act at random, and return the first thing that is wrong."""
    choose, record = random.Random(seed), Record()
    keeper = connect(engine.engine)
    keeper.ask("FLUSHALL")
    clients: list[Client] = []
    for number, place in enumerate(PLACES):
        opened = connect_to(engine.engine, connect, place)
        assert number >= habits.logged_in or opened.ask("AUTH default any") == OK
        clients.append(Client(len(clients), opened, record, choose))
    watching = connect_to(engine.engine, connect, WATCHING_AT)
    watching.ask(APART)
    clients.append(Watcher(len(clients), watching, record, choose))
    for _ in range(habits.past):
        clients.append(Stranger(len(clients), connect(engine.redis), record, choose))
    for number in range(1, steps):
        if number % 100 == 1:
            restore_model(keeper)
        client = choose.choice(clients)
        if len(client.due) < choose.randint(1, habits.outstanding):
            client.act(number, habits)
        elif wrong := client.settle():
            return wrong
    for client in clients:
        while client.due:
            if wrong := client.settle():
                return wrong
    return ""


ENGINES = [
    *(pytest.param((path, "1"), id=path.rpartition("/")[2] + str(SERVERS.index(path))) for path in SERVERS),
    pytest.param((SERVERS[0], "2"), id="2 workers"),
    pytest.param((SERVERS[-1], "3"), id="3 workers", marks=pytest.mark.slow),
]


@pytest.fixture(params=ENGINES)
def dawdling_engine(
    new_redis: Callable[..., Server], new_engine: Callable[..., Server], request: pytest.FixtureRequest
) -> Iterator[Pair]:
    binary, workers = request.param
    redis = new_redis(binary=binary)
    with dawdling(redis, seed=1) as url:
        yield Pair(new_engine("--redis", url, "--workers", workers), redis)


@pytest.mark.parametrize("logged_in", [0, 2])
@pytest.mark.parametrize(
    "habits",
    [Habits(plain=0.3, outstanding=3), Habits(plain=0.03, outstanding=1), Habits(plain=0, outstanding=1, past=1)],
)
@pytest.mark.parametrize("reading", [1, 10])
def test_no_client_reads_what_is_no_longer_there(
    dawdling_engine: Pair, connect: Connect, habits: Habits, reading: float, logged_in: int
) -> None:
    for seed in range(2):
        played = replace(habits, reading=reading, logged_in=logged_in)
        assert play(dawdling_engine, connect, played, seed) == ""
