# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A break point stops the process that the environment names it for, and no other."""

from __future__ import annotations

import os
import signal

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine import breakpoints


@pytest.mark.parametrize(("named", "stops"), [(None, False), ("", False), ("here", True), ("elsewhere", False)])
def test_only_the_named_place_stops(monkeypatch: pytest.MonkeyPatch, named: str | None, stops: bool) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    if named is None:
        monkeypatch.delenv(breakpoints.VARIABLE, raising=False)
    else:
        monkeypatch.setenv(breakpoints.VARIABLE, named)
    breakpoints.reached("here")
    assert sent == ([(os.getpid(), signal.SIGSTOP)] if stops else [])
