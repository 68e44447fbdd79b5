"""
The filter of system calls for hosts (seccomp): refuses those that a computation never needs.

A refused call fails with EPERM, so that the framework can report it. Threads may be started, processes may not: `clone`
is allowed with the flag of threads only, and `clone3`, whose flags a filter can't see, doesn't exist for hosts, so that
the C library uses `clone`.

CUDA's driver makes a socket that other processes of the user could connect to, and gives up if it can't. So a host of
a model on a GPU may make such sockets: Unix, of packets, which it can't connect and from which it can't accept. Before
that the driver removes a file without a name, which must not be there: for these hosts, no file that is to be removed
is.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import socket
import struct
from functools import cache
from typing import NamedTuple

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2  # from Linux's prctl.h and seccomp.h
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_CLONE_THREAD = 0x00010000
_NUMBER, _MACHINE, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24  # where they are in what a filter sees

# Instructions of the filter's language, from Linux's bpf_common.h.
_LOAD, _IF_EQUAL, _IF_BITS, _RETURN, _AND = 0x20, 0x15, 0x45, 0x06, 0x54
_X32 = 0x40000000  # the bit of x86-64's second set of numbers
_SOCKET_TYPE = 0xF  # the bits that aren't flags


class _Machine(NamedTuple):
    """The numbers of system calls. `listening` and `removing` are among `refused`, and so is `socket`."""

    architecture: int  # as the filter is told
    refused: tuple[int, ...]
    clone: int
    clone3: int
    socket: int
    listening: tuple[int, ...]
    removing: tuple[int, ...]


_MACHINES = {
    "x86_64": _Machine(
        architecture=0xC000003E,
        refused=(
            *(41, 42, 43, 49, 50, 53, 288),  # socket, connect, accept, bind, listen, socketpair, accept4
            *(57, 58, 59, 62, 200, 322),  # fork, vfork, execve, kill, tkill, execveat
            *(82, 83, 84, 85, 86, 87, 88, 90, 91, 92, 93, 94),  # rename to lchown
            *(258, 259, 260, 263, 264, 265, 266, 268, 316),  # the same with folders
            *(76, 77, 132, 133, 235, 261, 280, 188, 189, 190),  # truncate, utime, mknod, setxattr
            *(101, 103, 139, 153, 155, 161, 163, 164, 165, 166, 167, 168, 169, 170, 171, 172, 173),  # administration
            *(175, 176, 246, 272, 298, 304, 308, 310, 311, 313, 320, 321, 323),
            # keys, io_uring, mounts, other processes' files
            *(248, 249, 250, 425, 426, 427, 428, 429, 430, 432, 424, 438),
        ),
        clone=56,
        clone3=435,
        socket=41,
        listening=(49, 50),
        removing=(87, 263),
    ),
    "aarch64": _Machine(
        architecture=0xC00000B7,
        refused=(
            *(198, 199, 200, 201, 202, 203, 242),  # socket, socketpair, bind, listen, accept, connect, accept4
            *(221, 129, 130, 281),  # execve, kill, tkill, execveat
            *(33, 34, 35, 36, 37, 38, 276, 45, 46, 52, 53, 54, 55, 88),  # mknodat to utimensat
            *(5, 6, 7),  # setxattr
            *(39, 40, 41, 51, 89, 97, 104, 105, 106, 112, 116, 117, 142, 161, 162, 170, 224, 225),  # administration
            *(241, 265, 268, 270, 271, 272, 273, 280, 282, 294),
            # keys, io_uring, mounts, other processes' files
            *(217, 218, 219, 425, 426, 427, 428, 429, 430, 432, 424, 438),
        ),
        clone=220,
        clone3=435,
        socket=198,
        listening=(200, 201),
        removing=(35,),
    ),
}


@cache
def program(*, gpu: bool = False) -> bytes:
    """Return the filter, empty for a machine that is not known. Called before a fork, it costs the hosts nothing."""
    known = _MACHINES.get(platform.machine())
    return b"" if known is None else b"".join(_instructions(known, gpu=gpu))


def install(libc: ctypes.CDLL, *, gpu: bool) -> bool:
    """Install the filter for this process, which has `no_new_privs`. Return False if the kernel or machine can't."""
    code = program(gpu=gpu)
    if not code:
        return False
    buffer = ctypes.create_string_buffer(code, len(code))
    about = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    return bool(libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.c_char_p(about), 0, 0) == 0)


def _instructions(machine: _Machine, *, gpu: bool) -> list[bytes]:
    lines = [_line(_LOAD, _MACHINE), _line(_IF_EQUAL, machine.architecture, if_so=1), _fail(errno.EPERM)]
    lines.append(_line(_LOAD, _NUMBER))
    if machine is _MACHINES["x86_64"]:
        lines += [_line(_IF_BITS, _X32, if_not=1), _fail(errno.EPERM)]
    if gpu:
        lines += _for_gpus(machine)
    for number in machine.refused:
        if not (gpu and number in machine.listening):
            lines += [_line(_IF_EQUAL, number, if_not=1), _fail(errno.EPERM)]
    lines += [_line(_IF_EQUAL, machine.clone3, if_not=1), _fail(errno.ENOSYS)]
    lines += [_line(_IF_EQUAL, machine.clone, if_not=3), _line(_LOAD, _FIRST_ARGUMENT)]
    lines += [_line(_IF_BITS, _CLONE_THREAD, if_so=1), _fail(errno.EPERM), _line(_RETURN, _ALLOW)]
    return lines


def _for_gpus(machine: _Machine) -> list[bytes]:
    lines = []
    for number in machine.removing:
        lines += [_line(_IF_EQUAL, number, if_not=1), _fail(errno.ENOENT)]
    lines += [_line(_IF_EQUAL, machine.socket, if_not=7)]
    lines += [_line(_LOAD, _FIRST_ARGUMENT), _line(_IF_EQUAL, socket.AF_UNIX, if_not=3)]
    lines += [_line(_LOAD, _SECOND_ARGUMENT), _line(_AND, _SOCKET_TYPE)]
    lines += [_line(_IF_EQUAL, socket.SOCK_SEQPACKET, if_so=1), _fail(errno.EPERM), _line(_RETURN, _ALLOW)]
    return lines


def _fail(error: int) -> bytes:
    return _line(_RETURN, _FAIL | error)


def _line(code: int, value: int, *, if_so: int = 0, if_not: int = 0) -> bytes:
    """Return an instruction. A jump skips so many lines."""
    return struct.pack("<HBBI", code, if_so, if_not, value)
