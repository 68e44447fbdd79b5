"""Free memory is given back when something has left, and no more often than it may cost."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

from redisai_engine.service.memory.trimming import Trimming


class Loop(asyncio.SelectorEventLoop):
    """A loop whose time is what it was set to."""

    now = 1000.0

    def time(self) -> float:
        return self.now


class Looks:
    """Something that looks, in a loop of its own, and the names of the threads in which it gave memory back."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.threads = [ThreadPoolExecutor(1, thread_name_prefix=name) for name in ("first", "second")]
        self.done: list[str] = []
        self.trimming = Trimming(
            self.loop, self.threads, lambda: self.done.append(threading.current_thread().name.partition("_")[0])
        )

    def __call__(self, *counts: int) -> list[str]:
        """Look with each of these counts of what has left. Return in which threads memory was given back."""
        before = len(self.done)
        for count in counts:
            self.trimming.look(count)
            waiting = asyncio.all_tasks(self.loop)
            if waiting:
                self.loop.run_until_complete(asyncio.wait(waiting))
        return self.done[before:]

    def close(self) -> None:
        self.loop.close()
        for thread in self.threads:
            thread.shutdown()


def test_memory_is_given_back_once_when_something_has_left_and_had_a_look_of_time() -> None:
    looks = Looks()

    assert [looks(0, 0), looks(1), looks(1), looks(1, 1, 1)] == [[], [], ["first", "second"], []]
    looks.close()


def test_what_leaves_meanwhile_has_its_turn_some_seconds_later() -> None:
    looks = Looks()
    looks(1, 1)

    at_once = looks(2, 3, 4)
    looks.loop.now += 3600
    assert (at_once, looks(4), looks(4)) == ([], ["first", "second"], [])
    looks.close()
