"""Seats in a host, without an engine around them."""

from __future__ import annotations

import os
import resource
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import numpy as np
import pytest

from redisai_engine.execution.hosts.parent import Parent
from redisai_engine.execution.hosts.process import HostNotStarted
from redisai_engine.execution.hosts.sharing.seats import Seat, SeatLost, SharedHosts
from support.gateway import model_blob
from support.hosts import parents_below
from support.waiting import is_running, wait_until

ABOUT = {"backend": "ONNX", "device": "CPU", "inputs": [], "outputs": [], "threads": [1, 1]}
TWO = np.array([2], np.float32)


@pytest.fixture
def parent() -> Iterator[Parent]:
    parent = Parent("ONNX")
    yield parent
    parent.close()


@pytest.fixture
def new_seat(parent: Parent) -> Iterator[Callable[[], Seat]]:
    """Return what takes a seat for a model that adds."""
    hosts = SharedHosts(parent, 2**31, 60.0)
    with ExitStack() as stack:

        def new() -> Seat:
            with tempfile.TemporaryFile() as file:
                file.write(model_blob("Add"))
                file.flush()
                seat = hosts.seat(file.fileno(), 0.0)
            stack.callback(seat.close)
            seat.ask(ABOUT, seconds=60)
            return seat

        yield new


class Crowded(Parent):
    """Allows no more descriptors once a host has started, as when others have taken the last ones."""

    def say_missing(self, missing: Sequence[str]) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


@pytest.fixture
def crowded() -> Iterator[Parent]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    parent = Crowded("ONNX")
    yield parent
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    parent.close()


def process_of(seat: Seat) -> int:
    return seat._host._pid


def test_seats_are_in_one_process_which_ends_with_the_last(new_seat: Callable[[], Seat]) -> None:
    first, second = new_seat(), new_seat()
    pid = process_of(first)

    assert process_of(second) == pid
    first.close()
    (sum_,) = second.ask(None, [TWO, TWO])[1]
    assert sum_ == [4]
    second.close()

    wait_until(lambda: not is_running(pid))
    assert process_of(new_seat()) != pid


def test_the_end_of_one_thread_is_that_of_the_host(new_seat: Callable[[], Seat]) -> None:
    """Whatever ends it, such as a frame for which there is no memory, may have left the process in any state."""
    first, second = new_seat(), new_seat()

    first._channel._socket.sendall(struct.pack("<QI", 1 << 50, 0))
    with pytest.raises(SeatLost) as lost:
        first.answer()

    assert not lost.value.is_innocent
    assert second.is_gone
    wait_until(lambda: not is_running(process_of(second)))
    with pytest.raises(SeatLost) as lost:
        second.ask(None, [TWO, TWO])
    assert lost.value.is_innocent


def test_who_is_killed_for_another_is_innocent(new_seat: Callable[[], Seat]) -> None:
    first, second = new_seat(), new_seat()

    first.kill()

    with pytest.raises(SeatLost) as lost:
        second.ask(None, [TWO, TWO])
    assert lost.value.is_innocent


def test_a_host_whose_first_seat_is_refused_is_ended(crowded: Parent) -> None:
    hosts = SharedHosts(crowded, 2**31, 60.0)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    with tempfile.TemporaryFile() as file, pytest.raises(HostNotStarted, match="could not be started: Too many open"):
        hosts.seat(file.fileno(), 0.0)

    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    (forking,) = parents_below(os.getpid())
    wait_until(lambda: not forking.children(), what="the end of the host")
