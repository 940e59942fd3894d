# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pg_restore prints, taken apart."""

from __future__ import annotations

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import ProtocolError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.toc import parse

LISTING = """;
; Archive created at 2026-11-22 10:04:16 UTC
;     Format: CUSTOM
;
6; 2615 16388 SCHEMA - s postgres
215; 1255 16400 FUNCTION s f() owner two
217; 1259 16401 TABLE s a;b owner two
2592; 0 0 COMMENT s TABLE "a;b" owner two
"""

PROLOGUE = """--
-- PostgreSQL database dump
--

\\restrict abc

-- Dumped from database version 14.23

SET statement_timeout = 0;
SET transaction_timeout = 0;
SET standard_conforming_strings = off;
SELECT pg_catalog.set_config('search_path', '', false);

"""

BODY = """--
-- TOC entry 6 (class 2615 OID 16388)
-- Name: s; Type: SCHEMA; Schema: -; Owner: postgres
--

CREATE SCHEMA s;

--
-- TOC entry 215 (class 1255 OID 16400)
-- Dependencies: 6
-- Name: f(); Type: FUNCTION; Schema: s; Owner: owner two
-- Data Pos: 0
--

CREATE FUNCTION s.f() RETURNS text LANGUAGE sql AS $$
--
-- TOC entry 99 (class 2615 OID 16388)
-- Name: s; Type: SCHEMA; Schema: -; Owner: postgres
--

-- PostgreSQL database dump complete
--
SELECT 1 $$;
{function_owner}
SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- TOC entry 217 (class 1259 OID 16401)
-- Dependencies: 6 215
-- Name: a;b; Type: TABLE; Schema: s; Owner: owner two; Tablespace: fast
-- Data Pos: 0
--

CREATE TABLE s."a;b" ();
{table_owner}

--
-- TOC entry 2592 (class 0 OID 0)
-- Dependencies: 217
-- Name: TABLE "a;b"; Type: COMMENT; Schema: s; Owner: owner two
-- Data Pos: 0
--

COMMENT ON TABLE s."a;b" IS 'x';


-- Completed on 2026-11-22 10:04:16 UTC

--
-- PostgreSQL database dump complete
--

\\unrestrict abc

"""


def script(*, owners: bool) -> str:
    return PROLOGUE + BODY.format(
        function_owner='\n\nALTER FUNCTION s.f() OWNER TO "owner two";\n' if owners else "",
        table_owner='\n\nALTER TABLE s."a;b" OWNER TO "owner two";\n' if owners else "",
    )


def test_every_entry_has_its_identity_its_needs_and_its_statements() -> None:
    parsed = parse(LISTING, script(owners=True), script(owners=False))
    schema, function, table, comment = parsed.entries
    assert (schema.kind, schema.schema, schema.tag, schema.text) == ("SCHEMA", "", "s", "CREATE SCHEMA s;")
    assert (table.dump_id, table.class_oid, table.oid, table.needs) == (217, 1259, 16401, (6, 215))
    assert (table.schema, table.tag, table.owner) == ("s", "a;b", "owner two")
    assert table.text == 'CREATE TABLE s."a;b" ();'
    assert table.owner_text == 'ALTER TABLE s."a;b" OWNER TO "owner two";'
    assert function.owner_text == 'ALTER FUNCTION s.f() OWNER TO "owner two";'
    assert comment.text == "COMMENT ON TABLE s.\"a;b\" IS 'x';"
    assert parsed.standard_strings is False


def test_a_schema_is_printed_otherwise_without_owners_where_the_dump_quotes_every_name() -> None:
    quoted = script(owners=True).replace(
        "CREATE SCHEMA s;", 'CREATE SCHEMA "s";\n\n\nALTER SCHEMA s OWNER TO postgres;'
    )
    schema = parse(LISTING, quoted, script(owners=False)).entries[0]
    assert (schema.text, schema.owner_text) == ('CREATE SCHEMA "s";', "ALTER SCHEMA s OWNER TO postgres;")
    other = quoted.replace('SCHEMA "s"', 'SCHEMA "t"')
    with pytest.raises(ProtocolError, match="SCHEMA"):
        parse(LISTING, other, script(owners=False))


def test_a_header_inside_a_function_is_part_of_it_and_settings_between_entries_are_not() -> None:
    function = parse(LISTING, script(owners=True), script(owners=False)).entries[1]
    assert "TOC entry 99" in function.text
    assert function.text.endswith("SELECT 1 $$;")


def test_nothing_of_the_prologue_or_the_end_is_executed() -> None:
    parsed = parse(LISTING, script(owners=True), script(owners=False))
    everything = "\n".join(entry.text + entry.owner_text for entry in parsed.entries)
    assert "restrict" not in everything
    assert "transaction_timeout" not in everything


def test_an_entry_that_is_only_a_remark_has_no_statement() -> None:
    text = script(owners=False).replace("CREATE SCHEMA s;", "-- *not* creating schema, since initdb creates it")
    schema, function = parse(LISTING, text, text).entries[:2]
    assert not schema.has_statement
    assert function.has_statement


@pytest.mark.parametrize("damage", ["-- PostgreSQL database dump complete\n--\n\n\\unrestrict", "CREATE TABLE"])
def test_an_output_that_looks_otherwise_is_refused(damage: str) -> None:
    with pytest.raises(ProtocolError, match="pg_restore"):
        parse(LISTING, script(owners=True).replace(damage, "CREATE THING", 1), script(owners=False))
