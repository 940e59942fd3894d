# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole way through the real playbooks, under a write load, with accounts that are no superusers.

One trip for each pair of versions is made once and looked at by many tests; each step notes what it saw.
"""

from __future__ import annotations

import contextlib
import json
import stat
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from demo.watch import Watch
from psycopg import sql
from support import witness
from support.clusters.local import Clusters
from support.clusters.pairs import Pair
from support.harness.application import Application
from support.harness.trip import LEFT_OVER, NAME, SCHEMAS, Trip, schema_text, unlike
from support.loads.trading import Trading

VERSIONS = [("17", "17"), ("14", "18")]
WHOLE = pytest.mark.parametrize("trip", VERSIONS[:1], ids="-".join, indirect=True)
EACH = pytest.mark.parametrize("trip", VERSIONS, ids="-".join, indirect=True)
WRITES = (
    "INSERT INTO shop.departments VALUES (99, 1)",
    "UPDATE shop.orders SET amount = 0",
    "DELETE FROM shop.orders_rest",
    "TRUNCATE shop.emptied",
    """INSERT INTO "Lager & Büro"."Buch 50%" VALUES ('x')""",
    """UPDATE "Lager & Büro"."Ärger; --" SET body = NULL""",
)
LARGE_OBJECTS = """
SELECT oid::bigint, lo_get(oid), pg_get_userbyid(lomowner), lomacl::text, obj_description(oid, 'pg_largeobject')
  FROM pg_largeobject_metadata
"""


@pytest.fixture(scope="module")
def trip(
    request: pytest.FixtureRequest,
    make_lasting_role: Callable[..., tuple[str, str]],
    make_lasting_pair: Callable[..., Pair],
    clusters: Clusters,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Trip]:
    """The way of one pair of versions; all steps for the first, the necessary ones for the others."""
    source, destination = request.param
    folder = tmp_path_factory.mktemp("trip")
    made = Trip(make_lasting_pair(source, destination), folder, clusters, make_lasting_role)
    whole = request.param == VERSIONS[0]
    try:
        with Watch(made.secrets, 0.3) if whole else contextlib.nullcontext() as made.seen["watch"]:
            travel(made, whole=whole)
        yield made
    finally:
        made.clean()


def travel(trip: Trip, *, whole: bool) -> None:
    """From a fresh pair to the release."""
    seen, pair = trip.seen, trip.pair
    writers = {trip.login[part]: trip.roles[trip.login[part]] for part in ("app", "clerk", "owner")}
    application = Application(pair.source, writers, SCHEMAS)
    seen["schema"] = schema_text(trip.clusters, pair.source, "--no-privileges")
    if whole:
        trip.look("fresh")
        seen["dry"] = trip.play("migrate", "--check", "--diff")
        trip.look("after the dry run")
    with Trading(pair.source, writers, trip.login["owner"]) as trading:
        seen["migrate"] = trip.play("migrate", *(["-vvv"] if whole else []))
        application.assert_goes_on()
        if whole:
            seen["migrate again"] = trip.play("migrate")
            seen["told"] = told(trip)
            status = trip.playbooks.folder / "status.json"
            trip.play("status", "-e", f"causeway_status_file={status}")
            seen["status"] = json.loads(status.read_text(encoding="utf-8"))
            pair.source.run("ALTER FUNCTION shop.worth(bigint) COST 55")
            seen["cutover after a deployment"] = trip.play("cutover", fails=True)
            application.assert_goes_on()
            pair.source.run("ALTER FUNCTION shop.worth(bigint) COST 100")
        seen["commits before the fence"] = trading.commits
        seen["cutover"] = trip.play("cutover")
        seen["differences"] = witness.differences(pair.source.sql, pair.destination.sql, SCHEMAS)
        seen["contents"] = witness.contents(pair.source.sql, SCHEMAS)
        seen["large objects"] = [end.query(LARGE_OBJECTS) for end in pair.ends]
    seen["trading"] = trading
    seen["writes"] = {part: tries(trip, part) for part in ("app", "clerk", "owner")}
    seen["mover's writes"] = tries(trip, "mover")
    trip.look("opened")
    seen["state tables"] = {
        table: [row[0] for row in end.query(f"SELECT to_jsonb(t)::text FROM causeway.{table} t")]
        for end in pair.ends
        for (table,) in end.query(
            "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace('causeway') AND relkind = 'r'"
        )
    }
    if whole:
        seen["cutover again"] = trip.play("cutover")
        seen["migrate after cutover"] = trip.play("migrate")
        trip.look("opened, and run again")
    seen["numbers"] = drawn(trip)
    worker = trip.playbooks.folder / "worker"
    seen["logs"] = [path.read_text(encoding="utf-8") for path in worker.glob("*/worker.log")]
    seen["modes"] = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in worker.rglob("*") if path.parent.parent == worker
    }
    seen["release"] = trip.play("release", "-e", json.dumps({"causeway_confirm": NAME}))
    seen["schema at last"] = schema_text(trip.clusters, pair.source, "--no-privileges")
    trip.look("released")
    if whole:
        seen["migrate after release"] = trip.play("migrate")
        trip.look("released, and run again")


def told(trip: Trip) -> list[tuple[Any, ...]]:
    """What stands of the CDC task after each playbook that tells it something: wanted, observed, and its pace."""
    found = []
    query = (
        "SELECT t.wanted, p.state, (t.settings ->> 'rows_per_second')::int"
        " FROM causeway.cdc_task t JOIN causeway.cdc_progress p USING (migration)"
    )
    tuned = ("-e", json.dumps({"causeway_cdc_rows_per_second": 50_000, "causeway_tags": {"stage": "test"}}))
    for name, options in (("pause", ()), ("tune", tuned), ("tune", tuned), ("resume", ())):
        played = trip.play(name, *options)
        found += [(*trip.pair.destination.query(query)[0], len(played.changed))]
    return found


def tries(trip: Trip, part: str) -> dict[str, str | None]:
    """What the server answers to each kind of write, by SQLSTATE; the mover tries at the destination, others not."""
    end = trip.pair.source
    user, password = (trip.login.get(part), trip.roles.get(trip.login.get(part, "")))
    if part == "mover":
        end, user, password = trip.pair.destination, trip.mover, trip.destination_password
    answers: dict[str, str | None] = {}
    for statement in WRITES:
        with contextlib.closing(end.connect(user=str(user), password=str(password))) as session:
            try:
                with session.transaction(force_rollback=True):
                    session.execute(statement)
                answers[statement] = "done"
            except psycopg.Error as exc:
                answers[statement] = exc.sqlstate
    return answers


def drawn(trip: Trip) -> dict[str, tuple[int, int, set[int]]]:
    """For each sequence: where the source's stood, what the destination then gives, and what the load had been given."""
    found = {}
    for sequence, (last, _called) in witness.sequences(trip.pair.source.sql).items():
        schema, _dot, name = sequence.partition(".")
        query = sql.SQL("SELECT nextval({})").format(sql.Literal(sql.Identifier(schema, name).as_string()))
        (value,) = trip.pair.destination.sql.execute(query).fetchone() or (0,)
        found[sequence] = (last, value, trip.seen["trading"].used.get(sequence, set()))
    return found


@EACH
def test_both_ends_are_identical_at_the_fence(trip: Trip) -> None:
    assert trip.seen["differences"] == []
    contents = trip.seen["contents"]
    here, there = trip.seen["large objects"]
    assert len(here) == 1 and here == there
    assert len(contents) == 11 and sum(rows.total() for rows in contents.values()) > 3000
    trading = trip.seen["trading"]
    assert trading.unexpected == []
    assert trading.commits > 50, "the load hardly ran"
    assert trip.seen["commits before the fence"] > 0


@EACH
def test_nobody_writes_at_the_source_any_more_nor_the_mover_at_the_destination(trip: Trip) -> None:
    for part, answers in trip.seen["writes"].items():
        assert answers == dict.fromkeys(WRITES, "42501"), part
    refused = trip.seen["mover's writes"]
    assert refused.keys() == set(WRITES) and set(refused.values()) <= {"42501", "25006"}, refused
    assert trip.seen["trading"].refused == {trip.login[part] for part in ("app", "clerk", "owner")}


@EACH
def test_no_sequence_gives_a_number_twice(trip: Trip) -> None:
    numbers = trip.seen["numbers"]
    assert {"shop.orders_id_seq", "shop.countdown", "shop.unused", "shop.log_id_seq"} <= numbers.keys()
    for sequence, (last, value, used) in numbers.items():
        if sequence == "shop.unused":
            assert value == 7
            continue
        step = -1 if sequence == "shop.countdown" else 1
        assert (value - last) * step > 0, sequence
        assert value not in used, sequence
    assert len(numbers["shop.countdown"][2]) > 50


@EACH
def test_a_release_leaves_nothing_behind(trip: Trip) -> None:
    assert trip.seen["schema at last"] == trip.seen["schema"]
    assert [end.query(LEFT_OVER) for end in trip.pair.ends] == [[], []]
    (cutover,) = trip.seen["release"].of("pg_cutover")
    assert cutover.result["left_behind"] == []
    assert not list((trip.playbooks.folder / "worker").glob("*/config.json"))


@WHOLE
def test_a_running_task_is_told_by_playbooks_and_the_same_again_changes_nothing(trip: Trip) -> None:
    assert trip.seen["told"] == [
        ("paused", "paused", 0, 1),
        ("paused", "paused", 50_000, 1),
        ("paused", "paused", 50_000, 0),
        ("started", "running", 0, 1),
    ]


@WHOLE
def test_a_second_migrate_changes_nothing_while_the_load_runs(trip: Trip) -> None:
    again = trip.seen["migrate again"]
    assert again.recap == {"trip": (0, 0)}, again.changed
    assert len(again.ours) == 13


@WHOLE
@pytest.mark.parametrize(
    ("plays", "before", "after"),
    [
        (("cutover again", "migrate after cutover"), "opened", "opened, and run again"),
        (("migrate after release",), "released", "released, and run again"),
    ],
    ids=["after the cutover", "after the release"],
)
def test_nothing_is_written_once_the_destination_is_open(
    trip: Trip, plays: tuple[str, ...], before: str, after: str
) -> None:
    assert unlike(trip.seen[before], trip.seen[after]) == []
    for name in plays:
        assert trip.seen[name].recap == {"trip": (0, 0)}, trip.seen[name].changed
    for task in trip.seen[plays[-1]].ours:
        if task.module.endswith("precheck"):
            continue
        if task.module.endswith("info"):
            assert task.result["opened_at"] and "caught_up" not in task.result, "there is nothing to wait for"
            continue
        assert task.result["opened_at"] and "was cut over at" in task.result["msg"], task.name
        assert "causeway_restart" in task.result["msg"], task.name


@WHOLE
def test_a_cutover_names_what_was_deployed_at_the_source_and_fences_nothing(trip: Trip) -> None:
    (refused,) = trip.seen["cutover after a deployment"].of("pg_cutover")
    found = [(one["id"], one["object"]) for one in refused.result["differences"] if one["severity"] == "error"]
    assert found == [("definition_changed_at_source", "function shop.worth(bigint)")]
    assert "differ in more than rows" in refused.result["msg"]


@WHOLE
def test_a_second_cutover_returns_the_certificate_of_the_first(trip: Trip) -> None:
    (first,), (second,) = (trip.seen[name].of("pg_cutover") for name in ("cutover", "cutover again"))
    assert first.result["certificate"]["tables"] == 11
    assert second.result["certificate"] == first.result["certificate"]


@WHOLE
def test_a_dry_run_changes_nothing_and_shows_what_is_then_done(trip: Trip) -> None:
    assert unlike(trip.seen["fresh"], trip.seen["after the dry run"]) == []
    dry, real = trip.seen["dry"], trip.seen["migrate"]
    # The state schema is made by whichever task comes first, and every task of a dry run would be that one.
    registration = next(task.statements for task in dry.ours if task.statements)
    shown: dict[str, list[Any]] = {}
    for task in dry.ours:
        common = [s for s in task.statements if s in registration and "causeway" in s[1]]
        shown[task.name] = [s for s in task.statements if s not in common]
    done = {
        task.name: [s for s in task.statements if s not in registration or "causeway" not in s[1]] for task in real.ours
    }
    # While the source is written to neither run sets its sequences; what they would set moves on.
    assert done.pop("Set the sequences") and shown.pop("Set the sequences")
    assert shown.keys() == done.keys()
    behind = done["Copy the rows"]
    for name, statements in done.items():
        assert [s for s in statements if s not in shown[name]] == [], name
        # What the copy builds as soon as a table's rows stand is shown there too, and found done by whoever would build
        # it else. Nothing else of what was shown is left out.
        left_out = [s for s in shown[name] if s not in statements and s not in behind]
        assert left_out == [], name
        assert [s for s in shown[name] if s in statements] == statements, name
    assert sum(map(len, done.values())) > 40


@WHOLE
def test_the_status_is_written_by_the_name_of_the_migration(trip: Trip) -> None:
    status = trip.seen["status"]
    assert list(status) == [NAME]
    assert status[NAME]["phase"] == "validated" and status[NAME]["totals"]["complete"] == 11
    assert "invocation" not in status[NAME]


@WHOLE
def test_no_password_is_seen_anywhere(trip: Trip) -> None:
    watch = trip.seen["watch"]
    assert watch.found == set() and watch.looks > 50 and len(watch.seen) > 50
    assert len(trip.outputs) > 10
    for text in trip.outputs:
        assert not [secret for secret in trip.secrets if secret in text]
    assert trip.seen["logs"] and all(len(log) > 100 for log in trip.seen["logs"])
    for log in trip.seen["logs"]:
        assert not [secret for secret in trip.secrets if secret in log]
    assert trip.seen["modes"]["config.json"] == 0o600
    for path in trip.playbooks.folder.rglob("*"):  # after the release the inventory is the only file that holds one
        if path.is_file() and path != trip.playbooks.inventory:
            text = path.read_bytes().decode(errors="replace")
            assert not [secret for secret in trip.secrets if secret in text], path
    rows = trip.seen["state tables"]
    assert {"migration", "cdc_task", "event", "marker"} <= rows.keys()
    assert not [table for table, texts in rows.items() for text in texts if any(s in text for s in trip.secrets)]
