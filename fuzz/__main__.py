"""
Run the campaign: each target for its share of the time, or for a number of inputs. Print every fault with its input.

`scripts/fuzz --minutes 60` explores for an hour. `scripts/fuzz --replay FILE --only dumps` reads one input again.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from fuzz import explore, sessions, targets

FOLDER = Path(".cache") / "fuzz"  # findings, logs, and inputs that reached something new
SECONDS_BEYOND = 400  # for starting, which imports frameworks on a busy machine, and for an input that hangs
DEFAULT_MINUTES = 3.0


@dataclass(frozen=True)
class Share:
    """A target, and what it gets of the campaign."""

    target: str
    seconds: int | None
    inputs: int | None


def main() -> int:
    arguments = _arguments()
    names = [name for name in [*targets.TARGETS, *sessions.SESSIONS] if re.search(arguments.only, name)]
    if arguments.list:
        print("\n".join(names))
        return 0
    if arguments.replay:
        return _replay(names, arguments.replay)
    if not explore.CAN_SEE:
        print(
            "atheris isn't installed (it needs Linux on x86-64 and CPython 3.11 to 3.13): Hypothesis makes the inputs"
        )
    print(f"seed {arguments.seed}", flush=True)
    faults = [_explored(share, arguments.seed) for share in _shares(names, arguments)]
    return 1 if any(faults) else 0


def _shares(names: list[str], arguments: argparse.Namespace) -> list[Share]:
    """Divide the time by the targets' weights. A session is slow, so a number of inputs is divided for it."""
    if arguments.inputs:
        return [Share(name, None, max(1, arguments.inputs // _cost(name))) for name in names]
    weights = {name: sessions.SESSIONS[name].weight if name in sessions.SESSIONS else 1 for name in names}
    seconds = arguments.minutes * 60 / sum(weights.values())
    return [Share(name, max(1, round(seconds * weight)), None) for name, weight in weights.items()]


def _cost(name: str) -> int:
    return sessions.SESSIONS[name].cost if name in sessions.SESSIONS else 1


def _explored(share: Share, seed: int) -> bool:
    """Explore one target in a process of its own. Return whether there are faults."""
    findings = FOLDER / "findings" / share.target
    findings.mkdir(parents=True, exist_ok=True)
    for old in findings.iterdir():
        old.unlink()
    log = FOLDER / f"{share.target}.log"
    command = [sys.executable, "-m", "fuzz.explore", share.target, "--seed", str(seed)]
    command += ["--findings", str(findings), "--corpus", str(FOLDER / "corpus" / share.target)]
    command += ["--inputs", str(share.inputs)] if share.inputs else ["--seconds", str(share.seconds)]
    with log.open("w") as output:
        ended = _run(command, output, None if share.seconds is None else share.seconds + SECONDS_BEYOND)
        if share.target in targets.TARGETS:
            _run([*command, "--leaks"], output, SECONDS_BEYOND)
    return _report(share.target, ended, findings, log)


def _run(command: list[str], output: TextIO, limit: float | None) -> int:
    try:
        return subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, timeout=limit, check=False).returncode
    except subprocess.TimeoutExpired:
        return -1


def _report(target: str, ended: int, findings: Path, log: Path) -> bool:
    text = log.read_text(errors="replace")
    done = re.findall(r"Done (\d+) runs", text)
    found = sorted(path for path in findings.iterdir() if path.suffix != ".txt")
    print(f"{target}: {done[-1] if done else 'no'} inputs, {len(found)} faults", flush=True)
    for path in found:
        print(f"  {path}: scripts/fuzz --only ^{target}$ --replay {shlex.quote(str(path))}")
        told = path.with_suffix(path.suffix + ".txt")
        print("".join(f"    {line}\n" for line in told.read_text().splitlines()[-6:]) if told.exists() else "")
    if not done and not found:
        print(f"  it ended with {ended}:\n" + "\n".join(f"    {line}" for line in text.splitlines()[-12:]))
    return bool(found) or not done


def _replay(names: list[str], files: list[Path]) -> int:
    """Read files as inputs of the named targets, without limits, so that a debugger or profiler can be used."""
    for name in names:
        served = (
            contextlib.nullcontext(targets.TARGETS[name])
            if name in targets.TARGETS
            else sessions.SESSIONS[name].served()
        )
        with served as check:
            for file in files:
                print(f"{name}: {file}", flush=True)
                check(file.read_bytes())
    return 0


def _arguments() -> argparse.Namespace:
    today = datetime.datetime.now(datetime.timezone.utc)
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=DEFAULT_MINUTES, help=f"of all targets ({DEFAULT_MINUTES:g})")
    parser.add_argument(
        "--inputs", type=int, help="for each parser, and fewer for what needs a server, without a time limit"
    )
    parser.add_argument(
        "--seed", type=int, default=int(today.strftime("%Y%m%d")), help="(default: the day, as YYYYMMDD)"
    )
    parser.add_argument("--only", default="", help="a regular expression that names of targets must contain")
    parser.add_argument("--list", action="store_true", help="print the names of the targets")
    parser.add_argument("--replay", type=Path, nargs="+", help="files to read again")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
