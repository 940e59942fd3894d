# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Owner and grants of large objects become as few statements as can be, and none for a role that does not exist."""

from __future__ import annotations

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.large_objects.rights import (
    SourceObject,
    comment_statements,
    right_statements,
)

ROLES = ("mover", "app", "reader")


def statements(*objects: SourceObject) -> list[str]:
    return [statement.as_string(None) for statement in right_statements(objects, ROLES, "mover")]


def test_an_object_of_ours_that_nobody_was_granted_needs_nothing() -> None:
    assert statements(SourceObject(1, "mover", None, None)) == []


def test_a_default_list_of_grants_stays_the_default() -> None:
    assert statements(SourceObject(1, "app", None, None)) == ['ALTER LARGE OBJECT 1 OWNER TO "app"']


def test_what_is_alike_is_granted_together_after_the_owner_is_set() -> None:
    own = (("app", "SELECT", False), ("app", "UPDATE", False))
    shared = (*own, ("reader", "UPDATE", False), ("reader", "SELECT", False))
    public = (*own, ("", "SELECT", False), ("reader", "SELECT", True))
    assert statements(
        SourceObject(1, "app", None, shared), SourceObject(2, "app", None, shared), SourceObject(3, "app", None, public)
    ) == [
        'ALTER LARGE OBJECT 1 OWNER TO "app"',
        'ALTER LARGE OBJECT 2 OWNER TO "app"',
        'ALTER LARGE OBJECT 3 OWNER TO "app"',
        'GRANT SELECT, UPDATE ON LARGE OBJECT 1, 2 TO "reader"',
        "GRANT SELECT ON LARGE OBJECT 3 TO PUBLIC",
        'GRANT SELECT ON LARGE OBJECT 3 TO "reader" WITH GRANT OPTION',
    ]


def test_what_an_owner_has_given_up_is_taken() -> None:
    assert statements(SourceObject(1, "app", None, (("app", "SELECT", False),))) == [
        'ALTER LARGE OBJECT 1 OWNER TO "app"',
        'REVOKE UPDATE ON LARGE OBJECT 1 FROM "app"',
    ]
    assert statements(SourceObject(1, "mover", None, ())) == ['REVOKE SELECT, UPDATE ON LARGE OBJECT 1 FROM "mover"']


def test_of_an_owner_that_does_not_exist_only_the_grants_to_others_come_along() -> None:
    grants = (("gone", "SELECT", False), ("reader", "SELECT", False), ("also gone", "SELECT", False))
    assert statements(SourceObject(1, "gone", None, grants)) == ['GRANT SELECT ON LARGE OBJECT 1 TO "reader"']


def test_a_comment_may_hold_anything() -> None:
    made = comment_statements([SourceObject(1, "app", "100 % of O'Brien's", None), SourceObject(2, "app", None, None)])
    assert [statement.as_string(None) for statement in made] == ["COMMENT ON LARGE OBJECT 1 IS '100 % of O''Brien''s'"]
