"""Plain commands that the engine must see: what they change about a connection, and how that is undone."""

from __future__ import annotations

import re

import pytest

from support.connection import Connect, Connection
from support.gateway import Pair
from support.replies import bulk
from support.waiting import wait_until

OK = b"+OK\r\n"
PONG = b"+PONG\r\n"
TENSOR = "AI.TENSORSET plain:t FLOAT 1 VALUES 1"


def array(*elements: bytes) -> bytes:
    return b"*%d\r\n%b" % (len(elements), b"".join(elements))


def confirmation(kind: str, channel: str, count: int, *, push: bool = False) -> bytes:
    body = bulk(kind.encode()) + bulk(channel.encode()) + b":%d\r\n" % count
    return (b">" if push else b"*") + b"3\r\n" + body


def message(channel: str, text: str, *, push: bool = False) -> bytes:
    return (b">" if push else b"*") + b"3\r\n" + bulk(b"message") + bulk(channel.encode()) + bulk(text.encode())


class TestSubscriptions:
    """In RESP2 messages and replies share a connection; RESP3 sends messages as pushes."""

    @pytest.mark.parametrize("kind", ["subscribe", "psubscribe", "ssubscribe"])
    def test_commands_behind_a_subscription_are_answered_in_order(self, wire: Connection, kind: str):
        wire.send(f"{kind} a b", "PING", "GET x", f"{kind.replace('sub', 'unsub')} a b", "PING", TENSOR)

        assert wire.replies(2) == [confirmation(kind, "a", 1), confirmation(kind, "b", 2)]
        assert wire.reply() == array(bulk(b"pong"), bulk(b""))
        assert wire.reply().startswith(b"-ERR Can't execute 'get': only ")
        end = kind.replace("sub", "unsub")
        assert wire.replies(2) == [confirmation(end, "a", 1), confirmation(end, "b", 0)]
        assert wire.replies(2) == [PONG, OK]

    def test_messages_arrive_between_replies(self, wire: Connection, direct: Connection):
        wire.ask("SUBSCRIBE plain:news")
        for number in range(5):
            direct.ask("PUBLISH", "plain:news", number)
            assert message("plain:news", str(number)) == wire.reply()
            assert array(bulk(b"pong"), bulk(b"%d" % number)) == wire.ask("PING", number)

    def test_ai_commands_in_subscriber_mode_are_refused(self, wire: Connection):
        wire.ask("SUBSCRIBE plain:mode")

        assert wire.ask(TENSOR).startswith(b"-ERR Can't execute ")
        assert wire.ask("UNSUBSCRIBE") == confirmation("unsubscribe", "plain:mode", 0)
        assert wire.ask(TENSOR) == OK

    def test_unsubscribing_from_nothing_has_one_reply(self, wire: Connection):
        wire.send("UNSUBSCRIBE", "PUNSUBSCRIBE", "PING")

        assert wire.reply() == array(bulk(b"unsubscribe"), b"$-1\r\n", b":0\r\n")
        assert wire.reply() == array(bulk(b"punsubscribe"), b"$-1\r\n", b":0\r\n")
        assert wire.reply() == PONG

    def test_in_resp3_any_command_goes_on_beside_a_subscription(self, wire: Connection, direct: Connection):
        wire.ask("HELLO 3")
        wire.send("SUBSCRIBE plain:push", "SET plain:k v", TENSOR)
        assert wire.replies(3) == [confirmation("subscribe", "plain:push", 1, push=True), OK, OK]

        direct.ask("PUBLISH plain:push hi")

        assert wire.reply() == message("plain:push", "hi", push=True)
        assert wire.ask("AI.TENSORGET plain:t VALUES") == array(b",1\r\n")

    def test_a_subscriber_that_goes_back_to_resp2_is_in_subscriber_mode(self, wire: Connection, direct: Connection):
        wire.send("HELLO 3", "SUBSCRIBE plain:back", "HELLO 2")
        wire.replies(3)

        direct.ask("PUBLISH plain:back hi")

        assert wire.reply() == message("plain:back", "hi")
        assert wire.ask("PING") == array(bulk(b"pong"), bulk(b""))
        assert wire.ask("HELLO 2").startswith(b"-ERR Can't execute 'hello'")
        assert wire.ask("UNSUBSCRIBE") == confirmation("unsubscribe", "plain:back", 0)
        assert wire.ask("PING") == PONG

    def test_a_refused_subscription_is_one_error(self, pair: Pair, connect: Connect, direct: Connection):
        direct.ask("ACL SETUSER deaf on nopass +@all ~* resetchannels")
        wire = connect(pair.engine)
        wire.ask("AUTH deaf x")

        wire.send("SUBSCRIBE plain:secret", "PING", TENSOR)

        assert wire.reply().startswith(b"-NOPERM ")
        assert wire.replies(2) == [PONG, OK]

    @pytest.mark.parametrize("protocol", [2, 3])
    def test_a_user_without_the_right_to_ping_can_subscribe(
        self, pair: Pair, connect: Connect, direct: Connection, protocol: int
    ):
        """The engine sends PING after SUBSCRIBE for its own purposes."""
        direct.ask("ACL SETUSER listener on nopass resetchannels &plain:* +@pubsub +auth +hello +echo")
        wire = connect(pair.engine)
        wire.send("AUTH listener x", f"HELLO {protocol}")
        wire.replies(2)

        wire.send("SUBSCRIBE plain:listened", "SUBSCRIBE other")
        assert wire.reply() == confirmation("subscribe", "plain:listened", 1, push=protocol == 3)
        assert wire.reply().startswith(b"-NOPERM ")
        direct.ask("PUBLISH plain:listened hi")

        assert wire.reply() == message("plain:listened", "hi", push=protocol == 3)
        assert wire.ask("UNSUBSCRIBE") == confirmation("unsubscribe", "plain:listened", 0, push=protocol == 3)
        assert wire.ask("ECHO x") == bulk(b"x")

    def test_a_client_that_may_do_nothing_yet_can_not_subscribe(self, new_pair, connect: Connect):
        pair = new_pair(redis=("--requirepass", "secret"))
        wire = connect(pair.engine)

        wire.send("SUBSCRIBE a", "PING", "AUTH secret", "PING")

        refused = b"-NOAUTH Authentication required.\r\n"
        assert wire.replies(4) == [refused, refused, OK, PONG]


class TestMonitor:
    """MONITOR's lines arrive between the replies to other commands."""

    LINE = re.compile(rb"\+\d+\.\d+ \[\d+ [^]]*\] (.*)\r\n")

    def test_shows_what_others_do_and_answers_commands(self, wire: Connection, direct: Connection):
        wire.ask("MONITOR")

        direct.ask("ECHO shown")
        shown = self.LINE.fullmatch(wire.reply())

        assert shown is not None
        assert shown[1] == b'"ECHO" "shown"'
        wire.send("PING")
        replies = wire.replies(2)
        assert PONG in replies
        assert any(self.LINE.fullmatch(reply) for reply in replies)

    def test_ends_with_reset(self, wire: Connection, direct: Connection):
        wire.send("MONITOR", "RESET", "PING")

        assert wire.replies(3) == [OK, b"+RESET\r\n", PONG]
        direct.ask("ECHO unseen")
        assert wire.ask("PING") == PONG


class TestClientReply:
    """The engine needs Redis' replies, so the engine itself drops them."""

    def test_off_drops_all_replies_until_on(self, wire: Connection):
        wire.send("CLIENT REPLY OFF", "SET plain:off 1", TENSOR, "PING", "CLIENT REPLY SKIP", "AI.CONFIG GET x", "GET")
        wire.send("CLIENT REPLY ON", "GET plain:off", "AI.TENSORGET plain:t VALUES")

        assert wire.replies(3) == [OK, bulk(b"1"), array(bulk(b"1"))]

    @pytest.mark.parametrize("skipped", ["ECHO x", TENSOR, "AI.TENSORGET plain:t", "MULTI", "NOSUCH", "TYPE plain:t"])
    def test_skip_drops_the_next_reply_alone(self, wire: Connection, skipped: str):
        wire.send("CLIENT REPLY SKIP", skipped, "ECHO y")

        assert wire.reply() in (bulk(b"y"), b"+QUEUED\r\n")

    def test_a_dropped_reply_may_be_large(self, wire: Connection):
        wire.ask("SET", "plain:large", b"x" * 2_000_000)
        wire.send("CLIENT REPLY SKIP", "GET plain:large", "PING")

        assert wire.reply() == PONG
        wire.ask("DEL plain:large")

    def test_pushes_come_all_the_same(self, wire: Connection, direct: Connection):
        wire.ask("HELLO 3")
        wire.send("CLIENT REPLY OFF", "SUBSCRIBE plain:silent", "PING")
        assert wire.reply() == confirmation("subscribe", "plain:silent", 1, push=True)

        direct.ask("PUBLISH plain:silent hi")

        assert wire.reply() == message("plain:silent", "hi", push=True)

    def test_inside_multi_it_holds_from_exec_on(self, wire: Connection):
        wire.send("MULTI", "CLIENT REPLY OFF", "EXEC", "PING", "CLIENT REPLY ON")

        if wire.replies(2)[1].startswith(b"-ERR Command 'client|reply' not allowed"):  # to Valkey 9
            assert [reply[:10] for reply in wire.replies(3)] == [b"-EXECABORT", PONG[:10], OK]
        else:
            assert wire.replies(2) == [array(OK), OK]

    def test_needs_the_right_to_it(self, pair: Pair, connect: Connect, direct: Connection):
        direct.ask("ACL SETUSER loud on nopass ~* +@all -client|reply")
        wire = connect(pair.engine)
        wire.ask("AUTH loud x")

        assert wire.ask("CLIENT REPLY OFF").startswith(b"-NOPERM ")
        assert wire.ask("PING") == PONG


class TestTracking:
    """The client's own CLIENT TRACKING: invalidations reach the client, between the replies."""

    def test_a_client_is_told_of_keys_that_it_read(self, wire: Connection, direct: Connection):
        wire.send("HELLO 3", "CLIENT TRACKING ON", "GET plain:tracked")
        wire.replies(3)

        direct.ask("SET plain:tracked 1")

        assert wire.reply() == b">2\r\n" + bulk(b"invalidate") + array(bulk(b"plain:tracked"))
        assert wire.ask("GET plain:tracked") == bulk(b"1")

    def test_a_client_is_told_of_tensors_that_it_read(self, wire: Connection, direct: Connection):
        wire.send("HELLO 3", "CLIENT TRACKING ON", "AI.TENSORSET plain:tt FLOAT 1 VALUES 1", "AI.TENSORGET plain:tt")
        replies = wire.replies(5)
        assert replies[-1].startswith(b"*6")  # the third reports the client's own change

        direct.ask("DEL plain:tt")

        assert wire.reply() == b">2\r\n" + bulk(b"invalidate") + array(bulk(b"plain:tt"))

    def test_pushes_between_many_replies_do_not_shift_them(self, wire: Connection, direct: Connection):
        wire.send("HELLO 3", "CLIENT TRACKING ON BCAST PREFIX plain:bcast")
        wire.replies(2)
        for number in range(100):
            direct.ask(f"SET plain:bcast:{number} x")
            wire.send(f"ECHO {number}", f"AI.TENSORGET plain:missing:{number}")

        replies = []
        while len(replies) < 200:
            reply = wire.reply()
            if not reply.startswith(b">"):
                replies.append(reply)

        assert [bulk(b"%d" % number) for number in range(100)] == replies[::2]


class TestState:
    """The protocol, database and user of a connection."""

    def test_select_holds_for_ai_commands(self, wire: Connection, direct: Connection):
        wire.send("SELECT 3", "AI.TENSORSET plain:db FLOAT 1 VALUES 1", "SELECT 0", "AI.TENSORGET plain:db META")

        assert wire.replies(4)[3].startswith(b"-ERR tensor key is empty")
        direct.ask("SELECT 3")
        assert direct.ask("EXISTS plain:db") == b":1\r\n"

    @pytest.mark.parametrize("bad", ["SELECT 99", "SELECT x", "SELECT", "SELECT 1 2"])
    def test_a_refused_select_changes_nothing(self, wire: Connection, direct: Connection, bad: str):
        assert wire.ask(bad) == direct.ask(bad)
        assert wire.ask(TENSOR) == OK
        assert direct.ask("EXISTS plain:t") == b":1\r\n"

    def test_hello_3_changes_replies_of_the_engine_too(self, wire: Connection):
        wire.ask("AI.TENSORSET plain:proto DOUBLE 1 VALUES 1.5")
        assert wire.ask("AI.TENSORGET plain:proto VALUES") == array(bulk(b"1.5"))
        wire.ask("HELLO 3")
        assert wire.ask("AI.TENSORGET plain:proto VALUES") == array(b",1.5\r\n")
        wire.ask("HELLO 2")
        assert wire.ask("AI.TENSORGET plain:proto VALUES") == array(bulk(b"1.5"))

    def test_a_refused_hello_changes_nothing(self, wire: Connection):
        assert wire.ask("HELLO 4") == b"-NOPROTO unsupported protocol version\r\n"
        assert wire.ask("HELLO 3 AUTH nobody wrong").startswith(b"-WRONGPASS ")
        wire.ask("AI.TENSORSET plain:proto2 DOUBLE 1 VALUES 1.5")
        assert wire.ask("AI.TENSORGET plain:proto2 VALUES") == array(bulk(b"1.5"))

    def test_hello_authenticates(self, new_pair, connect: Connect):
        pair = new_pair(redis=("--requirepass", "secret"))
        wire = connect(pair.engine)

        refused = wire.ask(TENSOR)
        assert wire.ask("HELLO 3 AUTH default secret").startswith(b"%")

        assert refused == b"-NOAUTH Authentication required.\r\n"
        assert wire.ask(TENSOR) == OK

    def test_reset_puts_everything_back(self, wire: Connection):
        wire.send("HELLO 3", "SELECT 2", "SUBSCRIBE plain:reset", "MULTI", "SET plain:reset 1", "RESET")
        wire.replies(5)
        assert wire.reply() == b"+RESET\r\n"

        wire.send("AI.TENSORSET plain:afterwards DOUBLE 1 VALUES 1.5", "AI.TENSORGET plain:afterwards VALUES")
        wire.send("PING", "EXISTS plain:reset")

        assert wire.replies(4) == [OK, array(bulk(b"1.5")), PONG, b":0\r\n"]

    def test_reset_takes_the_user_away(self, new_pair, connect: Connect):
        pair = new_pair(redis=("--requirepass", "secret"))
        wire = connect(pair.engine)

        wire.send("AUTH secret", TENSOR, "RESET", TENSOR)

        assert wire.replies(4) == [OK, OK, b"+RESET\r\n", b"-NOAUTH Authentication required.\r\n"]


class TestTypes:
    """TYPE and COPY recognize RedisAI's keys."""

    @pytest.mark.parametrize(
        ("make", "kind"),
        [
            (TENSOR, b"+AI_TENSOR\r\n"),
            ("SET plain:t x", b"+string\r\n"),
            ("SADD plain:t x", b"+set\r\n"),
            ("ZADD plain:t 1 x", b"+zset\r\n"),
            ("HSET plain:t f v", b"+hash\r\n"),
            ("RPUSH plain:t x", b"+list\r\n"),
            ("XADD plain:t * f v", b"+stream\r\n"),
            ("DEL plain:t", b"+none\r\n"),
        ],
    )
    def test_type_of_every_kind_of_key(self, wire: Connection, make: str, kind: bytes):
        wire.ask("DEL plain:t")
        wire.ask(make)

        assert kind == wire.ask("TYPE plain:t")
        wire.send("MULTI", "TYPE plain:t", "EXEC")
        assert wire.replies(3)[2] == array(kind)
        wire.ask("DEL plain:t")

    def test_copy_inside_multi_is_done_in_its_turn(self, wire: Connection):
        wire.ask("SET plain:from 1")
        wire.send("MULTI", "COPY plain:from plain:to", "DEL plain:from", "GET plain:to", "EXEC")

        assert wire.replies(5)[4] == array(b":1\r\n", b":1\r\n", bulk(b"1"))
        wire.ask("DEL plain:to")


def test_a_reply_that_looks_like_a_message_is_none(wire: Connection):
    """Only a subscriber's connection has messages."""
    wire.send("DEL plain:list", "RPUSH plain:list message channel text", "LRANGE plain:list 0 -1", "PING")

    assert wire.replies(4)[2:] == [message("channel", "text"), PONG]


def test_redis_knows_a_client_by_the_connection_opened_for_it(wire: Connection, direct: Connection):
    """The client's name is set at Redis, on the connection that belongs to this client alone."""
    wire.ask("CLIENT SETNAME plain-client")

    wait_until(lambda: b"name=plain-client" in direct.ask("CLIENT LIST"))
    assert wire.ask("CLIENT GETNAME") == bulk(b"plain-client")


class TestPing:
    """Redis is asked. For a second after its answer, the engine answers further PINGs itself."""

    def test_many_in_a_row_ask_redis_once_a_second(self, wire: Connection, direct: Connection):
        before = pings(direct)

        wire.send(*["PING"] * 3)
        assert wire.replies(3) == [PONG] * 3
        for _ in range(200):
            assert wire.ask("PING") == PONG

        assert 1 <= pings(direct) - before < 100

    def test_is_answered_in_its_turn(self, wire: Connection, direct: Connection):
        wire.ask("PING")

        wire.send("BLPOP plain:queue 0", "PING", "PING text", "ECHO x")
        direct.ask("RPUSH plain:queue a")

        assert wire.replies(4) == [array(bulk(b"plain:queue"), bulk(b"a")), PONG, bulk(b"text"), bulk(b"x")]

    def test_follows_what_the_connection_is_in(self, wire: Connection):
        wire.ask("PING")

        wire.send("MULTI", "PING", "EXEC", "SUBSCRIBE a", "PING", "UNSUBSCRIBE a", "PING", "CLIENT REPLY SKIP", "PING")
        wire.send("ECHO x")

        assert wire.replies(3)[1:] == [b"+QUEUED\r\n", array(PONG)]
        assert wire.replies(2)[1] == array(bulk(b"pong"), bulk(b""))
        assert wire.replies(3)[1:] == [PONG, bulk(b"x")]

    def test_needs_a_log_in(self, new_pair, connect: Connect):
        pair = new_pair(redis=("--requirepass", "secret"))
        wire = connect(pair.engine)

        assert wire.ask("PING").startswith(b"-NOAUTH")
        wire.ask("AUTH secret")
        assert [wire.ask("PING") for _ in range(3)] == [PONG] * 3
        wire.ask("RESET")
        assert wire.ask("PING").startswith(b"-NOAUTH")


def pings(direct: Connection) -> int:
    found = re.search(rb"cmdstat_ping:calls=(\d+)", direct.ask("INFO commandstats"))
    return int(found[1]) if found else 0


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ("SETNAME auth", b"auth"),
        ("AUTH default any SETNAME auth", b"auth"),
        ("SETNAME AUTH AUTH default any", b"AUTH"),
        ("SETNAME auth SETNAME x", b"x"),
    ],
)
def test_words_of_hello_may_be_names(wire: Connection, options: str, name: bytes):
    assert wire.ask(f"HELLO 2 {options}").startswith(b"*")

    assert wire.ask("CLIENT GETNAME") == bulk(name)
    assert wire.ask(TENSOR) == OK
