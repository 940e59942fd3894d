# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Partitions and tables that leave the source while the migration runs, and triggers that fire for the worker: the
cutover names them, and what its remedy says makes both ends identical. The witness reads the roots, as the application."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from support import witness
from support.clusters.local import Clusters
from support.clusters.pairs import Pair
from support.harness.modules import ModuleFailed
from support.harness.quickstart import Quickstart

SCHEMA = """
CREATE SCHEMA m AUTHORIZATION {owner};
SET ROLE {owner};
CREATE TABLE m.r (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
CREATE TABLE m.r1 PARTITION OF m.r FOR VALUES IN (1);
CREATE TABLE m.r2 PARTITION OF m.r FOR VALUES IN (2);
CREATE TABLE m.r3 PARTITION OF m.r FOR VALUES IN (3) PARTITION BY RANGE (id);
CREATE TABLE m.r3a PARTITION OF m.r3 FOR VALUES FROM (0) TO (10);
CREATE TABLE m.r3b PARTITION OF m.r3 FOR VALUES FROM (10) TO (100);
CREATE TABLE m.plain (id int PRIMARY KEY, k int);
CREATE TABLE m.other (id int, k int, PRIMARY KEY (id, k));
INSERT INTO m.r SELECT n, 1 + n % 3 FROM generate_series(1, 30) n;
INSERT INTO m.plain SELECT n, n FROM generate_series(1, 10) n;
INSERT INTO m.other SELECT n, 4 FROM generate_series(1, 10) n;
GRANT USAGE ON SCHEMA m TO {app};
GRANT ALL ON ALL TABLES IN SCHEMA m TO {app};
RESET ROLE
"""
COUNT = "SELECT (SELECT count(*) FROM m.r), (SELECT sum(id) FROM m.r), (SELECT count(*) FROM m.other)"


class Way:
    """A migration of schema m by the quickstart's accounts, at C(validated), its worker running."""

    def __init__(self, quick: Quickstart) -> None:
        self.quick, self.pair = quick, quick.pair
        quick.run(self.pair.source, SCHEMA)
        self.migration = quick.migration([{"schema": "m"}])
        self.migrate()
        self.validate()

    def migrate(self, *again: str) -> list[str]:
        return self.quick.migrate(self.migration, *again)

    def validate(self) -> None:
        self.migration.run("pg_data_validate", **self.quick.client)

    def cut(self) -> dict[str, Any]:
        return self.migration.run("pg_cutover", timeout=60, **self.quick.client)

    def as_app(self) -> psycopg.Connection[Any]:
        """A session of the application at the source."""
        session: psycopg.Connection[Any] = self.pair.source.connect(user=self.quick.app[0], password=self.quick.app[1])
        return session


@pytest.fixture(params=["17", "18"])
def way(
    request: pytest.FixtureRequest,
    make_role: Callable[..., tuple[str, str]],
    make_pair: Callable[..., Pair],
    clusters: Clusters,
    tmp_path: pathlib.Path,
) -> Iterator[Way]:
    pair = make_pair(request.param, "17" if request.param == "18" else "18")
    quick = Quickstart(pair, make_role, clusters, tmp_path)
    try:
        made = Way(quick)
        yield made
        made.quick.task(made.migration, "absent")
    finally:
        quick.close()


def refused(way: Way, module: str, *names: str) -> list[str]:
    """Run a module that must name these tables; return the statements of its remedy."""
    with pytest.raises(ModuleFailed) as failed:
        way.migration.run(module, **way.quick.client)
    told = str(failed.value)
    assert all(name in told for name in names), told
    with way.as_app() as session:
        session.execute("UPDATE m.plain SET k = k + 1")  # the application writes on
    return re.findall(r"(?:ALTER|DROP) TABLE [^;(]*", told.rpartition("run the migrate playbook: ")[2])


CHANGES = {
    "a leaf is dropped": ("DROP TABLE m.r2", ("m.r2",)),
    "an inner root is dropped": ("DROP TABLE m.r3", ("m.r3",)),
    "a leaf is detached": ("ALTER TABLE m.r DETACH PARTITION m.r2", ("m.r2",)),
    "a leaf of a leaf is detached": ("ALTER TABLE m.r3 DETACH PARTITION m.r3b", ("m.r3b",)),
    "a table is attached": ("ALTER TABLE m.r ATTACH PARTITION m.other FOR VALUES IN (4)", ("m.other",)),
    "a table is dropped": ("DROP TABLE m.other", ("m.other",)),
    "a table moves to a schema that is not selected": (
        "CREATE SCHEMA elsewhere AUTHORIZATION {owner}; ALTER TABLE m.other SET SCHEMA elsewhere",
        ("m.other",),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_left_the_source_is_named_until_the_destination_is_alike(way: Way, change: str) -> None:
    statement, names = CHANGES[change]
    way.quick.run(way.pair.source, statement)
    refused(way, "pg_data_validate", *names)
    statements = refused(way, "pg_cutover", *names)
    assert statements
    for remedy in statements:
        if "SET SCHEMA" in remedy:
            way.quick.run(way.pair.destination, "CREATE SCHEMA elsewhere AUTHORIZATION {owner}")
        bounds = " FOR VALUES IN (4)" if "ATTACH" in remedy else ""
        way.quick.run(way.pair.destination, remedy + bounds)
    way.migrate()
    way.validate()
    assert way.cut()["certificate"]["verdict"] == "identical"
    if "other" not in "".join(names):
        here, there = (end.query(COUNT) for end in way.pair.ends)
        assert here == there
    witness.assert_identical(way.pair, ["m"])


def test_a_detached_leaf_is_published_and_copied_again_alone(way: Way) -> None:
    source, destination = way.pair.ends
    runs = "SELECT schema_name || '.' || table_name, run FROM causeway.table_copy"
    before = dict(destination.query(runs))
    way.quick.run(source, "ALTER TABLE m.r DETACH PARTITION m.r2")
    with way.as_app() as session:
        session.execute(
            "INSERT INTO m.r2 VALUES (2000, 2); DELETE FROM m.r2 WHERE id = 1; UPDATE m.r2 SET id = id + 5000"
        )
    warnings = way.migrate()
    assert any("m.r2" in warning and "copied again" in warning for warning in warnings)
    after = dict(destination.query(runs))
    assert [name for name in after if after[name] != before.get(name)] == ["m.r2"]
    with way.as_app() as session:
        session.execute("UPDATE m.r2 SET id = id + 1")
    way.quick.run(destination, "ALTER TABLE m.r DETACH PARTITION m.r2")
    way.migrate()
    way.validate()
    way.cut()
    witness.assert_identical(way.pair, ["m"])


@pytest.mark.parametrize("leaf", ["m.r2", "m.r3"])
def test_a_partition_that_was_detached_and_attached_between_two_runs_is_copied_again(way: Way, leaf: str) -> None:
    """What was written to it in between is in no stream, and the catalogs look as before."""
    source = way.pair.source
    root, bounds = ("m.r", f"FOR VALUES IN ({leaf[-1]})")
    way.quick.run(source, f"ALTER TABLE {root} DETACH PARTITION {leaf}")
    with way.as_app() as session:
        session.execute(f"DELETE FROM {leaf} WHERE id % 2 = 0")
    way.quick.run(source, f"ALTER TABLE {root} ATTACH PARTITION {leaf} {bounds}")
    warnings = way.migrate()
    assert any(leaf in warning and "copied again" in warning for warning in warnings)
    assert way.migrate() == []
    way.validate()
    way.cut()
    witness.assert_identical(way.pair, ["m"])


def test_a_table_that_another_session_removed_is_copied_again(way: Way) -> None:
    source = way.pair.source
    publication = source.value("SELECT pubname FROM pg_publication")
    for back in (False, True):
        source.run(f"ALTER PUBLICATION {publication} DROP TABLE m.plain")
        with way.as_app() as session:
            session.execute("UPDATE m.plain SET k = k + 100")
        if back:
            source.run(f"ALTER PUBLICATION {publication} ADD TABLE m.plain")
        assert any("m.plain" in warning for warning in way.migrate())
        assert not way.migrate()
        with way.as_app() as session:
            session.execute("UPDATE m.plain SET k = k - 1")
        way.validate()
    way.cut()
    witness.assert_identical(way.pair, ["m"])


FIRING = {
    "replica trigger": "ALTER TABLE m.plain ENABLE REPLICA TRIGGER swallow",
    "always trigger": "ALTER TABLE m.plain ENABLE ALWAYS TRIGGER swallow",
    "replica rule": "CREATE RULE nothing AS ON INSERT TO m.plain DO INSTEAD NOTHING; "
    "ALTER TABLE m.plain ENABLE REPLICA RULE nothing",
}


@pytest.mark.parametrize("kind", FIRING)
def test_what_fires_for_the_worker_stops_the_cutover_before_the_fence(way: Way, kind: str) -> None:
    destination = way.pair.destination
    with way.as_app() as session:
        session.execute("INSERT INTO m.plain VALUES (100, 1)")  # the worker knows the table already
    way.validate()
    destination.run(
        "CREATE FUNCTION m.swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER swallow BEFORE INSERT ON m.plain FOR EACH ROW EXECUTE FUNCTION m.swallow();" + FIRING[kind]
    )
    with way.as_app() as session:
        session.execute("INSERT INTO m.plain VALUES (101, 1)")
    with pytest.raises(ModuleFailed, match=r"m\.plain.*fire for the worker too") as failed:
        way.cut()
    for statement in re.findall(r"ALTER TABLE [^;.]*\.[^;.]*", str(failed.value)):
        destination.run(statement)
    way.migrate("m.plain")
    way.validate()
    way.cut()
    witness.assert_identical(way.pair, ["m"])
