# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_schema_sync against real servers, judged by what pg_dump says of both ends afterwards."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
import pytest
from support import witness
from support.harness.modules import Migration, ModuleFailed
from support.waiting import until

from ansible_collections.causeway.postgresql.plugins.module_utils._engine import errors
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.migration import Migration as EngineMigration
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.mapping import IDENTITY
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.runner import Outcome
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema import sync
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.inventory import observe_standing
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.partitioned_foreign_keys import Key
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema.plan import plan
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.spec import spec_of

SECTIONS = ("pre_data", "keys", "indexes", "foreign_keys")

SCHEMA = r"""
CREATE SCHEMA sales;
CREATE SCHEMA "Büro ""B"".x %s {}";
COMMENT ON SCHEMA sales IS 'with ''quotes''; and
a line';
CREATE EXTENSION btree_gist WITH SCHEMA public;
CREATE TYPE sales.mood AS ENUM ('sad', 'O''Brien', 'glücklich');
CREATE TYPE sales.address AS (street text, geo point);
CREATE DOMAIN sales.email AS text NOT NULL CONSTRAINT looks_like_it CHECK (VALUE ~ '@');
CREATE TYPE sales.span AS RANGE (subtype = numeric);
CREATE COLLATION sales.bytes FROM "C";
CREATE SEQUENCE sales.receipt START 1000 INCREMENT -5 MINVALUE -9000 MAXVALUE 5000 CYCLE;
CREATE FUNCTION sales.double(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
CREATE TABLE sales.customers (
    id bigint GENERATED ALWAYS AS IDENTITY (START 7) PRIMARY KEY,
    email sales.email, name text COLLATE sales.bytes NOT NULL CHECK (name <> ''), home sales.address, mood sales.mood[],
    lower_name text GENERATED ALWAYS AS (lower(name)) STORED, paid sales.span, n int DEFAULT sales.double(4),
    referred bigint REFERENCES sales.customers, since timestamptz DEFAULT now());
CREATE TABLE sales.orders (id bigserial, at date NOT NULL, customer bigint REFERENCES sales.customers, total numeric,
    receipt bigint DEFAULT nextval('sales.receipt'), PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE sales.orders_2025 PARTITION OF sales.orders FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')
    PARTITION BY RANGE (id);
CREATE TABLE sales.orders_2025_rest PARTITION OF sales.orders_2025 DEFAULT;
CREATE TABLE sales."orders later" PARTITION OF sales.orders DEFAULT;
CREATE INDEX orders_customer ON sales.orders (customer);
CREATE UNIQUE INDEX customers_email ON sales.customers (lower(email::text)) WHERE n > 0;
CREATE INDEX customers_home ON sales.customers USING gist (((home).geo));
CREATE STATISTICS sales.customer_names ON name, n FROM sales.customers;
CREATE TABLE sales.hen (id int PRIMARY KEY, egg int);
CREATE TABLE sales.egg (id int PRIMARY KEY, hen int REFERENCES sales.hen DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE sales.hen ADD CONSTRAINT laid FOREIGN KEY (egg) REFERENCES sales.egg DEFERRABLE;
ALTER TABLE sales.hen REPLICA IDENTITY FULL;
CREATE TABLE sales.unchecked (id int PRIMARY KEY, hen int, amount int);
INSERT INTO sales.unchecked VALUES (1, 99, -1);
ALTER TABLE sales.unchecked ADD CONSTRAINT old_rows CHECK (amount > 0) NOT VALID;
ALTER TABLE sales.unchecked ADD CONSTRAINT old_hens FOREIGN KEY (hen) REFERENCES sales.hen NOT VALID;
CREATE TABLE sales.bookings (room int, during tsrange, EXCLUDE USING gist (room WITH =, during WITH &&));
CREATE TABLE sales.queue (id int PRIMARY KEY, place int NOT NULL UNIQUE DEFERRABLE);
CREATE TABLE sales.chosen (id int NOT NULL, v text);
CREATE UNIQUE INDEX chosen_id ON sales.chosen (id);
ALTER TABLE sales.chosen REPLICA IDENTITY USING INDEX chosen_id;
CREATE UNLOGGED TABLE sales.scratch (a int) WITH (fillfactor = 70);
CREATE TABLE "Büro ""B"".x %s {}"."a""b.c*[]|$ %s {}
Ü" ("x y" int PRIMARY KEY, "select" text DEFAULT E'it''s\\ %s {}', "user" sales.mood DEFAULT 'O''Brien');
COMMENT ON COLUMN "Büro ""B"".x %s {}"."a""b.c*[]|$ %s {}
Ü"."x y" IS E'line\nbreak; -- TOC entry';
CREATE TABLE sales.secret (owner name, v text);
ALTER TABLE sales.secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE sales.secret FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON sales.secret USING (owner = current_user);
CREATE VIEW sales.grouped AS SELECT id, name, count(*) FROM sales.customers GROUP BY id;
CREATE VIEW sales.on_view AS SELECT name FROM sales.grouped;
CREATE MATERIALIZED VIEW sales.summary AS SELECT id, name, count(*) FROM sales.customers GROUP BY id;
CREATE UNIQUE INDEX summary_id ON sales.summary (id);
CREATE MATERIALIZED VIEW sales.never AS SELECT 1 AS a WITH NO DATA;
CREATE FUNCTION sales.total(bigint) RETURNS numeric LANGUAGE sql STABLE
    BEGIN ATOMIC SELECT sum(total) FROM sales.orders WHERE customer = $1; END;
CREATE FUNCTION sales.trap() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN

--
-- TOC entry 7 (class 2615 OID 16389)
-- Name: x; Type: SCHEMA; Schema: -; Owner: postgres
--

    -- PostgreSQL database dump complete
    RETURN NEW; -- %s {} $1 :name
END $body$;
CREATE TRIGGER plain BEFORE INSERT ON sales.queue FOR EACH ROW EXECUTE FUNCTION sales.trap();
CREATE TRIGGER always BEFORE INSERT ON sales.queue FOR EACH ROW EXECUTE FUNCTION sales.trap();
ALTER TABLE sales.queue ENABLE ALWAYS TRIGGER always;
CREATE TRIGGER "in replica" BEFORE INSERT ON sales.queue FOR EACH ROW EXECUTE FUNCTION sales.trap();
ALTER TABLE sales.queue ENABLE REPLICA TRIGGER "in replica";
CREATE TRIGGER off BEFORE INSERT ON sales.queue FOR EACH ROW EXECUTE FUNCTION sales.trap();
ALTER TABLE sales.queue DISABLE TRIGGER off;
CREATE TRIGGER whole AFTER INSERT ON sales.orders FOR EACH ROW EXECUTE FUNCTION sales.trap();
CREATE RULE noted AS ON DELETE TO sales.unchecked DO ALSO SELECT 1;
CREATE PROCEDURE sales.tidy(INOUT n int) LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE sales.product(numeric) (SFUNC = numeric_mul, STYPE = numeric);
CREATE OPERATOR sales.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
REVOKE EXECUTE ON FUNCTION sales.double(int) FROM PUBLIC;
INSERT INTO sales.customers (email, name) SELECT n || '@x', 'N' || n FROM generate_series(1, 60) n;
INSERT INTO sales.orders (at, customer, total) SELECT '2025-03-01', n + 6, n FROM generate_series(1, 60) n;
REFRESH MATERIALIZED VIEW sales.summary;
CREATE SCHEMA other;
CREATE TABLE other.untouched (id int PRIMARY KEY);
"""

FOREIGN_KEYS = "SELECT conname FROM pg_constraint WHERE contype = 'f' AND connamespace = 'sales'::regnamespace"
BUREAU = 'Büro "B".x %s {}'
OBJECTS = [{"schema": "sales"}, {"schema": BUREAU}]


def migration(pair: Any, clusters: Any, objects: list[dict[str, Any]] | None = None, **more: Any) -> Migration:
    more = {"types": ["schema", "full"], **more}
    return Migration("orders", pair.source.endpoint, pair.destination.endpoint, objects or OBJECTS, more)


def dumped(end: Any, clusters: Any, *options: str) -> list[str]:
    """What pg_dump says of a database, statement by statement, in an order of its own; replica identities left out."""
    program = str(pathlib.Path(clusters.bin_dir("17")) / "pg_dump")
    run = subprocess.run(
        [program, "-s", "--exclude-schema=causeway|other|public", *options, end.dsn],
        capture_output=True,
        text=True,
        check=True,
    )
    text = re.sub(r"^(--|\\|SET ).*\n", "", run.stdout, flags=re.MULTILINE)
    # Up to version 15 a view's columns are printed with their table.
    text = re.sub(r"(?<![.\w])(customers|grouped|orders)\.", "", text)
    text = re.sub(r"^ALTER TABLE ONLY .* REPLICA IDENTITY .*;$", "", text, flags=re.MULTILINE)
    return sorted(part.strip() for part in re.split(r";\n\n", text) if part.strip())


def all_sections(job: Migration, clusters: Any, **more: Any) -> dict[str, dict[str, Any]]:
    bin_dir = clusters.bin_dir("17")
    return {section: job.run("pg_schema_sync", section=section, client_bin=bin_dir, **more) for section in SECTIONS}


def fill(pair: Any) -> None:
    """The rows that foreign keys, materialized views and statistics are about."""
    pair.destination.run(
        "INSERT INTO sales.customers (email, name) SELECT n || '@x', 'N' || n FROM generate_series(1, 60) n;"
        "INSERT INTO sales.orders (at, customer, total) SELECT '2025-03-01', n + 6, n FROM generate_series(1, 60) n;"
        "INSERT INTO sales.unchecked VALUES (1, 99, -1);"
    )


SLEEPING = {"always": "ALWAYS", '"in replica"': "REPLICA"}


def awake(statements: list[str]) -> list[str]:
    """A dump in which the triggers that fire for a replicating session have their state of the source."""
    text = "\0".join(statements)
    for name, state in SLEEPING.items():
        text = text.replace(f"DISABLE TRIGGER {name}", f"ENABLE {state} TRIGGER {name}")
    return text.split("\0")


@pytest.mark.parametrize(
    ("source", "destination", "client"), [("17", "17", "17"), ("14", "17", "14"), ("17", "18", "18")]
)
def test_the_schema_arrives_whole(make_pair: Any, clusters: Any, source: str, destination: str, client: str) -> None:
    pair = make_pair(source, destination)
    pair.source.run(SCHEMA)
    before = witness.fingerprint(pair.source.sql)
    job = migration(pair, clusters)
    bin_dir = clusters.bin_dir(client)
    for section in SECTIONS:
        if client == "17":
            job.four_beats("pg_schema_sync", section=section, client_bin=bin_dir)
        else:
            assert job.run("pg_schema_sync", section=section, client_bin=bin_dir)["changed"]
            assert not job.run("pg_schema_sync", section=section, client_bin=bin_dir)["changed"]
        if section == "pre_data":
            fill(pair)
    assert witness.fingerprint(pair.source.sql) == before
    if destination == "17":
        assert sorted(awake(dumped(pair.destination, clusters))) == dumped(pair.source, clusters)
    assert pair.destination.value("SELECT count(*) FROM sales.summary") == 60
    assert pair.destination.value("SELECT relispopulated FROM pg_class WHERE relname = 'never'") is False
    valid = pair.destination.query("SELECT conname, convalidated FROM pg_constraint WHERE contype IN ('f', 'c')")
    assert {name for name, is_valid in valid if not is_valid} == {"old_rows", "old_hens"}
    assert pair.destination.value("SELECT count(*) FROM pg_stats WHERE schemaname = 'sales'") > 0
    assert dict(pair.destination.query("SELECT tgname, tgenabled::text FROM pg_trigger WHERE NOT tgisinternal")) == {
        "plain": "O",
        "always": "D",
        "in replica": "D",
        "off": "D",
        "whole": "O",
    }
    state = pair.destination.query("SELECT phase, before_image, schema_mark FROM causeway.migration")[0]
    assert state[0] == "finalized"
    assert state[1]["triggers"] == {"sales.queue": {"always": "A", "in replica": "R"}}
    assert state[1]["made"]["sales.customers"] is True
    assert state[2] is not None


def one(job: Migration, clusters: Any, section: str, **more: Any) -> dict[str, Any]:
    return job.run("pg_schema_sync", section=section, client_bin=clusters.bin_dir("17"), **more)


def relations(end: Any, schema: str) -> set[str]:
    query = (
        "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S')"
    )
    return {row[0] for row in end.query(query, [schema])}


def test_a_dry_run_on_a_fresh_pair_writes_nothing_and_shows_what_is_then_done(pair: Any, clusters: Any) -> None:
    pair.source.run(SCHEMA)
    job = migration(pair, clusters)
    before = [witness.fingerprint(end.sql) for end in pair.ends]
    bin_dir = clusters.bin_dir("17")
    dry = {s: job.run("pg_schema_sync", section=s, client_bin=bin_dir, check=True) for s in SECTIONS}
    assert [witness.fingerprint(end.sql) for end in pair.ends] == before
    assert dry["keys"]["notes"]
    for section in SECTIONS:
        real = job.run("pg_schema_sync", section=section, client_bin=bin_dir)
        shown = [s for s in dry[section]["statements"] if '"causeway"' not in s["sql"]]
        assert shown == [s for s in real["statements"] if '"causeway"' not in s["sql"]]
        assert shown


def test_with_changes_under_way_the_dump_has_a_mark_and_foreign_keys_wait(pair: Any, clusters: Any) -> None:
    pair.source.run(SCHEMA)
    job = migration(pair, clusters, types=["schema", "full", "incremental"])
    started = pair.source.value("SELECT pg_current_wal_insert_lsn()")
    one(job, clusters, "pre_data")
    mark = pair.destination.value("SELECT schema_mark FROM causeway.migration")
    assert pair.source.value("SELECT %s <= %s::pg_lsn AND %s <= pg_current_wal_lsn()", [started, mark, mark])
    assert pair.source.query("SELECT * FROM pg_replication_slots WHERE database = current_database()") == []
    fill(pair)
    one(job, clusters, "keys")
    pair.destination.run(
        "INSERT INTO causeway.table_copy (migration, relation, schema_name, table_name, state, mark)"
        " VALUES ('orders', 1, 'sales', 'queue', 'complete', '0/20')"
    )
    with pytest.raises(ModuleFailed) as refused:
        one(job, clusters, "foreign_keys")
    assert refused.value.result["error"]["code"] == "wrong_state"
    assert pair.destination.query(FOREIGN_KEYS) == []
    pair.destination.run(
        "INSERT INTO causeway.cdc_progress (migration, state, applied, confirmable, source_system, timeline)"
        " VALUES ('orders', 'running', '0/20', '0/20', 'x', 1)"
    )
    beats = job.four_beats("pg_schema_sync", section="foreign_keys", client_bin=clusters.bin_dir("17"))
    keys = [s["sql"] for s in beats[0]["statements"] if "FOREIGN KEY" in s["sql"]]
    assert [key for key in keys if not key.rstrip(";").endswith("NOT VALID")] == [
        'ALTER TABLE "sales"."orders" ADD CONSTRAINT "orders_customer_fkey" FOREIGN KEY (customer)'
        " REFERENCES sales.customers(id)"
    ]
    invalid = pair.destination.query("SELECT conname FROM pg_constraint WHERE contype = 'f' AND NOT convalidated")
    assert invalid == [("old_hens",)]


def test_a_foreign_key_that_was_not_validated_is_validated_by_the_next_run(pair: Any, clusters: Any) -> None:
    pair.source.run("CREATE SCHEMA s; CREATE TABLE s.a (id int PRIMARY KEY);")
    pair.source.run("CREATE TABLE s.b (id int PRIMARY KEY, a int CONSTRAINT points REFERENCES s.a);")
    job = migration(pair, clusters, [{"schema": "s"}])
    all_sections(job, clusters)
    pair.destination.run("ALTER TABLE s.b DROP CONSTRAINT points")
    pair.destination.run("ALTER TABLE s.b ADD CONSTRAINT points FOREIGN KEY (a) REFERENCES s.a NOT VALID")
    answer = one(job, clusters, "foreign_keys")
    assert [s["sql"] for s in answer["statements"]] == ['ALTER TABLE "s"."b" VALIDATE CONSTRAINT "points"']
    assert pair.destination.value("SELECT convalidated FROM pg_constraint WHERE conname = 'points'") is True


VALIDATED = f"{FOREIGN_KEYS.replace('sales', 's')} AND convalidated ORDER BY 1"


def before_foreign_keys(pair: Any, clusters: Any, ddl: str) -> Migration:
    """A migration of schema s that has made all else of it."""
    pair.source.run(ddl)
    job = migration(pair, clusters, [{"schema": "s"}])
    for section in SECTIONS[:3]:
        one(job, clusters, section)
    return job


SELF = """
CREATE SCHEMA s;
CREATE TABLE s.a (id int PRIMARY KEY, up int CONSTRAINT self REFERENCES s.a);
CREATE TABLE s.b (a int CONSTRAINT of_b REFERENCES s.a);
CREATE TABLE s.c (a int CONSTRAINT of_c REFERENCES s.a);
"""


def with_foreign_keys(pair: Any, clusters: Any) -> Migration:
    """Tables whose rows and keys stand at both ends, and whose foreign keys are still to come."""
    job = before_foreign_keys(pair, clusters, SELF)
    for end in pair.ends:
        end.run("INSERT INTO s.a SELECT i, i FROM generate_series(1, 50) i")
        end.run("INSERT INTO s.b SELECT 1 FROM generate_series(1, 5000); INSERT INTO s.c VALUES (2); ANALYZE s.b")
    return job


def test_a_table_whose_foreign_key_has_to_wait_keeps_no_other_from_it(pair: Any, clusters: Any) -> None:
    job = with_foreign_keys(pair, clusters)
    one(job, clusters, "foreign_keys")
    for table, name, column in (("a", "self", "up"), ("b", "of_b", "a"), ("c", "of_c", "a")):
        pair.destination.run(f"ALTER TABLE s.{table} DROP CONSTRAINT {name}")
        pair.destination.run(
            f"ALTER TABLE s.{table} ADD CONSTRAINT {name} FOREIGN KEY ({column}) REFERENCES s.a NOT VALID"
        )
    with pair.destination.connect() as busy, busy.transaction():
        busy.execute("LOCK TABLE s.b IN SHARE UPDATE EXCLUSIVE MODE")
        process = job.start("pg_schema_sync", section="foreign_keys", client_bin=clusters.bin_dir("17"), jobs=2)
        until(lambda: pair.destination.query(VALIDATED) == [("of_c",), ("self",)])
        assert process.poll() is None
    assert job.finish("pg_schema_sync", process)["changed"]
    assert pair.destination.query(VALIDATED) == [("of_b",), ("of_c",), ("self",)]


def test_a_foreign_key_that_is_violated_is_named_and_the_others_are_validated(pair: Any, clusters: Any) -> None:
    job = with_foreign_keys(pair, clusters)
    pair.destination.run("INSERT INTO s.b VALUES (77)")
    with pytest.raises(ModuleFailed) as failed:
        one(job, clusters, "foreign_keys")
    assert "of_b" in failed.value.result["error"]["object"]
    assert pair.destination.query(VALIDATED) == [("of_c",), ("self",)]
    pair.destination.run("DELETE FROM s.b WHERE a = 77")
    assert [s["sql"] for s in one(job, clusters, "foreign_keys")["statements"]] == [
        'ALTER TABLE "s"."b" VALIDATE CONSTRAINT "of_b"'
    ]
    assert pair.destination.query(VALIDATED) == [("of_b",), ("of_c",), ("self",)]
    assert not one(job, clusters, "foreign_keys")["changed"]


PARTITIONED = """
CREATE SCHEMA s;
CREATE TABLE s.a (id int PRIMARY KEY);
CREATE TABLE s.many (id int, a int CONSTRAINT to_a REFERENCES s.a ON DELETE CASCADE, PRIMARY KEY (id))
    PARTITION BY RANGE (id);
CREATE TABLE s.low PARTITION OF s.many FOR VALUES FROM (0) TO (100);
CREATE TABLE s.high PARTITION OF s.many FOR VALUES FROM (100) TO (1000) PARTITION BY RANGE (id);
CREATE TABLE s."higher still" (a int, id int NOT NULL);
ALTER TABLE s.high ATTACH PARTITION s."higher still" DEFAULT;
CREATE TABLE s.others (id int, m int CONSTRAINT to_many REFERENCES s.many DEFERRABLE) PARTITION BY HASH (id);
CREATE TABLE s.others_0 PARTITION OF s.others FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE s.others_1 PARTITION OF s.others FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE s.empty (id int, a int CONSTRAINT nobody REFERENCES s.a) PARTITION BY LIST (id);
CREATE TABLE s.noted (id int CONSTRAINT told REFERENCES s.a) PARTITION BY LIST (id);
CREATE TABLE s.noted_1 PARTITION OF s.noted FOR VALUES IN (1);
COMMENT ON CONSTRAINT told ON s.noted IS 'points at s.a; and back';
"""
CONSTRAINTS = """
SELECT conrelid::regclass::text, conname, confrelid::regclass::text, pg_get_constraintdef(oid), convalidated,
       conislocal, coninhcount, conparentid <> 0
  FROM pg_constraint WHERE contype = 'f' AND confrelid IN ('s.a'::regclass, 's.many'::regclass) ORDER BY 1, 2, 3
"""


DEFINITION = "FOREIGN KEY (a) REFERENCES public.a(id)"


def partitioned(pair: Any, clusters: Any) -> Migration:
    job = before_foreign_keys(pair, clusters, PARTITIONED)
    for end in pair.ends:
        end.run("INSERT INTO s.a SELECT generate_series(0, 999)")
        end.run("INSERT INTO s.many SELECT i, i FROM generate_series(0, 999) i")
        end.run("INSERT INTO s.others SELECT i, i FROM generate_series(0, 999) i; ANALYZE")
    return job


@pytest.mark.parametrize(("source", "destination"), [("17", "17"), ("14", "17"), ("17", "18")])
def test_foreign_keys_of_partitioned_tables(make_pair: Any, clusters: Any, source: str, destination: str) -> None:
    """Of each partition first, which is checked without keeping anybody from writing; what stands is the source's."""
    pair = make_pair(source=source, destination=destination)
    job = partitioned(pair, clusters)
    beats = job.four_beats("pg_schema_sync", section="foreign_keys", client_bin=clusters.bin_dir(destination))
    keys = {"nobody on s.empty", "to_a on s.many", "told on s.noted", "to_many on s.others"}
    assert {what for what in beats[1]["objects"] if "fk" in what} == {f"fk constraint {key}" for key in keys}
    first = [s["sql"] for s in beats[1]["statements"] if "NOT VALID" in s["sql"]]
    assert len(first) == 4, "two of leaves and two of leaves; or, from 18 on, one for each table"
    assert pair.source.query(CONSTRAINTS) == pair.destination.query(CONSTRAINTS)
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        pair.destination.run("UPDATE s.many SET a = 5000 WHERE id = 500")


@pytest.mark.parametrize(("checked", "scans"), [(True, 0), (False, 1)])
def test_a_key_that_its_partitions_have_already_reads_none_of_them(pair: Any, checked: bool, scans: int) -> None:
    """What the way by the partitions rests on: the server takes over what has been checked, and checks only the rest."""
    end = pair.destination
    end.run("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE many (id int, a int) PARTITION BY LIST (id)")
    end.run("CREATE TABLE leaf PARTITION OF many DEFAULT; INSERT INTO a VALUES (1); INSERT INTO many VALUES (1, 1)")
    if checked:
        end.sql.execute(Key(0, ("public", "leaf"), "k", DEFINITION).adding(IDENTITY, not_valid=True))
        end.run("ALTER TABLE leaf VALIDATE CONSTRAINT k")

    def scanned() -> int:
        end.run("SELECT pg_stat_force_next_flush()")
        return int(end.value("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'leaf'"))

    before = scanned()
    end.sql.execute(Key(0, ("public", "many"), "k", DEFINITION).adding(IDENTITY, not_valid=False))
    assert scanned() - before == scans
    assert end.value("SELECT coninhcount FROM pg_constraint WHERE conrelid = 'leaf'::regclass AND contype = 'f'") == 1


def test_a_partition_that_violates_its_key_is_named_and_the_next_run_goes_on(pair: Any, clusters: Any) -> None:
    job = partitioned(pair, clusters)
    pair.destination.run("UPDATE s.many SET a = 7777 WHERE id = 700")
    with pytest.raises(ModuleFailed) as failed:
        one(job, clusters, "foreign_keys")
    assert "higher still" in failed.value.result["error"]["object"]
    whole = "SELECT count(*) FROM pg_constraint WHERE conrelid = 's.many'::regclass AND conname = 'to_a'"
    assert pair.destination.value(whole) == 0
    whole = "SELECT conname FROM pg_constraint WHERE conrelid = 's.others'::regclass AND confrelid = 's.many'::regclass"
    assert pair.destination.query(whole) == [("to_many",)], "what does not depend on it was done"
    pair.destination.run("UPDATE s.many SET a = 7 WHERE id = 700")
    statements = [s["sql"] for s in one(job, clusters, "foreign_keys")["statements"]]
    assert [s for s in statements if "NOT VALID" in s] == []
    assert pair.source.query(CONSTRAINTS) == pair.destination.query(CONSTRAINTS)
    assert not one(job, clusters, "foreign_keys")["changed"]


def test_only_the_selected_tables_and_what_they_need(pair: Any, clusters: Any) -> None:
    pair.source.run(SCHEMA)
    pair.source.run(
        "CREATE SCHEMA logs; CREATE TABLE logs.tmp_a (a int); CREATE TABLE logs.kept (a int);"
        "CREATE VIEW logs.tmp_view AS SELECT 1 AS a; CREATE VIEW logs.stays AS SELECT a FROM logs.kept"
    )
    tables = [{"name": "orders"}, {"name": "queue"}, {"name": "unchecked"}]
    objects: list[dict[str, Any]] = [{"schema": "sales", "tables": tables}, {"schema": "logs", "exclude": ["tmp_*"]}]
    job = migration(pair, clusters, objects)
    answers = all_sections(job, clusters)
    selected = {"orders", "orders_2025", "orders_2025_rest", "orders later", "orders_id_seq", "queue", "unchecked"}
    assert relations(pair.destination, "sales") == selected | {"receipt"}
    assert relations(pair.destination, "logs") == {"kept", "stays"}
    functions = "SELECT proname FROM pg_proc WHERE pronamespace = 'sales'::regnamespace"
    assert pair.destination.query(functions) == [("trap",)]
    assert pair.destination.value("SELECT count(*) FROM pg_trigger WHERE tgname = 'plain'") == 1
    assert pair.destination.query(FOREIGN_KEYS) == []
    assert "sales.customers is neither selected" in str(answers["foreign_keys"]["warnings"])


def test_a_table_that_stands_there_is_reported_or_kept_as_it_is(pair: Any, clusters: Any) -> None:
    pair.source.run(
        "CREATE SCHEMA s; CREATE TABLE s.a (id serial PRIMARY KEY, v text DEFAULT 'x', w int UNIQUE);"
        "CREATE TABLE s.b (id int PRIMARY KEY); COMMENT ON TABLE s.a IS 'theirs'"
    )
    pair.destination.run("CREATE SCHEMA s; CREATE TABLE s.a (id int CONSTRAINT mine PRIMARY KEY, v text, w int)")
    before = witness.fingerprint(pair.destination.sql)
    with pytest.raises(ModuleFailed) as refused:
        one(migration(pair, clusters, [{"schema": "s"}]), clusters, "pre_data", check=True)
    assert refused.value.result["error"]["code"] == "mismatch"
    assert "s.a" in refused.value.result["msg"]
    assert witness.fingerprint(pair.destination.sql) == before
    job = migration(pair, clusters, [{"schema": "s"}], conflicting_tables="ignore")
    answers = all_sections(job, clusters)
    assert answers["pre_data"]["kept_tables"] == ["s.a"]
    assert pair.destination.value("SELECT obj_description('s.a'::regclass)") is None
    assert pair.destination.query("SELECT 1 FROM pg_attrdef WHERE adrelid = 's.a'::regclass") == []
    constraints = "SELECT conname FROM pg_constraint WHERE conrelid = 's.a'::regclass AND contype <> 'n' ORDER BY 1"
    assert pair.destination.query(constraints) == [("a_w_key",), ("mine",)]
    assert pair.destination.value("SELECT before_image -> 'made' FROM causeway.migration") == {"s.b": True}
    assert not any(answer["changed"] for answer in all_sections(job, clusters).values())


def test_an_object_that_cannot_be_made_is_named_and_nothing_is_left(pair: Any, clusters: Any) -> None:
    pair.source.run(
        "CREATE SCHEMA s; CREATE TABLE s.a (id int); CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.t (a int);"
        'CREATE VIEW s."reads, both" AS SELECT a.id FROM s.a, elsewhere.t'
    )
    with pytest.raises(ModuleFailed) as failed:
        one(migration(pair, clusters, [{"schema": "s"}]), clusters, "pre_data")
    error = failed.value.result["error"]
    assert error["object"] == 'view s."reads, both"'
    assert error["sqlstate"] == "42P01"
    assert "exclude" in error["remedy"]
    assert pair.destination.query("SELECT 1 FROM pg_namespace WHERE nspname = 's'") == []
    assert pair.destination.value("SELECT phase FROM causeway.migration") == "registered"


def test_owners_and_grants_come_along_where_the_role_exists(make_role: Any, pair: Any, clusters: Any) -> None:
    owner, dummy = make_role(pair)
    reader, dummy = make_role(pair)
    absent, dummy = make_role(pair, ends=(pair.source,)) if pair.source.server != pair.destination.server else ("", "")
    pair.source.run(
        f"CREATE SCHEMA s AUTHORIZATION {owner}; CREATE TABLE s.a (id int PRIMARY KEY, v text);"
        f"ALTER TABLE s.a OWNER TO {owner}; CREATE TABLE s.b (id int); ALTER TABLE s.b OWNER TO {absent};"
        f"CREATE FUNCTION s.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; REVOKE EXECUTE ON FUNCTION s.f() FROM PUBLIC;"
        f"GRANT USAGE ON SCHEMA s TO {reader}, {absent}; GRANT SELECT ON s.a TO {absent}, {reader} WITH GRANT OPTION;"
        f"GRANT UPDATE (v) ON s.a TO {reader}; GRANT EXECUTE ON FUNCTION s.f() TO {reader};"
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA s GRANT SELECT ON TABLES TO {reader};"
        f"SET SESSION AUTHORIZATION {reader}; GRANT SELECT ON s.a TO PUBLIC; RESET SESSION AUTHORIZATION"
    )
    job = migration(pair, clusters, [{"schema": "s"}])
    answers = all_sections(job, clusters)
    assert absent in str(answers["pre_data"]["warnings"])
    owners = "SELECT relname, relowner::regrole::text FROM pg_class WHERE relname IN ('a', 'b') AND relkind = 'r'"
    assert dict(pair.destination.query(owners)) == {"a": owner, "b": "postgres"}
    can = pair.destination.value
    assert can("SELECT has_schema_privilege(%s, 's', 'USAGE')", [reader])
    assert can("SELECT has_table_privilege(%s, 's.a', 'SELECT WITH GRANT OPTION')", [reader])
    assert can("SELECT has_column_privilege(%s, 's.a', 'v', 'UPDATE')", [reader])
    assert not can("SELECT has_column_privilege(%s, 's.a', 'id', 'UPDATE')", [reader])
    assert can("SELECT has_function_privilege('public', 's.f()', 'EXECUTE')") is False
    assert can("SELECT has_function_privilege(%s, 's.f()', 'EXECUTE')", [reader])
    assert can("SELECT has_table_privilege('public', 's.a', 'SELECT')")
    assert can("SELECT count(*) FROM pg_default_acl") == 1
    assert not any(answer["changed"] for answer in all_sections(job, clusters).values())


def test_a_schema_that_stands_gets_its_grants_once(make_role: Any, pair: Any, clusters: Any) -> None:
    reader, dummy = make_role(pair)
    pair.source.run(f"CREATE TABLE public.a (id int); GRANT CREATE ON SCHEMA public TO {reader}")
    pair.source.run("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    job = migration(pair, clusters, [{"schema": "public"}])
    can = "SELECT has_schema_privilege(%s, 'public', %s)"
    assert not pair.destination.value(can, [reader, "CREATE"])
    all_sections(job, clusters)
    assert pair.destination.value(can, [reader, "CREATE"])
    assert pair.destination.value(can, ["public", "USAGE"])
    pair.destination.run(f"REVOKE CREATE ON SCHEMA public FROM {reader}")
    assert not any(answer["changed"] for answer in all_sections(job, clusters).values())
    assert not pair.destination.value(can, [reader, "CREATE"])


def test_plain_accounts_will_do(make_role: Any, pair: Any, clusters: Any) -> None:
    """One that may read all at the source, and the owner of the database at the destination."""
    pair.source.run(SCHEMA)
    mover, password = make_role(pair)
    pair.source.run(f"GRANT pg_read_all_data TO {mover}")
    pair.destination.run(
        f"ALTER DATABASE {pair.destination.dbname} OWNER TO {mover}; GRANT CREATE ON SCHEMA public TO {mover}"
    )
    source, destination = (end.server.endpoint(end.dbname, user=mover, password=password) for end in pair.ends)
    job = Migration("orders", source, destination, OBJECTS, {"types": ["schema", "full"]})
    all_sections(job, clusters, privileges="skip")
    assert not any(answer["changed"] for answer in all_sections(job, clusters, privileges="skip").values())
    assert relations(pair.destination, "sales") == relations(pair.source, "sales")
    owners = "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'sales'::regnamespace"
    assert pair.destination.query(owners) == [(mover,)]


def test_privileges_may_be_left_behind(make_role: Any, pair: Any, clusters: Any) -> None:
    owner, dummy = make_role(pair)
    pair.source.run(f"CREATE SCHEMA s AUTHORIZATION {owner}; CREATE TABLE s.a (id int); GRANT ALL ON s.a TO {owner}")
    all_sections(migration(pair, clusters, [{"schema": "s"}]), clusters, privileges="skip")
    assert pair.destination.value("SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 's'") == "postgres"
    assert pair.destination.value("SELECT relacl FROM pg_class WHERE relname = 'a'") is None


def test_what_comes_later_is_made_by_the_next_run(pair: Any, clusters: Any) -> None:
    pair.source.run("CREATE SCHEMA s; CREATE TABLE s.a (id int PRIMARY KEY)")
    job = migration(pair, clusters, [{"schema": "s"}])
    all_sections(job, clusters)
    pair.source.run("CREATE TABLE s.b (id int PRIMARY KEY, a int); COMMENT ON TABLE s.b IS 'new'")
    pair.source.run("CREATE INDEX late ON s.a ((id + 1)); COMMENT ON INDEX s.late IS 'new too'")
    answers = all_sections(job, clusters)
    assert {section: answer["objects"] for section, answer in answers.items()} == {
        "pre_data": ["table s.b", 'comment s.TABLE "b"'],
        "keys": ["constraint b_pkey on s.b"],
        "indexes": ["index s.late", 'comment s.INDEX "late"'],
        "foreign_keys": [],
    }


def processes_with(secret: str) -> list[str]:
    """The processes whose arguments or environment hold a text."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        for part in ("cmdline", "environ"):
            try:
                if secret.encode() in (process / part).read_bytes():
                    found.append((process / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
    return found


SLOW_DUMP = """#!/bin/sh
[ "$1" = --version ] && exec {program} --version
touch {started}
sleep 4
exec {program} "$@"
"""


def test_the_password_is_in_a_private_file_that_goes_even_when_we_are_ended(
    pair: Any, clusters: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.source.run("CREATE SCHEMA s; CREATE TABLE s.a (id int PRIMARY KEY)")
    programs, started = tmp_path / "bin", tmp_path / "started"
    programs.mkdir()
    real = pathlib.Path(clusters.bin_dir("17"))
    (programs / "pg_dump").write_text(SLOW_DUMP.format(program=real / "pg_dump", started=started))
    (programs / "pg_dump").chmod(0o755)
    (programs / "pg_restore").symlink_to(real / "pg_restore")
    password = pair.source.endpoint["login_password"]
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("PGPASSWORD", raising=False)
    job = migration(pair, clusters, [{"schema": "s"}])
    process = job.start("pg_schema_sync", section="pre_data", client_bin=str(programs))
    deadline = time.monotonic() + 30
    while not started.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    folders = list(tmp_path.glob("causeway-*"))
    assert [oct(folder.stat().st_mode & 0o777) for folder in folders] == ["0o700"]
    files = {path.name: path for path in folders[0].iterdir()}
    assert password in files["password"].read_text()
    assert password not in files["service"].read_text()
    assert {oct(path.stat().st_mode & 0o777) for path in files.values()} == {"0o600"}
    assert processes_with(str(folders[0]))
    assert processes_with(password) == []
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=30)
    assert list(tmp_path.glob("causeway-*")) == []
    one(job, clusters, "pre_data")
    assert list(tmp_path.glob("causeway-*")) == []


def test_a_program_older_than_the_source_is_refused(pair: Any, clusters: Any) -> None:
    pair.source.run("CREATE SCHEMA s; CREATE TABLE s.a (id int)")
    job = migration(pair, clusters, [{"schema": "s"}])
    with pytest.raises(ModuleFailed) as failed:
        job.run("pg_schema_sync", section="pre_data", client_bin=clusters.bin_dir("14"))
    assert failed.value.result["error"]["code"] == "driver_missing"
    assert "version 14" in failed.value.result["msg"]


class RenamingRunner:
    """Runs programs, and renames a column at the source just before the first dump that is made under a snapshot."""

    def __init__(self, pair: Any, folder: str) -> None:
        self.pair, self.folder, self.snapshots = pair, folder, 0

    def run(self, argv: Sequence[str], environment: Mapping[str, str]) -> Outcome:
        if any(argument.startswith("--snapshot=") for argument in argv):
            self.snapshots += 1
            if self.snapshots == 1:
                self.pair.source.run("ALTER TABLE s.a RENAME COLUMN before TO after")
        run = subprocess.run(argv, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
        return Outcome(run.returncode, run.stdout, run.stderr)

    def find(self, program: str, folder: str) -> str:
        return str(pathlib.Path(self.folder) / program)


@pytest.mark.parametrize("types", [["schema", "full"], ["schema", "full", "incremental"]])
def test_a_column_renamed_between_snapshot_and_dump_makes_another_dump(
    pair: Any, clusters: Any, types: list[str]
) -> None:
    pair.source.run("CREATE SCHEMA s; CREATE TABLE s.a (id int PRIMARY KEY, before int CHECK (before > 0))")
    job = migration(pair, clusters, [{"schema": "s"}], types=types)
    runner = RenamingRunner(pair, clusters.bin_dir("17"))
    options = json.loads(job.arguments({}))["ANSIBLE_MODULE_ARGS"]
    shared = {"state_schema": "causeway", "allow_keyless": False, "conflicting_tables": "report", "restart": False}
    with EngineMigration(spec_of({**shared, **options})) as opened:
        made = plan(opened, {"section": "pre_data"}, runner)
        assert made.changed
        opened.ensure_registered()
        answer = made.apply()
    assert runner.snapshots == 2
    assert answer["notes"]
    columns = "SELECT attname FROM pg_attribute WHERE attrelid = 's.a'::regclass AND attnum > 0"
    assert pair.destination.query(columns) == [("id",), ("after",)]
    check = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 's.a'::regclass AND contype = 'c'"
    assert pair.destination.query(check) == [("CHECK ((after > 0))",)]


def test_nobody_waits_for_long_behind_a_dump_that_waits_for_a_lock(pair: Any, clusters: Any) -> None:
    pair.source.run("CREATE SCHEMA s; CREATE TABLE s.a (id int); CREATE TABLE s.b (id int)")
    job = migration(pair, clusters, [{"schema": "s"}])
    with pair.source.connect() as busy, pair.source.connect() as application:
        busy.execute("BEGIN; LOCK TABLE s.b IN ACCESS EXCLUSIVE MODE")
        process = job.start("pg_schema_sync", section="pre_data", client_bin=clusters.bin_dir("17"))
        waiting = "SELECT count(*) FROM pg_locks WHERE relation = 's.b'::regclass AND NOT granted"
        longest = 0.0
        for dummy in range(2):
            until(lambda: bool(pair.source.value(waiting)))
            began = time.monotonic()
            application.execute("BEGIN; LOCK TABLE s.a IN ACCESS EXCLUSIVE MODE; COMMIT")
            longest = max(longest, time.monotonic() - began)
        busy.execute("COMMIT")
        assert job.finish("pg_schema_sync", process)["changed"]
    assert longest < 4
    assert relations(pair.destination, "s") == {"a", "b"}


def test_who_locks_a_table_against_the_dump_is_named(pair: Any, clusters: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.source.run("CREATE SCHEMA s; CREATE TABLE s.a (id int)")
    job = migration(pair, clusters, [{"schema": "s"}])
    monkeypatch.setattr(sync, "LOCK_ATTEMPTS", 1)
    options = json.loads(job.arguments({}))["ANSIBLE_MODULE_ARGS"]
    shared = {"state_schema": "causeway", "allow_keyless": False, "conflicting_tables": "report", "restart": False}
    with pair.source.connect(application_name="nightly rewrite") as busy, busy.transaction():
        busy.execute("LOCK TABLE s.a IN ACCESS EXCLUSIVE MODE")
        with EngineMigration(spec_of({**shared, **options})) as opened:
            runner = RenamingRunner(pair, clusters.bin_dir("17"))
            with pytest.raises(errors.TimeoutExpired, match="nightly rewrite"):
                plan(opened, {"section": "pre_data"}, runner)


def test_what_stands_at_the_source_is_read_without_opening_what_views_read(pair: Any) -> None:
    pair.source.run("CREATE SCHEMA s; CREATE TABLE public.base (id int); CREATE VIEW s.v AS SELECT id FROM public.base")
    with pair.source.connect() as busy, busy.transaction():
        busy.execute("LOCK TABLE public.base IN ACCESS EXCLUSIVE MODE")
        pair.source.run("SET statement_timeout = '5s'")
        assert observe_standing(pair.source.sql, "source", ("s",)).relation(("s", "v"))


def test_killed_while_it_waits_for_a_snapshot_the_next_run_is_not_in_its_own_way(pair: Any, clusters: Any) -> None:
    pair.source.run("CREATE SCHEMA s; CREATE TABLE s.a (id int)")
    job = migration(pair, clusters, [{"schema": "s"}], types=["schema", "full", "incremental"])
    job.name = pair.source.dbname
    slots = "SELECT slot_name FROM pg_replication_slots WHERE temporary AND database = current_database()"
    waiting = (
        "SELECT 1 FROM pg_stat_activity JOIN pg_replication_slots ON active_pid = pid"
        " WHERE temporary AND database = current_database() AND wait_event = 'transactionid'"
    )
    more = {"section": "pre_data", "client_bin": clusters.bin_dir("17")}
    with pair.source.connect() as busy:
        busy.execute("BEGIN; INSERT INTO s.a VALUES (1)")
        killed = job.start("pg_schema_sync", **more)
        # Only who sleeps on a transaction outlives its client: while the server still reads WAL it notices the end.
        until(lambda: pair.source.query(waiting))
        left = pair.source.query(slots)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
        assert pair.source.query(slots) == left
        process = job.start("pg_schema_sync", **more)
        until(lambda: set(pair.source.query(slots)) - set(left) or process.poll() is not None, seconds=60)
        busy.execute("COMMIT")
        assert job.finish("pg_schema_sync", process)["changed"]
