# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random schedules of interleaved transactions through one long-lived worker; what they touched is compared after each.

CAUSEWAY_SCHEDULES says how many (`make fuzz` tries thousands), CAUSEWAY_POOL which tables. A schedule begins by emptying the tables that it
uses, so a smaller one can be found for a failure. Where it is *held*, the worker's first commit waits until the schedule
is over: the rest comes in large batches. Else it comes as the worker finds it.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from support.harness.streaming import Streaming
from support.tables.table_pool import OWN, PoolTable, pool

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.connect import connect
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.spec import endpoint_of
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state import markers
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state.store import StateStore

FUZZ = os.environ.get("HYPOTHESIS_PROFILE") == "fuzz"
SCHEDULES = int(os.environ.get("CAUSEWAY_SCHEDULES", "2000" if FUZZ else "200"))
POOL = int(os.environ.get("CAUSEWAY_POOL", str(os.getpid()) if FUZZ else "0"))
TABLES = 28
BATCH = 40
"""Changes of a batch: schedules have smaller transactions and larger ones."""

REFUSED = (
    psycopg.errors.IntegrityError,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.ObjectNotInPrerequisiteState,
    psycopg.errors.FeatureNotSupported,
    psycopg.errors.ObjectInUse,
)
"""What a source may answer to a statement; then its savepoint, or its transaction, is rolled back."""

# a hypothesis folder beside the other caches, not in the root
set_hypothesis_home_dir(str(pathlib.Path(__file__).parents[2] / ".cache" / "hypothesis"))

number = st.integers(1, 20)
part = st.sampled_from(["'a'", "'b'", "'c'", "'z'"])
unique = st.sampled_from(["NULL", "1", "2", "3", "4", "5"])
large = st.sampled_from(["'small'", "repeat(md5(random()::text), 250)", "NULL"])
table = st.integers(0, TABLES - 1)

# {t} is the table, {row} a whole one with id {x}; the values of a row follow from id and the drawn ones
STATEMENTS = (
    "INSERT INTO {t} ({names}) SELECT {row} FROM (VALUES ({a})) v(x)",
    "INSERT INTO {t} ({names}) SELECT {row} FROM generate_series({a}, {a} + 6) x",
    "INSERT INTO {t} ({names}) SELECT {row} FROM generate_series({a} + 1000, {a} + 1060) x",
    "INSERT INTO {t} ({names}) SELECT {row} FROM (VALUES ({a})) v(x) ON CONFLICT DO NOTHING",
    "UPDATE {t} SET n = coalesce(n, 0) + 1 WHERE id = {a}",
    "UPDATE {t} SET n = 1.0 WHERE id >= {a}",
    "UPDATE {t} SET big = {big} WHERE id = {a}",
    "UPDATE {t} SET {c} = NULL WHERE id < {a}",
    "UPDATE {t} AS y SET {c} = {value} FROM (VALUES ({b})) v(x) WHERE id = {a}",
    "UPDATE {t} SET id = {b} WHERE id = {a}",
    "UPDATE {t} SET id = {b}, part = {part}, n = NULL WHERE id = {a}",
    "UPDATE {t} SET part = {part}, u = {u} WHERE id = {a}",
    "UPDATE {t} SET id = id + 100, u = NULL WHERE id < {a}",
    "UPDATE {t} SET id = -id WHERE id BETWEEN {a} AND {a} + 5",
    "UPDATE {t} SET id = id + 1",
    "UPDATE {t} SET u = CASE u WHEN 1 THEN 2 ELSE 1 END WHERE u IN (1, 2)",
    "UPDATE {t} SET id = -7 WHERE id = {a}; UPDATE {t} SET id = {a} WHERE id = {b}; UPDATE {t} SET id = {b} WHERE id = -7",
    "UPDATE {t} SET u = -7 WHERE u = 1; UPDATE {t} SET u = 1 WHERE u = 2; UPDATE {t} SET u = 2 WHERE u = -7",
    "DELETE FROM {t} WHERE id = {a}",
    "DELETE FROM {t} WHERE id > {a} + 90 OR id < 0",
    "DELETE FROM {t} WHERE id = {a}; INSERT INTO {t} ({names}) SELECT {row} FROM (VALUES ({a})) v(x)",
    "INSERT INTO {t} ({names}) SELECT {row} FROM (VALUES ({a} + 500)) v(x); UPDATE {t} SET id = {b} + 600 WHERE id = {a} + 500;"
    " DELETE FROM {t} WHERE id = {b} + 600",
)
TRUNCATES = ("TRUNCATE {t}", "TRUNCATE {t}, {other}", "TRUNCATE {t} RESTART IDENTITY CASCADE")

statement: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    do=st.just("run"),
    sql=st.one_of(*[st.sampled_from(STATEMENTS)] * 12, st.sampled_from(TRUNCATES)),
    table=st.integers(0, 3),
    a=number,
    b=number,
    u=unique,
    big=large,
    part=part,
    column=st.integers(0, 3),
)
step = st.tuples(
    st.integers(0, 2),
    st.one_of(
        *[statement] * 8,
        st.builds(dict, do=st.sampled_from(["savepoint", "savepoint", "rollback to", "release", "commit", "commit"])),
        st.builds(dict, do=st.sampled_from(["commit", "commit", "rollback", "prepare", "finish"])),
    ),
)
schedules = st.lists(step, min_size=4, max_size=40)


class Writer:
    """One session of the application: in the middle of a transaction, or between two."""

    def __init__(self, connection: psycopg.Connection[Any], gid: str) -> None:
        self.connection = connection
        self.gid = gid
        self.depth = 0
        self.open = self.prepared = False
        connection.execute("SET lock_timeout = '4ms'; SET search_path = pool")

    def take(self, what: str, sql: str) -> None:
        try:
            self._take(what, sql)
        except REFUSED:
            self.connection.execute(f"ROLLBACK TO s{self.depth}" if self.depth else "ROLLBACK")
            self.open = self.open and self.depth > 0

    def _take(self, what: str, sql: str) -> None:
        if what == "finish":
            self.finish(commit=True)
        elif what in ("commit", "rollback", "prepare"):
            self.end(what)
        elif what in ("rollback to", "release"):
            if self.depth:
                self.connection.execute(f"{what} SAVEPOINT s{self.depth}")
                self.depth -= what == "release"
        else:
            if not self.open:
                self.connection.execute("BEGIN")
                self.open, self.depth = True, 0
            self.depth += what == "savepoint"
            self.connection.execute(f"SAVEPOINT s{self.depth}" if what == "savepoint" else sql)

    def end(self, what: str = "commit") -> None:
        """End the transaction, if there is one."""
        if not self.open or (what == "prepare" and self.prepared):
            return
        self.open, self.depth = False, 0
        self.connection.execute(f"PREPARE TRANSACTION '{self.gid}'" if what == "prepare" else what)
        self.prepared = self.prepared or what == "prepare"

    def finish(self, commit: bool) -> None:
        """Commit or roll back what is prepared; not in the middle of another transaction."""
        if self.prepared and not self.open:
            self.connection.execute(f"{'COMMIT' if commit else 'ROLLBACK'} PREPARED '{self.gid}'")
            self.prepared = False


class Ground:
    """A pair with the tables of a pool, one worker, and the sessions that all schedules use."""

    def __init__(self, make_pair: Callable[..., Any], home: pathlib.Path, own_types: bool) -> None:
        pair = make_pair()
        self.tables = pool(POOL, TABLES, own_types)
        for end in pair.ends:
            made = [table.source if end is pair.source else table.destination for table in self.tables]
            end.run("CREATE SCHEMA pool; SET search_path = pool; " + ";".join([OWN, *made]))
        home.mkdir()
        self.streaming = Streaming(pair, home)
        self.streaming.begin(("pool",), batch_size=BATCH)
        self.streaming.start()
        self.stack = contextlib.ExitStack()
        self.writers = [
            Writer(self.stack.enter_context(pair.source.connect()), f"{self.streaming.name}_{n}") for n in range(3)
        ]
        self.source = self.stack.enter_context(connect(endpoint_of("source", pair.source.endpoint), "schedules"))
        self.destination = self.stack.enter_context(
            connect(endpoint_of("destination", pair.destination.endpoint), "schedules")
        )
        self.store = StateStore(self.destination, "causeway", self.streaming.name)

    def close(self) -> None:
        with contextlib.suppress(psycopg.Error):
            self.reset()
        self.stack.close()
        self.streaming.close()

    @property
    def alive(self) -> bool:
        return self.streaming.process is not None and self.streaming.process.poll() is None

    def drain(self) -> None:
        written = markers.write_marker(self.store, self.source)
        try:
            markers.wait_applied(self.store, written, 60, poll=0.003)
        except Exception as exc:
            self.streaming.kill()  # what it could not apply would be in the way of the next one
            raise AssertionError(f"{exc}\n{self.streaming.log()[-3000:]}") from exc

    @contextlib.contextmanager
    def held(self, hold: bool) -> Iterator[None]:
        """The worker cannot commit: its progress row is locked."""
        if not hold:
            yield
            return
        with self.destination.transaction():
            self.destination.execute("SELECT FROM causeway.cdc_progress FOR UPDATE")
            yield

    def reset(self) -> None:
        """No transaction of an earlier schedule, one that failed, is left."""
        for writer in self.writers:
            writer.connection.execute("ROLLBACK")
            writer.open, writer.depth = False, 0
            writer.finish(commit=False)

    def empty(self, used: list[PoolTable]) -> None:
        connection = self.writers[0].connection
        connection.execute("TRUNCATE " + ", ".join(table.name for table in used) + " RESTART IDENTITY")
        for at, found in enumerate(used):
            row = found.values.format(x="x", part="'abc'::varchar(1)", u="x", n="x", big="'b' || x")
            connection.execute(
                f"INSERT INTO {found.name} ({found.names}) SELECT {row} FROM generate_series(1, {5 + at}) x"
            )

    def compare(self, used: list[PoolTable]) -> None:
        leaves = [(leaf, found.compared) for found in used for leaf in found.leaves]
        query = " UNION ALL ".join(
            f"SELECT '{leaf}', ROW({columns})::text FROM ONLY pool.{leaf} t" for leaf, columns in leaves
        )
        here, there = (sorted(connection.execute(query).fetchall()) for connection in (self.source, self.destination))
        shapes = {found.name: found.shape for found in used}
        assert here == there, shapes


def text_of(step: dict[str, Any], used: list[PoolTable]) -> str:
    if step["do"] != "run":
        return ""
    chosen, other = used[step["table"] % len(used)], used[(step["table"] + 1) % len(used)]
    column, expression = chosen.typed[step["column"]]
    row = chosen.values.format(x="x", part=step["part"], u=step["u"], n="x / 2.0", big=step["big"])
    return str(
        step["sql"].format(
            t=chosen.name,
            other=other.name,
            names=chosen.names,
            row=row,
            a=step["a"],
            b=step["b"],
            u=step["u"],
            big=step["big"],
            part=step["part"],
            c=column,
            value=expression.format(x="x"),
        )
    )


@pytest.fixture(scope="module", params=["binary", "text"])
def grounds(
    request: pytest.FixtureRequest, make_lasting_pair: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Ground]]:
    """A ground whose worker lives: another one after a schedule has stopped it."""
    made: list[Ground] = []

    def living() -> Ground:
        if not made or not made[-1].alive:
            home = tmp_path_factory.mktemp("schedules") / str(len(made))
            made.append(Ground(make_lasting_pair, home, request.param == "text"))
            made[-1].drain()
            assert f'"format": "{request.param}"' in made[-1].streaming.log()
        return made[-1]

    yield living
    for ground in made:
        ground.close()


@pytest.mark.fuzz
@settings(
    max_examples=SCHEDULES // 2,
    deadline=None,
    derandomize=not FUZZ,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
@given(chosen=st.lists(table, min_size=1, max_size=4, unique=True), schedule=schedules, hold=st.booleans())
def test_random_schedules(
    grounds: Callable[[], Ground], chosen: list[int], schedule: list[tuple[int, dict[str, Any]]], hold: bool
) -> None:
    ground = grounds()
    ground.reset()
    used = [ground.tables[at] for at in chosen]
    before = ground.streaming.progress("conflicts")
    with ground.held(hold):
        ground.empty(used)
        for at, what in schedule:
            ground.writers[at].take(what["do"], text_of(what, used))
        for writer in ground.writers:
            try:
                writer.end()
            except psycopg.errors.IntegrityError:  # a deferred constraint
                writer.open = False
        for at, writer in enumerate(ground.writers):
            writer.finish(commit=at != 1)
    ground.drain()
    ground.compare(used)
    assert ground.streaming.progress("conflicts") == before
