"""
Clients that have logged in share a connection with those of the same login, which has their rights and no others.

On each kind of server: what a client's own connection would be told, it is told through the shared one.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from redisai_engine.service.shared import Logins, SharedConnection
from support.connection import Connect, Connection
from support.gateway import Pair, store_model
from support.replies import OK, bulk, bulks
from support.servers import Server, bundled_redis_server, bundled_valkey_server, of_the_machine
from support.shared_connections import APART, HOLD, NAME, Watching, named_line
from support.waiting import wait_until

RUN = "AI.MODELEXECUTE sum INPUTS 2 a b OUTPUTS 1 y"
READ = "AI.TENSORGET y VALUES"
INPUTS = ("AI.TENSORSET a FLOAT 1 VALUES 1", "AI.TENSORSET b FLOAT 1 VALUES 2")
ALL = ("~*", "&*", "+@all")

BINARIES = {
    "redis 6.2": bundled_redis_server,
    "the machine's": lambda: of_the_machine("redis-server"),
    "valkey": bundled_valkey_server,
}


class LoggedIn:
    """An engine and a Redis with the users alice and bob, and clients that log in as one of them."""

    def __init__(self, pair: Pair, connect: Connect) -> None:
        self.pair = pair
        self._connect = connect
        self.watching = Watching(pair.redis, connect)
        self.direct = self.watching.direct
        first = connect(pair.engine)
        store_model(first, "sum")
        assert [first.ask(command) for command in INPUTS] == [OK] * 2
        first.close()
        self.rule("alice", "on", ">a-secret", *ALL)
        self.rule("bob", "on", ">b-secret", *ALL)

    def rule(self, user: str, *rules: str) -> None:
        assert self.direct.ask("ACL", "SETUSER", user, *rules) == OK

    def open(self, login: str = "AUTH alice a-secret") -> Connection:
        opened = self._connect(self.pair.engine)
        answer = opened.ask(login)
        assert answer == OK or answer.startswith((b"*", b"%")), answer
        return opened

    def share(self, login: str = "AUTH alice a-secret") -> tuple[Connection, Connection]:
        """Open two clients of a login whose runs go over its shared connection."""
        opened = self.open(login), self.open(login)
        for each in opened:
            self.watching.until_shared(each, RUN, "y")
        return opened

    def shared_users(self) -> list[bytes]:
        """Return the users of the shared connections, but nobody's, which the first client had opened."""
        return sorted(client[b"user"] for client in self._shared() if client[b"user"] != b"default")

    def user_of_writer(self, opened: Connection) -> set[bytes]:
        """Run the model, and return as whom the output was written over a shared connection."""
        self.watching.since()
        assert opened.ask(RUN) == OK
        writers = {who for who, words in self.watching.since() if words.startswith(b'"SET" "y"')}
        return {client[b"user"] for client in self._shared() if client[b"addr"] in writers}

    def _shared(self) -> list[dict[bytes, bytes]]:
        return [client for client in self.watching.clients() if client[b"name"] == NAME]

    def kill_shared(self, user: bytes) -> None:
        for client in self._shared():
            if client[b"user"] == user:
                assert self.direct.ask("CLIENT", "KILL", "ID", client[b"id"]) == b":1\r\n"


@pytest.fixture(params=BINARIES)
def logged_in(
    request: pytest.FixtureRequest,
    new_redis: Callable[..., Server],
    new_engine: Callable[..., Server],
    connect: Connect,
) -> LoggedIn:
    binary = BINARIES[request.param]()
    if binary is None:
        pytest.skip(f"{request.param} is not installed")
    redis = new_redis(binary=binary)
    return LoggedIn(Pair(new_engine("--redis", redis.url), redis), connect)


@pytest.mark.parametrize(
    "login",
    [
        "AUTH alice a-secret",
        "HELLO 2 AUTH alice a-secret",
        "hello 3 setname auth auth alice a-secret",
    ],
)
def test_clients_of_one_login_share_a_connection_of_that_user(logged_in: LoggedIn, login: str) -> None:
    opened = [*logged_in.share(login), logged_in.open()]
    logged_in.watching.until_shared(opened[-1], RUN, "y")

    assert [logged_in.user_of_writer(each) for each in opened] == [{b"alice"}] * 3
    assert logged_in.shared_users() == [b"alice"]
    assert opened[-1].ask(READ) == bulks("3")


def test_the_only_client_of_a_login_has_its_own_connection(logged_in: LoggedIn) -> None:
    opened, other = logged_in.open(), logged_in.open("AUTH bob b-secret")

    assert not any(logged_in.watching.went_over_shared(each, RUN, "y") for each in (opened, other) * 3)
    assert logged_in.shared_users() == []


def test_users_and_passwords_share_nothing_with_others(logged_in: LoggedIn) -> None:
    logged_in.rule("alice", ">another")
    alices, others = logged_in.share(), logged_in.share("AUTH alice another")
    bobs = logged_in.share("AUTH bob b-secret")

    assert [logged_in.user_of_writer(each) for each in (*alices, *others)] == [{b"alice"}] * 4
    assert [logged_in.user_of_writer(each) for each in bobs] == [{b"bob"}] * 2
    assert logged_in.shared_users() == [b"alice", b"alice", b"bob"]


def test_the_password_of_the_default_user(logged_in: LoggedIn) -> None:
    assert logged_in.direct.ask("CONFIG SET requirepass d-secret") == OK

    opened = logged_in.share("AUTH d-secret")

    assert [logged_in.user_of_writer(each) for each in opened] == [{b"default"}] * 2


@pytest.mark.parametrize("rule", ["-set", "-get", "resetkeys"])
def test_a_right_that_is_taken_away_and_given_back(logged_in: LoggedIn, rule: str) -> None:
    opened = logged_in.share()
    bobs = logged_in.share("AUTH bob b-secret")
    logged_in.rule("alice", rule)

    assert [each.ask(RUN)[:8] for each in opened] == [b"-NOPERM "] * 2
    assert [each.ask(RUN) for each in bobs] == [OK] * 2
    logged_in.rule("alice", *ALL)
    assert [each.ask(RUN) for each in opened] == [OK] * 2


def test_rights_do_not_widen_by_sharing(logged_in: LoggedIn) -> None:
    logged_in.rule("bob", "-set")
    alices = logged_in.share()
    bobs = [logged_in.open("AUTH bob b-secret") for _ in range(3)]

    for _ in range(3):
        assert [each.ask(RUN)[:8] for each in bobs] == [b"-NOPERM "] * 3
        assert [each.ask(RUN) for each in alices] == [OK] * 2


def test_a_user_that_is_deleted_takes_clients_and_connection_with_it(logged_in: LoggedIn, connect: Connect) -> None:
    """Who has the name later has the later rights."""
    opened = logged_in.share()
    assert logged_in.direct.ask("ACL DELUSER alice") == b":1\r\n"

    assert all(each.ends() for each in opened)
    wait_until(lambda: logged_in.shared_users() == [])
    logged_in.rule("alice", "on", ">a-secret", *ALL, "-set")
    again = [logged_in.open() for _ in range(3)]
    assert [each.ask(RUN)[:8] for each in again * 3] == [b"-NOPERM "] * 9


def test_a_changed_password_leaves_in_who_is_in(logged_in: LoggedIn, connect: Connect) -> None:
    """As on connections of their own. The old one lets nobody in any more."""
    logged_in.rule("default", "off")
    opened = logged_in.share()
    logged_in.rule("alice", "resetpass", ">changed")

    assert [each.ask(RUN) for each in opened] == [OK] * 2
    late = connect(logged_in.pair.engine)
    assert late.ask("AUTH alice a-secret").startswith(b"-WRONGPASS ")
    assert [late.ask(RUN)[:8] for _ in range(3)] == [b"-NOAUTH "] * 3
    assert logged_in.open("AUTH alice changed").ask(RUN) == OK


def test_a_user_that_is_switched_off_leaves_in_who_is_in(logged_in: LoggedIn, connect: Connect) -> None:
    """A shared connection that ends then isn't opened again, whoever tries to log in."""
    opened = logged_in.share()
    logged_in.rule("alice", "off")
    assert [each.ask(RUN) for each in opened] == [OK] * 2
    logged_in.kill_shared(b"alice")

    for _ in range(3):
        assert connect(logged_in.pair.engine).ask("AUTH alice a-secret").startswith(b"-WRONGPASS ")
    assert [each.ask(RUN) for each in opened * 3] == [OK] * 6
    assert logged_in.shared_users() == []


def test_killing_all_of_a_user_ends_clients_and_connection(logged_in: LoggedIn) -> None:
    alices, bobs = logged_in.share(), logged_in.share("AUTH bob b-secret")
    assert logged_in.direct.ask("CLIENT KILL USER alice") == b":3\r\n"

    assert all(each.ends() for each in alices)
    wait_until(lambda: logged_in.shared_users() == [b"bob"])
    assert [logged_in.user_of_writer(each) for each in bobs] == [{b"bob"}] * 2


def test_in_another_database_a_client_has_its_own_connection(logged_in: LoggedIn) -> None:
    moved, other = logged_in.share()
    tensorset = "AI.TENSORSET a FLOAT 1 BLOB abcd"
    assert moved.ask("SELECT 1") == OK

    assert not any(logged_in.watching.is_shared(moved, tensorset, '"EVALSHA"') for _ in range(3))
    assert moved.ask("AI.TENSORGET a BLOB") == bulk("abcd")
    assert moved.ask("SELECT 0") == OK
    logged_in.watching.until_shared(moved, RUN, "y")
    assert [each.ask(READ) for each in (moved, other)] == [bulks("3")] * 2


@pytest.mark.parametrize(
    "commands",
    [
        ["CLIENT TRACKING ON"],
        ["CLIENT NO-EVICT ON"],
        ["SUBSCRIBE news", "UNSUBSCRIBE news"],
        ["READONLY"],
        ["MULTI", "CLIENT TRACKING OFF", "EXEC"],
    ],
)
def test_what_gives_a_connection_a_state_ends_sharing(logged_in: LoggedIn, commands: list[str]) -> None:
    changed, other = logged_in.share()
    for command in commands:
        changed.ask(command)

    assert not any(logged_in.watching.went_over_shared(changed, RUN, "y") for _ in range(3))
    assert logged_in.watching.went_over_shared(other, RUN, "y")


def test_what_is_written_over_the_shared_connection_touches_watched_keys(logged_in: LoggedIn) -> None:
    watching, writing = logged_in.share()
    assert watching.ask("WATCH y") == OK
    assert logged_in.user_of_writer(writing) == {b"alice"}

    watching.send("MULTI", "GET y", "EXEC")
    assert watching.replies(3)[-1] == b"*-1\r\n"


def test_clients_of_both_protocols_share_and_are_answered_in_their_own(logged_in: LoggedIn) -> None:
    reads = ["AI.TENSORGET y VALUES", "AI.TENSORGET y META BLOB", "AI.TENSORGET none BLOB"]
    found = []
    for version in "23":
        login = f"HELLO {version} AUTH alice a-secret"
        apart = logged_in.open(login)
        apart.ask(APART)
        found.append((apart, logged_in.open(login)))
    for apart, sharing in found:
        logged_in.watching.until_shared(sharing, RUN, "y")
        sharing.ask("AI.TENSORGET y BLOB")

        assert [sharing.ask(read) for read in reads * 2] == [apart.ask(read) for read in reads * 2]
    assert logged_in.shared_users() == [b"alice"]


@pytest.mark.parametrize("login", ["AUTH bob b-secret", "AUTH bob wrong", "RESET", "HELLO 2 AUTH bob b-secret"])
def test_after_a_second_login_a_client_has_its_own_connection(logged_in: LoggedIn, login: str) -> None:
    changed, other = logged_in.share()
    changed.ask(login)

    assert not any(logged_in.watching.went_over_shared(changed, RUN, "y") for _ in range(3))
    assert logged_in.watching.went_over_shared(other, RUN, "y")


def test_a_shared_connection_that_redis_ends_is_opened_by_the_next_login(logged_in: LoggedIn) -> None:
    """No password is kept with which it could be opened before."""
    opened = logged_in.share()
    logged_in.kill_shared(b"alice")

    assert [each.ask(RUN) for each in opened * 5] == [OK] * 10
    assert logged_in.shared_users() == []
    further = [logged_in.open()]
    wait_until(lambda: further.append(logged_in.open()) or logged_in.shared_users(), what="a connection of alice")
    logged_in.watching.until_shared(opened[0], RUN, "y")


def test_a_client_that_redis_ends_takes_no_other_with_it(logged_in: LoggedIn) -> None:
    ended, staying = logged_in.share()
    number = ended.ask("CLIENT ID")[1:-2].decode()
    assert logged_in.direct.ask(f"CLIENT KILL ID {number}") == b":1\r\n"

    assert ended.ends()
    assert logged_in.watching.went_over_shared(staying, RUN, "y")


def test_the_connection_ends_with_the_last_client_of_its_login(logged_in: LoggedIn) -> None:
    for opened in logged_in.share():
        opened.close()

    wait_until(lambda: logged_in.shared_users() == [])


def test_who_may_not_ask_redis_who_it_is_shares_nothing(logged_in: LoggedIn) -> None:
    """Redis notes one refusal, whatever the number of clients."""
    logged_in.rule("alice", "-info")
    opened = [logged_in.open() for _ in range(4)]

    assert [each.ask(RUN) for each in opened * 3] == [OK] * 12
    assert logged_in.shared_users() == []
    noted = logged_in.direct.ask("ACL LOG").lower()
    assert noted.count(b"\r\ninfo\r\n") == 1
    assert noted.count(b"$5\r\ncount\r\n:1\r\n") == noted.count(b"$5\r\ncount\r\n")


def test_a_login_that_is_refused_meanwhile_lends_nobodys_rights(
    new_redis: Callable[..., Server], new_engine: Callable[..., Server], connect: Connect
) -> None:
    """Where nobody needs a password, a connection whose login is refused could do what nobody may."""
    redis = new_redis()
    with named_line(redis, HOLD) as line:
        logged_in = LoggedIn(Pair(new_engine("--redis", line.url), redis), connect)
        logged_in.rule("alice", "-set")
        line.arm(b"HELLO", b"2", b"AUTH", b"alice")
        opened = [logged_in.open() for _ in range(2)]
        logged_in.rule("alice", "resetpass")
        line.release()

        wait_until(lambda: line.is_done)
        assert [each.ask(RUN)[:8] for each in opened * 5] == [b"-NOPERM "] * 10
        assert logged_in.shared_users() == []


def test_the_number_of_logins_is_bounded() -> None:
    def never(login: bytes) -> SharedConnection:
        raise AssertionError(login)

    logins = Logins(never)
    entered = [logins.enter(b"user", b"%d" % number) for number in range(65)]

    assert [login is None for login in entered] == [False] * 64 + [True]
    assert entered[0] is not None
    logins.leave(entered[0])
    assert logins.enter(b"other", b"") is not None


def test_names_and_passwords_are_not_run_together() -> None:
    logins = Logins(lambda login: pytest.fail("two logins were taken for one"))

    assert logins.enter(b"ab", b"c") is not logins.enter(b"a", b"bc")
