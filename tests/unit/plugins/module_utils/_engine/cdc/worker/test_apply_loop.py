# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The apply loop: what is durable is noted, then confirmed; a stop drains to a commit; what is not applied is taken back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes.batches import Batch
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.control.lifecycle import WorkerStep
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.worker import apply_loop
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.worker.apply_loop import ApplyLoop

APPLY, STOP = WorkerStep.APPLY, WorkerStep.STOP


def double(value: object) -> Any:
    """Return what stands in for one of the loop's parts."""
    return value


class Played:
    """Both ends of a loop, and control: what they are asked, in order. ``steps`` is what control answers, one a round."""

    def __init__(self, batches: list[Batch | None], steps: list[WorkerStep], idle: int = 0) -> None:
        self.asked: list[str] = []
        self.batches = batches
        self.steps = steps
        self.idle = idle
        self.refused = self.narrowed = False
        self.news: list[dict[str, object]] = []
        self.progress = SimpleNamespace(confirmable=0, record_confirmable=self._record)
        self.stream = SimpleNamespace(
            received=90,
            confirmed=10,
            take=lambda dummy: self.batches.pop(0) if self.batches else None,
            upcoming=lambda: self.batches[0] if self.batches else None,
            idle_position=lambda: self.idle,
            take_reply_request=lambda: False,
            confirm=lambda position: self.asked.append(f"confirm {position}"),
        )
        self.applier = SimpleNamespace(
            open=False,
            apply=self._apply,
            prepare=lambda batch: self.asked.append(f"prepare {batch.end_lsn}"),
            abandon=lambda: self.asked.append("abandon"),
            set_conflict_policy=lambda dummy: None,
        )
        self.control = SimpleNamespace(
            settings=SimpleNamespace(conflict_policy="overwrite", tags={"team": "a"}),
            step=lambda: self.steps.pop(0),
            look=lambda dummy: self.narrowed,
            admit=lambda dummy, dummy_batcher: not self.refused,
            take_news=self._take_news,
        )
        self.reporter = SimpleNamespace(
            reading=SimpleNamespace(tags={}), announce=lambda dummy, what, fields: self.asked.append(f"{what} {fields}")
        )

    def _record(self, position: int, received: int, confirmed: int) -> None:
        self.asked.append(f"record {position} {received} {confirmed}")
        self.progress.confirmable = position

    def _apply(self, batch: Batch, received: int, confirmed: int) -> bool:
        self.asked.append(f"apply {batch.end_lsn} {received} {confirmed}")
        self.applier.open = not batch.last_of_transaction
        if batch.last_of_transaction:
            self.progress.confirmable = batch.end_lsn
        return batch.last_of_transaction

    def _take_news(self) -> list[dict[str, object]]:
        news, self.news = self.news, []
        return news

    def run(self) -> list[str]:
        loop = ApplyLoop(
            double(SimpleNamespace(store=None, progress=self.progress)),
            double(self.stream),
            double(None),
            double(self.applier),
            10,
            control=double(self.control),
            slot_monitor=double(SimpleNamespace(require=lambda: None)),
            reporter=double(self.reporter),
            progressed=lambda position: self.asked.append(f"progressed {position}"),
        )
        with ThreadPoolExecutor(1) as writer:
            loop.run(writer)
        return self.asked


def batch(end: int, *, last: bool = True, changes: int = 1) -> Batch:
    made = Batch()
    made.end_lsn, made.last_of_transaction, made.inserts = end, last, changes
    return made


def test_what_is_durable_is_noted_before_the_source_hears_of_it() -> None:
    assert Played([batch(20)], [APPLY, STOP]).run() == ["apply 20 90 10", "progressed 20", "confirm 20", "abandon"]


def test_a_stop_in_the_middle_of_a_large_transaction_waits_for_its_commit() -> None:
    played = Played([batch(0, last=False), batch(30)], [APPLY, STOP, STOP])
    assert played.run() == ["apply 0 90 10", "apply 30 90 10", "progressed 30", "confirm 30", "abandon"]


def test_a_stop_takes_back_a_transaction_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply_loop, "_DRAIN_TIMEOUT", -1.0)
    assert Played([batch(0, last=False), batch(30)], [APPLY, STOP]).run() == ["apply 0 90 10", "abandon"]


def test_the_position_of_a_keepalive_is_recorded_before_it_is_confirmed_and_once_a_second() -> None:
    played = Played([], [APPLY, APPLY, STOP], idle=50)
    assert played.run() == ["record 50 90 10", "progressed 50", "confirm 50", "abandon"]


def test_no_keepalive_is_recorded_inside_a_transaction_or_behind_what_is_done() -> None:
    played = Played([batch(0, last=False), None, batch(60)], [APPLY, APPLY, STOP, STOP], idle=50)
    assert played.run() == ["apply 0 90 10", "apply 60 90 10", "progressed 60", "confirm 60", "abandon"]
    assert Played([], [APPLY, STOP], idle=10).run() == ["abandon"]


@pytest.mark.parametrize("why", ["refused", "narrowed"])
def test_a_batch_that_is_not_wanted_any_more_is_left_to_come_again(why: str) -> None:
    played = Played([batch(20)], [APPLY])
    setattr(played, why, True)
    assert played.run() == ["abandon"]


def test_a_large_batch_is_written_while_the_next_one_is_prepared() -> None:
    asked = Played([batch(20, changes=5000), batch(30)], [APPLY, APPLY, STOP]).run()
    assert [one for one in asked if not one.startswith("prepare")] == [
        *("apply 20 90 10", "progressed 20", "confirm 20"),
        *("apply 30 90 10", "progressed 30", "confirm 30", "abandon"),
    ]
    assert asked.count("prepare 30") <= 1


def test_changed_settings_are_announced_between_transactions_only() -> None:
    played = Played([batch(0, last=False), batch(30)], [APPLY, APPLY, APPLY, STOP])
    played.news = [{"batch_size": [1, 2]}]
    take = played._take_news
    played.control.take_news = lambda: [] if played.batches else take()
    asked = played.run()
    assert asked.index("confirm 30") < asked.index("settings changed {'batch_size': [1, 2]}")
    assert played.reporter.reading.tags == {"team": "a"}
