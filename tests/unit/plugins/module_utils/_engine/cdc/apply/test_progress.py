# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose lock is waited for again, and whose ends the worker."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.apply import progress
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import ConnectError, StateError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.progress import ShownProgress


@pytest.mark.parametrize(
    ("age", "error"), [(0.5, StateError), (29.0, StateError), (31.0, ConnectError), (None, ConnectError)]
)
def test_another_worker_that_is_heard_of_ends_us_and_a_silent_one_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, age: float | None, error: type[Exception]
) -> None:
    def refuse(*dummy: Any) -> None:
        raise StateError("taking the lock", "m", "pid 7 applies already", "One worker is enough.")

    monkeypatch.setattr(progress, "lock_worker", refuse)
    monkeypatch.setattr(progress, "show_whole_progress", lambda dummy: ShownProgress({}, age))
    monkeypatch.setattr(progress, "progress_table", lambda *dummy: None)
    store: Any = SimpleNamespace(name="m")
    connection: Any = SimpleNamespace()
    claimant = progress.Claimant("token", "host", 1, "engine", "here")
    with pytest.raises(error, match="pid 7 applies already"):
        progress.ProgressStore(connection, store, claimant).take_lock(1.0)
