"""Auto-batching: a perceptron of 0.7 million weights over 50 connections, with BATCHSIZE 64 and without."""

from __future__ import annotations

from bench import bare, models, servers
from bench.drive import drive
from bench.rounds import Plan, Series
from bench.storing import deploy

CONNECTIONS = 50
BATCH_SIZE = 64


def run(plan: Plan) -> Series:
    middle = models.middle()
    batched = middle.named("batched")
    with servers.engine(plan.folder) as engine:
        deploy(engine.port, middle)
        deploy(engine.port, batched, batchsize=BATCH_SIZE)
        return plan.in_turns(
            {
                "ONNX Runtime loop, 1 row": lambda: bare.loop(middle, plan.seconds),
                "ONNX Runtime loop, 50 rows": lambda: bare.loop(middle, plan.seconds, rows=CONNECTIONS),
                "without": lambda: drive(engine.port, middle.dag(), CONNECTIONS, plan.seconds),
                "with": lambda: drive(engine.port, batched.dag(), CONNECTIONS, plan.seconds),
            }
        )
