# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a dump says of an object, in a form that is the same at both ends."""

from __future__ import annotations

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.normal_form import (
    IDENTITY,
    OWNER,
    Key,
    grants,
    normal_form,
    owner_in,
    with_identities,
    without_roles,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.toc import Entry

TABLE = 'CREATE TABLE "s"."t" (\n    "id" integer NOT NULL\n);'


def entry(kind: str, tag: str, text: str, *, schema: str = "s", owner: str = "app", owner_text: str = "") -> Entry:
    return Entry(1, 0, 0, (), kind, schema, tag, owner, text, owner_text)


def test_a_table_is_its_definition_its_owner_and_its_replica_identity() -> None:
    text = f'{TABLE}\n\nALTER TABLE ONLY "s"."t" REPLICA IDENTITY FULL;'
    found = normal_form([entry("TABLE", "t", text, owner_text='ALTER TABLE "s"."t" OWNER TO "a b";')])
    assert {key: one.text for key, one in found.items()} == {
        Key("TABLE", "s", "t"): TABLE,
        Key(IDENTITY, "", '"s"."t"'): "FULL",
        Key(OWNER, "s", "TABLE t"): 'ALTER TABLE "s"."t" OWNER TO "a b";',
    }
    assert owner_in(found[Key(OWNER, "s", "TABLE t")].text) == "a b"


def test_an_identity_that_the_migration_has_set_is_not_the_sources() -> None:
    found = normal_form([entry("TABLE", "t", f'{TABLE}\n\nALTER TABLE ONLY "s"."t" REPLICA IDENTITY FULL;')])
    key = Key(IDENTITY, "", '"s"."t"')
    assert key not in with_identities(found, {'"s"."t"': ""})
    assert with_identities(found, {'"s"."t"': 'USING INDEX "k"'})[key].text == 'USING INDEX "k"'
    assert with_identities(found, {})[key].text == "FULL"


def test_grants_have_no_order_and_no_grantor() -> None:
    one = 'GRANT SELECT ON TABLE "s"."t" TO "r";\nSET SESSION AUTHORIZATION "x";\nGRANT ALL ON TABLE "s"."t" TO "q";\nRESET SESSION AUTHORIZATION;'
    other = 'GRANT ALL ON TABLE "s"."t" TO "q";\nGRANT SELECT ON TABLE "s"."t" TO "r";'
    first, second = (normal_form([entry("ACL", 'TABLE "t"', text)]) for text in (one, other))
    assert first == second
    (fact,) = first.values()
    assert without_roles(fact.text, {"r"}) == 'GRANT SELECT ON TABLE "s"."t" TO "r";'
    assert without_roles(fact.text, {"x"}) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('GRANT SELECT,INSERT ON TABLE "s"."t" TO "r";', ["SELECT", "INSERT"]),
        ('GRANT ALL ON TABLE "s"."t" TO "r";\nGRANT INSERT ON TABLE "s"."t" TO "r";', ["ALL"]),
        ('GRANT INSERT ON TABLE "s"."t" TO "r" WITH GRANT OPTION;\nGRANT INSERT ON TABLE "s"."t" TO "r";', ["INSERT+"]),
        ('GRANT SELECT("a b"),UPDATE("c,(d") ON TABLE "s"."t" TO "r";', ['SELECT("a b")', 'UPDATE("c,(d")']),
        (
            'GRANT INSERT ON TABLE "s"."t" TO "r" WITH GRANT OPTION;\nGRANT ALL ON TABLE "s"."t" TO "r";',
            ["INSERT+", "ALL"],
        ),
    ],
)
def test_a_right_that_two_roles_grant_is_one(text: str, expected: list[str]) -> None:
    ends = {"+": ' ON TABLE "s"."t" TO "r" WITH GRANT OPTION;', "": ' ON TABLE "s"."t" TO "r";'}
    assert grants(text) == [f"GRANT {one.rstrip('+')}{ends['+' if one.endswith('+') else '']}" for one in expected]
    default = 'ALTER DEFAULT PRIVILEGES FOR ROLE "o" IN SCHEMA "s" GRANT SELECT,USAGE ON SEQUENCES TO "r";'
    assert len(grants(default)) == 2
    assert grants('REVOKE ALL ON TABLE "s"."t" FROM "r";\nGRANT SELECT ON TABLE "s"."t" TO "r";') == [
        'REVOKE ALL ON TABLE "s"."t" FROM "r";',
        'GRANT SELECT ON TABLE "s"."t" TO "r";',
    ]


def test_default_privileges_of_two_roles_are_two_facts() -> None:
    text = 'ALTER DEFAULT PRIVILEGES FOR ROLE "{0}" IN SCHEMA "s" GRANT SELECT ON TABLES TO "r";'
    entries = [entry("DEFAULT ACL", "DEFAULT PRIVILEGES FOR TABLES", text.format(o), owner=o) for o in ("a", "b")]
    assert len(normal_form(entries)) == 2


def test_what_is_never_moved_and_what_has_no_statement_is_no_fact() -> None:
    assert not normal_form(
        [
            entry("PUBLICATION", "p", "CREATE PUBLICATION p;"),
            entry("SCHEMA", "public", "-- *not* creating schema, since initdb creates it", schema=""),
        ]
    )


def test_facts_under_one_key_are_joined_in_no_order() -> None:
    texts = ["COMMENT ON CAST (a AS b) IS '1';", "COMMENT ON CAST (a AS b) IS '2';"]
    there = [normal_form([entry("COMMENT", "x", text) for text in order]) for order in (texts, texts[::-1])]
    assert there[0] == there[1]


def test_a_key_reads_like_the_object() -> None:
    assert str(Key("FUNCTION", "s", "price(integer)")) == "function s.price(integer)"
    assert str(Key("SCHEMA", "", "s")) == "schema s"
    assert str(Key("ACL", "s", 'TABLE "t"')) == 'acl TABLE s."t"'
    assert str(Key(OWNER, "s", "TABLE t")) == "owner TABLE s.t"
    assert str(Key("COMMENT", "s", 'TRIGGER "x" ON "t"')) == 'comment TRIGGER "x" ON "t" in schema s'
