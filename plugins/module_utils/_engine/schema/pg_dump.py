# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds, checks and runs pg_dump and pg_restore, with passwords in a private file that the call removes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DriverError, ServerError, SpecError
from .toc import Script, parse

if TYPE_CHECKING:
    from types import FrameType

    from ..postgres.connect import Connection, Endpoint
    from ..runner import Runner

_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
_LEFT_OUT = ("service", "servicefile", "replication", "options", "password", "passfile", "fallback_application_name")
_DEFAULTS = (("sslcertmode", "allow"),)  # libpq 16 and later fill it in, earlier ones do not know it
_LOCK_WAIT = "2s"
"""How long pg_dump waits for a lock: while it waits for one table, it blocks DDL on those that it has locked."""
_ENDING = (signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Programs:
    """The two client programs and their common major version."""

    dump: str
    restore: str
    major: int


class TablesLocked(ServerError):
    """Raised if pg_dump most likely did not get ACCESS SHARE on a table in time: the server's message has any language."""

    code = "tables_locked"


@dataclass(frozen=True, slots=True)
class DumpRequest:
    """The arguments of a dump: schemas by name, without these relations. ``snapshot`` empty: pg_dump's own."""

    schemas: tuple[str, ...]
    without: tuple[tuple[str, str], ...]
    privileges: bool
    snapshot: str = ""


def find_programs(runner: Runner, folder: str, needed: int, whose: str = "the source") -> Programs:
    """Return the client programs. Raises DriverError if one is missing, or older than ``needed``, the major version of
    ``whose`` server."""
    doing = "looking for PostgreSQL's client programs"
    remedy = f"Install the client programs of PostgreSQL {needed} or later, or name their folder with client_bin."
    found: dict[str, tuple[str, int]] = {}
    for program in ("pg_dump", "pg_restore"):
        path = runner.find(program, folder)
        if not path:
            raise DriverError(doing, program, "it is not on the worker host", remedy)
        outcome = runner.run([path, "--version"], {})
        version = _VERSION.search(outcome.output)
        if outcome.status or version is None:
            raise DriverError(doing, path, "it does not run on the worker host", remedy)
        if int(version[1]) < needed:
            why = f"it is of version {version[1]}, and {whose} of version {needed}"
            raise DriverError(doing, path, why, remedy)
        found[program] = (path, int(version[1]))
    return Programs(found["pg_dump"][0], found["pg_restore"][0], found["pg_restore"][1])


@contextmanager
def private_folder() -> Iterator[Path]:
    """Return a context with a folder that only we can enter, removed on any exit that can be handled, as by SIGTERM."""

    def end(number: int, dummy: FrameType | None) -> None:
        raise SystemExit(128 + number)

    main = threading.current_thread() is threading.main_thread()
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=f"causeway-{os.getpid()}-"))
    before = {number: signal.signal(number, end) for number in _ENDING} if main else {}
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for number, handler in before.items():
            signal.signal(number, handler)


def _sweep() -> None:
    """Remove our folders whose process was killed before it could do so."""
    for folder in Path(tempfile.gettempdir()).glob("causeway-*-*"):
        pid = folder.name.split("-")[1]
        try:
            if pid.isdigit() and folder.lstat().st_uid == os.getuid():
                os.kill(int(pid), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # another account's process now, or another process removed it
            continue


def dump(runner: Runner, programs: Programs, conn: Connection, endpoint: Endpoint, wanted: DumpRequest) -> Script:
    """Dump the schema of one database and parse the dump. Raises TablesLocked, ServerError, ProtocolError.

    ``conn`` is a session at the same server: pg_dump gets the parameters that it really connected with.
    """
    with private_folder() as folder:
        environment = _service(conn, endpoint, folder)
        archive, end = str(folder / "schema.dump"), endpoint.end
        arguments = dump_arguments(programs, endpoint, wanted, archive)
        _run(runner, arguments, environment, "dumping the schema of the", end)
        listing = _run(runner, [programs.restore, "--list", archive], {}, "reading the dump of the", end)
        texts = []
        for more in ((), ("--no-owner",)):
            output = folder / "schema.sql"
            arguments = [programs.restore, "--verbose", "--no-tablespaces", "--file", str(output), *more]
            if programs.major >= 15:
                arguments.append("--no-table-access-method")
            _run(runner, [*arguments, archive], {}, "reading the dump of the", end)
            with output.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
                texts.append(stream.read())
    return parse(listing, texts[0], texts[1])


def dump_arguments(programs: Programs, endpoint: Endpoint, wanted: DumpRequest, archive: str) -> list[str]:
    """Return the command line of pg_dump: names as patterns that match only themselves, and no secret."""
    arguments = [
        programs.dump,
        "--dbname=service=causeway",
        "--format=custom",
        "--schema-only",
        # Of two versions each has keywords that the other lacks: a column system_user, unquoted, is a function from 16 on.
        "--quote-all-identifiers",
        "--encoding=UTF8",
        "--no-publications",
        "--no-subscriptions",
        f"--lock-wait-timeout={_LOCK_WAIT}",
        "--compress=0",
        f"--file={archive}",
    ]
    if endpoint.session_role:
        arguments.append(f"--role={endpoint.session_role}")
    if not wanted.privileges:
        arguments += ["--no-privileges", "--no-owner"]
    if wanted.snapshot:
        arguments.append(f"--snapshot={wanted.snapshot}")
    arguments += [f"--schema={exactly(schema)}" for schema in wanted.schemas]
    arguments += [f"--exclude-table={exactly(schema)}.{exactly(name)}" for schema, name in wanted.without]
    return arguments


def exactly(name: str) -> str:
    """Return ``name`` as a pattern of pg_dump that matches only itself (psql manual, Patterns)."""
    return '"' + name.replace('"', '""') + '"'


def _service(conn: Connection, endpoint: Endpoint, folder: Path) -> dict[str, str]:
    """Write the connection into a service file and a password file; only their folder gets into the environment."""
    parameters = {
        option.keyword.decode(): option.val.decode()
        for option in conn.pgconn.info
        # libpq's own defaults are left out: programs of another version may not know the parameter.
        if option.val and option.val != option.compiled
    }
    password, passfile = parameters.get("password", ""), parameters.get("passfile", "")
    lines = {key: value for key, value in parameters.items() if key not in _LEFT_OUT and (key, value) not in _DEFAULTS}
    lines["application_name"] = "causeway schema"
    if endpoint.connect_params.get("options"):
        lines["options"] = endpoint.connect_params["options"]
    if password:
        passfile = str(folder / "password")
        escaped = password.replace("\\", "\\\\").replace(":", "\\:")
        _write(Path(passfile), f"*:*:*:*:{escaped}\n", password)
    if passfile:
        lines["passfile"] = passfile
    path = folder / "service"
    _write(path, "[causeway]\n" + "".join(f"{key}={value}\n" for key, value in lines.items()), *lines.values())
    return {"PGSERVICEFILE": str(path)}


def _write(path: Path, text: str, *values: str) -> None:
    if any("\n" in value for value in values):
        raise SpecError(
            "writing the connection for pg_dump",
            "",
            "one of its parameters contains a line break, which libpq's files cannot hold",
            "Change that password or parameter.",
        )
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)


def _run(runner: Runner, argv: list[str], environment: dict[str, str], doing: str, end: str) -> str:
    outcome = runner.run(argv, environment)
    if outcome.status:
        kind = TablesLocked if "LOCK TABLE" in outcome.errors else ServerError
        remedy = _MORE_LOCKS.format(end) if "max_locks_per_transaction" in outcome.errors else _REMEDY
        raise kind(doing, end, _why(outcome.errors), remedy, detail=Path(argv[0]).name)
    return outcome.output


_MORE_LOCKS = "Raise max_locks_per_transaction at the {} and restart it; precheck says to which value."
_REMEDY = "Grant the migration's account what it lacks, or correct the objects of the migration; then run it again."


def _why(errors: str) -> str:
    """Return the first error of the program, without its own name; the statement that it ran would not help."""
    lines = [line.partition("error: ")[2] for line in errors.splitlines() if "error: " in line]
    return (lines or [line for line in errors.splitlines() if line] or ["it failed without a message"])[0]
