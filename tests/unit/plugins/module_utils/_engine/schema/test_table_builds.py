# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a comparison is built on one table alone."""

from __future__ import annotations

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.compare import MissingObject
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.inventory import DatabaseObject
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.sync import SchemaStep
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.table_builds import by_table
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.toc import Entry

GOODS, LEAF, ROOT = ("s", "goods"), ("s", "leaf"), ("s", "root")


def step(number: int, kind: str, relation: tuple[str, str] | None = None, *needs: int) -> SchemaStep:
    entry = Entry(number, 1, number, needs, kind, "s", f"object {number}", "owner", f"MAKE {number}")
    thing = DatabaseObject(1, number, f"s.{number}", relation, str(number), "", ("", "")) if relation else None
    return SchemaStep(MissingObject(entry, thing), f"{kind} {number}", (f"MAKE {number}",))


def test_keys_come_first_and_a_comment_goes_with_what_it_is_about() -> None:
    steps = [
        step(1, "INDEX", GOODS),
        step(2, "CONSTRAINT", GOODS),
        step(3, "COMMENT", None, 1),
        step(4, "COMMENT", None, 9),
    ]
    behind = by_table(steps, [GOODS])[GOODS]
    assert [one.statements for one in behind.steps] == [("MAKE 2",), ("MAKE 1", "MAKE 3")]
    assert [one.what for one in behind.keys] == ["CONSTRAINT 2"]


def test_the_index_of_a_partition_does_not_wait_for_its_parent_s() -> None:
    steps = [step(1, "INDEX", ROOT), step(2, "INDEX", LEAF, 1), step(3, "INDEX ATTACH", None, 1, 2)]
    assert {name: [s.what for s in behind.steps] for name, behind in by_table(steps, [LEAF]).items()} == {
        LEAF: ["INDEX 2"]
    }


def test_what_needs_something_that_is_made_later_is_left_to_the_sections() -> None:
    steps = [
        step(1, "TRIGGER", GOODS),
        step(2, "INDEX", GOODS, 1),
        step(3, "CHECK CONSTRAINT", GOODS),
        SchemaStep(None, "x", ()),
    ]
    assert by_table(steps, [GOODS]) == {}
