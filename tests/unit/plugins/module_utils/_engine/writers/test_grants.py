# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is revoked and given back, and in which order."""

from __future__ import annotations

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.writers.grants import (
    Grant,
    grant_of,
    grant_statements,
    revoke_statements,
    with_dependents,
)


def entry(
    grantee: str, privilege: str = "INSERT", *, grantor: str = "owner", table: str = "t", **more: object
) -> Grant:
    values = {"kind": "table", "column": "", "grantable": False, "by_owner": grantor == "owner", **more}
    return Grant(schema="s", name=table, grantor=grantor, grantee=grantee, privilege=privilege, **values)  # type: ignore[arg-type]


CHAIN = (
    entry("a", grantable=True),
    entry("b", grantor="a", grantable=True),
    entry("c", grantor="b"),
    entry("c", "DELETE"),
    entry("d", grantor="a", table="u"),
)


def texts(statements: object) -> list[str]:
    return [statement.as_string(None) for statement in statements]  # type: ignore[attr-defined]


def test_what_rests_on_a_grant_option_goes_first_and_comes_back_last() -> None:
    taken = with_dependents(CHAIN, "a")
    assert {grant.grantee for grant in taken} == {"a", "b", "c"}
    assert entry("c", "DELETE") not in taken
    assert texts(revoke_statements(taken, "me")) == [
        'SET LOCAL ROLE "b"',
        'REVOKE INSERT ON TABLE "s"."t" FROM "c"',
        'SET LOCAL ROLE "me"',
        'SET LOCAL ROLE "a"',
        'REVOKE INSERT ON TABLE "s"."t" FROM "b"',
        'SET LOCAL ROLE "me"',
        'REVOKE INSERT ON TABLE "s"."t" FROM "a"',
    ]
    back = texts(grant_statements(taken, "me"))
    assert back[0] == 'GRANT INSERT ON TABLE "s"."t" TO "a" WITH GRANT OPTION'
    assert back[-2] == 'GRANT INSERT ON TABLE "s"."t" TO "c"'


def test_the_end_of_a_chain_takes_nobody_with_it() -> None:
    assert with_dependents(CHAIN, "c") == (CHAIN[2], CHAIN[3])
    assert with_dependents(CHAIN, "nobody") == ()


def test_grant_options_in_a_circle_end() -> None:
    circle = (
        entry("a", grantable=True),
        entry("b", grantor="a", grantable=True),
        entry("a", grantor="b", grantable=True),
    )
    assert len(with_dependents(circle, "a")) == 3
    assert len([text for text in texts(revoke_statements(circle, "me")) if text.startswith("REVOKE")]) == 3


def test_alike_entries_share_a_statement() -> None:
    grants = [entry("app", privilege, table=table) for table in ("t", "u") for privilege in ("INSERT", "DELETE")]
    grants += [
        entry("app", "INSERT", table="v"),
        entry("", "INSERT"),
        entry("app", "USAGE", kind="sequence", table="q"),
    ]
    grants += [entry("app", "UPDATE", column='c"1', table="t")]
    assert sorted(texts(revoke_statements(grants, "me"))) == [
        'REVOKE DELETE, INSERT ON TABLE "s"."t", "s"."u" FROM "app"',
        'REVOKE INSERT ON TABLE "s"."t" FROM PUBLIC',
        'REVOKE INSERT ON TABLE "s"."v" FROM "app"',
        'REVOKE UPDATE ("c""1") ON TABLE "s"."t" FROM "app"',
        'REVOKE USAGE ON SEQUENCE "s"."q" FROM "app"',
    ]


def test_thousands_of_tables_take_few_statements() -> None:
    grants = [entry("app", p, table=f"t{n}") for n in range(1000) for p in ("INSERT", "UPDATE", "DELETE", "TRUNCATE")]
    assert len(revoke_statements(grants, "me")) == 5


@pytest.mark.parametrize("grant", CHAIN)
def test_what_the_state_keeps_is_the_whole_entry(grant: Grant) -> None:
    assert grant_of(grant.stored()) == grant
