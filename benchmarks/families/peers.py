"""Ratios to other queues, measured on the same machine in the same round; not built yet."""

from __future__ import annotations

from benchmarks.families.measurement import Measurement
from benchmarks.judging.verdicts import Row

MEASUREMENTS = (
    Measurement(
        "rabbitmq",
        (
            Row("rabbitmq_submit", "against RabbitMQ quorum queues: submit", "ratio", 2.5, 5.5),
            Row("rabbitmq_lifecycle", "against RabbitMQ quorum queues: lifecycle", "ratio", 2, 6),
        ),
        None,
    ),
    Measurement(
        "nats",
        (
            Row("nats_submit", "against NATS R3, sync always: submit", "ratio", 1.7, 3.8),
            Row("nats_lifecycle", "against NATS R3, sync always: lifecycle", "ratio", 2.5, 8),
        ),
        None,
    ),
)
