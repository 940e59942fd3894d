# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which differences there are, who made them, and what removes them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.drift.catalog_fingerprint import changed
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.drift.definitions import of_interest
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.drift.difference import (
    IDS,
    Difference,
    counting,
    refusal,
    require_known,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.drift.judge import Circumstances, judge
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import SpecError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.normal_form import (
    OWNER,
    Definition,
    Key,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.toc import Entry
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.validation import RecordedDefinition

VIEW = Key("VIEW", "s", "v")
ALIKE = Circumstances(alike=True, made=True, roles={"app"})
OTHERS = dataclasses.replace(ALIKE, alike=False)


def facts(key: Key, text: str) -> dict[Key, Definition]:
    return {key: Definition(key, text)} if text else {}


def record(source: str, destination: str = "") -> dict[tuple[str, str, str], RecordedDefinition]:
    digests = [Definition(VIEW, text).digest if text else "" for text in (source, destination)]
    return {tuple(VIEW): RecordedDefinition(*digests)} if source else {}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("here", "there", "recorded", "known", "expected"),
    [
        ("a", "a", ("a", ""), ALIKE, None),
        ("a", "a", ("", ""), ALIKE, None),
        ("b", "b", ("a", ""), ALIKE, None),  # changed at both ends alike, by the operator
        ("b", "a", ("a", ""), ALIKE, ("definition_changed_at_source", "error")),
        ("", "a", ("a", ""), ALIKE, ("definition_changed_at_source", "error")),
        ("b", "", ("", ""), ALIKE, ("definition_changed_at_source", "error")),
        ("a", "b", ("a", ""), ALIKE, ("definition_changed_at_destination", "error")),
        ("a", "", ("a", ""), ALIKE, ("definition_changed_at_destination", "error")),
        ("", "b", ("", ""), ALIKE, ("definition_only_at_destination", "warning")),
        ("a", "b", ("", ""), ALIKE, ("definition_differs", "warning")),
        ("a", "", ("", ""), dataclasses.replace(ALIKE, made=False), ("definition_differs", "warning")),
        # printed otherwise by another version: each end is what it was
        ("a", "A", ("a", "A"), OTHERS, None),
        ("b", "A", ("a", "A"), OTHERS, ("definition_changed_at_source", "error")),
        ("a", "B", ("a", "A"), OTHERS, ("definition_changed_at_destination", "error")),
        ("a", "", ("a", "A"), OTHERS, ("definition_changed_at_destination", "error")),
        ("", "A", ("a", "A"), OTHERS, ("definition_changed_at_source", "error")),
        ("a", "A", ("", ""), OTHERS, ("definition_differs", "note")),
        # the record of another version's print excuses nothing where both print alike
        ("a", "A", ("a", "A"), ALIKE, ("definition_changed_at_destination", "error")),
    ],
)
def test_the_record_says_who_changed_it(
    here: str, there: str, recorded: tuple[str, str], known: Circumstances, expected: tuple[str, str] | None
) -> None:
    found = judge(facts(VIEW, here), facts(VIEW, there), record(*recorded), known)
    assert [(one.id, one.severity) for one in found] == ([expected] if expected else [])
    assert all(one.object == "view s.v" for one in found)


@pytest.mark.parametrize("at", ["source", "destination"])
def test_what_only_one_end_has_is_named_without_its_owner_grants_and_comment(at: str) -> None:
    names = ("VIEW", "v"), (OWNER, "VIEW v"), ("ACL", 'TABLE "v"'), ("COMMENT", 'VIEW "v"'), (OWNER, "VIEW w")
    keys = [Key(kind, "s", name) for kind, name in names]
    one = {key: Definition(key, 'ALTER x OWNER TO "app";') for key in keys}
    here, there = (one, {}) if at == "source" else ({}, one)
    assert [str(key.object) for key in judge(here, there, {}, ALIKE)] == ["owner VIEW s.w", "view s.v"]
    stands = {keys[0]: one[keys[0]]}
    here, there = (one, stands) if at == "source" else (stands, one)
    assert len(judge(here, there, {}, ALIKE)) == 4


def test_grants_to_roles_that_the_destination_lacks_are_named_once_and_do_not_count() -> None:
    key = Key("ACL", "s", 'TABLE "t"')
    here = 'GRANT ALL ON TABLE "s"."t" TO "app";\nGRANT SELECT ON TABLE "s"."t" TO "gone";'
    found = judge(facts(key, here), facts(key, 'GRANT ALL ON TABLE "s"."t" TO "app";'), {}, ALIKE)
    assert [(one.id, one.fix) for one in found] == [("definition_not_moved", 'CREATE ROLE "gone";')]
    owner = Key(OWNER, "s", "TABLE t")
    found = judge(
        facts(owner, 'ALTER TABLE "s"."t" OWNER TO "gone";'),
        facts(owner, 'ALTER TABLE "s"."t" OWNER TO "app";'),
        {},
        ALIKE,
    )
    assert [one.object for one in found] == ["role gone"]
    many = {
        Key(OWNER, "s", f"TABLE t{n}"): Definition(Key(OWNER, "s", f"TABLE t{n}"), 'ALTER x OWNER TO "gone";')
        for n in range(9)
    }
    (found_once,) = judge(many, {}, {}, ALIKE)
    assert found_once.cause.endswith("owner TABLE s.t0 and 8 more")


def test_rights_that_the_destination_adds_are_taken_back_by_the_fix() -> None:
    key = Key("ACL", "s", 'TABLE "t"')
    there = 'GRANT ALL ON TABLE "s"."t" TO "app" WITH GRANT OPTION;'
    (found,) = judge({}, facts(key, there), {}, ALIKE)
    assert (found.id, found.fix) == ("definition_only_at_destination", 'REVOKE ALL ON TABLE "s"."t" FROM "app";')


def test_a_trigger_that_sleeps_until_the_opening_is_no_difference() -> None:
    key = Key("TRIGGER", "s", "t x")
    made = 'CREATE TRIGGER "x" BEFORE INSERT ON "s"."t" FOR EACH ROW EXECUTE FUNCTION "s"."f"();\n\n'
    here = f'{made}ALTER TABLE "s"."t" ENABLE ALWAYS TRIGGER "x";'
    there = f'{made}ALTER TABLE "s"."t" DISABLE TRIGGER "x";'
    asleep = dataclasses.replace(ALIKE, asleep={("s", "t x"): "A"})
    assert judge(facts(key, here), facts(key, there), {}, asleep) == ()
    assert len(judge(facts(key, here), facts(key, there), {}, ALIKE)) == 1


def test_a_foreign_key_to_a_table_that_is_not_moved_is_told() -> None:
    key = Key("FK CONSTRAINT", "s", "t fk")
    known = dataclasses.replace(ALIKE, unreachable={key})
    (found,) = judge(facts(key, "ALTER TABLE x;"), {}, {}, known)
    assert (found.id, found.severity) == ("definition_not_moved", "warning")


@pytest.mark.parametrize(
    ("kind", "here", "there", "expected"),
    [
        ("VIEW", "CREATE VIEW v AS 1;", "CREATE VIEW v AS 2;", "CREATE OR REPLACE VIEW v AS 1;"),
        ("INDEX", "", 'CREATE UNIQUE INDEX "i" ON "s"."t" USING btree ("a");', 'DROP INDEX "s"."i";'),
        (
            "CHECK CONSTRAINT",
            "",
            'ALTER TABLE "s"."t"\n    ADD CONSTRAINT "c" CHECK (("a" > 0)) NOT VALID;',
            'ALTER TABLE "s"."t" DROP CONSTRAINT "c";',
        ),
        (
            "TRIGGER",
            "",
            'CREATE TRIGGER "x" BEFORE INSERT ON "s"."t" FOR EACH ROW EXECUTE FUNCTION "s"."f"();',
            'DROP TRIGGER "x" ON "s"."t";',
        ),
        ("POLICY", "", 'CREATE POLICY "p" ON "s"."t" USING (true);', 'DROP POLICY "p" ON "s"."t";'),
        ("TYPE", "", 'CREATE TYPE "s"."mood" AS ENUM (\n    \'a\'\n);', 'DROP TYPE "s"."mood";'),
        (
            "FUNCTION",
            "",
            'CREATE FUNCTION "s"."f"("a" integer) RETURNS integer\n  x',
            'DROP FUNCTION "s"."f"("a" integer);',
        ),
        (
            "TABLE",
            'CREATE TABLE "s"."t" (\n    "a" bigint NOT NULL,\n    "b" "text"\n);',
            'CREATE TABLE "s"."t" (\n    "a" integer,\n    "c" "text"\n);',
            'ALTER TABLE "s"."t" ADD COLUMN "b" "text";\nALTER TABLE "s"."t" DROP COLUMN "c";\n'
            '-- column "a": the source has bigint NOT NULL; the destination has integer',
        ),
        (
            "DEFAULT",
            "",
            'ALTER TABLE ONLY "s"."t" ALTER COLUMN "a" SET DEFAULT 7;',
            'ALTER TABLE ONLY "s"."t" ALTER COLUMN "a" DROP DEFAULT;',
        ),
    ],
)
def test_each_difference_names_the_statement(kind: str, here: str, there: str, expected: str) -> None:
    key = Key(kind, "s", "x")
    (found,) = judge(facts(key, here), facts(key, there), {}, ALIKE)
    assert found.fix == expected


def test_an_error_counts_until_it_is_ignored_by_id_and_object() -> None:
    one = Difference("definition_changed_at_source", "error", "view s.v", "x", "SELECT 1;")
    assert counting([one], ()) == (one,)
    assert counting([one], ["definition_changed_at_source view s.w"]) == (one,)
    assert counting([one], [one.name]) == ()
    error = refusal("cutting over", [one], {})
    assert "view s.v" in str(error) and one.name in error.remedy


@pytest.mark.parametrize("entry", ["view s.v", "definition_changed_at_source", "definition_changed_at_source  "])
def test_what_names_no_difference_cannot_be_ignored(entry: str) -> None:
    with pytest.raises(SpecError, match="ignore_differences"):
        require_known([entry])
    require_known(["definition_changed_at_source view s.v"])


def test_of_a_schema_that_is_not_selected_whole_only_the_selected_tables_are_compared() -> None:
    def entry(number: int, kind: str, tag: str, *needs: int, schema: str = "s") -> Entry:
        return Entry(number, 0, 0, needs, kind, schema, tag, "app", f"{kind} {tag};")

    entries = [
        entry(1, "TABLE", "t"),
        entry(2, "INDEX", "extra", 1),
        entry(3, "FUNCTION", "f()"),
        entry(4, "VIEW", "w", 1),
        entry(5, "TABLE", "u", schema="whole"),
        entry(6, "INDEX", "u_x", 5, schema="whole"),
    ]
    kept = of_interest(entries, {"whole"}, {Key("TABLE", "s", "t")})
    assert [one.tag for one in kept] == ["t", "extra", "u", "u_x"]


def test_a_fingerprint_names_what_was_changed_created_or_dropped() -> None:
    before = {(1, 1, 0): ("x", "table a"), (1, 2, 0): ("y", "table b"), (1, 3, 0): ("z", "table c")}
    now = {(1, 1, 0): ("x", "table a"), (1, 2, 0): ("Y", "table b"), (1, 4, 0): ("w", "table d")}
    assert changed(before, now) == ("table b", "table c", "table d")


def test_the_page_has_a_row_for_each_id() -> None:
    page = (Path(__file__).resolve().parents[6] / "docs" / "definitions.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == set(IDS)


def test_what_a_schema_or_table_lacks_that_stood_before_is_no_error() -> None:
    schema, table = Key("SCHEMA", "", "public"), Key("TABLE", "public", "old table")
    default, grant = Key("DEFAULT", "public", "old table id"), Key("ACL", "", 'SCHEMA "public"')
    here = {key: Definition(key, "x") for key in (schema, table, default, grant)}
    there = {key: Definition(key, "x") for key in (schema, table)}
    found = judge(here, there, {}, ALIKE)
    assert [(one.id, one.severity) for one in found] == [("definition_differs", "warning")] * 2
    made = {tuple(key): RecordedDefinition("y") for key in (schema, table)}
    assert {one.severity for one in judge(here, there, made, ALIKE)} == {"error"}  # type: ignore[arg-type]
