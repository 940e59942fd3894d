# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The double of a server that is older than those we can run: a database of a 14 that looks like one of 11.

Two things make it. In the database, what came after 11 is renamed (C(hide)): functions, views, columns of catalogs and views,
settings in pg_settings; C(current_setting) and C(version) answer 11.9; an event trigger refuses what CREATE PUBLICATION of 11
refuses. Before the server stands a relay (C(Relay)) that names 11.9 as the server's version when a session starts, so that psycopg
and asyncpg believe it. No code of the product knows of it: no failpoint, no setting.

What it cannot hide, and why. pg_dump is 14 or newer, and would send a server of 11 SQL that a 14 does not take: the relay tells it
the truth, and the columns that it reads stay (C(FOR_PG_DUMP)). The columns of pg_class, pg_attribute, pg_proc and pg_type are
hard-wired, so those of 12 to 14 stay visible, and C(oid) too. C(SET) takes settings of 12 to 14. For all of these the server's
log is read afterwards: C(too_new) lists the statements of our sessions that name something newer than 11.

With C(imports=False) a snapshot that a session imports is not the one that was exported, without an error, as on PolarDB 11: the
relay sends another statement in the place of SET TRANSACTION SNAPSHOT, and the session gets a snapshot of its own. That the
session can tell, by the list of transactions that it sees running, is up to the database (C(faults/snapshots.py)).
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg import conninfo, sql
from support.clusters.local import Server
from support.clusters.pairs import End
from support.postgresql_history import NEWER, NEWER_COLUMNS, NEWER_FUNCTIONS, NEWER_RELATIONS, NEWER_SETTINGS

VERSION, VERSION_NUMBER = "11.9", 110009
PG_DUMP = "causeway schema"
"""The application_name that the product gives pg_dump."""

FOR_PG_DUMP = frozenset(
    {
        "pg_attribute.attcompression",
        "pg_attribute.attgenerated",
        "pg_collation.collisdeterministic",
        "pg_proc.prosqlbody",
        "pg_proc.prosupport",
        "pg_range.rngmultitypid",
        "pg_statistic_ext.stxstattarget",
        "pg_trigger.tgparentid",
        "pg_type.typsubscript",
    }
)
LOGGED = {"log_statement": "all", "log_replication_commands": "on", "log_line_prefix": "%m [%p] %a|%d|"}
"""Settings of the cluster that a double is made in: C(too_new) reads its log."""

_REFUSE = """
CREATE FUNCTION public.refuse_newer_publications() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    IF tg_event = 'ddl_command_start' AND pg_catalog.current_query() ~ 'publish_via_partition_root' THEN
        RAISE EXCEPTION 'unrecognized publication parameter: "publish_via_partition_root"' USING ERRCODE = '42601';
    ELSIF tg_event = 'ddl_command_end' AND EXISTS (SELECT FROM pg_catalog.pg_publication_rel r
              JOIN pg_catalog.pg_class c ON c.oid = r.prrelid WHERE c.relkind = 'p') THEN
        RAISE EXCEPTION 'a partitioned table: Adding partitioned tables to publications is not supported.'
            USING ERRCODE = '22023';
    END IF;
END $$;
CREATE EVENT TRIGGER refuse_options ON ddl_command_start WHEN TAG IN ('CREATE PUBLICATION', 'ALTER PUBLICATION')
    EXECUTE FUNCTION public.refuse_newer_publications();
CREATE EVENT TRIGGER refuse_roots ON ddl_command_end WHEN TAG IN ('CREATE PUBLICATION', 'ALTER PUBLICATION')
    EXECUTE FUNCTION public.refuse_newer_publications()
"""
_ANSWERS = """
UPDATE pg_catalog.pg_proc SET proname = 'current_setting_of_14'
 WHERE oid = 'pg_catalog.current_setting(text)'::pg_catalog.regprocedure;
UPDATE pg_catalog.pg_proc SET proname = 'version_of_14' WHERE oid = 'pg_catalog.version()'::pg_catalog.regprocedure;
CREATE FUNCTION pg_catalog.current_setting(setting text) RETURNS text LANGUAGE sql STABLE STRICT AS $$
    SELECT CASE pg_catalog.lower($1) WHEN 'server_version' THEN '{version}' WHEN 'server_version_num' THEN '{number}'
                ELSE pg_catalog.current_setting_of_14($1) END $$;
CREATE FUNCTION pg_catalog.version() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT 'PostgreSQL {version} on a double, which is a ' || pg_catalog.version_of_14() $$;
CREATE OR REPLACE VIEW pg_catalog.pg_settings AS
    SELECT a.name, CASE a.name WHEN 'server_version' THEN '{version}' WHEN 'server_version_num' THEN '{number}'
                               ELSE a.setting END AS setting,
           a.unit, a.category, a.short_desc, a.extra_desc, a.context, a.vartype, a.source, a.min_val, a.max_val,
           a.enumvals, a.boot_val, a.reset_val, a.sourcefile, a.sourceline, a.pending_restart
      FROM pg_catalog.pg_show_all_settings() a WHERE a.name <> ALL ({settings})
"""


def later_than_11(listed: dict[str, int]) -> list[str]:
    """Those of the history's names that came after the version of the double."""
    return sorted(name for name, since in listed.items() if since > VERSION_NUMBER)


def hide(end: End) -> None:
    """Rename in this database of a 14 what came after 11. The test's own session, C(end.sql), lives with that too."""
    conn = end.sql
    assert 140000 <= conn.info.server_version < 150000, "a double is made of a 14"
    conn.execute(_REFUSE)
    with conn.transaction():
        conn.execute("SET LOCAL allow_system_table_mods = on")
        settings = sql.SQL("ARRAY[{}]").format(sql.SQL(", ").join(map(sql.Literal, later_than_11(NEWER_SETTINGS))))
        conn.execute(
            sql.SQL(_ANSWERS).format(version=sql.SQL(VERSION), number=sql.SQL(str(VERSION_NUMBER)), settings=settings)
        )
        _rename(conn)


def _rename(conn: psycopg.Connection[Any]) -> None:
    conn.execute(
        "UPDATE pg_proc SET proname = proname || '_since_13'"
        " WHERE oid IN ('max(pg_lsn)'::regprocedure, 'min(pg_lsn)'::regprocedure)"
    )
    conn.execute(
        "UPDATE pg_proc SET proname = proname || '_newer'"
        " WHERE pronamespace = 'pg_catalog'::regnamespace AND proname = ANY (%s)",
        [later_than_11(NEWER_FUNCTIONS)],
    )
    for column in later_than_11(NEWER_COLUMNS):
        relation, dummy, name = column.partition(".")
        if column not in FOR_PG_DUMP:
            done = conn.execute(
                "UPDATE pg_attribute SET attname = attname || '_newer' WHERE attrelid = %s::regclass AND attname = %s",
                [f"pg_catalog.{relation}", name],
            )
            assert done.rowcount == 1, column
    conn.execute(
        "UPDATE pg_class SET relname = relname || '_newer'"
        " WHERE relnamespace = 'pg_catalog'::regnamespace AND relname = ANY (%s)",
        [later_than_11(NEWER_RELATIONS)],
    )


_PROBES = re.compile(r"'(?:[^']|'')*'")


def too_new(server: Server, dbname: str) -> list[str]:
    """The statements in the log of the double's cluster that our sessions sent to this database and that name something
    newer than 11, string literals left out: a name in one is a probe."""
    names = "|".join(re.escape(name.rpartition(".")[2]) for name in later_than_11(NEWER))
    newer = re.compile(rf"\b(?:{names}|publish_via_partition_root|FAILOVER)\b")
    found = []
    entries = re.split(r"(?m)^(?=\d{4}-\d\d-\d\d )", Path(server.cluster.log_file).read_text(encoding="utf-8"))
    for entry in entries:
        head, dummy, said = entry.partition("|")
        database, dummy, statement = said.partition("|")
        ours = database == dbname and "] causeway " in head and not head.endswith(f"] {PG_DUMP}")
        sent = ours and re.search(r"LOG:  (?:statement|execute|received replication command)", statement)
        if sent and (hit := newer.search(_PROBES.sub("''", statement))):
            found.append(f"{hit[0]}: {statement.strip()}")
    return found


class Relay:
    """Stands between clients and a server: names another version, and with C(imports=False) spoils imported snapshots."""

    def __init__(self, host: str, port: int, *, imports: bool = True) -> None:
        self._server = (host, port)
        self._imports = imports
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.spoiled: list[str] = []
        """The application_name of each session whose import of a snapshot has become something else."""
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        """End it, with the sessions that it carries."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, dummy = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), client:
            server = socket.create_connection(self._server)
            with server, self._known(client, server):
                startup = self._startup(client)
                server.sendall(startup)
                name = _application(startup)
                answers = threading.Thread(target=self._answers, args=(server, client, name == PG_DUMP), daemon=True)
                answers.start()
                try:
                    self._questions(client, server, name)
                finally:
                    with contextlib.suppress(OSError):
                        server.shutdown(socket.SHUT_WR)
                    answers.join()

    @contextlib.contextmanager
    def _known(self, *sockets: socket.socket) -> Iterator[None]:
        with self._lock:
            self._open.update(sockets)
        try:
            yield
        finally:
            with self._lock:
                self._open.difference_update(sockets)

    @staticmethod
    def _startup(client: socket.socket) -> bytes:
        """The first message, or a request to cancel; encryption is refused before it."""
        while True:
            head = _exactly(client, 8)
            length, code = struct.unpack("!ii", head)
            if code not in (80877103, 80877104):  # SSLRequest, GSSENCRequest
                return head + _exactly(client, length - 8)
            client.sendall(b"N")

    def _answers(self, server: socket.socket, client: socket.socket, truth: bool) -> None:
        """Until the session is ready message by message, then as it comes."""
        with contextlib.suppress(OSError, EOFError):
            kind = b""
            while kind != b"Z":
                kind, body = _message(server)
                if kind == b"S" and body.startswith(b"server_version\0") and not truth:
                    body = f"server_version\0{VERSION}\0".encode()
                client.sendall(_packed(kind, body))
            while data := server.recv(65536):
                client.sendall(data)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def _questions(self, client: socket.socket, server: socket.socket, name: str) -> None:
        if self._imports:
            while data := client.recv(65536):
                server.sendall(data)
        while not self._imports:
            kind, body = _message(client)
            if kind in (b"Q", b"P"):
                body, changed = re.subn(rb"SET TRANSACTION SNAPSHOT '[^']*'", b"SET TRANSACTION READ ONLY", body)
                self.spoiled += [name] * changed
            server.sendall(_packed(kind, body))


def _application(startup: bytes) -> str:
    """The application_name of a startup message."""
    words = startup[8:].split(b"\0")
    return dict(zip(words[::2], words[1::2], strict=False)).get(b"application_name", b"").decode()


def _exactly(source: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = source.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _message(source: socket.socket) -> tuple[bytes, bytes]:
    """One message of the protocol: its kind and what follows its length."""
    kind = _exactly(source, 1)
    (length,) = struct.unpack("!i", _exactly(source, 4))
    return kind, _exactly(source, length - 4)


def _packed(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


@contextlib.contextmanager
def seen_through_relay(end: End, *, imports: bool = True) -> Iterator[tuple[End, Relay]]:
    """The same database behind a relay: what a module is to connect to. C(sql) is still a session of the server's own."""
    parts = conninfo.conninfo_to_dict(end.server.conninfo)
    relay = Relay(str(parts["host"]), int(str(parts["port"])), imports=imports)
    there = conninfo.make_conninfo(end.server.conninfo, port=str(relay.port))
    try:
        yield dataclasses.replace(end, server=dataclasses.replace(end.server, conninfo=there)), relay
    finally:
        relay.close()
