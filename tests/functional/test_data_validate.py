# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Contents are compared by output text, in both directions, with multisets where there is no key."""

from __future__ import annotations

from typing import Any

import pytest
from support.harness.modules import Migration, ModuleFailed

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.migration import Migration as EngineMigration
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.spec import spec_of
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.validate import compare

_TABLES = """
CREATE SCHEMA s;
CREATE TABLE s.keyed (a int, "b 50%" text, c numeric, v text, PRIMARY KEY (a, "b 50%"));
CREATE TABLE s.keyless (v numeric, j json);
CREATE TABLE s.odd (id bpchar(5) PRIMARY KEY, x xml, f float8, ok bool, i inet);
CREATE TABLE s.parent (id int PRIMARY KEY, v text);
CREATE TABLE s.child () INHERITS (s.parent);
CREATE TABLE s.empty ();
"""
_ROWS = """
INSERT INTO s.keyed SELECT i, 'k' || i, i / 7.0, repeat('x', i % 50) FROM generate_series(1, 20000) i;
INSERT INTO s.keyless SELECT 1.0, '{"a": 1}' FROM generate_series(1, 3);
INSERT INTO s.keyless VALUES (1.00, '{"a":1}'), (NULL, NULL);
INSERT INTO s.odd VALUES ('a', '<?xml version="1.0" standalone="yes"?><a/>', 'NaN', true, '10.0.0.1'), ('b', NULL, '-0', false, '10.0.0.0/8');
INSERT INTO s.parent VALUES (1, 'p');
INSERT INTO s.child VALUES (2, 'c');
"""


@pytest.fixture
def verdicts(pair: Any) -> Any:
    """Compares the two databases of a pair as they stand and gives {table: Verdict}."""
    pair.run(_TABLES)
    pair.run(_ROWS)
    options = {
        "name": pair.source.dbname,
        "source": pair.source.endpoint,
        "destination": pair.destination.endpoint,
        "objects": [{"schema": "s"}],
        "types": ["full"],
        "state_schema": "causeway",
        "allow_keyless": True,
        "conflicting_tables": "report",
        "restart": False,
    }

    def compared() -> dict[str, Any]:
        with EngineMigration(spec_of(options)) as migration:
            tables = migration.selected().leaves
            found = compare.compare_tables(migration, tables, live=False)
            return {str(table): found[table.oid] for table in tables}

    return compared


def test_equal_contents_are_identical(verdicts: Any) -> None:
    found = verdicts()
    assert {name: verdict.verdict for name, verdict in found.items()} == dict.fromkeys(
        ["s.keyed", "s.keyless", "s.odd", "s.parent", "s.child", "s.empty"], "identical"
    )
    assert found["s.keyed"].source_rows == 20000
    assert found["s.parent"].source_rows == 1, "a child's rows are the child's"


@pytest.mark.parametrize(
    ("statement", "table", "rows"),
    [
        ("UPDATE s.keyed SET v = v || '!' WHERE a = 77", "s.keyed", 1),
        ("DELETE FROM s.keyed WHERE a BETWEEN 5 AND 9", "s.keyed", 5),
        ("INSERT INTO s.keyed VALUES (-1, 'new', 0, '')", "s.keyed", 1),
        ("UPDATE s.keyless SET v = 1.00 WHERE ctid = (SELECT min(ctid) FROM s.keyless)", "s.keyless", 2),
        ("DELETE FROM s.keyless WHERE ctid = (SELECT min(ctid) FROM s.keyless)", "s.keyless", 1),
        ("UPDATE s.odd SET f = 0 WHERE f = 0", "s.odd", 1),
        ("UPDATE s.odd SET x = '<a/>' WHERE id = 'a'", "s.odd", 1),
        ("UPDATE s.odd SET i = '10.0.0.1/32' WHERE id = 'a'", "s.odd", 0),
    ],
)
@pytest.mark.parametrize("end", ["source", "destination"])
def test_one_row_at_either_end_is_found(
    verdicts: Any, pair: Any, end: str, statement: str, table: str, rows: int
) -> None:
    getattr(pair, end).run(statement)
    verdict = verdicts()[table]
    assert (verdict.verdict, verdict.differing) == ("different" if rows else "identical", rows)
    if rows:
        hits = [pair.source.query(verdict.find), pair.destination.query(verdict.find)]
        assert repr(hits[0]) != repr(hits[1]), "the statement it gives finds the row"


def test_nothing_is_compared_before_the_copy(pair: Any) -> None:
    pair.source.run("CREATE SCHEMA s")
    migration = Migration("none", pair.source.endpoint, pair.destination.endpoint, [{"schema": "s"}])
    dry = migration.run("pg_data_validate", check=True)
    assert dry["changed"] is False and dry["tables"] == []
    assert "nothing to compare" in dry["notes"][0]
    with pytest.raises(ModuleFailed) as failed:
        migration.run("pg_data_validate")
    assert failed.value.result["error"]["code"] == "wrong_state"
    assert "nothing to compare" in failed.value.result["msg"]


def test_a_cutover_before_the_migration_says_so(pair: Any) -> None:
    pair.source.run("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY)")
    migration = Migration("none", pair.source.endpoint, pair.destination.endpoint, [{"schema": "s"}])
    with pytest.raises(ModuleFailed) as failed:
        migration.run("pg_cutover")
    assert failed.value.result["error"]["code"] == "wrong_state"
    assert "has not been migrated" in failed.value.result["msg"]
