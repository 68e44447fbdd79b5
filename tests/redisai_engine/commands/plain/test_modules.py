"""The module `ai` in what Redis reports about itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from redisai_engine.protocol.frames import ReplyError, decode, elements
from support.servers import Server
from support.wire import Wire

SECTIONS = ["ai_versions", "ai_git", "ai_load_time_configs", "ai_backends_info", "ai_cpu", "ai_engine"]
LINE = b"module:name=ai,ver=10207,api=1,filters=0,usedby=[],using=[],options=[handle-io-errors]"


def info(wire: Wire, *sections: str) -> list[str]:
    reply = wire.ask("INFO", *sections)
    assert isinstance(reply, bytes)
    return reply.decode().split("\r\n")


def headings(lines: list[str]) -> list[str]:
    return [line.removeprefix("# ") for line in lines if line.startswith("#")]


# -- MODULE LIST and HELLO ------------------------------------------------------------------------


def test_module_list_on_redis_7(engine: Server, redis_server: Server):
    """Valkey has modules of its own."""
    with Wire(engine.port) as wire, Wire(redis_server.port) as plain:
        own = plain.ask("MODULE", "LIST")
        assert isinstance(own, list)
        ai = [b"name", b"ai", b"ver", 10207, b"path", b"redisai_engine", b"args", []]
        assert wire.ask("MODULE", "LIST") == [*own, ai]
        assert wire.ask("module", "list", "x") == ReplyError(
            "ERR wrong number of arguments for 'module|list' command",
        )


def test_module_list_on_redis_6(engine_on_6: Server):
    with Wire(engine_on_6.port) as wire:
        assert wire.ask("MODULE", "LIST") == [[b"name", b"ai", b"ver", 10207]]


def test_a_module_is_a_map_in_resp3(engine: Server):
    with Wire(engine.port, protocol=3) as wire:
        assert b"\r\n%4\r\n$4\r\nname\r\n$2\r\nai\r\n$3\r\nver\r\n:10207\r\n" in wire.raw("MODULE", "LIST")


def test_module_list_needs_the_right_to_it(engine: Server):
    with Wire(engine.port) as wire:
        wire.ask("ACL", "SETUSER", "modest", "reset", "on", ">pw", "+@all", "-module")
        with Wire(engine.port) as user:
            user.ask("AUTH", "modest", "pw")
            assert user.raw("MODULE", "LIST").startswith(b"-NOPERM")
        wire.ask("ACL", "DELUSER", "modest")


@pytest.mark.parametrize("protocol", [2, 3])
def test_hello_names_the_module_and_is_otherwise_redis_own(engine: Server, redis_server: Server, protocol: int):
    with Wire(engine.port) as wire, Wire(redis_server.port) as plain:
        ours, redis_own = wire.raw("HELLO", protocol), plain.raw("HELLO", protocol)

    assert ours[:1] == redis_own[:1]
    assert [decode(part) for part in elements(ours)][::2] == [decode(part) for part in elements(redis_own)][::2]
    assert b"$2\r\nai\r\n$3\r\nver\r\n:10207\r\n" in elements(ours)[-1]


# -- INFO -----------------------------------------------------------------------------------------


def test_info_modules_has_all_sections(engine: Server):
    with Wire(engine.port) as wire:
        lines = info(wire, "MODULES")

    assert headings(lines) == ["Modules", *SECTIONS]
    assert lines[1] == LINE.decode()
    assert {line.partition(":")[0] for line in lines if line.startswith("ai_")} >= {
        "ai_RedisAI_version",
        "ai_low_level_API_version",
        "ai_rdb_version",
        "ai_git_sha",
        "ai_threads_per_queue",
        "ai_inter_op_parallelism",
        "ai_intra_op_parallelism",
        "ai_model_execution_timeout",
        "ai_backend_memory_limit",
        "ai_self_used_cpu_sys",
        "ai_self_used_cpu_user",
        "ai_children_used_cpu_sys",
        "ai_children_used_cpu_user",
        "ai_main_thread_used_cpu_sys",
        "ai_main_thread_used_cpu_user",
        "ai_queue_CPU_bthread_n1_used_cpu_total",
    }


def test_a_section_can_be_asked_for_by_name_in_any_letter_case(engine: Server):
    with Wire(engine.port) as wire:
        assert info(wire, "ai_VERSIONS") == [
            "# ai_versions",
            "ai_RedisAI_version:1.2.7",
            "ai_low_level_API_version:1",
            "ai_rdb_version:4",
            "",
        ]
        assert headings(info(wire, "ai")) == SECTIONS
        assert headings(info(wire, "server", "ai_git")) == ["Server", "ai_git"]
        assert info(wire, "ai_nothing") == [""]


def test_other_sections_are_redis_own(engine: Server):
    """Redis' default sections include the list of modules, but no section of a module."""
    with Wire(engine.port) as wire:
        assert headings(info(wire, "server")) == ["Server"]
        default, everything = info(wire), info(wire, "everything")

    assert LINE.decode() in default
    assert not set(headings(default)) & set(SECTIONS)
    assert headings(everything)[-len(SECTIONS) :] == SECTIONS
    assert "Keyspace" in headings(everything)


def test_info_is_verbatim_text_in_resp3(engine: Server):
    with Wire(engine.port, protocol=3) as wire:
        raw = wire.raw("INFO", "ai_versions")

    header, _, content = raw.partition(b"\r\n")
    assert header == b"=%d" % (len(content) - 2)
    assert content.startswith(b"txt:# ai_versions\r\n")


def test_info_in_front_of_redis_6(engine_on_6: Server):
    with Wire(engine_on_6.port) as wire:
        assert headings(info(wire, "modules")) == ["Modules", *SECTIONS]
        assert isinstance(wire.ask("INFO", "server", "clients"), ReplyError)


def test_settings_and_threads_are_told(new_engine: Callable[..., Server]):
    server = new_engine("--threads-per-queue", "2", "--intra-op-threads", "3", "--model-execution-timeout", "7000")

    with Wire(server.port) as wire:
        lines = info(wire, "modules")

    for line in ("ai_threads_per_queue:2", "ai_intra_op_parallelism:3", "ai_model_execution_timeout:7000"):
        assert line in lines
    assert [line for line in lines if "bthread_n2" in line] == ["ai_queue_CPU_bthread_n2_used_cpu_total:0.000000"]
