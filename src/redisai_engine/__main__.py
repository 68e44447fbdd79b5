"""The entry point of `python -m redisai_engine`."""

import sys

from redisai_engine.cli import main

sys.exit(main())
