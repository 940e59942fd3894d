# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which types are compared in a form of their own, what they are made of, and where none is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from psycopg import sql
from unit.plugins.module_utils._engine.catalog_values import column, table, unique_index

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.mapping import IDENTITY
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.validate import digest
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.validate.value_forms import (
    _CHARS,
    _FLOATS,
    forms_of,
    observe_forms,
)

FLOAT8, TEXT, ARRAY, DOMAIN, COMPOSITE, ARRAY_OF_COMPOSITE, RANGE, MULTIRANGE = (
    701,
    25,
    1022,
    9001,
    9002,
    9003,
    9004,
    9005,
)
PARTS = [
    (ARRAY, "array", "", FLOAT8),
    (DOMAIN, "domain", "", ARRAY),
    (COMPOSITE, "composite", "a", TEXT),
    (COMPOSITE, "composite", 'b"c', FLOAT8),
    (ARRAY_OF_COMPOSITE, "array", "", COMPOSITE),
    (RANGE, "range", "", FLOAT8),
    (MULTIRANGE, "multirange", "", RANGE),
    (9006, "composite", "a", TEXT),
    (9007, "array", "", 9006),
]


BOTH = {**_FLOATS, **_CHARS}


def written(oid: int) -> str:
    return forms_of([oid], PARTS, BOTH)[oid](sql.Identifier("t", "c")).as_string(None)


def test_types_without_such_a_part_are_compared_as_text() -> None:
    assert forms_of([TEXT, 9006, 9007, 12345], PARTS, BOTH) == {}


def test_a_float_is_its_bytes_and_every_nan_the_same() -> None:
    assert written(FLOAT8) == """CASE WHEN "t"."c" = 'NaN' THEN '' ELSE pg_catalog.float8send("t"."c") END"""
    assert written(18) == '"t"."c"::pg_catalog.int4'


def test_a_domain_is_what_it_is_over() -> None:
    assert written(DOMAIN) == written(ARRAY)


def test_a_composite_keeps_the_text_of_its_other_fields() -> None:
    text = written(COMPOSITE)
    assert text.startswith(
        'CASE WHEN "t"."c" IS DISTINCT FROM NULL THEN ROW(("t"."c")."a", CASE WHEN ("t"."c")."b""c" = '
    )


@pytest.mark.parametrize(("oid", "parts"), [(ARRAY, 1), (ARRAY_OF_COMPOSITE, 1), (RANGE, 2), (MULTIRANGE, 2)])
def test_what_is_made_of_floats_is_compared_float_by_float(oid: int, parts: int) -> None:
    assert written(oid).count("float8send(") == parts


class Session:
    """One end: what it writes, and the parts of its types."""

    def __init__(self, floats: str, version: int, chars: str = "c") -> None:
        self.written, self.info = (floats, chars), SimpleNamespace(server_version=version)
        self.asked: list[str] = []

    def execute(self, query: Any, *parameters: Any) -> Any:
        self.asked.append(query if isinstance(query, str) else query.as_string(None))
        return SimpleNamespace(fetchone=lambda: self.written, fetchall=lambda: PARTS)


def test_ends_that_write_alike_are_asked_nothing_more() -> None:
    source, destination = Session("a", 170000), Session("a", 140000)
    assert observe_forms(source, destination, [FLOAT8]) == {}  # type: ignore[arg-type]
    assert len(source.asked) == len(destination.asked) == 1


def test_only_what_is_written_otherwise_is_compared_otherwise() -> None:
    """14 and 17 write floats alike: that they do not write a "char" alike says nothing of floats."""
    source, destination = Session("a", 140000, "b"), Session("a", 170000, "c")
    assert observe_forms(source, destination, [FLOAT8, RANGE, 18]).keys() == {18}  # type: ignore[arg-type]


@pytest.mark.parametrize(("version", "multiranges"), [(110009, False), (130000, False), (140000, True)])
def test_an_old_source_is_asked_for_what_it_has(version: int, multiranges: bool) -> None:
    source = Session("a", version)
    found = observe_forms(source, Session("b", 170000), [FLOAT8, TEXT, RANGE])  # type: ignore[arg-type]
    assert found.keys() == {FLOAT8, RANGE}
    assert ("rngmultitypid" in source.asked[-1]) is multiranges


def shape(*columns: Any) -> digest.Shape:
    one = table(columns=columns, unique_indexes=(unique_index("pk", columns[0].name, primary=True),))
    plain = digest.shape_of(one, IDENTITY.table(one.qualified_name), 1, portable=False)
    return digest.in_forms(plain, one, forms_of([FLOAT8], PARTS, BOTH))


def test_only_such_columns_are_written_otherwise() -> None:
    found = shape(column("id"), column("v", FLOAT8, "double precision"))
    text = digest.table_digest(found, found.source).as_string(None)
    assert """ROW(t."id", CASE WHEN t."v" = 'NaN' THEN ''""" in text
    assert found.source.key
    assert shape(column("id"), column("v", TEXT, "text")).forms == ()


def test_a_key_that_is_not_sought_by_its_text_is_none() -> None:
    found = shape(column("v", FLOAT8, "double precision"), column("id"))
    assert found.source.key == found.destination.key == ()
    assert "float8send" in digest.finder(found, found.source, 7).as_string(None)
