"""
Whose runs go over the shared connection, and that nobody is answered otherwise for it.

Hypothesis makes up what several clients send, and when. Each sequence is carried out twice: by clients that share, and
by clients with a state that keeps them apart. Replies and keys must be the same.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.connection import Connect, Connection
from support.gateway import Pair, store_model
from support.replies import OK
from support.shared_connections import APART, Watching

CLIENTS, KEYS = 3, ("ways:a", "ways:b", "ways:y")
RUN = "AI.MODELEXECUTE ways:sum INPUTS 2 ways:a ways:b OUTPUTS 1 ways:y"
FLOATS = "AI.TENSORSET ways:%s FLOAT 1 VALUES %d"


@pytest.fixture
def watching(pair: Pair, connect: Connect) -> Watching:
    return Watching(pair.redis, connect)


@pytest.fixture
def sharing(pair: Pair, connect: Connect, watching: Watching) -> Callable[..., Connection]:
    """Return a function that opens a connection whose runs go over the shared one, that of a login if it gives one."""
    store_model(connect(pair.engine), "ways:sum")

    def open_one(login: str = "") -> Connection:
        opened = connect(pair.engine)
        if login:
            assert opened.ask(login) == OK
        watching.direct.ask("DEL", *KEYS)
        for command in (FLOATS % ("a", 1), FLOATS % ("b", 2)):
            assert opened.ask(command) == OK
        watching.until_shared(opened, RUN, "ways:y")
        return opened

    return open_one


@pytest.mark.parametrize(
    "commands",
    [
        "GET k, get k, SET k v, DEL k, INCR k",
        "CLIENT SETNAME somebody, CLIENT ID, client getname",
        "CLIENT SETINFO LIB-NAME lib",
        "HELLO 3",
        "HELLO 3 SETNAME somebody",
        "SELECT 1, SELECT 0",
        "MULTI, GET k, EXEC",
        "MULTI, SET ways:y v, DISCARD",
        "WATCH ways:y, UNWATCH",
        "RESET",
        "EVAL return 0, SCRIPT LOAD return, OBJECT HELP, TYPE k",
        "WAIT 0 1",
        "CLIENT REPLY ON",
    ],
)
def test_commands_after_which_clients_share(
    sharing: Callable[..., Connection], watching: Watching, commands: str
) -> None:
    opened = sharing()
    for command in commands.split(", "):
        opened.ask(command)

    watching.until_shared(opened, RUN, "ways:y")


@pytest.mark.parametrize(
    "commands",
    [
        APART,
        "CLIENT",
        "AUTH any",
        "AUTH default any, AUTH default any",
        "HELLO 2 AUTH default any, AUTH any",
        "hello 3 auth default any, reset",
        "AUTH default any, MULTI, AUTH default any, EXEC",
        "MULTI, AUTH default any, EXEC",
        "MULTI, HELLO 2 AUTH default any, CLIENT TRACKING OFF, EXEC",
        "CLIENT TRACKING OFF, AUTH default any",
        "READONLY",
        "SUBSCRIBE news, UNSUBSCRIBE news",
        "SCRIPT DEBUG NO",
        "NO.SUCHCOMMAND",
        f"MULTI, {APART}, EXEC",
        "MULTI, AUTH any, EXEC",
        "REPLCONF listening-port 1",
    ],
)
def test_commands_after_which_clients_have_their_own(
    sharing: Callable[..., Connection], watching: Watching, commands: str
) -> None:
    """Once a name is known, further requests with it aren't looked at one by one."""
    for _ in range(3):
        opened = sharing()
        for command in commands.split(", "):
            opened.ask(command)
        watching.since()

        assert [watching.went_over_shared(opened, RUN, "ways:y") for _ in range(5)] == [False] * 5


def test_in_another_database_it_is_another_model(sharing: Callable[..., Connection], watching: Watching) -> None:
    opened = sharing()
    assert opened.ask("SELECT 1") == OK
    store_model(opened, "ways:sum", "Mul")
    for command in (FLOATS % ("a", 5), FLOATS % ("b", 7)):
        assert opened.ask(command) == OK

    assert not any(watching.went_over_shared(opened, RUN, "ways:y") for _ in range(5))
    assert opened.ask("AI.TENSORGET ways:y VALUES") == b"*1\r\n$2\r\n35\r\n"
    opened.ask("FLUSHDB")


def test_names_that_others_have_sent_are_looked_at_for_each_client(
    sharing: Callable[..., Connection], watching: Watching
) -> None:
    """In the middle of a pipeline of known names, too."""
    first, second = sharing(), sharing()
    for opened in (first, second):
        opened.send("GET k", "GET k", "READWRITE", "GET k", "GET k", RUN)
        assert opened.replies(6)[-1] == OK

        assert not any(watching.went_over_shared(opened, RUN, "ways:y") for _ in range(3))


# What clients send

numbers = st.integers(0, 9)
names = st.sampled_from(["a", "b", "y"])
single = st.one_of(
    *[st.just(RUN)] * 12,
    st.builds(lambda one, other, to: RUN.replace(":y", f":{to}").replace(":a ", f":{one} "), names, names, names),
    st.builds(lambda name, number: FLOATS % (name, number), names, numbers),
    *[st.builds(lambda name, number: f"AI.TENSORSET ways:{name} FLOAT 1 BLOB {number}ab@", names, numbers)] * 5,
    *[st.builds(lambda name: f"AI.TENSORGET ways:{name} BLOB", names)] * 5,
    st.builds(lambda name, number: f"AI.TENSORSET ways:{name} DOUBLE 1 VALUES {number}", names, numbers),
    st.builds(lambda name: f"AI.TENSORSET ways:{name} FLOAT 6000", names),
    st.builds(lambda name: f"AI.TENSORGET ways:{name} META VALUES", names),
    st.builds(lambda word, name: f"{word} ways:{name}", st.sampled_from(["GET", "DEL", "STRLEN", "TYPE"]), names),
    st.builds(lambda name, number: f"SET ways:{name} {number}", names, numbers),
    st.builds(lambda name: f"RPUSH ways:{name} x", names),
    st.builds(lambda one, other: f"RENAME ways:{one} ways:{other}", names, names),
    st.just(RUN + " TIMEOUT 5000"),
    st.just(RUN.replace("ways:sum", "ways:none")),
    st.just("AI.DAGEXECUTE LOAD 2 ways:a ways:b PERSIST 1 ways:y |> " + RUN),
    st.just("PING"),
    st.just("HELLO 3"),
    st.just("SELECT 0"),
    st.just("WAIT 0 1"),
)
transaction = st.lists(single, max_size=3).map(
    lambda inside: ["MULTI", *(command for command in inside if not command.startswith(("HELLO", "SELECT"))), "EXEC"]
)
watched = st.tuples(names, single).map(lambda drawn: [f"WATCH ways:{drawn[0]}", drawn[1], "MULTI", "PING", "EXEC"])
pipelines = st.one_of(st.lists(single, min_size=1, max_size=5), transaction, watched)
programs = st.lists(st.tuples(st.integers(0, CLIENTS - 1), pipelines), min_size=1, max_size=12)


def carried_out(clients: list[Connection], direct: Connection, program: list[tuple[int, list[str]]]) -> list[object]:
    """Carry out a program step by step, and return all replies and what is in the keys then."""
    direct.ask("DEL", *KEYS)
    for client in clients:
        client.send("HELLO 2", "UNWATCH", FLOATS % ("a", 1), FLOATS % ("b", 2), RUN, RUN)
        client.replies(6)
    got: list[object] = []
    for number, pipeline in program:
        clients[number].send(*pipeline)
        got += _told(pipeline, clients[number].replies(len(pipeline)))
    return [*got, *(direct.ask(f"DUMP {key}") for key in KEYS)]


@settings(max_examples=150)
@given(program=programs)
def test_shared_or_not_clients_are_answered_alike(
    ways: tuple[list[Connection], list[Connection]], direct: Connection, program: list[tuple[int, list[str]]]
) -> None:
    shared, apart = ways

    assert carried_out(shared, direct, program) == carried_out(apart, direct, program)


@settings(max_examples=50)
@given(
    parts=st.lists(st.lists(single, min_size=1, max_size=12), min_size=CLIENTS, max_size=CLIENTS), in_one=st.booleans()
)
def test_clients_at_the_same_time_are_answered_alike(
    ways: tuple[list[Connection], list[Connection]], direct: Connection, parts: list[list[str]], *, in_one: bool
) -> None:
    """Each has keys of its own, so its replies don't depend on the others'."""
    got = []
    own = [[_of_client(command, number) for command in part] for number, part in enumerate(parts)]
    for clients in ways:
        direct.ask("DEL", *(_of_client(key, number) for key in KEYS for number in range(CLIENTS)))
        for number, client in enumerate(clients):
            client.ask("HELLO 2")
            for command in (FLOATS % ("a", 1), FLOATS % ("b", 2), RUN, RUN):
                client.ask(_of_client(command, number))
        for client, part in zip(clients, own, strict=True):
            for requests in [part] if in_one else [[command] for command in part]:
                client.send(*requests)
        got.append([_told(part, client.replies(len(part))) for client, part in zip(clients, own, strict=True)])

    assert got[0] == got[1]


def _told(commands: list[str], replies: list[bytes]) -> list[bytes]:
    """Leave out what HELLO answers, which has the connection's number."""
    return [reply for command, reply in zip(commands, replies, strict=True) if not command.startswith("HELLO")]


def _of_client(command: str, number: int) -> str:
    for key in "aby":
        command = command.replace(f"ways:{key}", f"ways:{number}{key}")
    return command


@pytest.fixture(params=["", "AUTH default any"], ids=["nobody", "of one login"])
def ways(
    request: pytest.FixtureRequest, sharing: Callable[..., Connection], pair: Pair, connect: Connect
) -> tuple[list[Connection], list[Connection]]:
    """Clients that share, and clients that don't."""
    apart = [connect(pair.engine) for _ in range(CLIENTS)]
    for each in apart:
        each.ask(APART)
    if request.param:  # the first of a login shares with nobody yet
        assert connect(pair.engine).ask(request.param) == OK
    return [sharing(request.param) for _ in range(CLIENTS)], apart
