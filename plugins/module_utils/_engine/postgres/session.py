# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings that each of our sessions pins, so that a value means the same at both ends.

A walsender gets them through the startup ``options`` too: without them a role's ``datestyle`` decides what
4 March looks like in the stream.
"""

from __future__ import annotations

from collections.abc import Mapping

from .versions import has

PINNED: Mapping[str, str] = {
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "xmloption": "content",
    "array_nulls": "on",  # if off, a NULL in an array arrives as the word
    "lc_monetary": "C",
    "quote_all_identifiers": "off",  # it changes the text of regclass and the like
    "client_encoding": "UTF8",
    "search_path": "",
    "row_security": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    # A host that dies without closing its connection must lose its locks: the server probes whether we still exist.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
"""Settings that every supported server knows."""

LATER_TIMEOUTS = ("idle_session_timeout", "transaction_timeout")
"""Timeouts that came with later versions; also set to 0."""


OFF_FOR_WALSENDERS = ("polar_publish_via_partition_root",)
"""Settings that a walsender turns off where the server has them. On PolarDB 11 this one stops the stream at the first
change of a partition, since the publication names partitions and not their roots."""


def startup_options(settings: Mapping[str, str]) -> str:
    """Return ``settings`` as libpq's ``options`` parameter, blanks and backslashes escaped as the server reads them."""
    words = []
    for name, value in settings.items():
        escaped = value.replace("\\", "\\\\").replace(" ", "\\ ")
        words.append(f"-c {name}={escaped}")
    return " ".join(words)


def later_timeouts(server_version: int) -> Mapping[str, str]:
    """Return the timeouts that a server of this version knows and that the startup packet could not name."""
    return {name: "0" for name in LATER_TIMEOUTS if has(server_version, name)}
