"""
Classes and functions of the caller's `__main__`, for a process that has another one.

A script's or a notebook's own classes are in `__main__`, and a pickle names them there. Running the script again, as
multiprocessing does, would train and deploy again. So the classes are sent, by cloudpickle, when a model asks for them.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable


def pickled(names: Iterable[str]) -> dict[str, bytes]:
    """Return those of `names` that are classes or functions of `__main__`, pickled with all that they use of it."""
    import cloudpickle

    main = sys.modules["__main__"]
    found = {}
    for name in names:
        value = vars(main).get(name)
        if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == "__main__":
            found[name] = cloudpickle.dumps(value)
    return found
