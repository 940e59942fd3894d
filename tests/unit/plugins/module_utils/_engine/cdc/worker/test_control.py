# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running worker hears while it waits for its turn: a command at once, a new setting at once."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.batch_limits import BatchLimits
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.batches import Batch
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.control.lifecycle import WorkerStep
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.control.sd_notify import Pulse
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.control.signals import Flag
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.worker.control import Control
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.task import ControlRow


class Row:
    """The control row, as the watcher reads it; and the batcher's one setting."""

    def __init__(self, **settings: Any) -> None:
        self.control: ControlRow | None = ControlRow("started", settings, 0)
        self.limits = BatchLimits()

    def set(self, wanted: str = "started", **settings: Any) -> None:
        generation = self.control.generation + 1 if self.control else 0
        self.control = ControlRow(wanted, settings, generation)


def batch(rows: int, size: int = 0) -> Batch:
    made = Batch()
    made.inserts, made.size = rows, size
    return made


def steering(row: Row) -> Any:
    made: Any = Control(Flag(), logging.getLogger("test"), Pulse(1.0))
    made.follow(row)
    return made


def test_without_a_pace_every_piece_goes_at_once() -> None:
    row = Row()
    assert steering(row).admit(batch(10_000_000, 1 << 30), row)


def test_a_piece_waits_and_a_command_ends_the_wait() -> None:
    row = Row(rows_per_second=10)
    one = steering(row)
    one.throttle.take(100_000, 0, time.monotonic())
    threading.Timer(0.2, row.set, ["paused"]).start()
    began = time.monotonic()
    assert not one.admit(batch(1), row)
    assert 0.1 < time.monotonic() - began < 5
    assert one.step() is WorkerStep.REST


def test_a_new_pace_ends_the_wait_and_is_told_once() -> None:
    row = Row(rows_per_second=10)
    one = steering(row)
    one.throttle.take(100_000, 0, time.monotonic())
    assert one.take_news() == []
    threading.Timer(0.2, row.set, kwargs={"rows_per_second": 0}).start()
    assert one.admit(batch(1), row)
    assert one.take_news() == [{"rows_per_second": [10, 0]}]
    assert one.take_news() == []


def test_batches_are_narrowed_by_the_pace_and_widen_again() -> None:
    row = Row(batch_size=5000)
    one = steering(row)
    row.limits = one.settings.batch_limits()
    assert not one.look(row)
    row.set(batch_size=5000, rows_per_second=100)
    # what waits already is too large for that pace, and is to be taken anew
    assert one.look(row)
    assert row.limits.max_changes == 10
    assert not one.look(row)
    row.set(batch_size=5000)
    assert not one.look(row)
    assert row.limits.max_changes == 5000


def test_a_piece_that_waits_is_given_up_for_smaller_ones() -> None:
    row = Row(rows_per_second=1000)
    one = steering(row)
    row.limits = one.settings.batch_limits()
    one.throttle.take(100_000, 0, time.monotonic())
    threading.Timer(0.1, row.set, kwargs={"rows_per_second": 10}).start()
    assert not one.admit(batch(100), row)
    assert row.limits.max_changes == 1


def test_settings_that_a_person_wrote_past_the_module_are_not_taken() -> None:
    row = Row(rows_per_second=1000)
    one = steering(row)
    row.set(rows_per_second=3)
    one.look(row)
    row.set(rows_per_second="many")
    one.look(row)
    assert one.settings.rows_per_second == 1000


def test_a_row_that_is_gone_ends_all() -> None:
    row = Row()
    one = steering(row)
    row.control = None
    one.look(row)
    assert one.step() is WorkerStep.LEAVE
