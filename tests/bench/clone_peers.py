# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a clone is measured against: pgcopydb, pg_dump with pg_restore, and the floor, which is psql and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.harness import Bench
from demo.psql import Psql, write_services

LARGE = 64 << 20
"""Tables of more bytes go through two pipes, one for each half of their pages."""

# Types whose binary form means something else at another cluster: what the user made, and what holds an OID.
_TABLES = """
SELECT format('%I.%I', n.nspname, c.relname), pg_table_size(c.oid), pg_relation_size(c.oid) / 8192 / 2,
       (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute a
         WHERE a.attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = ''),
       EXISTS (SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                WHERE a.attrelid = c.oid AND attnum > 0 AND (t.oid >= 16384 OR t.typname ~ '^_?(reg|aclitem)'))
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND c.oid >= 16384 AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'causeway')
 ORDER BY 2 DESC
"""


class Peers:
    """The peers that this machine has, each as a function that makes a copy of C(dbname) at the destination."""

    def __init__(self, bench: Bench, dbname: str) -> None:
        self.bench = bench
        self.dbname = dbname
        services = {}
        for name, end in (("source", bench.source), ("destination", bench.destination)):
            words = end.endpoint()
            services[name] = {
                "host": words["login_host"],
                "port": words["login_port"],
                "user": words["login_user"],
                "password": words["login_password"],
                "dbname": dbname,
            }
        path = bench.folder / "services"
        path.unlink(missing_ok=True)
        write_services(path, services)
        self.psql = Psql(bench.bin_dir, path)
        self.missing: list[str] = []

    def all(self) -> dict[str, Callable[[], None]]:
        """By name, pgcopydb first; what is not on this machine is said and left out."""
        peers: dict[str, Callable[[], None]] = {"pgcopydb": self.pgcopydb, "pg_dump": self.dump, "floor": self.floor}
        if not shutil.which("pgcopydb") and not _installed():
            print("pgcopydb is missing: apt-get install pgcopydb, or BENCH_INSTALL=1. Measured without it.", flush=True)
            self.missing.append("pgcopydb")
            del peers["pgcopydb"]
        return peers

    def _check(self, done: subprocess.CompletedProcess[str], what: str) -> None:
        if done.returncode != 0:
            raise RuntimeError(f"{what} failed: {done.stderr.strip()[-1500:]}")

    def _uri(self, cluster: Any) -> str:
        words = cluster.endpoint()
        account = f"{words['login_user']}:{words['login_password']}"
        return f"postgresql://{account}@{words['login_host']}:{words['login_port']}/{self.dbname}"

    def pgcopydb(self) -> None:
        """As its manual has it. Through the environment: no password in an argv."""
        folder = self.bench.folder / "pgcopydb"
        shutil.rmtree(folder, ignore_errors=True)
        environment = {
            **self.psql.environment,
            "PGCOPYDB_SOURCE_PGURI": self._uri(self.bench.source),
            "PGCOPYDB_TARGET_PGURI": self._uri(self.bench.destination),
        }
        argv = ["pgcopydb", "clone", "--table-jobs", "2", "--index-jobs", "2", "--dir", str(folder)]
        self._check(subprocess.run(argv, env=environment, capture_output=True, text=True, check=False), "pgcopydb")

    def dump(self) -> None:
        """Dump with two jobs, restore with two jobs, statistics last."""
        folder = self.bench.folder / "dump"
        shutil.rmtree(folder, ignore_errors=True)
        program = self.psql.program
        self._check(program("pg_dump", "-Fd", "-j2", "-f", str(folder), "-d", "service=source"), "pg_dump")
        self._check(program("pg_restore", "-j2", "-d", "service=destination", str(folder)), "pg_restore")
        self.psql.run("destination", "ANALYZE")

    def floor(self) -> None:
        """Two pipes side by side, the indexes behind them: what the two servers need, and next to nothing else."""
        folder = self.bench.folder / "floor"
        shutil.rmtree(folder, ignore_errors=True)
        program = self.psql.program
        self._check(program("pg_dump", "-Fd", "--schema-only", "-f", str(folder), "-d", "service=source"), "pg_dump")
        restore = ("pg_restore", "-d", "service=destination", str(folder))
        self._check(program(*restore, "--section=pre-data"), "pg_restore")
        pieces = list(self._pieces())
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(self._pipe, pieces))
        self._check(program(*restore, "--section=post-data", "-j2"), "pg_restore")
        self.psql.run("destination", "ANALYZE")

    def _pieces(self) -> list[tuple[str, str]]:
        """The two COPY statements of each pipe, the largest tables first."""
        pieces = []
        with self.bench.connect(self.bench.source, self.dbname) as conn:
            for name, size, half, columns, text in conn.execute(_TABLES).fetchall():
                limits = [""]
                if size > LARGE:
                    limits = [f" WHERE ctid < '({half},0)'", f" WHERE ctid >= '({half},0)'"]
                form = "text" if text else "binary"
                for limit in limits:
                    out = f"COPY (SELECT {columns} FROM ONLY {name}{limit}) TO STDOUT (FORMAT {form})"
                    pieces.append((out, f"COPY {name} ({columns}) FROM STDIN (FORMAT {form})"))
        return pieces

    def _pipe(self, piece: tuple[str, str]) -> None:
        psql = [f"{self.psql.bin_dir}/psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d"]
        pinned = {**self.psql.environment, "PGOPTIONS": "-c session_replication_role=replica -c extra_float_digits=3"}
        first = subprocess.Popen([*psql, "service=source", "-c", piece[0]], env=pinned, stdout=subprocess.PIPE)
        second = subprocess.run(
            [*psql, "service=destination", "-c", piece[1]], env=pinned, stdin=first.stdout, check=False
        )
        if first.wait() or second.returncode:
            raise RuntimeError(f"the pipe failed: {piece[1]}")


def _installed() -> bool:
    """With BENCH_INSTALL=1 Debian's package, if there is a way."""
    if os.environ.get("BENCH_INSTALL") != "1" or not shutil.which("apt-get"):
        return False
    argv = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "pgcopydb"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr.strip()[-400:], file=sys.stderr)
    return done.returncode == 0 and shutil.which("pgcopydb") is not None


def version_of_pgcopydb() -> str:
    """What it calls itself; empty where there is none."""
    path = shutil.which("pgcopydb")
    if not path:
        return ""
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return next((line for line in done.stdout.splitlines() if "version" in line), "").rpartition(" ")[2]


def contents(bench: Bench, dbname: str) -> list[Any]:
    """Every table of both ends as a number: count and sum of hashes of what the output functions print."""
    found: list[Any] = []
    for end in (bench.source, bench.destination):
        with bench.connect(end, dbname) as conn:
            tables = [row[0] for row in conn.execute(_TABLES).fetchall()]
            conn.execute("SET extra_float_digits = 3")
            query = "SELECT '{0}', count(*), sum(hashtextextended(t::text, 0)::numeric) FROM ONLY {0} t"
            found.append(sorted(conn.execute(query.format(name)).fetchone() for name in tables))
    return found
