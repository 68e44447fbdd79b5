"""One connection: replies come in the order of the requests, however these arrive; and how a connection ends."""

from __future__ import annotations

import struct
import threading

import pytest

from support.connection import Connect, Connection, encoded
from support.gateway import Pair, predict, prediction, store_model
from support.replies import bulk
from support.streams import cut
from support.waiting import wait_until

OK = b"+OK\r\n"
PONG = b"+PONG\r\n"

BINARY = bytes(range(256)) + b"\r\n$5\r\n*3\r\n" + bytes(range(255, -1, -1))


def both(wire: Connection, direct: Connection, *command: bytes | str | int) -> tuple[bytes, bytes]:
    return wire.ask(*command), direct.ask(*command)


class TestRelay:
    """Commands that aren't the engine's go to Redis unchanged, and so do their replies to the client."""

    @pytest.mark.parametrize("protocol", [2, 3])
    @pytest.mark.parametrize(
        "command",
        [
            "PING",
            "ECHO hello",
            "GET relay:missing",
            "LRANGE relay:missing 0 -1",
            "HGETALL relay:hash",
            "SMEMBERS relay:set",
            "ZRANGE relay:zset 0 -1 WITHSCORES",
            "ZSCORE relay:zset one",
            "BLPOP relay:missing 0.01",
            "XRANGE relay:stream - +",
            "INCR relay:set",
            "NOSUCHCOMMAND a b",
            "GET",
            "EVAL return{1,{2,{3}},false,redis.status_reply('x')} 0",
            "EVAL return{double=3.5} 0",
            "DEBUG PROTOCOL DOUBLE",
            "DEBUG PROTOCOL VERBATIM",
            "DEBUG PROTOCOL BIGNUM",
            "DEBUG PROTOCOL NULL",
            "DEBUG PROTOCOL TRUE",
            "DEBUG PROTOCOL MAP",
            "DEBUG PROTOCOL SET",
            "DEBUG PROTOCOL ATTRIB",
        ],
    )
    def test_replies_of_every_type_are_those_of_redis(self, connect: Connect, pair: Pair, protocol: int, command: str):
        wire, direct = connect(pair.engine), connect(pair.redis)
        for connection in (wire, direct):
            connection.ask("HELLO", protocol)
            connection.send("DEL relay:stream", "HSET relay:hash f v", "SADD relay:set a b", "ZADD relay:zset 1.5 one")
            connection.send("XADD relay:stream 1-1 f v", "ECHO ready")
            connection.replies(6)

        through_engine, redis_own = both(wire, direct, command)

        assert redis_own == through_engine

    def test_binary_values_arrive_as_they_were_sent(self, wire: Connection):
        wire.ask("SET", "session:binary", BINARY)

        assert bulk(BINARY) == wire.ask("GET session:binary")

    def test_a_value_of_20_megabytes_passes_both_ways(self, wire: Connection):
        value = b"0123456789abcdef" * (20 * 2**20 // 16)
        wire.ask("SET", "session:large", value)

        wire.send("GET session:large", "PING")

        assert bulk(value) == wire.reply()
        assert wire.reply() == PONG
        wire.ask("DEL session:large")

    def test_inline_commands_work_as_in_telnet(self, wire: Connection):
        wire.send(b"set session:inline 'two words'\r\nget session:inline\r\n\r\nPING\n")

        assert [OK, bulk(b"two words"), PONG] == wire.replies(3)

    def test_an_inline_ai_command_works_too(self, wire: Connection):
        wire.send(b"AI.TENSORSET session:inline:t FLOAT 1 VALUES 2\r\nai.tensorget session:inline:t VALUES\r\n")

        assert [OK, b"*1\r\n" + bulk(b"2")] == wire.replies(2)

    def test_a_blocking_command_ends_with_its_value(self, wire: Connection, direct: Connection):
        wire.send("BLPOP session:blocked 5", "PING")

        direct.ask("RPUSH session:blocked x")

        assert wire.reply() == b"*2\r\n" + bulk(b"session:blocked") + bulk(b"x")
        assert wire.reply() == PONG


MIXED = [
    (encoded("SET mixed:key value"), OK),
    (encoded("AI.TENSORSET mixed:t INT32 2 VALUES 1 2"), OK),
    (encoded("GET mixed:key"), bulk(b"value")),
    (encoded("AI.TENSORGET mixed:t VALUES"), b"*2\r\n:1\r\n:2\r\n"),
    (b"PING\r\n", PONG),
    (encoded("AI.TENSORGET mixed:missing"), b"-ERR tensor key is empty or in a different shard\r\n"),
    (encoded("INCR mixed:key"), b"-ERR value is not an integer or out of range\r\n"),
    (encoded(("SET", "mixed:key", b"\r\n*1\r\n")), OK),
    (encoded("TYPE mixed:t"), b"+AI_TENSOR\r\n"),
    (encoded("MULTI"), OK),
    (encoded("AI.TENSORGET mixed:t META"), b"+QUEUED\r\n"),
    (encoded("EXEC"), b"*1\r\n*4\r\n" + bulk(b"dtype") + bulk(b"INT32") + bulk(b"shape") + b"*1\r\n:2\r\n"),
    (encoded("GET mixed:key"), bulk(b"\r\n*1\r\n")),
]


class TestOrder:
    """Replies come in the order of the requests, whether Redis or the engine answers them."""

    def test_a_pipeline_of_ai_and_plain_commands_is_answered_in_order(self, wire: Connection):
        wire.send(*(request for request, _ in MIXED))

        assert [reply for _, reply in MIXED] == wire.replies(len(MIXED))

    def test_a_pipeline_may_be_cut_anywhere(self, pair: Pair, connect: Connect):
        """It is cut at every offset, in two parts that arrive one after the other."""
        stream = b"".join(request for request, _ in MIXED)
        expected = b"".join(reply for _, reply in MIXED)
        for offset in range(1, len(stream)):
            wire = connect(pair.engine)
            first, second = cut(stream, [offset])
            wire.send(first)
            wire.send(second)
            wire.half_close()

            assert expected == wire.rest(), offset
            wire.close()

    def test_a_pipeline_may_come_byte_by_byte(self, wire: Connection):
        stream = b"".join(request for request, _ in MIXED)
        for offset in range(len(stream)):
            wire.send(stream[offset : offset + 1])

        assert [reply for _, reply in MIXED] == wire.replies(len(MIXED))

    def test_predictions_keep_their_place_among_other_commands(self, wire: Connection):
        store_model(wire, "session:order")
        predict(wire, "session:order", 0, 0)
        for number in range(200):
            wire.send(prediction("session:order", number, 1), f"ECHO {number}")

        for number in range(200):
            assert wire.reply().endswith(number_blob(number + 1) + b"\r\n")
            assert wire.reply() == bulk(str(number).encode())

    def test_a_model_in_the_way_does_not_delay_other_connections(self, pair: Pair, connect: Connect):
        blocked, other = connect(pair.engine), connect(pair.engine)

        blocked.send("BLPOP session:never 2", "AI.TENSORGET session:nothing")

        assert other.ask("PING") == PONG

    def test_a_request_of_millions_of_arguments_does_not_delay_other_connections(self, pair: Pair, connect: Connect):
        """Of 14 MB, the engine reads a small part at a time, and answers others in between."""
        long, other = connect(pair.engine), connect(pair.engine)
        long.socket.settimeout(60)
        count = 2_000_000
        request = encoded(("AI.TENSORSET", "millions", "UINT8", count, "VALUES")).replace(b"*5", b"*%d" % (count + 5))
        sending = threading.Thread(target=long.send, args=(request + b"$1\r\n7\r\n" * count,))

        sending.start()
        pings = 0
        while sending.is_alive():
            assert other.ask("PING") == PONG
            pings += 1

        assert long.reply() == OK
        assert long.ask("AI.TENSORGET millions META").endswith(b":%d\r\n" % count)
        assert pings > 10


def number_blob(number: float) -> bytes:
    return struct.pack("<f", number)


class TestEnd:
    """However a connection ends, nothing of it is left behind."""

    def test_quit_is_answered_and_closes(self, wire: Connection):
        wire.send("QUIT", "PING")

        assert wire.rest() == OK

    def test_a_client_that_ends_its_side_still_gets_what_is_due(self, wire: Connection):
        wire.send("PING", "AI.TENSORSET session:half FLOAT 1 VALUES 1", "AI.TENSORGET session:half VALUES", "PING")
        wire.half_close()

        assert PONG + OK + b"*1\r\n" + bulk(b"1") + PONG == wire.rest()

    def test_a_client_that_ends_its_side_still_gets_its_prediction(self, wire: Connection):
        store_model(wire, "session:half:model")
        wire.send(prediction("session:half:model", 3, 4))
        wire.half_close()

        assert wire.rest().endswith(number_blob(7) + b"\r\n")

    def test_a_client_that_ends_its_side_in_the_middle_of_a_command_is_let_go(self, wire: Connection):
        wire.send(b"PING\r\n*2\r\n$3\r\nGET\r\n$10\r\nhal")
        wire.half_close()

        assert wire.rest() == PONG

    def test_redis_forgets_a_blocked_client_that_went_away(self, wire: Connection, direct: Connection):
        wire.send("CLIENT SETNAME gone", "BLPOP session:abandoned 0")
        wire.reply()
        wait_until(lambda: b"name=gone" in direct.ask("CLIENT LIST") and b"blocked_clients:1" in direct.ask("INFO"))

        wire.close()

        wait_until(lambda: b"name=gone" not in direct.ask("CLIENT LIST"))
        direct.ask("RPUSH session:abandoned x")
        assert direct.ask("LLEN session:abandoned") == b":1\r\n"

    def test_redis_forgets_a_blocked_client_that_ended_its_side(self, wire: Connection, direct: Connection):
        wire.send("CLIENT SETNAME halfgone", "BLPOP session:abandoned2 0")
        wire.reply()
        wait_until(lambda: b"name=halfgone" in direct.ask("CLIENT LIST"))

        wire.half_close()

        assert wire.ends()
        wait_until(lambda: b"name=halfgone" not in direct.ask("CLIENT LIST"))

    def test_a_transaction_of_a_client_that_died_is_not_carried_out(self, wire: Connection, direct: Connection):
        wire.send("CLIENT SETNAME dying", "MULTI", "SET session:dead 1", "AI.TENSORSET session:dead:t FLOAT 1 VALUES 1")
        wire.replies(4)

        wire.close()

        wait_until(lambda: b"name=dying" not in direct.ask("CLIENT LIST"))
        assert direct.ask("EXISTS session:dead session:dead:t") == b":0\r\n"

    def test_a_client_may_die_while_its_model_runs(self, pair: Pair, connect: Connect):
        first = connect(pair.engine)
        store_model(first, "session:dying:model")
        for _ in range(20):
            dying = connect(pair.engine)
            dying.send(prediction("session:dying:model", 1, 2) * 50)
            dying.close()

        assert predict(first, "session:dying:model", 1, 2) == 3.0

    def test_a_connection_that_redis_kills_is_closed(self, wire: Connection, direct: Connection):
        number = wire.ask("CLIENT ID")[1:-2]

        direct.ask("CLIENT", "KILL", "ID", number)

        assert wire.ends()

    @pytest.mark.parametrize(
        "blocking", ["BLPOP session:killed 0", "WAIT 1 0", "XREAD BLOCK 0 STREAMS session:killed $"]
    )
    @pytest.mark.parametrize(
        "behind", [(), ("PING", "GET k"), ("AI.TENSORGET x", "ECHO 1"), ("MULTI", "GET k", "EXEC")]
    )
    def test_what_is_due_when_redis_kills_a_connection_gets_no_answer(
        self, wire: Connection, direct: Connection, blocking: str, behind: tuple[str, ...]
    ):
        """An error would look like the answer to a command that Redis has refused, which no client tries again."""
        number = wire.ask("CLIENT ID")[1:-2]
        store_model(wire, "session:killed:model")
        wire.send(prediction("session:killed:model", 1, 2), "ECHO 0", blocking, *behind)
        answers = [wire.reply(), wire.reply()]
        name = b"cmd=" + blocking.split(maxsplit=1)[0].lower().encode()
        wait_until(lambda: name in direct.ask("CLIENT", "LIST", "ID", number))

        direct.ask("CLIENT", "KILL", "ID", number)

        assert answers[1] == b"$1\r\n0\r\n"
        assert wire.rest() == b""
