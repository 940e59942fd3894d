# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The slot guard of a running worker: a thread with a session at either end that samples the slot every few seconds.

It also runs while the task is paused, since that is when a slot is lost. Its report is in the progress row; each
change of the level is written once to the timeline and to the log.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ... import names
from ...capture.publication_members import BEFORE as PUBLICATION
from ...capture.publication_members import require_members
from ...errors import EngineError, LossError, StateError
from ...postgres._psycopg import psycopg
from ...postgres.connect import connect
from ...slot.health import OK, WARNING, LevelMeter, Sample, report, unseen
from ...slot.sampling import sample_slot
from ...state.progress import UNREPLICATED, record_slot_report
from ...state.store import StateStore

if TYPE_CHECKING:
    import logging

    from ...postgres.connect import Connection
    from ..control.config import WorkerConfig

EVERY = 3.0
_KEPT = 1200
"""Samples that are retained: an hour."""
_MISSES = 3
"""Consecutive failed samples after which the slot is reported as unseen: a restart of the source takes no longer."""


class SlotWatch:
    """The slot guard's thread. ``load`` reads the configuration at each connect; ``token`` is the worker's."""

    def __init__(self, load: Callable[[], WorkerConfig], token: str, log: logging.Logger) -> None:
        self._load = load
        self._slot = ""
        self._token = token
        self._log = log
        self._samples: deque[Sample] = deque(maxlen=_KEPT)
        self._meter = LevelMeter()
        self._last: Mapping[str, Any] = {}
        self._misses = 0
        self._end: EngineError | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="guard", daemon=True)

    def start(self, slot: str) -> None:
        """Start to sample this slot; a started guard keeps running while the worker reconnects."""
        if not self._slot:
            self._slot = slot
            self._thread.start()

    def close(self, timeout: float = 1.0) -> None:
        """Stop sampling; the sessions close within ``timeout`` seconds, or with the answer that they wait for."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def require(self) -> None:
        """Raise what ends the task, if the guard has seen it: a lost slot (LossError), which a paused task would not
        notice; a missing state table (StateError) or a table removed from the publication (LossError), which a
        streaming task would not notice.
        """
        if self._end is not None:
            raise self._end

    def _run(self) -> None:
        while not self._closing.is_set() and self._end is None:
            try:
                config = self._load()
                with connect(config.destination, f"guard {config.name}", settings=UNREPLICATED) as conn:
                    self._watch(StateStore(conn, config.state_schema, config.name))
            except (EngineError, psycopg.Error):
                # The session that applies meets the same failure, and reports it.
                self._closing.wait(EVERY)

    def _watch(self, store: StateStore) -> None:
        """Sample until `close`. Raises only errors of the destination."""
        source: Connection | None = None
        try:
            while not self._closing.is_set():
                try:
                    known = store.load()
                except StateError as exc:
                    self._end = exc
                    return
                disk = int((known.slot or {}).get("wal_disk_size", 0)) if known is not None else 0
                try:
                    if source is None:
                        source = connect(self._load().source, f"guard {store.name}")
                    publication = names.publication_name(store.name)
                    sample = sample_slot(source, self._slot, publication)
                    # of one that was dropped whole the sample tells, and names it
                    if known is not None and f"publication {publication}" not in sample.missing:
                        require_members(source, publication, known.before_image.get(PUBLICATION, {}))
                except LossError as exc:
                    self._end = exc
                    return
                except EngineError as exc:
                    if source is not None:
                        source.close()
                    source = None
                    self._missed(store, exc)
                else:
                    self._seen(store, sample, disk)
                if self._end is not None:
                    return
                self._closing.wait(EVERY)
        finally:
            if source is not None:
                source.close()

    def _seen(self, store: StateStore, sample: Sample, disk: int) -> None:
        self._misses = 0
        if self._samples and (sample.position < self._samples[-1].position or sample.at <= self._samples[-1].at):
            self._samples.clear()  # another server or an older copy of it: samples cannot be compared
        self._samples.append(sample)
        self._report(store, report(self._slot, self._samples, disk))
        if sample.lost:
            worst = self._last["findings"][0]
            self._end = LossError("watching the replication slot", self._slot, worst["text"], worst["remedy"])

    def _missed(self, store: StateStore, why: EngineError) -> None:
        self._misses += 1
        if self._misses >= _MISSES:
            self._report(store, unseen(why.why, self._last))

    def _report(self, store: StateStore, seen: Mapping[str, Any]) -> None:
        """Record the sample; write an event and a log line where the level has changed."""
        before = self._meter.level
        changed = self._meter.take(str(seen["level"]))
        level = self._meter.level
        self._last = {**seen, "level": level}
        record_slot_report(store, self._token, self._last)
        if not changed:
            return
        texts = [f"{finding['text']}. {finding['remedy']}" for finding in seen["findings"]]
        said = " ".join(texts) or f"replication slot {self._slot} is well again"
        known = {
            key: value for key, value in seen.items() if key not in ("at", "findings", "level") and value is not None
        }
        store.event("replicating", f"slot guard: {level}, was {before}", {"said": texts, **known})
        extra = {"event": "slot_guard", "fields": {"level": level, "was": before}}
        if level == OK:
            self._log.info("slot guard: %s", said, extra=extra)
        elif level == WARNING:
            self._log.warning("slot guard: %s", said, extra=extra)
        else:
            self._log.error("slot guard: %s", said, extra=extra)
