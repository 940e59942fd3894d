# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `pg_restore -v -f` writes, taken apart: one entry for each object of the archive's table of contents. Pure.

pg_restore prints before each object the number of its entry, its identity in the source's catalog, and what it needs;
that is exact where the readable name is not (a name may hold anything).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from ..errors import ProtocolError

_HEADER = re.compile(
    r"^--\n-- TOC entry (?P<id>\d+) \(class (?P<class>\d+) OID (?P<oid>\d+)\)\n"
    r"(?:-- Dependencies: (?P<needs>[\d ]+)\n)?"
    r"-- Name: (?P<tag>[^\n]*); Type: (?P<kind>[A-Z ]+); Schema: (?P<schema>[^\n]*); Owner: (?P<owner>[^\n]*)\n"
    r"(?:-- Data Pos: \d+\n)?--\n",
    re.MULTILINE,
)
_LISTED = re.compile(r"^(\d+); (\d+) (\d+) ", re.MULTILINE)
_TABLESPACE = re.compile(r"; Tablespace: [^\n]*\Z")
_END = re.compile(r"(?:^-- Completed on [^\n]*\n\n)?^--\n-- PostgreSQL database dump complete\n--\n", re.MULTILINE)
_STRINGS = re.compile(r"^SET standard_conforming_strings = (on|off);$", re.MULTILINE)
_STRAY = re.compile(r"(?:\s*^SET default_(?:tablespace|table_access_method) = [^\n]*;\s*)+\Z", re.MULTILINE)
"""Printed before the header of an object, and so at the end of the one before it, by programs older than 15."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of the dump.

    ``class_oid`` and ``oid`` say which row of the source's catalog it is, 0 where it is none of its own (a comment, a
    grant, an attachment). ``needs`` are the ``dump_id`` of what must stand before it. ``tag`` is its name as the
    archive has it, line breaks as blanks. ``text`` is the SQL that makes it, ``owner_text`` what gives it its owner.
    """

    dump_id: int
    class_oid: int
    oid: int
    needs: tuple[int, ...]
    kind: str
    schema: str
    tag: str
    owner: str
    text: str
    owner_text: str = ""

    @property
    def has_statement(self) -> bool:
        """False where the archive holds nothing but a comment, as for a schema that initdb makes."""
        return any(line and not line.startswith("--") for line in self.text.splitlines())


@dataclass(frozen=True, slots=True)
class Script:
    """A dump taken apart, in the order in which it can be restored."""

    entries: tuple[Entry, ...]
    standard_strings: bool


def parse(listing: str, script: str, without_owners: str) -> Script:
    """Take apart what pg_restore printed with and without ``--no-owner``; what the first has more is the owner's.

    ``listing`` is the table of contents as ``--list`` has it: a header that is none of its entries is part of a function.
    Raises ProtocolError when it does not look as expected.
    """
    known = {line.groups() for line in _LISTED.finditer(listing)}
    plain = {entry.dump_id: entry for entry in _entries(without_owners, known)}
    entries = []
    for entry in _entries(script, known):
        bare = plain.get(entry.dump_id)
        if bare is None or not entry.text.startswith(bare.text):
            raise _unexpected(f"entry {entry.dump_id} ({entry.kind})")
        entries.append(
            Entry(
                entry.dump_id,
                entry.class_oid,
                entry.oid,
                entry.needs,
                entry.kind,
                entry.schema,
                entry.tag,
                entry.owner,
                bare.text,
                entry.text[len(bare.text) :].strip(),
            )
        )
    strings = _STRINGS.search(script)
    return Script(tuple(entries), strings is None or strings[1] == "on")


def _entries(script: str, known: Collection[tuple[str | None, ...]]) -> list[Entry]:
    ends = list(_END.finditer(script))
    if not ends:
        raise _unexpected("its end")
    headers: list[re.Match[str]] = []
    seen: set[str] = set()
    for header in _HEADER.finditer(script, 0, ends[-1].start()):
        if header["id"] not in seen and header.group("id", "class", "oid") in known:
            seen.add(header["id"])
            headers.append(header)
    entries = []
    for number, header in enumerate(headers):
        end = headers[number + 1].start() if number + 1 < len(headers) else ends[-1].start()
        entries.append(_entry(header, script[header.end() : end]))
    return entries


def _entry(header: re.Match[str], text: str) -> Entry:
    schema = header["schema"]
    return Entry(
        dump_id=int(header["id"]),
        class_oid=int(header["class"]),
        oid=int(header["oid"]),
        needs=tuple(int(number) for number in (header["needs"] or "").split()),
        kind=header["kind"],
        schema="" if schema == "-" else schema,
        tag=header["tag"],
        owner=_TABLESPACE.sub("", header["owner"]),
        text=_STRAY.sub("", text).strip(),
    )


def _unexpected(where: str) -> ProtocolError:
    return ProtocolError(
        "reading the output of pg_restore",
        where,
        "it does not look as this collection knows it",
        "Use pg_dump and pg_restore of one version, of PostgreSQL 14 to 18 (client_bin).",
    )
