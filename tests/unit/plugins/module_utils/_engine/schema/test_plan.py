# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The remedy for a statement that was refused, and the note on objects that will exist by then."""

from __future__ import annotations

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema import plan
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.compare import (
    Comparison,
    MissingObject,
    Section,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.sync import SchemaStep
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.toc import Entry

EXTENSION = "Create the extension at the destination with an account that is allowed to, then run this again."
READS = "Select the tables that it reads as well, or leave it out with exclude."
ROLES = "Create the roles that it names at the destination."
OWNER = "Make the migration's account a member of the owner at the destination, or set privileges: skip."
GIVING = "Make the migration's account a member of role größe at the destination, or set privileges: skip."


def missing(kind: str) -> MissingObject:
    return MissingObject(Entry(1, 0, 0, (), kind, "s", "it", "größe", ""), None)


@pytest.mark.parametrize(
    ("kind", "number", "remedy"),
    [
        (None, 0, EXTENSION),
        (None, 1, EXTENSION),
        ("VIEW", 0, READS),
        ("MATERIALIZED VIEW", 0, READS),
        ("POLICY", 0, ROLES),
        ("ACL", 0, OWNER),
        ("ACL", 1, OWNER),
        ("TABLE", 0, ""),
        ("TABLE", 1, GIVING),  # the second statement gives the table to its owner
        ("VIEW", 1, GIVING),
        ("FK CONSTRAINT", 0, ""),
        ("FK CONSTRAINT", 1, ""),  # the others add the key to partitions
    ],
)
def test_the_remedy_is_that_of_the_statement_that_failed(kind: str | None, number: int, remedy: str) -> None:
    step = SchemaStep(missing(kind) if kind else None, "it", ("a", "b"))
    assert plan._remedy(step, number) == remedy


NOTE = ("2 objects of section pre_data do not exist at the destination yet; this plan assumes that they will.",)


@pytest.mark.parametrize(
    ("section", "lacking", "notes"),
    [
        ("pre_data", 2, ()),
        ("keys", 2, NOTE),
        ("foreign_keys", 2, NOTE),
        ("keys", 0, ()),
    ],
)
def test_a_later_section_says_that_the_first_is_planned_only(
    section: Section, lacking: int, notes: tuple[str, ...]
) -> None:
    there: dict[Section, tuple[MissingObject, ...]] = {
        "pre_data": tuple([missing("TABLE")] * lacking),
        "keys": (missing("CONSTRAINT"),),
        "indexes": (),
        "foreign_keys": (),
    }
    assert plan._notes(section, Comparison((), there, (), ())) == notes
