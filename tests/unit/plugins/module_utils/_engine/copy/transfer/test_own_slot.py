# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pieces of a walsender's COPY."""

from __future__ import annotations

from typing import Any

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.transfer import own_slot


def rows(*sizes: int) -> Any:
    """Return a get_copy_data with rows of these sizes, and -1 at the end."""
    came = iter([*[(size, memoryview(bytes(size))) for size in sizes], (-1, memoryview(b""))])
    return lambda wait: next(came)


def test_rows_are_gathered_until_a_piece_is_full() -> None:
    get = rows(239_999, 1, 5)
    piece, ended = own_slot._gather(get)
    assert (len(piece), ended) == (240_000, False)
    assert own_slot._gather(get) == (bytes(5), True)


def test_a_copy_without_rows_ends_at_once() -> None:
    assert own_slot._gather(rows()) == (b"", True)
