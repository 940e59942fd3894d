# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a statement of the dump becomes one of the destination."""

from __future__ import annotations

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.adjust import (
    Adjusted,
    adjust,
    unquoted,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.compare import MissingObject
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.inventory import DatabaseObject
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.toc import Entry

ROLES = frozenset({"us", "app", 'odd "role; x'})


def missing(kind: str, text: str, *, detail: str = "", owner: str = "us", owner_text: str = "") -> MissingObject:
    entry = Entry(1, 1, 1, (), kind, "s", "x", owner, text, owner_text)
    return MissingObject(entry, DatabaseObject(1, 1, "s.x", ("s", "t"), "x", detail, ("", "")))


def adjusted(item: MissingObject, *, privileges: bool = True, not_valid: bool = False) -> Adjusted:
    return adjust(item, roles=ROLES, user="us", privileges=privileges, not_valid=not_valid)


def test_an_owner_is_given_where_it_exists_and_reported_where_not() -> None:
    own = missing("TABLE", "CREATE TABLE s.t ();", owner="app", owner_text="ALTER TABLE s.t OWNER TO app;")
    assert adjusted(own).statements == ("CREATE TABLE s.t ();", "ALTER TABLE s.t OWNER TO app;")
    assert adjusted(own, privileges=False).statements == ("CREATE TABLE s.t ();",)
    lost = missing("TABLE", "CREATE TABLE s.t ();", owner="gone", owner_text="ALTER TABLE s.t OWNER TO gone;")
    assert adjusted(lost) == Adjusted(("CREATE TABLE s.t ();",), frozenset({"gone"}))


OURS = '\n\nALTER TABLE ONLY "s"."t" REPLICA IDENTITY FULL;'
CHOSEN = '\n\nALTER TABLE ONLY "s"."t" REPLICA IDENTITY USING INDEX "x";'


@pytest.mark.parametrize(
    ("kind", "text", "original", "expected"),
    [
        ("TABLE", OURS, None, OURS),  # the migration has set none: it is the source's own
        ("INDEX", CHOSEN, None, CHOSEN),
        ("TABLE", OURS, "", ""),
        ("TABLE", OURS, "FULL", OURS),
        ("TABLE", "", "NOTHING", OURS.replace("FULL", "NOTHING")),
        ("TABLE", OURS, 'USING INDEX "x"', ""),  # it comes with the index
        ("INDEX", "", 'USING INDEX "x"', CHOSEN),
        ("INDEX", CHOSEN, 'USING INDEX "y"', ""),
        ("CONSTRAINT", CHOSEN, "FULL", ""),
    ],
)
def test_the_destination_gets_the_replica_identity_that_the_source_had(
    kind: str, text: str, original: str | None, expected: str
) -> None:
    identities = {} if original is None else {'"s"."t"': original}
    item = missing(kind, f"CREATE IT;{text}")
    assert adjust(item, roles=ROLES, user="us", privileges=True, not_valid=False, identities=identities).statements == (
        f"CREATE IT;{expected}",
    )


def test_what_fires_for_a_replicating_session_is_put_to_sleep() -> None:
    create = "CREATE TRIGGER g AFTER UPDATE ON s.t FOR EACH ROW WHEN (old.a = 'x ENABLE ALWAYS TRIGGER y;')"
    text = f"{create} EXECUTE FUNCTION s.f();\n\nALTER TABLE s.t ENABLE {{}} TRIGGER g;"
    for detail, word in (("A", "ALWAYS"), ("R", "REPLICA")):
        ((statement,), dummy) = (adjusted(missing("TRIGGER", text.format(word), detail=detail)).statements, None)
        assert statement == f"{create} EXECUTE FUNCTION s.f();\n\nALTER TABLE s.t DISABLE TRIGGER g;"
    rule = missing(
        "RULE", "CREATE RULE r AS ON DELETE TO s.t DO NOTHING;\nALTER TABLE s.t ENABLE ALWAYS RULE r;", detail="A"
    )
    assert adjusted(rule).statements[0].endswith("\nALTER TABLE s.t DISABLE RULE r;")


def test_an_ordinary_trigger_is_made_as_it_is() -> None:
    text = "CREATE TRIGGER g AFTER UPDATE ON s.t FOR EACH ROW EXECUTE FUNCTION s.f();"
    assert adjusted(missing("TRIGGER", text, detail="O")).statements == (text,)


def test_a_foreign_key_is_checked_later_only_if_it_is_valid_at_the_source() -> None:
    text = "ALTER TABLE ONLY s.t\n    ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES s.u(id)"
    valid = missing("FK CONSTRAINT", f"{text};", detail="f valid")
    assert adjusted(valid, not_valid=True).statements == (f"{text} NOT VALID;",)
    assert adjusted(valid, not_valid=False).statements == (f"{text};",)
    unchecked = missing("FK CONSTRAINT", f"{text} NOT VALID;", detail="f")
    assert adjusted(unchecked, not_valid=True).statements == (f"{text} NOT VALID;",)


def test_grants_to_roles_that_the_destination_lacks_are_left_out() -> None:
    text = (
        "REVOKE ALL ON FUNCTION s.f() FROM PUBLIC;\n"
        "GRANT SELECT ON TABLE s.t TO app WITH GRANT OPTION;\n"
        "GRANT SELECT ON TABLE s.t TO gone;\n"
        'GRANT SELECT ON TABLE s.t TO "odd ""role; x";\n'
        "SET SESSION AUTHORIZATION app;\nGRANT SELECT ON TABLE s.t TO us;\nRESET SESSION AUTHORIZATION;\n"
    )
    assert adjusted(missing("ACL", text)) == Adjusted(
        (
            "REVOKE ALL ON FUNCTION s.f() FROM PUBLIC;",
            "GRANT SELECT ON TABLE s.t TO app WITH GRANT OPTION;",
            'GRANT SELECT ON TABLE s.t TO "odd ""role; x";',
            "GRANT SELECT ON TABLE s.t TO us;",
        ),
        frozenset({"gone"}),
    )
    assert adjusted(missing("ACL", text), privileges=False) == Adjusted(())


def test_default_privileges_need_both_roles() -> None:
    text = "ALTER DEFAULT PRIVILEGES FOR ROLE gone IN SCHEMA s GRANT SELECT ON TABLES TO app;"
    assert adjusted(missing("DEFAULT ACL", text)) == Adjusted((), frozenset({"gone"}))


def test_a_schema_that_is_somebodys_only_gets_grants_to_named_roles() -> None:
    text = "REVOKE USAGE ON SCHEMA s FROM PUBLIC;\nGRANT ALL ON SCHEMA s TO PUBLIC;\nGRANT USAGE ON SCHEMA s TO app;"
    entry = missing("ACL", text).entry
    assert adjusted(MissingObject(entry, None, stands=True)).statements == ("GRANT USAGE ON SCHEMA s TO app;",)


def test_an_identifier_is_read_back() -> None:
    assert [unquoted(name) for name in ("plain", '"With ""quotes"""')] == ["plain", 'With "quotes"']


def test_a_grant_that_another_role_has_given_is_not_given_again() -> None:
    text = (
        'GRANT CREATE ON SCHEMA s TO app;\nGRANT ALL ON SCHEMA s TO "Boss";\nGRANT USAGE ON SCHEMA s TO app WITH GRANT OPTION;'
        "\nGRANT ALL ON SCHEMA s TO app;"
    )
    held = frozenset({"app CREATE", "Boss CREATE", "Boss USAGE"})
    found = adjusted(MissingObject(missing("ACL", text).entry, None, stands=True, held=held)).statements
    assert found == ("GRANT USAGE ON SCHEMA s TO app WITH GRANT OPTION;", "GRANT ALL ON SCHEMA s TO app;")
