"""redis-py 4.6 and newer: AI commands through execute_command among its own calls, in RESP2 and RESP3."""

from __future__ import annotations

import asyncio
import struct
import threading
from typing import Any

import redis
import redis.asyncio

RESP3_SINCE = 5  # first version of redis-py that speaks RESP3


def options(server: Any) -> dict[str, Any]:
    told = {"host": server.host, "port": server.port, "socket_timeout": 20}
    if int(redis.__version__.split(".")[0]) >= RESP3_SINCE:
        told["protocol"] = server.protocol
    return told


def connect(server: Any) -> redis.Redis:
    client = redis.Redis(**options(server))
    client.flushall()
    return client


def floats(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def store_model(client: redis.Redis, server: Any) -> None:
    assert client.execute_command("AI.MODELSTORE", "m", "ONNX", "CPU", "BLOB", server.model("ONNX")) == b"OK"


def prediction(a: float, b: float) -> list[Any]:
    sets = [["|>", "AI.TENSORSET", name, "FLOAT", 1, 1, "BLOB", floats(x)] for name, x in (("a", a), ("b", b))]
    run = ["|>", "AI.MODELEXECUTE", "m", "INPUTS", 2, "a", "b", "OUTPUTS", 2, "p", "s"]
    get = ["|>", "AI.TENSORGET", "s", "BLOB"]
    return ["AI.DAGEXECUTE_RO", "ROUTING", "m", *sets[0], *sets[1], *run, *get]


def error_of(function: Any, *arguments: Any) -> str:
    try:
        function(*arguments)
    except redis.ResponseError as error:
        return str(error)
    raise AssertionError("the call had no error")


def check_protocol_is_the_one_asked_for(client: redis.Redis, server: Any) -> None:
    told = client.execute_command("HELLO")
    pairs = told if isinstance(told, dict) else dict(zip(told[::2], told[1::2], strict=True))
    assert pairs[b"proto"] == server.protocol


def check_tensor(client: redis.Redis, server: Any) -> None:
    assert client.execute_command("AI.TENSORSET", "x", "FLOAT", 2, "VALUES", 1.5, 2) == b"OK"
    assert client.execute_command("AI.TENSORGET", "x", "BLOB") == floats(1.5, 2)
    assert client.execute_command("AI.TENSORGET", "x", "META") == [b"dtype", b"FLOAT", b"shape", [2]]
    values = [1.5, 2] if server.protocol == 3 else [b"1.5", b"2"]
    assert client.execute_command("AI.TENSORGET", "x", "VALUES") == values


def check_model(client: redis.Redis, server: Any) -> None:
    store_model(client, server)
    reply = client.execute_command(*prediction(2, 3))
    assert reply == [b"OK", b"OK", b"OK", floats(5)]


def check_errors(client: redis.Redis, server: Any) -> None:
    assert error_of(client.execute_command, "AI.MODELGET", "absent") == "model key is empty"
    assert "wrong number of arguments" in error_of(client.execute_command, "AI.TENSORGET")
    assert client.ping()


def check_error_inside_a_dag(client: redis.Redis, server: Any) -> None:
    """A missing model ends the DAG. The connection stays in sync."""
    assert "model key is empty" in error_of(client.execute_command, *prediction(2, 3))
    assert client.ping()


def check_error_of_one_operation(client: redis.Redis, server: Any) -> None:
    """Its reply is an exception among the replies of the others."""
    store_model(client, server)
    wrong = [b"INT32" if word == "FLOAT" else word for word in prediction(2, 3)]
    reply = client.execute_command(*wrong)
    assert reply[:2] == [b"OK", b"OK"]
    assert isinstance(reply[2], redis.ResponseError)
    assert client.ping()


def check_pipeline(client: redis.Redis, server: Any) -> None:
    store_model(client, server)
    pipeline = client.pipeline(transaction=False)
    for number in range(50):
        pipeline.set(f"k{number}", number)
        pipeline.execute_command(*prediction(number, 1))
        pipeline.execute_command("AI.TENSORSET", f"t{number}", "INT64", 1, "VALUES", number)
        pipeline.get(f"k{number}")
    replies = pipeline.execute()
    for number in range(50):
        stored, predicted, tensor, value = replies[4 * number : 4 * number + 4]
        assert (stored, tensor, value) == (True, b"OK", str(number).encode())
        assert predicted[-1] == floats(number + 1)


def check_pipeline_with_errors(client: redis.Redis, server: Any) -> None:
    pipeline = client.pipeline(transaction=False)
    pipeline.set("k", 1)
    pipeline.execute_command("AI.TENSORGET", "absent")
    pipeline.lpush("k", 2)
    pipeline.get("k")
    first, absent, kind, last = pipeline.execute(raise_on_error=False)
    assert (first, last) == (True, b"1")
    assert isinstance(absent, redis.ResponseError)
    assert isinstance(kind, redis.ResponseError)


def check_transaction(client: redis.Redis, server: Any) -> None:
    pipeline = client.pipeline(transaction=True)
    pipeline.execute_command("AI.TENSORSET", "x", "INT64", 1, "VALUES", 7)
    pipeline.execute_command("AI.TENSORGET", "x", "VALUES")
    pipeline.incr("n")
    assert pipeline.execute() == [b"OK", [7], 1]


def check_transaction_with_watch(client: redis.Redis, server: Any) -> None:
    client.execute_command("AI.TENSORSET", "x", "INT64", 1, "VALUES", 7)

    def double(pipeline: Any) -> None:
        (value,) = pipeline.execute_command("AI.TENSORGET", "x", "VALUES")
        pipeline.multi()
        pipeline.execute_command("AI.TENSORSET", "x", "INT64", 1, "VALUES", 2 * value)

    assert client.transaction(double, "x") == [b"OK"]
    assert client.execute_command("AI.TENSORGET", "x", "VALUES") == [14]


def check_publish_and_subscribe(client: redis.Redis, server: Any) -> None:
    channel = client.pubsub()
    channel.subscribe("news")
    channel.psubscribe("n*")
    assert [channel.get_message(timeout=10)["type"] for _ in range(2)] == ["subscribe", "psubscribe"]
    assert client.publish("news", "first") == 2
    got = [channel.get_message(timeout=10) for _ in range(2)]
    assert sorted(message["type"] for message in got) == ["message", "pmessage"]
    assert {message["data"] for message in got} == {b"first"}
    channel.unsubscribe()
    channel.punsubscribe()
    assert [channel.get_message(timeout=10)["type"] for _ in range(2)] == ["unsubscribe", "punsubscribe"]
    channel.close()


def check_monitor(client: redis.Redis, server: Any) -> None:
    with client.monitor() as monitor:
        client.set("seen", 1)
        while monitor.next_command()["command"] != "SET seen 1":  # the commands that open a connection come first
            pass


def check_blocking_call(client: redis.Redis, server: Any) -> None:
    pusher = threading.Thread(target=lambda: redis.Redis(**options(server)).lpush("queue", "work"))
    pusher.start()
    assert tuple(client.blpop(["queue"], timeout=10)) == (b"queue", b"work")
    pusher.join()


def check_scan_and_info(client: redis.Redis, server: Any) -> None:
    client.execute_command("AI.TENSORSET", "x", "INT64", 1, "VALUES", 7)
    client.set("plain", 1)
    assert list(client.scan_iter(_type="AI_TENSOR")) == [b"x"]
    assert client.info("modules")["modules"][0]["name"] == "ai"
    assert client.command()["ai.tensorget"]["first_key_pos"] == 1
    assert client.command_getkeys("AI.TENSORGET", "x") in (["x"], [b"x"])


def check_selected_database(client: redis.Redis, server: Any) -> None:
    other = redis.Redis(**options(server), db=3)
    other.execute_command("AI.TENSORSET", "x", "INT64", 1, "VALUES", 7)
    assert client.exists("x") == 0
    assert other.execute_command("AI.TENSORGET", "x", "VALUES") == [7]


def check_threads_share_a_client(client: redis.Redis, server: Any) -> None:
    store_model(client, server)
    wrong = []

    def predict(a: int) -> None:
        for b in range(40):
            reply = client.execute_command(*prediction(a, b))
            if reply[-1] != floats(a + b):
                wrong.append((a, b, reply))

    threads = [threading.Thread(target=predict, args=(a,)) for a in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[:3]


def check_asyncio_client(client: redis.Redis, server: Any) -> None:
    store_model(client, server)

    async def many() -> list[Any]:
        concurrent = redis.asyncio.Redis(**options(server))
        replies = await asyncio.gather(*(concurrent.execute_command(*prediction(n, 1)) for n in range(20)))
        await concurrent.connection_pool.disconnect()
        return list(replies)

    assert [reply[-1] for reply in asyncio.run(many())] == [floats(n + 1) for n in range(20)]


def check_resp3_messages_of_keys_that_changed(client: redis.Redis, server: Any) -> None:
    """Client-side caches rely on them: Redis' RESP3 push messages come between the replies."""
    if server.protocol != 3:
        server.lacks("RESP2 has no pushes")
    told: list[Any] = []
    tracking = redis.Redis(**options(server), single_connection_client=True)
    tracking.ping()
    tracking.connection._parser.set_invalidation_push_handler(told.append)
    tracking.execute_command("CLIENT", "TRACKING", "ON")
    tracking.get("k")
    client.set("k", "new")
    for _ in range(1000):  # the push may come late; each PING reads what has arrived
        assert tracking.ping()
        if told:
            break
    assert told == [[b"invalidate", [b"k"]]]
