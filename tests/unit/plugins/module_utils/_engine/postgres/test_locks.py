# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions in a sentence."""

from __future__ import annotations

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres import locks


@pytest.mark.parametrize(
    ("holders", "words"),
    [
        ((), "a session that has already ended"),
        (("a",), "a"),
        (("a", "b"), "a; b"),
        (("a", "b", "c", "d", "e"), "a; b; c; d; e"),
        (("a", "b", "c", "d", "e", "f"), "a; b; c; d; e and 1 more"),
        (("a", "b", "c", "d", "e", "f", "g", "h"), "a; b; c; d; e and 3 more"),
    ],
)
def test_five_holders_are_named_and_the_others_counted(holders: tuple[str, ...], words: str) -> None:
    assert locks.named(holders) == words


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ((None, "", "", "", "", "", "gid'1"), 'prepared transaction "gid\'1"'),
        ((None, "", "", "", "", "", None), "a prepared transaction"),
        ((7, "psql", "größe", "active", "", "", None), "pid 7 (psql, user größe, active)"),
        ((7, "", "", "", "", "", None), "pid 7 (no application_name, user unknown)"),
        (
            (7, "psql", "app", "active", "12:00", "SyncRep", None),
            "pid 7 (psql, user app, active, waiting for a synchronous standby) in a transaction since 12:00",
        ),
        ((7, "psql", "app", "idle", "", "ClientRead", None), "pid 7 (psql, user app, idle)"),
    ],
)
def test_a_holder_is_described_without_its_query(row: tuple[object, ...], words: str) -> None:
    assert locks._described(row) == words
