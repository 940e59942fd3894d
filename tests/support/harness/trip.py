# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small database on its way from one cluster to another, through the playbooks, and what stood at each step."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from psycopg import conninfo, sql
from support import witness
from support.clusters.local import Clusters
from support.clusters.pairs import End, Pair
from support.playbooks import Playbooks, Played
from support.processes import command_lines

NAME = "shöp 1"
SCHEMAS = ("shop", "Lager & Büro")
LEFT_OVER = """
SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname = 'causeway'
UNION ALL SELECT 'publication ' || pubname FROM pg_publication
UNION ALL SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE database = current_database()
UNION ALL SELECT 'event trigger ' || evtname FROM pg_event_trigger
UNION ALL SELECT 'session ' || application_name FROM pg_stat_activity
          WHERE datname = current_database() AND application_name ILIKE '%causeway%'
"""
# Every row of every table, ours included, with the transaction that wrote it: no UPDATE goes unseen.
ROWS = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname IN ('shop', 'Lager & Büro', 'causeway') ORDER BY 1, 2
"""


def standing(end: End) -> dict[str, Any]:
    """All that a write would change at one end: catalogs, grants, roles, sequences, and each row's own version."""
    found = witness.fingerprint(end.sql)
    for schema, table in end.query(ROWS):
        query = sql.SQL(
            "SELECT count(*), coalesce(sum(hashtextextended(t.ctid::text || t.xmin::text, 0)), 0) FROM {} t"
        )
        found[f"{schema}.{table}"] = end.sql.execute(query.format(sql.Identifier(schema, table))).fetchone()
    found["comment"] = end.value(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
    )
    return found


def both(pair: Pair) -> list[dict[str, Any]]:
    return [standing(end) for end in pair.ends]


def unlike(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[str]:
    """What differs between two looks at both ends, by name."""
    return [
        f"{where} at the {end}: {one.get(where)} became {other.get(where)}"
        for end, one, other in zip(("source", "destination"), before, after, strict=True)
        for where in sorted(one.keys() | other.keys())
        if one.get(where) != other.get(where)
    ]


def schema_text(clusters: Clusters, end: End, *options: str) -> list[str]:
    """What pg_dump says about the end's schema, a line a piece."""
    program = str(pathlib.Path(clusters.bin_dir("18"), "pg_dump"))
    parts = conninfo.conninfo_to_dict(end.dsn)
    environment = {"PGPASSWORD": str(parts.pop("password", ""))}
    done = subprocess.run(
        [program, "--schema-only", *options, "--dbname", conninfo.make_conninfo("", **parts)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    # a token of its own, in each dump, since the releases of August 2025
    return [line for line in done.stdout.splitlines() if not re.match(r"\\(un)?restrict ", line)]


def end_worker(pid_file: pathlib.Path) -> None:
    """Kill the CDC worker of this file, if it still lives: only a failed test leaves one."""
    text = pid_file.read_text(encoding="utf-8").strip()
    if text and os.fsencode(pid_file.parent) in command_lines().get(int(text), b""):
        os.kill(int(text), signal.SIGKILL)


class Trip:
    """A database on its way: the pair, the roles, the playbooks, and what each step saw."""

    def __init__(self, pair: Pair, folder: pathlib.Path, clusters: Clusters, make_role: Callable[..., Any]) -> None:
        self.pair, self.clusters = pair, clusters
        self.seen: dict[str, Any] = {}
        self.outputs: list[str] = []
        self.roles: dict[str, str] = {}
        login = {}
        for part, attributes in (("owner", "LOGIN"), ("app", "LOGIN"), ("writers", "NOLOGIN"), ("clerk", "LOGIN")):
            login[part], self.roles[login[part]] = make_role(pair, attributes)
        self.login = login
        pair.run(f"GRANT {login['writers']} TO {login['clerk']}")
        source, self.source_password = make_role(pair, "LOGIN REPLICATION", (pair.source,))
        destination, self.destination_password = make_role(pair, "LOGIN", (pair.destination,))
        self.mover = destination
        pair.source.run(
            f"GRANT {login['owner']}, pg_monitor, pg_signal_backend TO {source};"
            f"GRANT CREATE ON DATABASE {pair.source.dbname} TO {source}, {login['owner']}"
        )
        pair.destination.run(
            f"GRANT {login['owner']} TO {destination};"
            f"GRANT SET ON PARAMETER session_replication_role TO {destination};"
            f"ALTER DATABASE {pair.destination.dbname} OWNER TO {destination}"
        )
        text = (pathlib.Path(__file__).parent / "lifecycle.sql").read_text(encoding="utf-8")
        for part, role in login.items():
            text = text.replace(f"@{part}@", role)
        pair.source.run(text)
        self.playbooks = Playbooks(
            folder,
            {
                "trip": {
                    "causeway_name": NAME,
                    "causeway_source": pair.source.server.endpoint(
                        pair.source.dbname, user=source, password=self.source_password
                    ),
                    "causeway_destination": pair.destination.server.endpoint(
                        pair.destination.dbname, user=destination, password=self.destination_password
                    ),
                    "causeway_objects": [{"schema": schema} for schema in SCHEMAS],
                    "causeway_allow_keyless": True,
                    "causeway_client_bin": clusters.bin_dir("18"),
                    "causeway_worker_home": str(folder / "worker"),
                    "causeway_worker_compile": "never",
                    "causeway_worker_python": sys.executable,
                    "causeway_worker_supervisor": "none",
                }
            },
        )

    @property
    def secrets(self) -> list[str]:
        return [self.source_password, self.destination_password, *self.roles.values()]

    def play(self, name: str, *options: str, **more: Any) -> Played:
        played = self.playbooks.play(name, *options, **more)
        self.outputs += [played.output, json.dumps([task.result for task in played.tasks])]
        return played

    def look(self, step: str) -> None:
        self.seen[step] = both(self.pair)

    def clean(self) -> None:
        """End what may still run, and take back what would hold the roles."""
        worker = self.playbooks.folder / "worker"
        for pid_file in worker.glob("*/worker.pid"):
            end_worker(pid_file)
        self.pair.destination.run(f"DROP OWNED BY {self.mover} CASCADE")
