# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Log sequence numbers: positions in the WAL, in bytes (PostgreSQL manual, `pg_lsn`)."""

from __future__ import annotations

from ..errors import ProtocolError

Lsn = int
"""A position in the WAL as the 64-bit number that it is; 0 is no position."""

NO_LSN: Lsn = 0


def parse_lsn(text: str) -> Lsn:
    """Return ``'16/B374D848'`` as a number. Raises ProtocolError for anything else."""
    high, slash, low = text.partition("/")
    try:
        if not slash:
            raise ValueError(text)
        value = (int(high, 16) << 32) | int(low, 16)
    except ValueError as exc:
        raise ProtocolError(
            "reading a WAL position", "", "the server sent a text that is not a pg_lsn", "Report this as a bug."
        ) from exc
    return value


def format_lsn(value: Lsn) -> str:
    """Return a number as ``'16/B374D848'``, as PostgreSQL prints it."""
    return f"{value >> 32:X}/{value & 0xFFFFFFFF:X}"
