"""Access rights are Redis' own: what a user may not do to the plain keys, no AI command does for that user."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from support.connection import Connect, Connection
from support.gateway import Pair, model_blob, modelstore, predict, prediction, store_model
from support.servers import start_engine, start_redis
from support.waiting import wait_until

NOAUTH = b"-NOAUTH Authentication required.\r\n"
OK = b"+OK\r\n"

COMMANDS: list[bytes | tuple[bytes | str, ...] | str] = [
    "AI.TENSORSET t FLOAT 1 VALUES 1",
    "AI.TENSORGET t",
    "AI.TENSORGET t META",
    modelstore("m"),
    ("AI.MODELSET", "m", "ONNX", "CPU", "BLOB", model_blob("Add")),
    "AI.MODELGET m",
    "AI.MODELGET m META",
    "AI.MODELDEL m",
    "AI.MODELEXECUTE m INPUTS 2 a b OUTPUTS 1 y",
    "AI.MODELRUN m INPUTS a b OUTPUTS y",
    "AI._MODELSCAN",
    "AI.INFO m",
    "AI.INFO m RESETSTAT",
    prediction("m", 1, 2),
    "AI.DAGEXECUTE PERSIST 1 a |> AI.TENSORSET a FLOAT 1 VALUES 1",
    "AI.DAGEXECUTE LOAD 1 t |> AI.TENSORGET t",
    "AI.DAGRUN |> AI.TENSORSET a FLOAT 1 VALUES 1 |> AI.TENSORGET a VALUES",
    "AI.DAGRUN_RO |> AI.TENSORSET a FLOAT 1 VALUES 1 |> AI.TENSORGET a VALUES",
    "AI.CONFIG GET MODEL_CHUNK_SIZE",
    "AI.CONFIG MODEL_CHUNK_SIZE 1000",
    "AI.CONFIG BACKENDSPATH /x",
    "AI.CONFIG LOADBACKEND ONNX /x",
]


@pytest.fixture(scope="module")
def secret_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    redis = start_redis(tmp_path_factory.mktemp("secret"), "--requirepass", "secret")
    engine = start_engine(tmp_path_factory.mktemp("before"), "--redis", redis.url)
    yield Pair(engine, redis)
    engine.stop()
    redis.stop()


@pytest.fixture
def login(pair: Pair, connect: Connect, direct: Connection) -> Iterator[Callable[..., Connection]]:
    """Create a user with these rules and return a connection of that user."""
    made = []

    def make(name: str, *rules: str) -> Connection:
        assert direct.ask("ACL", "SETUSER", name, "reset", "on", "nopass", *rules) == OK
        made.append(name)
        wire = connect(pair.engine)
        assert wire.ask(f"AUTH {name} any") == OK
        return wire

    yield make
    for name in made:
        direct.ask("ACL", "DELUSER", name)


@pytest.mark.parametrize("command", COMMANDS, ids=range(len(COMMANDS)))
def test_a_client_that_is_not_authenticated_may_do_nothing(
    secret_pair: Pair, connect: Connect, command: bytes | str | tuple[bytes | str, ...]
):
    admin, wire = connect(secret_pair.engine), connect(secret_pair.engine)
    admin.ask("AUTH secret")
    store_model(admin, "m")
    predict(admin, "m", 1, 2)

    wire.send(command)

    assert wire.reply() == NOAUTH
    assert admin.ask("AI.CONFIG GET MODEL_CHUNK_SIZE") != b":1000\r\n"
    assert predict(admin, "m", 1, 2) == 3.0


class TestKeys:
    """Key patterns apply to models, tensors, ROUTING and PERSIST."""

    @pytest.mark.parametrize(
        "command",
        [
            "AI.TENSORSET theirs:t FLOAT 1 VALUES 1",
            "AI.TENSORGET theirs:t",
            modelstore("theirs:m"),
            "AI.MODELGET theirs:m",
            "AI.MODELDEL theirs:m",
            "AI.MODELEXECUTE theirs:m INPUTS 2 mine:a mine:b OUTPUTS 1 mine:y",
            "AI.MODELEXECUTE mine:m INPUTS 2 theirs:a mine:b OUTPUTS 1 mine:y",
            "AI.MODELEXECUTE mine:m INPUTS 2 mine:a mine:b OUTPUTS 1 theirs:y",
            prediction("theirs:m", 1, 2),
            "AI.DAGEXECUTE LOAD 1 theirs:a |> AI.TENSORGET theirs:a",
            "AI.DAGEXECUTE PERSIST 1 theirs:a |> AI.TENSORSET theirs:a FLOAT 1 VALUES 1",
            "AI.DAGEXECUTE_RO ROUTING theirs:x |> AI.TENSORSET a FLOAT 1 VALUES 1",
            "AI.DAGEXECUTE ROUTING theirs:x |> AI.TENSORSET a FLOAT 1 VALUES 1",
        ],
        ids=range(13),
    )
    def test_a_key_of_others_is_refused(self, wire: Connection, login: Callable[..., Connection], command: bytes | str):
        for key in ("theirs:a", "theirs:b", "theirs:t", "mine:a", "mine:b"):
            wire.ask(f"AI.TENSORSET {key} FLOAT 1 VALUES 1")
        store_model(wire, "theirs:m")
        store_model(wire, "mine:m")
        predict(wire, "theirs:m", 1, 2)  # so that it is loaded
        user = login("tenant", "~mine:*", "+@all")

        user.send(command)

        assert user.reply().startswith(b"-NOPERM ")
        assert wire.ask("EXISTS theirs:y theirs:x mine:y") == b":0\r\n"
        assert user.ask("AI.MODELEXECUTE mine:m INPUTS 2 mine:a mine:b OUTPUTS 1 mine:y") == OK
        wire.ask("DEL mine:y")

    def test_names_inside_a_dag_are_no_keys(self, wire: Connection, login: Callable[..., Connection]):
        store_model(wire, "mine:inside")
        user = login("insider", "~mine:*", "+@all")

        assert predict(user, "mine:inside", 1, 2) == 3.0

    def test_scanning_shows_only_models_that_the_user_may_read(
        self, wire: Connection, login: Callable[..., Connection]
    ):
        store_model(wire, "mine:scanned")
        store_model(wire, "theirs:scanned")
        user = login("scanner", "~mine:*", "+@all")

        shown = user.ask("AI._MODELSCAN")

        assert b"mine:scanned" in shown
        assert b"theirs:scanned" not in shown

    def test_reading_a_model_is_enough_to_predict(self, wire: Connection, login: Callable[..., Connection]):
        store_model(wire, "read:m")
        user = login("reader", "%R~read:*", "+@all")

        assert predict(user, "read:m", 1, 2) == 3.0
        user.send(modelstore("read:m", "Mul"))
        assert user.reply().startswith(b"-NOPERM ")
        assert user.ask("AI.MODELDEL read:m").startswith(b"-NOPERM ")
        assert predict(user, "read:m", 1, 2) == 3.0


class TestFirst:
    """Redis is asked before anything is loaded or compiled. Without the right to write, a user learns just that."""

    STORING = (
        ("AI.MODELSTORE", "theirs:new", "ONNX", "CPU", "BLOB", b"no model"),
        ("AI.MODELSTORE", "theirs:new", "TORCH", "CPU", "BLOB", b"no model"),
        ("AI.MODELSET", "theirs:new", "ONNX", "CPU", "BLOB", b"no model"),
        ("AI.SCRIPTSTORE", "theirs:new", "CPU", "ENTRY_POINTS", 1, "f", "SOURCE", "no script"),
        ("AI.SCRIPTSET", "theirs:new", "CPU", "SOURCE", "no script"),
    )

    @pytest.mark.parametrize("command", STORING, ids=range(len(STORING)))
    def test_without_a_password(self, secret_pair: Pair, connect: Connect, command: tuple[bytes | str, ...]):
        assert connect(secret_pair.engine).ask(*command) == NOAUTH

    @pytest.mark.parametrize(
        "rules",
        [("~*", "+@read"), ("~mine:*", "+@all"), ("%R~*", "+@all"), ("~*", "+@all", "-hdel"), ("~*", "+@all", "-hset")],
    )
    @pytest.mark.parametrize("command", STORING, ids=range(len(STORING)))
    def test_without_the_right_to_write(
        self, login: Callable[..., Connection], command: tuple[bytes | str, ...], rules: tuple[str, ...]
    ):
        user = login("first", *rules, "+multi", "+exec")

        assert user.ask(*command).startswith(b"-NOPERM ")
        user.send("MULTI", command, "EXEC")
        began, queued, executed = user.replies(3)
        assert began == OK
        assert queued.startswith(b"-NOPERM ")
        assert executed.startswith(b"-EXECABORT ")

    @pytest.mark.parametrize("command", STORING, ids=range(len(STORING)))
    def test_who_may_write_learns_what_is_wrong(self, wire: Connection, command: tuple[bytes | str, ...]):
        alone = wire.ask(*command)

        wire.send("MULTI", command, "PING", "EXEC")
        *_, executed = wire.replies(4)

        assert alone.startswith(b"-")
        assert not alone.startswith((b"-NOPERM", b"-NOAUTH"))
        assert executed == b"*2\r\n" + alone + b"+PONG\r\n"

    def test_a_reader_has_nothing_loaded(self, wire: Connection, login: Callable[..., Connection]):
        """What is loaded counts as memory of models, and the engine tells how much that is."""
        store_model(wire, "first:theirs")
        user = login("only-reader", "~*", "+@read", "+info", "+multi", "+exec")
        before = model_memory(wire)

        for number in range(5):
            user.send(modelstore(f"first:{number}"), "MULTI", modelstore(f"first:{number}"), "EXEC")
            user.replies(4)

        assert model_memory(wire) == before
        assert predict(user, "first:theirs", 2, 3) == 5.0

    def test_a_model_stored_inside_multi_is_there_after_it(self, wire: Connection):
        wire.send("MULTI", modelstore("first:m"), "EXISTS first:m", "EXEC")

        assert wire.replies(4)[-1] == b"*2\r\n+OK\r\n:1\r\n"
        assert predict(wire, "first:m", 2, 3) == 5.0


def model_memory(wire: Connection) -> bytes:
    return wire.ask("INFO ai_backends_info").partition(b"onnxruntime_memory:")[2].partition(b"\r\n")[0]


@pytest.mark.slow
class TestChanges:
    """A right that is revoked stops predictions with loaded models within about a second."""

    @pytest.mark.parametrize("rule", ["resetkeys", "-hmget", "off"])
    def test_of_an_open_connection(
        self, wire: Connection, direct: Connection, login: Callable[..., Connection], rule: str
    ):
        store_model(wire, "changing:m")
        user = login("changing", "~*", "+@all")
        wait_until(lambda: predict(user, "changing:m", 1, 2) == 3.0)

        direct.ask("ACL", "SETUSER", "changing", rule)

        if rule == "off":  # as in Redis: a user who is logged in stays logged in
            assert predict(user, "changing:m", 1, 2) == 3.0
            return
        wait_until(lambda: isinstance(predict(user, "changing:m", 1, 2), bytes), timeout_s=3)
        assert predict(user, "changing:m", 1, 2).startswith(b"-NOPERM ")  # type: ignore[union-attr]

    def test_a_deleted_user_is_out_at_once(
        self, wire: Connection, direct: Connection, login: Callable[..., Connection]
    ):
        store_model(wire, "changing:m2")
        user = login("deleted", "~*", "+@all")
        predict(user, "changing:m2", 1, 2)

        direct.ask("ACL DELUSER deleted")

        assert user.ends()

    def test_another_user_on_the_same_connection_has_its_own_rights(
        self, wire: Connection, direct: Connection, login: Callable[..., Connection]
    ):
        store_model(wire, "changing:m3")
        direct.ask("ACL SETUSER poor reset on nopass ~none +@all")
        user = login("rich", "~*", "+@all")
        for _ in range(3):
            assert predict(user, "changing:m3", 1, 2) == 3.0

        user.ask("AUTH poor any")
        by_auth = predict(user, "changing:m3", 1, 2)
        user.ask("AUTH rich any")
        rich_again = predict(user, "changing:m3", 1, 2)
        user.ask("HELLO 3 AUTH poor any")
        by_hello = predict(user, "changing:m3", 1, 2)
        user.send("AUTH rich any", "MULTI", "AUTH poor any", "EXEC")
        user.replies(4)
        by_multi = predict(user, "changing:m3", 1, 2)

        assert rich_again == 3.0
        for refused in (by_auth, by_hello, by_multi):
            assert isinstance(refused, bytes)
            assert refused.startswith(b"-NOPERM ")


class TestConfig:
    """AI.CONFIG changes the engine for everybody, so it needs the right to CONFIG."""

    def test_without_it_settings_can_be_read_only(self, login: Callable[..., Connection]):
        user = login("plainuser", "~*", "+@all", "-config")

        assert user.ask("AI.CONFIG GET MODEL_CHUNK_SIZE").startswith(b":")
        for change in ("MODEL_CHUNK_SIZE 1000", "BACKENDSPATH /x", "LOADBACKEND ONNX /x"):
            assert user.ask(f"AI.CONFIG {change}").startswith(b"-NOPERM ")
        assert user.ask("AI.CONFIG GET MODEL_CHUNK_SIZE") != b":1000\r\n"

    def test_the_right_to_read_redis_settings_is_not_enough(self, login: Callable[..., Connection]):
        user = login("monitoring", "~*", "+@all", "-config", "+config|get")

        assert user.ask("AI.CONFIG MODEL_CHUNK_SIZE 1000").startswith(b"-NOPERM ")

    def test_with_it_settings_can_be_changed(self, login: Callable[..., Connection]):
        user = login("operator", "~*", "+@all")
        before = user.ask("AI.CONFIG GET MODEL_CHUNK_SIZE")

        assert user.ask("AI.CONFIG MODEL_CHUNK_SIZE 123456") == OK
        assert user.ask("AI.CONFIG GET MODEL_CHUNK_SIZE") == b":123456\r\n"
        assert user.ask("AI.CONFIG", "MODEL_CHUNK_SIZE", before[1:-2]) == OK
