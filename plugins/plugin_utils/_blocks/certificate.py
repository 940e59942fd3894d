# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The certificate of a cutover, as pg_cutover returns it."""

from __future__ import annotations

from collections.abc import Mapping

from ...module_utils._engine.units import count, duration
from .._table import facts, table
from .ends import Result
from .validation import number

_NO_COMMENT = (
    "Only the owner of the destination database can write its comment, so no comment says that this database is in"
    " production: after a release, only the tables that exist prevent another migrate of this name into it."
)


def certificate(result: Result, width: int) -> list[str]:
    """Return what a cutover proved, and how long each of its steps took."""
    proved: Result = result.get("certificate") or {}
    if not proved:
        return []
    marker = proved.get("marker")
    lines = [f"Certificate of the cutover, verdict {proved.get('verdict') or 'missing'}"]
    lines += facts(
        [
            ("opened", str(proved.get("opened_at") or "")),
            ("pause", duration(proved["pause_ms"] / 1000) if proved.get("pause_ms") is not None else ""),
            ("tables", number(proved.get("tables"))),
            ("rows", number(proved.get("rows"))),
            ("sequences", number(proved.get("sequences"))),
            ("definitions", _definitions(proved.get("definitions") or {})),
            ("large objects", _large_objects(proved.get("large_objects") or {})),
            ("fenced roles", ", ".join(proved.get("fenced_roles") or ())),
            ("marker", f"{marker.get('token')} at {marker.get('position')}" if isinstance(marker, Mapping) else ""),
            ("still writes", _still_writes(proved.get("writer") or {})),
            ("note", _NO_COMMENT if proved.get("comment") is False else ""),
        ],
        width,
    )
    steps = [(one.get("name", ""), duration(one.get("seconds") or 0)) for one in proved.get("steps") or ()]
    return lines + (["", *table(("step", "time"), steps, width, right=(1,))] if steps else [])


def _definitions(found: Result) -> str:
    """Return how many facts were compared, and which differences were accepted or told; empty where none were compared."""
    if not found:
        return ""
    said = [f"{count(found.get('compared') or 0)} facts compared"]
    accepted, told = found.get("accepted") or (), found.get("told") or ()
    said += [f"accepted: {', '.join(accepted)}"] if accepted else []
    said += (
        [f"{count(len(told))} differences told: {', '.join(told[:5])}{' …' if len(told) > 5 else ''}"] if told else []
    )
    return "; ".join(said)


def _still_writes(writer: Result) -> str:
    """Return that the migration's account can still write at the destination; empty where it was refused."""
    if writer.get("revoked") is False:
        return f"{writer.get('role')}, the migration's account, as causeway_revoke_writer: false wants"
    if writer.get("verified") is not False or not writer.get("writable"):
        return ""
    role = writer.get("role") or "the migration's account"
    return f"{role} can write to {count(len(writer['writable']))} tables of the destination"


def _large_objects(found: Result) -> str:
    if not found.get("objects"):
        return ""
    return f"{count(found['objects'])}, as they were when copied ({str(found.get('copied_at'))[:19]}); not compared"
