# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The line in the destination's comment that survives a release, between lines of the user's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state import tombstone

AT = "2026-03-04T05:06:07.089+00:00"
SHOP = f"[causeway: migration shop opened this database at {AT}]"
ODD = f"[causeway: migration a]b (größe) opened this database at {AT}]"


def commented(comment: str, database: str = "app") -> Any:
    """Return a connection to a database with this comment."""
    return SimpleNamespace(execute=lambda query: SimpleNamespace(fetchone=lambda: (database, comment)))


@pytest.mark.parametrize(
    ("comment", "name", "opened_at"),
    [
        ("", "shop", ""),
        ("our shop", "shop", ""),
        (SHOP, "shop", AT),
        (SHOP, "sho", ""),
        (SHOP, "shop2", ""),
        (f"our shop\n{SHOP}\nand more", "shop", AT),
        (f"{ODD}\n{SHOP}", "shop", AT),
        (f"{ODD}\n{SHOP}", "a]b (größe)", AT),
        ("[causeway: migration shop opened this database at ]", "shop", ""),
    ],
)
def test_the_line_of_a_migration_is_found_by_its_whole_name(comment: str, name: str, opened_at: str) -> None:
    assert tombstone.read_tombstone(commented(comment), name) == opened_at


@pytest.mark.parametrize(
    ("comment", "text"),
    [
        ("", SHOP),
        ("our shop", f"our shop\n{SHOP}"),
        ("our shop\n[causeway: migration shop opened this database at yesterday]", f"our shop\n{SHOP}"),
        (ODD, f"{ODD}\n{SHOP}"),
    ],
)
def test_the_line_is_added_once_below_the_users_own_text(comment: str, text: str) -> None:
    statement = tombstone.with_tombstone(commented(comment), "shop", AT)
    assert statement.as_string(None) == f"COMMENT ON DATABASE \"app\" IS '{text}'"


@pytest.mark.parametrize(
    ("comment", "left"),
    [
        ("", "NULL"),
        (SHOP, "NULL"),
        (f"our shop\n{SHOP}", "'our shop'"),
        (f"above\n{SHOP}\nbelow", "'above\nbelow'"),
        (f"{SHOP}\n{SHOP}", "NULL"),
        (f"it's ours\n{ODD}\n{SHOP}", f"'it''s ours\n{ODD}'"),
    ],
)
def test_only_the_line_of_this_migration_is_taken_away(comment: str, left: str) -> None:
    statement = tombstone.without_tombstone(commented(comment, 'größe "1"'), "shop")
    assert statement.as_string(None) == f'COMMENT ON DATABASE "größe ""1""" IS {left}'
