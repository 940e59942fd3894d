# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The other side of the decoder: messages to bytes, written from the manual and sharing nothing with the engine."""

from __future__ import annotations

import struct

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.changes import messages as m


def text(value: str) -> bytes:
    return value.encode() + b"\0"


def tuple_data(row: m.Row) -> bytes:
    parts = [struct.pack("!H", len(row.kinds))]
    for kind, value in zip(row.kinds, row.values, strict=True):
        parts.append(bytes([kind]))
        if value is not None:
            parts.append(struct.pack("!I", len(value)) + value)
    return b"".join(parts)


def encode(message: m.Message) -> bytes:
    if isinstance(message, m.Begin):
        return b"B" + struct.pack("!QqI", message.final_lsn, message.commit_time_us, message.xid)
    if isinstance(message, m.Commit):
        return b"C" + struct.pack("!BQQq", message.flags, message.commit_lsn, message.end_lsn, message.commit_time_us)
    if isinstance(message, m.Origin):
        return b"O" + struct.pack("!Q", message.commit_lsn) + text(message.name)
    if isinstance(message, m.Relation):
        schema = "" if message.schema == "pg_catalog" else message.schema
        head = b"R" + struct.pack("!I", message.oid) + text(schema) + text(message.name)
        head += message.identity.encode() + struct.pack("!H", len(message.columns))
        return head + b"".join(
            bytes([column.part_of_key]) + text(column.name) + struct.pack("!Ii", column.type_oid, column.typmod)
            for column in message.columns
        )
    if isinstance(message, m.Type):
        schema = "" if message.schema == "pg_catalog" else message.schema
        return b"Y" + struct.pack("!I", message.oid) + text(schema) + text(message.name)
    if isinstance(message, m.Insert):
        return b"I" + struct.pack("!I", message.relation_oid) + b"N" + tuple_data(message.new)
    if isinstance(message, m.Update):
        old = b"" if message.old is None else message.old_kind.encode() + tuple_data(message.old)
        return b"U" + struct.pack("!I", message.relation_oid) + old + b"N" + tuple_data(message.new)
    if isinstance(message, m.Delete):
        return b"D" + struct.pack("!I", message.relation_oid) + message.old_kind.encode() + tuple_data(message.old)
    if isinstance(message, m.Truncate):
        flags = message.cascade * 1 + message.restart_identity * 2
        oids = message.relation_oids
        return b"T" + struct.pack(f"!IB{len(oids)}I", len(oids), flags, *oids)
    return (
        b"M"
        + struct.pack("!BQ", message.transactional, message.lsn)
        + text(message.prefix)
        + struct.pack("!I", len(message.content))
        + message.content
    )
