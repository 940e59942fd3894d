# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine's SQL names is as old as PostgreSQL 10, or in the table of what came later and chosen by it.

C(support/postgresql_history.py) says what 10 has; C(tests/functional/test_old_servers.py) holds that and the table against
servers of 14 to 18.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from support import postgresql_history as history
from support.sql_names import Names, Text, collect, is_sql, texts, texts_of
from unit.plugins.module_utils._engine.catalog_values import table, unique_index

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.capture import (
    observed_publication,
    publication_ddl,
    snapshot_guard,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.apply import destination_table
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.worker import stream
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.transfer import table_fingerprint
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.large_objects import compare
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.rules import SchemaRule
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.objects.selection import Selection
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres import (
    catalog_queries,
    session,
    versions,
)
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.schema import schema_fingerprint
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.slot import creation
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.state import tables

PLUGINS = Path(__file__).resolve().parents[6] / "plugins"
TABLE = PLUGINS / "module_utils" / "_engine" / "postgres" / "versions.py"
OLD = (100000, 110009, 120000, 130000)


def _known_columns() -> dict[str, frozenset[str]]:
    known = {relation: set(columns) for relation, columns in history.CATALOGS.items()}
    for column in versions.COLUMNS:
        relation, dummy, name = column.partition(".")
        known[relation].add(name)
    known["pg_publication_namespace"] = {"oid", "pnpubid", "pnnspid"}
    known["pg_stat_wal"] = {"wal_bytes", "stats_reset"}
    return {relation: frozenset(columns) for relation, columns in known.items()}


KNOWN = _known_columns()
TEXTS = [text for text in texts(PLUGINS / "module_utils") if text.file != TABLE]
NAMES = collect(TEXTS, KNOWN)


def _unlisted(names: Names) -> list[str]:
    """What is neither as old as 10 nor in the table, with the place."""
    listed = {
        "function": (names.functions, history.FUNCTIONS | versions.FUNCTIONS.keys()),
        "relation": (names.relations, KNOWN.keys()),
        "setting": (names.settings, history.SETTINGS | versions.SETTINGS.keys()),
        "word": (names.unknown, frozenset[str]()),
    }
    found = [
        f"{kind} {name} ({places[0]})"
        for kind, (named, known) in listed.items()
        for name, places in named.items()
        if name not in known
    ]
    for (relation, column), places in names.columns.items():
        if column not in KNOWN.get(relation, ()):
            found.append(f"column {relation}.{column} ({places[0]})")
    return sorted(found)


def _of(source: str) -> Names:
    return collect(list(texts_of(Path("added.py"), source)), KNOWN)


def test_what_the_sql_names_is_as_old_as_10_or_in_the_table() -> None:
    assert _unlisted(NAMES) == []


@pytest.mark.parametrize(
    ("added", "found"),
    [
        ('Q = "SELECT pg_catalog.pg_wal_lsn_diff_new(1, 2)"', "function pg_wal_lsn_diff_new"),
        ('Q = "SELECT pg_wal_lsn_diff_new(1, 2)"', "function pg_wal_lsn_diff_new"),
        (
            'Q = "SELECT s.two_phase FROM pg_catalog.pg_replication_slots s"',
            "column pg_replication_slots.two_phase",
        ),
        ('Q = "SELECT two_phase FROM pg_catalog.pg_replication_slots"', "word two_phase"),
        (
            'Q = f"""\nSELECT 1 FROM pg_catalog.pg_class AS c\n  JOIN pg_catalog.pg_index i ON i.indnullsnotdistinct {more}"""',
            "column pg_index.indnullsnotdistinct",
        ),
        ('Q = "SELECT count(*) FROM pg_catalog.pg_stat_io"', "relation pg_stat_io"),
        ("Q = \"SELECT 'pg_catalog.pg_parameter_acl'::regclass\"", "relation pg_parameter_acl"),
        ('conn.execute("SET LOCAL io_method = worker")', "setting io_method"),
        ("Q = \"SELECT pg_catalog.current_setting('io_method')\"", "setting io_method"),
        ('connect(end, settings={"io_method": "sync"})', "setting io_method"),
        ('PINNED: Mapping[str, str] = {"TimeZone": "UTC", "io_method": "sync"}', "setting io_method"),
        ('for one in ("enable_seqscan = off", "enable_self_join_elimination = off"): pass', "setting enable_self_join"),
    ],
)
def test_a_name_that_nobody_listed_is_found(added: str, found: str) -> None:
    assert any(one.startswith(found) for one in _unlisted(_of(added))), _unlisted(_of(added))


@pytest.mark.parametrize(
    "probed",
    [
        "Q = \"SELECT pg_catalog.current_setting('io_method', true)\"",
        "Q = \"SELECT pg_catalog.to_jsonb(s) ->> 'inactive_since' FROM pg_catalog.pg_replication_slots s\"",
        "Q = \"SELECT setting FROM pg_catalog.pg_settings WHERE name = 'io_method'\"",
        '"""Docstrings: SELECT pg_catalog.pg_wal_lsn_diff_new(1, 2)"""',
    ],
)
def test_a_probe_names_nothing_that_may_be_missing(probed: str) -> None:
    assert _unlisted(_of(probed)) == []


def test_no_query_of_a_catalog_has_a_star() -> None:
    """C(oid) is hidden before 12, and a catalog gets columns with every version."""
    assert [str(text) for text in NAMES.stars] == []
    assert _of('Q = "SELECT c.* FROM pg_catalog.pg_class c"').stars
    assert _of('Q = "SELECT * FROM pg_catalog.pg_class"').stars


def test_no_aggregate_of_positions_that_came_with_13() -> None:
    """max(pg_lsn) and min(pg_lsn): positions are the columns that our tables and the catalogs call so."""
    ours = "\n".join(one.as_string(None) for one in tables.create_statements("s"))
    positions = set(re.findall(r"(\w+) pg_lsn", ours))
    assert {"mark", "applied", "confirmable"} <= positions
    aggregate = re.compile(rf"\b(?:max|min)\((?:\w+\.)?(?:{'|'.join(positions)}|\w+_lsn)\b", re.IGNORECASE)
    assert [str(text) for text in TEXTS if is_sql(text.text) and aggregate.search(text.text)] == []
    assert aggregate.search("SELECT max(t.mark) FROM t")


def _rules() -> dict[str, set[str]]:
    """The keys of the table that each room asks for by C(has)."""
    found: dict[str, set[str]] = {}
    for file in sorted(PLUGINS.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "has":
                what = node.args[1]
                if isinstance(what, ast.Constant):
                    found.setdefault(str(file.parent), set()).add(str(what.value))
    return found


def _unruled(names: Names, rules: Mapping[str, set[str]]) -> list[str]:
    """What came later and is named by SQL in a room that does not ask the table for it."""
    later: dict[str, list[Text]] = {name: names.functions.get(name, []) for name in versions.FUNCTIONS}
    later |= {name: names.relations.get(name, []) for name in versions.RELATIONS}
    for column in versions.COLUMNS:
        relation, dummy, name = column.partition(".")
        later[column] = names.columns.get((relation, name), [])
    for setting in versions.SETTINGS:
        executed = [text for text in names.settings.get(setting, []) if text.text.startswith("SET ")]
        later[setting] = executed
    return [
        f"{name} ({text})"
        for name, places in later.items()
        for text in places
        if name not in rules.get(str(text.file.parent), ())
    ]


def test_what_came_later_is_asked_for_in_the_room_that_names_it() -> None:
    assert _unruled(NAMES, _rules()) == []
    added = _of('Q = "SELECT pg_catalog.sha256(p.d), p.pubtruncate FROM pg_catalog.pg_publication p"')
    assert [one.partition(" ")[0] for one in _unruled(added, _rules())] == ["sha256", "pg_publication.pubtruncate"]


def test_every_entry_of_the_table_is_used_and_every_question_has_an_entry() -> None:
    asked = set().union(*_rules().values())
    assert asked <= versions.SINCE.keys()
    probed = " ".join(text.text for text in TEXTS)
    for name in versions.SINCE.keys() - asked:
        assert re.search(rf"\b{name.rpartition('.')[2]}\b", probed), f"{name} is used nowhere"


@pytest.mark.parametrize("name", sorted(versions.SINCE))
def test_the_table_says_what_the_history_says(name: str) -> None:
    if name in history.NEWER:
        assert versions.SINCE[name] == history.NEWER[name]
    elif name in {*versions.FUNCTIONS, *versions.RELATIONS, *versions.COLUMNS, *versions.SETTINGS}:
        assert versions.SINCE[name] >= 150000


STATEMENTS: Mapping[str, Callable[[int], str]] = {
    "columns": catalog_queries.columns,
    "unique indexes": catalog_queries.unique_indexes,
    "destination's unique indexes": lambda v: destination_table.uniques_statement(v).as_string(None),
    "destination's columns": lambda v: destination_table.columns_statement(v).as_string(None),
    "table fingerprint": lambda v: table_fingerprint.statement("1", v),
    "schema fingerprint": schema_fingerprint.statement,
    "publication": observed_publication.statement,
    "create publication": lambda v: publication_ddl.create_statement("p", [("s", "t")], v).as_string(None),
    "create slot": lambda v: creation.creation_statement("s", "pgoutput", True, v),
    "snapshot": lambda dummy: snapshot_guard.SEEN,
    "large objects": compare.digests_statement,
    "timeouts": lambda v: " ".join(session.later_timeouts(v)),
    "pinned settings": lambda v: session.startup_options(session.PINNED),
}


@pytest.mark.parametrize("version", OLD)
@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_statement_for_an_old_server_has_nothing_newer(statement: str, version: int) -> None:
    text = STATEMENTS[statement](version)
    newer = {name for name, since in {**history.NEWER, **versions.SINCE}.items() if since > version}
    words = {re.split(r"\W", name)[-1].lower() for name in newer if name != "partitioned tables in a publication"}
    assert not words & set(re.findall(r"\w+", re.sub(r"'\w+'", "", text.lower())))
    assert not re.search(r"\.\*", text)


NEWEST = 990000
OLD_OPTIONS = {
    *("publish", "insert", "update", "delete", "proto_version", "publication_names"),
    *("TEMPORARY", "LOGICAL", "pgoutput", "NOEXPORT_SNAPSHOT", "USE_SNAPSHOT", "SNAPSHOT", "nothing", "true", "false"),
}
LATER_OPTIONS = {
    "truncate": "publish = truncate",
    "publish_via_partition_root": "publish_via_partition_root",
    "FAILOVER": "slot option FAILOVER",
    "binary": "stream option binary",
    "messages": "stream option messages",
}


def _options() -> set[str]:
    """The words of the options of each publication, slot and stream that the engine makes, on the newest server."""
    made = [
        publication_ddl.create_statement("p", [("s", "t")], NEWEST).as_string(None).partition(" WITH ")[2],
        creation.creation_statement("s", "pgoutput", True, NEWEST).partition('"s" ')[2],
        creation.creation_statement("s", "pgoutput", True, 140000).partition('"s" ')[2],
        stream.start_command("s", "p", 0, binary=True, messages=True).partition(" (")[2].replace("""'"p"'""", ""),
    ]
    made += [text.text.partition("{}")[2] for text in TEXTS if "CREATE_REPLICATION_SLOT {} " in text.text]
    return {word for text in made for word in re.findall(r"[A-Za-z_]+", text)}


def test_options_of_publications_slots_and_streams_are_old_or_in_the_table() -> None:
    assert _options() - OLD_OPTIONS == LATER_OPTIONS.keys()
    assert set(LATER_OPTIONS.values()) <= versions.OPTIONS.keys()
    making = re.compile(r"CREATE_REPLICATION_SLOT .*LOGICAL|CREATE PUBLICATION .*WITH|START_REPLICATION SLOT")
    makers = {text.file.name for text in TEXTS if making.search(text.text)}
    assert makers == {"creation.py", "snapshot.py", "publication_ddl.py", "stream.py"}, (
        "their options are not collected here"
    )


@pytest.mark.parametrize("version", [100000, 110009, 130000, 170000])
def test_options_of_the_publication_are_those_of_the_server(version: int) -> None:
    made = publication_ddl.create_statement("p", [("s", "t")], version).as_string(None)
    assert ("truncate" in made) == (version >= 110000)
    assert ("publish_via_partition_root" in made) == (version >= 130000)


def test_partitions_are_published_for_a_server_that_takes_no_partitioned_table() -> None:
    root = table(1, "root", kind="p", unique_indexes=(unique_index("root_pkey", "id", primary=True),))
    leaves = [table(number, f"leaf{number}", parents=(1,), is_partition=True) for number in (2, 3)]
    selected = Selection((SchemaRule("s"),), ("s",), (root, *leaves), (), ())
    assert [one.name for one in selected.published()] == ["root"]
    assert [one.name for one in selected.published(by_roots=False)] == ["leaf2", "leaf3"]
