# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo: a live database moves to another cluster while it is written to, and a witness compares every row.

DEMO_JSON=file writes the summary as JSON; DEMO_KEEP=1 leaves the clusters running (C(run.py stop FOLDER) ends them);
DEMO_SABOTAGE=1 changes one row at the destination after the drain, which the witness must find.

The exit code is 0 only if both ends are identical and every other promise was kept.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support.clusters import servers  # noqa: E402
from support.processes import command_lines  # noqa: E402

from demo import shop  # noqa: E402
from demo.playbooks import PlaybookFailed, Playbooks  # noqa: E402
from demo.psql import Psql, PsqlError, write_services  # noqa: E402
from demo.summary import Console, duration, summary, thousands  # noqa: E402
from demo.watch import Watch, in_files, in_state_tables  # noqa: E402
from demo.witness import Witness, verdict_line  # noqa: E402

MIGRATION = "shop"
ENDS = ("source", "destination")
VERSIONS = {"source": "17", "destination": "17"}
# Crashes of a server are safe with it, losses of power are not; the demo is about neither, and disks differ.
SETTINGS = {"fsync": "off", "max_wal_size": "2GB", "shared_buffers": "256MB"}
OBJECTS = [{"schema": "shop"}, {"schema": "Lager & Büro"}, {"schema": "public"}]
IDENTITIES = """
SELECT json_agg(format('%s %s', c.oid::regclass, c.relreplident) ORDER BY c.oid) FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND n.nspname IN ('shop', 'public', 'Lager & Büro');
"""
LEFT_OVER = """
SELECT 'schema causeway' FROM pg_namespace WHERE nspname = 'causeway'
UNION ALL SELECT 'publication ' || pubname FROM pg_publication
UNION ALL SELECT 'replication slot ' || slot_name FROM pg_replication_slots
UNION ALL SELECT 'event trigger ' || evtname FROM pg_event_trigger;
"""
COPIED = """
SELECT json_build_object('tables', count(*), 'rows', sum(rows), 'bytes', sum(bytes),
    'seconds', extract(epoch FROM max(finished_at) - min(started_at))) FROM causeway.table_copy WHERE migration = 'shop';
"""
PROGRESS = "SELECT to_jsonb(p) FROM causeway.cdc_progress p WHERE migration = 'shop';"


class DemoFailed(Exception):
    """The demo came to an end before its time; the text says why."""


class Demo:
    """One run. Everything it makes stands below C(work); what holds passwords below C(private) (0700)."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.keep = bool(os.environ.get("DEMO_KEEP"))
        self.sabotage = bool(os.environ.get("DEMO_SABOTAGE"))
        self.work = servers.own_folder(servers.own_folder(servers.default_home()) / f"demo-{os.getpid()}")
        self.private = self.work / "private"
        self.private.mkdir(mode=0o700)
        self.playbooks = Playbooks(self.private, console.detail)
        self.phases: dict[str, float] = {}
        self.facts: dict[str, Any] = {}
        self.problems: list[str] = []
        self.verdict: dict[str, Any] = {}
        self.clusters: dict[str, Any] = {}
        self.passwords: dict[str, dict[str, str]] = {}
        self.load: subprocess.Popen[bytes] | None = None
        self.watch: Watch | None = None
        self.psql = Psql("", self.private / "services")

    # --- the steps ---

    def run(self) -> None:
        self.make_clusters()
        self.make_shop()
        self.start_load()
        self.play("precheck")
        self.play("migrate")
        self.play("status", "-e", f"causeway_status_file={self.private / 'status.json'}")
        self.facts["lag"] = self.progress()
        self.play("cutover")
        self.wait_for_load_at_destination()
        self.facts["copy"] = self.ask_state(COPIED)
        self.facts["cdc"] = self.progress()
        for name in ("migrate", "cutover"):
            played = self.play(name, label=f"{name} again")
            if played.changed:
                self.problems.append(f"the second {name} changed {played.changed} things instead of none")
        self.ask_witness()
        self.look_for_passwords()
        self.play("release", "-e", f"causeway_confirm={MIGRATION}")
        self.look_for_left_overs()

    @contextmanager
    def phase(self, name: str, says: str) -> Iterator[Callable[[str], None]]:
        """Time a phase; the block may say what came of it."""
        self.console.begin(says)
        started = time.monotonic()
        said: list[str] = []
        yield said.append
        self.phases[name] = round(time.monotonic() - started, 1)
        self.console.done(said[-1] if said else says, self.phases[name])

    def make_clusters(self) -> None:
        with self.phase("clusters", "two clusters (their programs are fetched when they are not here yet)") as say:
            for end in ENDS:
                self.clusters[end] = servers.ensure(self.work / end, end, VERSIONS[end], SETTINGS)[0]
            self.psql = Psql(self.clusters["destination"].bin_dir, self.private / "services")
            ports = " and ".join(f"{end} {VERSIONS[end]} on port {self.clusters[end].port}" for end in ENDS)
            say(f"two PostgreSQL clusters: {ports}")

    def make_shop(self) -> None:
        with self.phase("shop", "database shop") as say:
            self.write_services()
            application = {role: shop.new_password() for role in shop.APPLICATION}
            for end in ENDS:
                self.passwords[end] = shop.make_roles(self.psql, end, application)
            self.write_services()
            rows = shop.fill(self.psql, "source")
            size = self.psql.run("source", "SELECT pg_size_pretty(pg_database_size('shop'));")[0]
            self.facts["identities"] = self.psql.run("source", IDENTITIES)
            say(f"database shop: {thousands(rows)} rows, {size}")
        self.watch = Watch(self.secrets())
        self.watch.start()
        self.playbooks.prepare(
            MIGRATION,
            {
                "ansible_connection": "local",
                "ansible_python_interpreter": sys.executable,
                "causeway_source": self.endpoint("source"),
                "causeway_destination": self.endpoint("destination"),
                "causeway_objects": OBJECTS,
                "causeway_allow_keyless": True,
                "causeway_client_bin": self.clusters["destination"].bin_dir,
                "causeway_worker_home": str(self.private / "worker"),
                "causeway_worker_compile": "never",
                "causeway_worker_python": sys.executable,
                "causeway_worker_supervisor": "none",
            },
        )

    def start_load(self) -> None:
        with self.phase("load", "write load") as say:
            config = {
                **{end: {"host": "127.0.0.1", "port": self.clusters[end].port, "dbname": shop.DBNAME} for end in ENDS},
                "roles": [{"user": role, "password": self.passwords["source"][role]} for role in shop.APPLICATION],
                "watcher": {
                    "user": self.clusters["destination"].superuser,
                    "password": self.clusters["destination"].password,
                },
                "migration": MIGRATION,
                "rate": float(os.environ.get("DEMO_RATE", "350")),
                "sabotage": self.sabotage,
                "status": str(self.private / "load-status.json"),
            }
            path = self.private / "load.json"
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as handle:
                json.dump(config, handle)
            program = [sys.executable, str(ROOT / "tests" / "demo" / "load.py"), str(path)]
            self.load = subprocess.Popen(program, start_new_session=True)
            self.wait(
                lambda: self.load_status().get("commits", {}).get("source", 0) > 500, 30, "the load did not start"
            )
            say(f"write load: {self.load_status()['rate']:.0f} transactions a second by {', '.join(shop.APPLICATION)}")

    def play(self, name: str, *options: str, label: str | None = None) -> Any:
        with self.phase(label or name, f"playbook {name}") as say:
            played = self.playbooks.play(name, label or name, *options)
            status = self.load_status()
            writes = f"the load wrote {thousands(sum(status.get('commits', {}).values()))} transactions so far"
            say(f"{label or name}: {played.changed} changed; {writes}, {status.get('rate', 0):.0f}/s")
        return played

    def wait_for_load_at_destination(self) -> None:
        self.wait(
            lambda: self.load_status().get("pause_ms") is not None,
            30,
            "the load did not come through at the destination",
        )
        status = self.load_status()
        self.facts["pause"] = {key: status[key] for key in ("pause_ms", "pause_overall_ms", "pause_by_role_ms")}
        self.console.note(f"the application writes at the destination, after {status['pause_ms']:.0f} ms without")

    def ask_witness(self) -> None:
        with self.phase("witness", "the witness compares every row") as say:
            witness = Witness(self.psql, self.load_status()["snapshot"])
            self.verdict = witness.compare()
            fenced = [f"source_{role}" for role in shop.APPLICATION]
            tries = witness.writes_refused([*fenced, "destination_mover"])
            self.facts["writes_refused"] = tries["refused"]
            self.problems += [f"a write was not refused: {what}" for what in tries["not_refused"]]
            self.end_load()
            status = self.load_status()
            self.facts["load"] = status
            self.problems += witness.sequences(status["used"])
            self.problems += [f"{name} gave {n} values twice" for name, n in status["used_twice"].items()]
            self.problems += [f"the load met an error that it did not expect: {what}" for what in status["unexpected"]]
            if not status["commits"].get("destination"):
                self.problems.append("the load wrote nothing at the destination")
            say(f"witness: {verdict_line(self.verdict)}; {tries['refused']} forbidden writes refused")

    def look_for_passwords(self) -> None:
        watch, secrets = self.watch, self.secrets()
        if watch is None:
            raise DemoFailed("the watch did not run")
        logs = [self.private / "logs", self.private / "worker", *(self.work / end / "log" for end in ENDS)]
        found = [*sorted(watch.found), *in_files(logs, secrets), *in_state_tables(self.psql, ENDS, secrets)]
        self.facts["looks_for_passwords"] = watch.looks
        self.problems += [f"a password stands in {where}" for where in found]

    def look_for_left_overs(self) -> None:
        for end in ENDS:
            self.problems += [f"left behind at the {end}: {what}" for what in self.psql.run(end, LEFT_OVER)]
        if self.psql.run("source", IDENTITIES) != self.facts["identities"]:
            self.problems.append("the replica identities at the source are not as they were")
        left = self.processes()
        self.problems += [f"left running: {what}" for what in left.values()]

    # --- what the steps use ---

    def endpoint(self, end: str) -> dict[str, Any]:
        mover = {"login_user": shop.MOVER, "login_password": self.passwords[end][shop.MOVER]}
        return {**self.clusters[end].endpoint(), **mover, "login_db": shop.DBNAME}

    def write_services(self) -> None:
        """Name every database and account that psql is to use; the witness looks with an account of its own."""
        services: dict[str, dict[str, Any]] = {}
        for end, cluster in self.clusters.items():
            server = {"host": "127.0.0.1", "port": cluster.port, "dbname": shop.DBNAME}
            admin = {**server, "user": cluster.superuser, "password": cluster.password}
            services[end] = services[f"{end}_admin"] = admin
            for role, password in self.passwords.get(end, {}).items():
                services[f"{end}_{role}"] = {**server, "user": role, "password": password}
        write_services(self.private / "services", services)

    def secrets(self) -> list[str]:
        words = {password for end in self.passwords.values() for password in end.values()}
        return sorted(words | {cluster.password for cluster in self.clusters.values()})

    def load_status(self) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            status: dict[str, Any] = json.loads((self.private / "load-status.json").read_text(encoding="utf-8"))
            return status
        return {}

    def ask_state(self, question: str) -> dict[str, Any]:
        """Read the migration's own state, for the summary; it is no part of the verdict."""
        with suppress(PsqlError, IndexError, ValueError):
            answer: dict[str, Any] = json.loads(self.psql.run("destination", question)[0])
            return answer
        return {}

    def progress(self) -> dict[str, Any]:
        return self.ask_state(PROGRESS)

    def wait(self, true: Callable[[], bool], seconds: float, otherwise: str) -> None:
        end = time.monotonic() + seconds
        while not true():
            if time.monotonic() > end or self.load is None or self.load.poll() is not None:
                raise DemoFailed(f"{otherwise}: {json.dumps(self.load_status())[:800]}")
            time.sleep(0.1)

    def processes(self) -> dict[int, str]:
        """Processes of the demo other than its servers and this one: those that name its private folder."""
        return {
            pid: argv.replace(b"\0", b" ").decode(errors="replace").strip()[:200]
            for pid, argv in command_lines().items()
            if os.fsencode(self.private) in argv and pid != os.getpid()
        }

    def end_load(self) -> None:
        if self.load is not None and self.load.poll() is None:
            self.load.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.load.wait(15)
            if self.load.poll() is None:
                self.load.kill()
                self.load.wait()

    def result(self) -> dict[str, Any]:
        """The summary as data; the connection strings are of accounts that may see everything."""
        cdc, copy = self.facts.get("cdc") or {}, self.facts.get("copy") or {}
        seconds, size = float(copy.get("seconds") or 0), int(copy.get("bytes") or 0)
        changes = [cdc.get(kind) or 0 for kind in ("inserts", "updates", "deletes", "truncates")]
        lag = self.facts.get("lag") or {}
        same = self.verdict.get("verdict") == "identical"
        return {
            "verdict": "failed" if same and self.problems else self.verdict.get("verdict", "failed"),
            "verdict_line": verdict_line(self.verdict) if self.verdict else "the witness was not reached",
            "rows": self.verdict.get("rows", 0),
            "tables": self.verdict.get("tables", 0),
            "differences": self.verdict.get("differences", []),
            "problems": self.problems,
            "changes_applied": sum(changes),
            "write_pause_ms": self.facts.get("pause", {}).get("pause_ms"),
            "write_pause_by_role_ms": self.facts.get("pause", {}).get("pause_by_role_ms", {}),
            "copied_rows": copy.get("rows"),
            "copied_bytes": size,
            "copy_seconds": round(seconds, 1),
            "copy_mb_per_s": round(size / 1e6 / seconds, 1) if seconds else None,
            "lag_bytes": lag.get("lag_bytes"),
            "lag_seconds": lag.get("lag_seconds"),
            "transactions": self.facts.get("load", {}).get("commits", {}),
            "writes_refused": self.facts.get("writes_refused", 0),
            "looks_for_passwords": self.facts.get("looks_for_passwords", 0),
            "phases": self.phases,
            "source_dsn": self.clusters["source"].dsn(shop.DBNAME) if "source" in self.clusters else None,
            "destination_dsn": self.clusters["destination"].dsn(shop.DBNAME)
            if "destination" in self.clusters
            else None,
        }

    def clean(self) -> None:
        """End what runs and remove what was made; with DEMO_KEEP the clusters, and the folder, stay."""
        if self.watch is not None:
            self.watch.end()
        self.end_load()
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self.processes():
                with suppress(OSError):
                    os.kill(pid, number)
            deadline = time.monotonic() + 5
            while self.processes() and time.monotonic() < deadline:
                time.sleep(0.1)
        if not self.keep:
            remove(self.work)


def remove(work: pathlib.Path) -> None:
    for end in ENDS:
        servers.destroy(work / end)
    shutil.rmtree(work, ignore_errors=True)


def say_how_to_stop(demo: Demo, console: Console) -> None:
    services = demo.private / "services"
    console.note(f"The clusters are left running. Look at them: PGSERVICEFILE={services} "
                 f"{demo.psql.bin_dir}/psql service=source (or service=destination)")  # fmt: skip
    console.note(f"Stop and remove them: {sys.executable} {ROOT / 'tests' / 'demo' / 'run.py'} stop {demo.work}")


def write_json(path: str, result: dict[str, Any]) -> None:
    """Readable by its owner only: the connection strings hold passwords."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as handle:
        json.dump(result, handle, indent=1, ensure_ascii=False)
        handle.write("\n")


def interrupted(number: int, _frame: Any) -> None:
    raise KeyboardInterrupt(number)


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    console, started = Console(), time.monotonic()
    demo = Demo(console)
    try:
        demo.run()
    except (DemoFailed, PlaybookFailed, PsqlError, servers.ClusterError, OSError) as error:
        demo.problems.append(str(error).splitlines()[0])
        console.failed(str(error))
    except KeyboardInterrupt:
        demo.problems.append("interrupted")
        console.failed("Interrupted.")
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        result = {**demo.result(), "seconds": round(time.monotonic() - started, 1)}
        if os.environ.get("DEMO_JSON"):
            write_json(os.environ["DEMO_JSON"], result)
        demo.clean()
    summary(console, result)
    if demo.keep:
        say_how_to_stop(demo, console)
    console.note(f"in all {duration(result['seconds'])}")
    return 0 if result["verdict"] == "identical" else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["stop"]:
        remove(pathlib.Path(sys.argv[2]))
        sys.exit(0)
    sys.exit(main())
