# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The witness: compares two databases with psql and nothing else, and shares no code with the collection.

Run as C(python tests/demo/witness.py BIN_DIR SERVICE_FILE [SNAPSHOT]): the service file names C(source) and
C(destination); the verdict is printed as JSON, and the exit code says whether both ends are the same.

Rows are compared as what the types' output functions write, with the same session settings at both ends: for every
table the number of rows and two sums over md5 halves, which no order and no pair of twins can deceive. Where they
differ, every row is fetched as its key and its md5, and the keys that differ are named.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import pathlib
import sys
from collections import Counter
from typing import Any

if __package__:
    from .psql import Psql, PsqlError, identifier, literal
else:  # run as a program
    from psql import Psql, PsqlError, identifier, literal  # type: ignore[no-redef, import-not-found]

SETTINGS = """
SET client_min_messages = warning; SET statement_timeout = 0; SET row_security = off; SET search_path = '';
SET extra_float_digits = 3; SET bytea_output = 'hex'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres';
SET TimeZone = 'UTC'; SET xmloption = 'content'; SET lc_monetary = 'C';
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
"""
SELECTED = "n.nspname NOT IN ('causeway', 'information_schema') AND n.nspname !~ '^pg_' AND c.relpersistence <> 't'"
# The key is one for people: the first of the unique indexes, the primary key before others.
TABLES = f"""
SELECT json_build_array(n.nspname, c.relname,
    (SELECT coalesce(json_agg(a.attname ORDER BY a.attname), '[]') FROM pg_attribute a
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
    (SELECT json_agg(a.attname ORDER BY k.position)
     FROM (SELECT indkey FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indpred IS NULL
           AND i.indexprs IS NULL ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1) i,
          unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, position)
     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND {SELECTED} ORDER BY n.nspname, c.relname;
"""
VERSION = "SELECT current_setting('server_version_num')::int / 10000;"
SEQUENCES = f"""
SELECT format('SELECT json_build_array(%L, last_value, is_called, %s, %L) FROM %I.%I;', format('%I.%I', n.nspname, c.relname),
              s.seqincrement, s.seqcycle, n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_sequence s ON s.seqrelid = c.oid
WHERE {SELECTED} ORDER BY 1
\\gexec
"""
# Everything but rows, grants and replica identities: the fence takes grants, and identities are put back at release.
# A partition's identity is its root's (pg_dump does not give it back to every partition of a partition).
CATALOG = f"""
WITH relation AS (
    SELECT c.*, format('%I.%I', n.nspname, c.relname) AS said FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE {SELECTED} AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
), found(what) AS (
    SELECT format('relation %s %s of %s, comment %L', relkind, said, relowner::regrole, obj_description(oid, 'pg_class')) FROM relation
    UNION ALL SELECT format('column %s.%I %s %s default %s identity %L generated %L comment %L', r.said, a.attname,
        format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'not null' END, pg_get_expr(d.adbin, d.adrelid),
        CASE WHEN NOT r.relispartition THEN a.attidentity END, a.attgenerated, col_description(r.oid, a.attnum))
        FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum WHERE r.relkind <> 'S'
    UNION ALL SELECT format('constraint %s %I %s, validated %s', r.said, o.conname, pg_get_constraintdef(o.oid), o.convalidated)
        FROM relation r JOIN pg_constraint o ON o.conrelid = r.oid WHERE o.contype NOT IN ('n', 't')
    UNION ALL SELECT format('index %s, valid %s', pg_get_indexdef(i.indexrelid), i.indisvalid)
        FROM relation r JOIN pg_index i ON i.indrelid = r.oid
    UNION ALL SELECT format('trigger %s, enabled %s', pg_get_triggerdef(t.oid), t.tgenabled)
        FROM relation r JOIN pg_trigger t ON t.tgrelid = r.oid WHERE NOT t.tgisinternal
    UNION ALL SELECT format('view %s %s populated %s', said, pg_get_viewdef(oid), relispopulated) FROM relation WHERE relkind IN ('v', 'm')
    UNION ALL SELECT format('partition %s %s', said, pg_get_expr(relpartbound, oid)) FROM relation WHERE relispartition
    UNION ALL SELECT format('sequence %s %s start %s by %s from %s to %s cycle %s cache %s', r.said, format_type(s.seqtypid, NULL),
        s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcycle, s.seqcache) FROM relation r JOIN pg_sequence s ON s.seqrelid = r.oid
    UNION ALL SELECT format('function %s of %s, comment %L', CASE c.prokind WHEN 'a' THEN c.oid::regprocedure::text
        ELSE pg_get_functiondef(c.oid) END, c.proowner::regrole, obj_description(c.oid, 'pg_proc'))
        FROM pg_proc c JOIN pg_namespace n ON n.oid = c.pronamespace
        WHERE n.nspname NOT IN ('causeway', 'information_schema') AND n.nspname !~ '^pg_'
    UNION ALL SELECT format('type %s %s labels %s check %s', c.oid::regtype, c.typtype,
        (SELECT array_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = c.oid),
        (SELECT string_agg(pg_get_constraintdef(o.oid), ' ' ORDER BY o.conname) FROM pg_constraint o WHERE o.contypid = c.oid))
        FROM pg_type c JOIN pg_namespace n ON n.oid = c.typnamespace
        WHERE c.typtype IN ('d', 'e', 'r') AND n.nspname NOT IN ('causeway', 'information_schema') AND n.nspname !~ '^pg_'
    UNION ALL SELECT format('schema %I of %s, comment %L', n.nspname, n.nspowner::regrole, obj_description(n.oid, 'pg_namespace'))
        FROM pg_namespace n WHERE n.nspname <> 'causeway' AND n.nspname !~ '^pg_'
)
SELECT to_json(what) FROM found ORDER BY what;
"""
ATTEMPTS = {
    "INSERT": "INSERT INTO shop.pulse DEFAULT VALUES",
    "INSERT through the root": "INSERT INTO shop.orders (region, placed_at, customer_id) VALUES ('eu', '2024-02-02', 1)",
    "UPDATE": "UPDATE shop.stock SET amount = 0",
    "UPDATE of a quoted table": 'UPDATE "Lager & Büro"."Bestände" SET "Größe" = 0',
    "DELETE": "DELETE FROM shop.order_lines",
    "TRUNCATE": "TRUNCATE shop.notices",
    "INSERT into a keyless table": "INSERT INTO public.pgbench_history VALUES (1, 1, 1, 1, now())",
}
REFUSED = frozenset({"42501", "25006", "28000", "28P01"})
KEYS_SHOWN = 5
Key = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table at one end; C(key) is empty when there is none."""

    schema: str
    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]

    @property
    def row(self) -> str:
        return f"ROW({', '.join('t.' + identifier(column) for column in self.columns)})::text"

    @property
    def source(self) -> str:
        return f"ONLY {identifier(self.schema, self.name)} AS t"

    def digest(self) -> str:
        return (
            f"SELECT json_build_array({literal(self.schema)}, {literal(self.name)}, count(*), "
            "coalesce(sum(('x' || left(m, 16))::bit(64)::bigint), 0)::text, "
            "coalesce(sum(('x' || right(m, 16))::bit(64)::bigint), 0)::text) "
            f"FROM (SELECT md5({self.row}) AS m FROM {self.source}) AS rows;\n"
        )

    def rows(self) -> str:
        key = ", ".join(f"t.{identifier(column)}::text" for column in self.key)
        return f"SELECT json_build_array(json_build_array({key}), md5({self.row})) FROM {self.source};\n"


@dataclasses.dataclass(frozen=True)
class Witness:
    """Looks at C(source) and C(destination) of a service file; the destination as of an exported snapshot, if given."""

    psql: Psql
    snapshot: str | None = None

    def ask(self, end: str, text: str) -> list[Any]:
        """Ask one end, in one read-only transaction; the answers, one JSON value a line."""
        pin = f"SET TRANSACTION SNAPSHOT {literal(self.snapshot)};\n" if self.snapshot and end == "destination" else ""
        return [json.loads(line) for line in self.psql.run(end, SETTINGS + pin + text + "\nCOMMIT;\n")]

    def both(self, source: str, destination: str) -> tuple[list[Any], list[Any]]:
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            here, there = pool.submit(self.ask, "source", source), pool.submit(self.ask, "destination", destination)
            return here.result(), there.result()

    def tables(self) -> tuple[dict[Key, Table], dict[Key, Table]]:
        here, there = (
            {(s, n): Table(s, n, tuple(columns), tuple(key or ())) for s, n, columns, key in answers}
            for answers in self.both(TABLES, TABLES)
        )
        return here, there

    def compare(self) -> dict[str, Any]:
        """Rows of every table, and the catalogs; see the keys of the answer at C(main)."""
        here, there = self.tables()
        digests = self.both(*("".join(table.digest() for table in end.values()) for end in (here, there)))
        counts = [{(s, n): (count, left, right) for s, n, count, left, right in answers} for answers in digests]
        differences = [
            self.explain(key, here.get(key), there.get(key))
            for key in sorted(here.keys() | there.keys())
            if counts[0].get(key) != counts[1].get(key)
        ]
        catalogs: tuple[list[Any], list[Any]] = ([], [])
        versions = self.both(VERSION, VERSION)
        if versions[0] == versions[1]:  # each major version writes definitions in its own way
            catalogs = self.both(CATALOG, CATALOG)
        return {
            "verdict": "different" if differences or catalogs[0] != catalogs[1] or not here else "identical",
            "tables": len(here),
            "rows": sum(count for count, _left, _right in counts[0].values()),
            "differences": differences,
            "catalog": {
                "objects": len(catalogs[0]),
                "only_source": list((Counter(catalogs[0]) - Counter(catalogs[1])).elements())[:20],
                "only_destination": list((Counter(catalogs[1]) - Counter(catalogs[0])).elements())[:20],
            },
        }

    def explain(self, key: Key, here: Table | None, there: Table | None) -> dict[str, Any]:
        """Which rows of a table differ, by key; by md5 where there is no key."""
        said = ".".join(key)
        if here is None or there is None:
            return {
                "table": said,
                "rows": [],
                "count": None,
                "why": f"stands at the {'source' if here else 'destination'} only",
            }
        if here.columns != there.columns:
            return {"table": said, "rows": [], "count": None, "why": "its columns differ"}
        left, right = (Counter(map(json.dumps, rows)) for rows in self.both(here.rows(), here.rows()))
        ends: dict[str, set[str]] = {}
        for row in left - right:
            ends.setdefault(self._name(here, row), set()).add("source")
        for row in right - left:
            ends.setdefault(self._name(here, row), set()).add("destination")
        rows = [
            {"key": name, "why": "differs" if len(where) == 2 else f"stands at the {next(iter(where))} only"}
            for name, where in sorted(ends.items())
        ]
        return {
            "table": said,
            "rows": rows[:KEYS_SHOWN],
            "count": len(rows),
            "why": f"{len(rows)} row{'s differ' if len(rows) > 1 else ' differs'}",
        }

    @staticmethod
    def _name(table: Table, row: str) -> str:
        key, digest = json.loads(row)
        if not table.key:
            return f"row with md5 {digest}"
        return ", ".join(f"{column} = {value}" for column, value in zip(table.key, key, strict=True))

    def sequences(self, used: dict[str, dict[str, int]], dbname: str = "shop") -> list[str]:
        """Draw one number from every sequence of the destination, which must lie beyond all that were used, by the
        source or by the load (C({sequence: {"min", "max"}}); sequences that cycle are left out.

        What is wrong, as sentences. Run it when the load has ended: it draws.
        """
        wrong = []
        now = dataclasses.replace(self, snapshot=None)  # its holder was the load
        here = {name: tuple(rest) for name, *rest in now.ask("source", SEQUENCES)}
        there = {answer[0] for answer in now.ask("destination", SEQUENCES)}
        wrong += [f"{name} stands at one end only" for name in sorted(here.keys() ^ there)]
        for name in sorted(here.keys() & there):
            value, called, step, cycle = here[name]
            if cycle == "t":
                continue
            (answer,) = self.psql.run("destination_admin", f"SELECT nextval({literal(name)});", dbname=dbname)
            drawn, extremes = int(answer), used.get(name)
            beyond = [value] if called else []
            beyond += [extremes["max"] if step > 0 else extremes["min"]] if extremes else []
            if any(drawn <= other if step > 0 else drawn >= other for other in beyond):
                wrong.append(f"{name} gave {drawn} at the destination, which was used already")
        return wrong

    def writes_refused(self, services: list[str]) -> dict[str, Any]:
        """Try to write with each of these services: how many tries were refused, and which were not."""
        refused, allowed = 0, []
        for service in services:
            for what, statement in ATTEMPTS.items():
                try:
                    self.psql.run(service, f"BEGIN; {statement}; ROLLBACK;")
                    allowed.append(f"{service}: {what} went through")
                except PsqlError as error:
                    if error.sqlstate in REFUSED:
                        refused += 1
                    else:
                        allowed.append(f"{service}: {what} failed with {error.sqlstate}, which is no refusal")
        return {"refused": refused, "not_refused": allowed}


def verdict_line(verdict: dict[str, Any]) -> str:
    """The verdict in one line, which names table and key of what differs."""
    if verdict["verdict"] == "identical":
        return f"identical: {verdict['rows']:,} rows in {verdict['tables']} tables"
    said = []
    for table in verdict["differences"]:
        keys = "; ".join(f"{row['key']} {row['why']}" for row in table["rows"])
        more = (table["count"] or 0) - len(table["rows"])
        said.append(f"{table['table']} ({keys or table['why']}{f'; and {more} more' if more > 0 else ''})")
    catalog = verdict["catalog"]
    for end in ("source", "destination"):
        said += [f"only at the {end}: {what}" for what in catalog[f"only_{end}"][:3]]
    return "different: " + ", ".join(said or ["there is no table to compare"])


def main(bin_dir: str, service_file: str, snapshot: str | None = None) -> int:
    verdict = Witness(Psql(bin_dir, pathlib.Path(service_file)), snapshot).compare()
    print(json.dumps({**verdict, "line": verdict_line(verdict)}, indent=1))
    return 0 if verdict["verdict"] == "identical" else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
