"""
What a host may do: read its frameworks' files, compute in a bounded amount of memory, and answer. Nothing else.

Theory of operation. A host sets its own limits before it sees anything of a client, and can't lift them afterwards.
Resource limits bound memory, open files and the size of files that it writes (to nothing). Landlock leaves it the
folders of Python, of the loaded packages and of the system's libraries, to read. A filter of system calls
(`filter.py`) takes away sockets, new programs and everything that administers a machine. The last two depend on the
kernel; what it lacks is returned, for the log.

Linux only; elsewhere only the resource limits hold.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import struct
import sys
import sysconfig
from pathlib import Path

from redisai_engine.execution.hosts import filter as system_calls

_OPEN_FILES = 80
_OPEN_FILES_OF_GPU = 1024  # CUDA opens some twenty for each GPU of the machine
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38  # from Linux's prctl.h

# From Linux's landlock.h: system calls (the same numbers on all machines), the rights by the version that added the
# last of them, and the kind of rule.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # the lowest so many bits
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE, _IOCTL = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL
_NETWORK = 3  # bind and connect of TCP
_SCOPES = 3  # abstract Unix sockets and signals
_PATH_BENEATH = 1

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_CAPABILITIES = 0x20080522  # the version of capset's structures, from Linux's capability.h

#: What frameworks and the C library read besides their own files.
_SYSTEM_FILES = (
    *("/etc/ld.so.cache", "/etc/localtime", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/self"),
    *("/proc/sys/vm", "/sys/devices/system", "/sys/fs/cgroup", "/dev/null", "/dev/zero", "/dev/urandom"),
)
#: What CUDA and ROCm read about GPUs, and patterns of what they use them by in /dev.
_GPU_FILES = ("/proc/driver", "/proc/devices", "/sys")
_GPU_DEVICES = ("nvidia*", "dri", "kfd", "dxg")

_libc = ctypes.CDLL(None, use_errno=True)


def end_with_parent(parent: int) -> None:
    """Have Linux kill this process when its parent dies, and end now if that has happened already."""
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def readable_folders() -> list[str]:
    """Return the folders of Python, of the packages that are loaded now, and of the system's libraries."""
    folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path and "." not in name:
            folders.add(str(Path(path).parent) if Path(path).name == "__init__.py" else path)
    return _outermost(
        {os.path.realpath(folder) for folder in (*folders, "/usr", "/lib", "/lib64") if os.path.exists(folder)}
    )


def _outermost(paths: set[str]) -> list[str]:
    """Leave out what is in a folder that is among them. Each path costs every host time, and pages of its own."""
    return sorted(path for path in paths if not any(str(folder) in paths for folder in Path(path).parents))


def restrict(folders: list[str], memory: int, *, gpu: bool) -> list[str]:
    """
    Restrict the calling process, which must have one thread, for good. Return what couldn't be restricted.

    `memory` is how many bytes it may take besides those that it has; 0 means no limit.
    """
    _limit_resources(memory, _OPEN_FILES_OF_GPU if gpu else _OPEN_FILES)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
        file.write(b"500")  # Linux ends a host before it ends the engine or Redis
    if sys.platform != "linux":
        return ["files", "system calls"]
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _libc.capset(struct.pack("<Ii", _CAPABILITIES, 0), bytes(24))  # a host of root's could lift its limits
    missing = []
    if not _restrict_files(folders, gpu=gpu):
        missing.append("files (this kernel has no Landlock)")
    if not system_calls.install(_libc, gpu=gpu):
        missing.append("system calls (this kernel has no seccomp filters, or none are known for this machine)")
    return missing


def _limit_resources(memory: int, files: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write that is too long is an error, not the end
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, files),
    ):
        _lower(what, most)
    if memory:
        _lower(resource.RLIMIT_DATA, _data_size() + memory)


def _lower(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))


def _data_size() -> int:
    """Return the bytes of private memory that this process has reserved, its stack's included."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:
            return int(file.read().split()[5]) * _PAGE_BYTES
    except OSError:
        return 0


def _restrict_files(folders: list[str], *, gpu: bool) -> bool:
    """Leave only these folders and the system's files, to read. Return False if the kernel can't."""
    version = _libc.syscall(_CREATE_RULESET, None, 0, _VERSION)
    if version < 1:
        return False
    rights = (1 << _RIGHTS.get(version, 16)) - 1
    attributes = struct.pack("<QQQ", rights, _NETWORK, _SCOPES)[: 8 if version < 4 else 16 if version < 6 else 24]
    rules = _libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    if rules < 0:
        return False
    try:
        for path in (*folders, *_SYSTEM_FILES):
            _allow(rules, path, _READ_FILE | _READ_DIR | _EXECUTE)
        _allow(rules, "/dev/null", _READ_FILE | _WRITE_FILE)
        if gpu:
            _allow_gpus(rules, rights)
        return bool(_libc.syscall(_RESTRICT_SELF, rules, 0) == 0)
    finally:
        os.close(rules)


def _allow_gpus(rules: int, rights: int) -> None:
    for path in _GPU_FILES:
        _allow(rules, path, _READ_FILE | _READ_DIR)
    for device in (device for pattern in _GPU_DEVICES for device in Path("/dev").glob(pattern)):
        _allow(rules, str(device), (_READ_FILE | _READ_DIR | _WRITE_FILE | _IOCTL) & rights)
    _allow(rules, "/proc/self/task", (_READ_FILE | _READ_DIR | _WRITE_FILE | _TRUNCATE) & rights)  # to name threads


def _allow(rules: int, path: str, rights: int) -> None:
    """Allow a folder with all that is in it, or a file. A missing one is skipped."""
    try:
        there = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(path):
            rights &= _OF_FILES
        _libc.syscall(_ADD_RULE, rules, _PATH_BENEATH, struct.pack("<Qi", rights, there), 0)
    finally:
        os.close(there)
