"""
A process that wants an environment, as an engine does: `building_process.py ENVIRONMENTS REQUIREMENT ...`.

It prints what it is told, and at last the interpreter, which it uses until its standard input ends.
"""

from __future__ import annotations

import sys
from pathlib import Path

from redisai_engine.environments.environments import Environments


def main() -> None:
    folder, *requirements = sys.argv[1:]
    environments = Environments(Path(folder), 0)
    wanted = {"kind": "uv", "requirements": requirements}
    interpreter = environments.interpreter(wanted, {}, lambda line: print("told", line, flush=True), 120.0)
    print("ready", interpreter, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
