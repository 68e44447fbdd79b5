"""The connection to Redis that clients share: how it begins and ends, and that nobody is answered otherwise for it."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from redisai_engine.service.memory.tensors import SECONDS
from support.connection import Connect, Connection
from support.gateway import Pair, run_count, store_model
from support.replies import OK, bulk, bulks
from support.servers import Server
from support.shared_connections import NAME, Watching, forget_tensors, named_line
from support.waiting import wait_until

RUN = "AI.MODELEXECUTE sum INPUTS 2 a b OUTPUTS 1 y"
SET = "AI.TENSORSET y FLOAT 1 BLOB abcd"
READ = "AI.TENSORGET y VALUES"
INPUTS = ("AI.TENSORSET a FLOAT 1 VALUES 1", "AI.TENSORSET b FLOAT 1 VALUES 2")


def prepared(opened: Connection) -> Connection:
    store_model(opened, "sum")
    for command in INPUTS:
        assert opened.ask(command) == OK
    return opened


class Sharing:
    """An engine, a watch on its Redis, and clients of it that share."""

    def __init__(self, pair: Pair, connect: Connect) -> None:
        self.pair = pair
        self._connect = connect
        self.watching = Watching(pair.redis, connect)
        self.direct = self.watching.direct
        prepared(connect(pair.engine))

    def client(self) -> Connection:
        """Open a connection whose next runs go over the shared one, for almost a second."""
        opened = self._connect(self.pair.engine)
        self.watching.until_shared(opened, RUN, "y")
        # A right that was confirmed long ago expires at any moment; a new connection's is new.
        opened.close()
        opened = self._connect(self.pair.engine)
        self.watching.until_shared(opened, RUN, "y")
        return opened


@pytest.fixture
def sharing(new_pair: Callable[..., Pair], connect: Connect) -> Sharing:
    return Sharing(new_pair(), connect)


def number_of_shared(watching: Watching) -> bytes:
    return next((client[b"id"] for client in watching.clients() if client[b"name"] == NAME), b"")


def test_all_clients_share_one(sharing: Sharing) -> None:
    opened = [sharing.client() for _ in range(3)]

    assert len(sharing.watching.shared_addresses()) == 1
    assert [each.ask(READ) for each in opened] == [bulks("3")] * 3


def test_it_is_opened_anew_after_redis_has_ended_it(sharing: Sharing) -> None:
    opened = sharing.client()
    first = number_of_shared(sharing.watching)

    assert sharing.direct.ask("CLIENT", "KILL", "ID", first) == b":1\r\n"

    assert [opened.ask(RUN) for _ in range(20)] == [OK] * 20
    sharing.watching.until_shared(opened, RUN, "y")
    assert number_of_shared(sharing.watching) not in (b"", first)


@pytest.mark.parametrize("deed", ["before", "within", "after", "in the reply"])
@pytest.mark.parametrize("words", [(b"GET", b"a"), (b"EVALSHA",)], ids=["reading", "writing"])
def test_a_run_whose_connection_is_cut(
    new_redis: Callable[..., Server],
    new_engine: Callable[..., Server],
    connect: Connect,
    deed: str,
    words: tuple[bytes, ...],
) -> None:
    """Inputs are read again on the client's own. An output is never sent twice: the client's connection ends."""
    redis = new_redis()
    with named_line(redis, deed) as line:
        sharing = Sharing(Pair(new_engine("--redis", line.url), redis), connect)
        watching = sharing.watching
        opened = sharing.client()
        other = sharing.client()
        runs = run_count(other, "sum")
        assert opened.ask("DEL y") == b":1\r\n"
        forget_tensors(opened)
        watching.since()

        line.arm(*words)
        opened.send(RUN)

        written = [what for _, what in watching.since() if what.startswith(b'"SET" "y"')]
        if words[0] == b"GET":
            assert opened.reply() == OK
            assert opened.ask(READ) == bulks("3")
        else:
            assert opened.ends()
            written += [what for _, what in watching.since() if what.startswith(b'"SET" "y"')]
            assert len(written) == (deed in ("after", "in the reply"))
        assert line.is_done
        assert run_count(other, "sum") == runs + 1
        assert other.ask(RUN) == OK
        watching.until_shared(other, RUN, "y")


def test_a_restart_of_redis(
    new_redis: Callable[..., Server], new_engine: Callable[..., Server], connect: Connect
) -> None:
    redis = new_redis()
    sharing = Sharing(Pair(new_engine("--redis", redis.url), redis), connect)
    opened = sharing.client()
    redis.stop()
    assert opened.ends()
    again = new_redis(port=redis.port)

    later = Sharing(Pair(sharing.pair.engine, again), connect)

    assert later.client().ask(READ) == bulks("3")


def test_a_password_keeps_new_clients_out(sharing: Sharing, connect: Connect) -> None:
    """The shared connection was let in before there was one, as the client that opened it was."""
    old = sharing.client()
    assert sharing.direct.ask("CONFIG SET requirepass secret") == OK
    new = connect(sharing.pair.engine)

    assert [new.ask(RUN)[:8] for _ in range(5)] == [b"-NOAUTH "] * 5
    assert [old.ask(RUN) for _ in range(5)] == [OK] * 5
    assert new.ask("AUTH secret") == OK
    assert [new.ask(RUN) for _ in range(5)] == [OK] * 5


def test_the_shared_connection_waits_for_nobody_who_has_a_password(
    new_pair: Callable[..., Pair], connect: Connect
) -> None:
    """It can't be opened, and whoever was let in before goes on alone."""
    pair = new_pair()
    opened = prepared(connect(pair.engine))
    assert connect(pair.redis).ask("CONFIG SET requirepass secret") == OK

    assert {opened.ask(RUN) for _ in range(20)} == {OK}


@pytest.mark.parametrize("rule", ["-set", "-get", "resetkeys"])
@pytest.mark.parametrize("where", ["past the engine", "through the engine"])
def test_a_right_that_is_taken_away(sharing: Sharing, rule: str, where: str) -> None:
    """The right to read an input that was read just now counts for at most a second, or until the engine has heard."""
    opened = sharing.client()
    other = sharing.client()
    by = sharing.direct if where == "past the engine" else other
    assert by.ask("ACL", "SETUSER", "default", rule) == OK

    if where == "past the engine" and rule == "-get":
        wait_until(lambda: opened.ask(RUN) != OK, timeout_s=2 * SECONDS, what="the end of that second")
    assert opened.ask(RUN).startswith(b"-NOPERM ")
    assert sharing.direct.ask("ACL SETUSER default +@all ~*") == OK
    assert [each.ask(RUN) for each in (opened, other)] == [OK, OK]


@pytest.mark.parametrize(("command", "made_of"), [(RUN, '"SET" "y"'), (SET, '"EVALSHA"')], ids=["run", "set"])
@pytest.mark.parametrize("form", ["WAIT 1 200", "MULTI, WAIT 1 200, EXEC"])
def test_wait_counts_what_was_written_over_the_shared_connection(
    sharing: Sharing, new_redis: Callable[..., Server], form: str, command: str, made_of: str
) -> None:
    """A replica that is stopped has none of it."""
    replica = new_redis("--replicaof", "127.0.0.1", str(sharing.pair.redis.port))
    opened = sharing.client()
    wait_until(lambda: opened.ask("SET k v") == OK and opened.ask("WAIT 1 1000") == b":1\r\n", what="the replica")
    wait_until(lambda: sharing.watching.is_shared(opened, command, made_of), what="the shared connection")
    assert opened.ask("SET k w") == OK
    assert opened.ask("WAIT 1 5000") == b":1\r\n"

    replica.process.send_signal(signal.SIGSTOP)
    try:
        assert sharing.watching.is_shared(opened, command, made_of)
        answers = [opened.ask(each) for each in form.split(", ")]
        assert answers[-1].endswith(b":0\r\n")
    finally:
        replica.process.send_signal(signal.SIGCONT)
    assert opened.ask("WAIT 1 5000") == b":1\r\n"


def test_who_may_not_mark_a_write_gets_no_count(sharing: Sharing) -> None:
    opened = sharing.client()
    assert sharing.direct.ask("ACL SETUSER default -publish") == OK

    assert opened.ask("WAIT 0 1").startswith(b"-NOPERM ")
    assert opened.ask("WAIT 0 1") == b":0\r\n"


def test_a_redis_that_pauses_holds_runs_up(sharing: Sharing) -> None:
    opened = [sharing.client() for _ in range(3)]
    assert sharing.direct.ask("CLIENT PAUSE 300 WRITE") == OK
    for each in opened:
        each.send(RUN, READ)

    assert [each.replies(2) for each in opened] == [[OK, bulks("3")]] * 3


def test_a_client_that_leaves_takes_nobody_with_it(sharing: Sharing) -> None:
    leaving, staying = sharing.client(), sharing.client()
    assert sharing.direct.ask("CLIENT PAUSE 300 WRITE") == OK
    leaving.send(RUN)
    staying.send(RUN, READ)
    leaving.close()

    assert staying.replies(2) == [OK, bulks("3")]
    assert staying.ask(RUN) == OK


def test_a_client_that_redis_ends_meanwhile(sharing: Sharing) -> None:
    ended, staying = sharing.client(), sharing.client()
    number = ended.ask("CLIENT ID")[1:-2].decode()
    assert sharing.direct.ask("CLIENT PAUSE 300 WRITE") == OK
    ended.send(RUN)
    assert sharing.direct.ask(f"CLIENT KILL ID {number}") == b":1\r\n"
    staying.send(RUN)

    assert ended.ends()
    assert staying.reply() == OK


def test_a_client_that_sends_no_more_is_still_answered(sharing: Sharing) -> None:
    opened = sharing.client()
    opened.send(RUN, READ)
    opened.half_close()

    assert opened.rest() == OK + bulks("3")


def test_a_large_tensor_holds_nobody_up(sharing: Sharing) -> None:
    """It takes its client's own connection, and so does the first small one after it."""
    watching, opened = sharing.watching, sharing.client()
    for key in "ab":
        assert opened.ask(f"AI.TENSORSET {key} FLOAT 10000") == OK

    went = [watching.went_over_shared(opened, RUN, "y") for _ in range(3)]
    assert went == [False] * 3
    for command in INPUTS:
        assert opened.ask(command) == OK
    assert not watching.went_over_shared(opened, RUN, "y")
    watching.until_shared(opened, RUN, "y")


def test_strict_engines_share_nothing(new_pair: Callable[..., Pair], connect: Connect) -> None:
    pair = new_pair("--strict")
    watching = Watching(pair.redis, connect)
    opened = prepared(connect(pair.engine))

    assert not any(watching.went_over_shared(opened, RUN, "y") for _ in range(5))


def test_a_redis_that_does_not_say_who_it_is(sharing: Sharing, connect: Connect) -> None:
    assert sharing.direct.ask("ACL SETUSER default -info") == OK
    opened = connect(sharing.pair.engine)

    assert not any(sharing.watching.went_over_shared(opened, RUN, "y") for _ in range(5))
    assert bulk("ok") == opened.ask("ECHO ok")


def test_another_server_behind_the_address(
    new_redis: Callable[..., Server], new_engine: Callable[..., Server], connect: Connect
) -> None:
    """After an address has moved, clients whose own connection leads to the new server share none with the old."""
    old, new = new_redis(), new_redis()
    with named_line(old, "") as line:
        engine = new_engine("--redis", line.url)
        before = Sharing(Pair(engine, old), connect)
        client = before.client()
        line.lead_to(new)
        connect(new).ask("REPLICAOF", "127.0.0.1", old.port)
        direct = connect(new)
        wait_until(lambda: b"master_link_status:up" in direct.ask("INFO replication"), what="the copy")
        assert direct.ask("REPLICAOF NO ONE") == OK

        moved = connect(engine)
        assert moved.ask("DEL y") == b":1\r\n"
        after = Watching(new, connect)
        assert moved.ask(RUN) == OK
        assert [any(words.startswith(b'"SET" "y"') for _, words in after.since())] == [True]
        assert [moved.ask(RUN) for _ in range(5)] == [OK] * 5
        assert len([words for _, words in after.since() if words.startswith(b'"SET" "y"')]) == 5
        after.until_shared(moved, RUN, "y")
        assert client.ask(RUN) == OK
        assert not [words for _, words in after.since() if words.startswith(b'"SET" "y"')][1:]
