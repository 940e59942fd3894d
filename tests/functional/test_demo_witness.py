# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's witness must see what it is there for: its verdict is worth what it can find."""

from __future__ import annotations

import pytest
from demo.psql import Psql, write_services
from demo.witness import Witness, verdict_line
from psycopg import conninfo

TABLES = """
CREATE SCHEMA "Lager & Büro";
CREATE TABLE "Lager & Büro"."Bestände" ("Nr." int, "select" text, "Größe" numeric, PRIMARY KEY ("Nr.", "select"));
CREATE TABLE public.words (word text);
CREATE TABLE public.parted (id int PRIMARY KEY) PARTITION BY LIST (id);
CREATE TABLE public.parted_1 PARTITION OF public.parted FOR VALUES IN (1);
CREATE SEQUENCE public.numbers INCREMENT -2;
INSERT INTO "Lager & Büro"."Bestände" SELECT n, 'x', 1.10 FROM generate_series(1, 50) n;
INSERT INTO public.words VALUES ('a'), ('a'), ('b'), (NULL);
INSERT INTO public.parted VALUES (1);
SELECT nextval('public.numbers');
"""


@pytest.fixture
def witness(pair, clusters, tmp_path):
    services = {}
    for name, end in (("source", pair.source), ("destination", pair.destination)):
        services[name] = services[f"{name}_admin"] = conninfo.conninfo_to_dict(end.dsn)
    write_services(tmp_path / "services", services)
    pair.run(TABLES)
    return Witness(Psql(clusters.bin_dir(), tmp_path / "services"))


def test_equal_databases_are_identical(witness):
    verdict = witness.compare()
    assert (verdict["verdict"], verdict["tables"], verdict["rows"]) == ("identical", 3, 55)
    assert verdict_line(verdict) == "identical: 55 rows in 3 tables"


@pytest.mark.parametrize(
    ("end", "statement", "said"),
    [
        (
            "destination",
            """UPDATE "Lager & Büro"."Bestände" SET "Größe" = 1.100 WHERE "Nr." = 7""",
            "Lager & Büro.Bestände (Nr. = 7, select = x differs)",
        ),
        (
            "destination",
            """DELETE FROM "Lager & Büro"."Bestände" WHERE "Nr." = 8""",
            "Lager & Büro.Bestände (Nr. = 8, select = x stands at the source only)",
        ),
        ("source", "INSERT INTO public.words VALUES ('a')", "public.words (row with md5"),
        ("destination", "UPDATE public.words SET word = '' WHERE word IS NULL", "public.words (row with md5"),
        ("destination", "DELETE FROM public.parted", "public.parted_1 (id = 1 stands at the source only)"),
        ("source", "CREATE TABLE public.more (id int)", "public.more (stands at the source only)"),
        (
            "destination",
            "CREATE INDEX words_word ON public.words (word)",
            "only at the destination: index CREATE INDEX",
        ),
    ],
)
def test_one_difference_is_named(pair, witness, end, statement, said):
    getattr(pair, end).run(statement)
    verdict = witness.compare()
    assert verdict["verdict"] == "different"
    assert said in verdict_line(verdict)


def test_destination_is_seen_as_of_a_snapshot(pair, witness):
    with pair.destination.connect() as holder, holder.transaction():
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        ((snapshot,),) = holder.execute("SELECT pg_export_snapshot()").fetchall()
        pair.destination.run("DELETE FROM public.words")
        assert Witness(witness.psql, snapshot).compare()["verdict"] == "identical"
    assert witness.compare()["verdict"] == "different"


def test_used_numbers_are_noticed(pair, witness):
    dbname = pair.destination.dbname
    assert witness.sequences({"public.numbers": {"min": -1, "max": -1}}, dbname) == []
    wrong = witness.sequences({"public.numbers": {"min": -99, "max": -1}}, dbname)
    assert wrong == ["public.numbers gave -5 at the destination, which was used already"]
