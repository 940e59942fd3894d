# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of all objects that a migration creates, derived from its own name.

They never decide ownership: the recorded name and identity do (`state`).
"""

from __future__ import annotations

import hashlib
import re

SLOT_PREFIX = "dts_sync_"
"""The reference tool's prefix: DBAs look for it."""

_LIMIT = 63  # NAMEDATALEN - 1, in bytes; our names are ASCII


def slug(name: str, limit: int = _LIMIT) -> str:
    """Return ``name`` as at most ``limit`` of ``[a-z0-9_]``, with eight hex digits of its hash if that changed it."""
    plain = re.sub(r"[^a-z0-9_]", "_", name.lower())
    if plain == name and len(plain) <= limit:
        return plain
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{plain[: limit - 9]}_{digest}"


def slot_name(name: str) -> str:
    """Return the name of the migration's replication slot."""
    return SLOT_PREFIX + slug(name, _LIMIT - len(SLOT_PREFIX))


def run_slot_name(name: str, run: int, ordinal: int = 0) -> str:
    """Return the name of a copy run's temporary slot; there are several only where each connection creates its own."""
    suffix = f"_r{run}_{ordinal}"
    return SLOT_PREFIX + slug(name, _LIMIT - len(SLOT_PREFIX) - len(suffix)) + suffix


def publication_name(name: str) -> str:
    """Return the name of the migration's publication at the source."""
    return "causeway_" + slug(name, _LIMIT - len("causeway_"))


def folder_name(name: str) -> str:
    """Return the name of the migration's folder on the worker host."""
    return slug(name, 48)


def lock_key(name: str, purpose: str) -> int:
    """Return a signed 64-bit advisory lock key; ``purpose`` is ``run`` (one playbook), ``worker`` (one writer),
    ``copy`` (one leader), ``build`` (shared: by those that build indexes while another process leads the copy),
    ``place`` (shared: by the sessions of one place's workers; ``name`` is the place), ``fence`` (moving the fence at the
    source), ``state`` or ``bookkeeping`` (creating a schema that migrations share; ``name`` is the schema's)."""
    digest = hashlib.sha256(f"causeway:{purpose}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def lock_halves(key: int) -> tuple[int, int]:
    """Return ``classid`` and ``objid`` by which pg_locks shows a 64-bit advisory lock key."""
    return (key >> 32) & 0xFFFFFFFF, key & 0xFFFFFFFF
