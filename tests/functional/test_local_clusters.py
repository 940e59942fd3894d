# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The clusters that everything else stands on, and the witness that judges it."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

import psycopg
import pytest
from support import witness

pytestmark = pytest.mark.own_servers("it is about clusters of its own")

FILES = pathlib.Path(__file__).resolve().parents[2] / "roles" / "local_clusters" / "files"


def ask(request: dict[str, Any]) -> dict[str, Any]:
    """As the role does it."""
    package = {file.name: file.read_text(encoding="utf-8") for file in (FILES / "local_clusters").glob("*.py")}
    done = subprocess.run(
        [sys.executable, "-c", (FILES / "run_package.py").read_text(encoding="utf-8"), json.dumps(request)],
        input=json.dumps(package),
        capture_output=True,
        text=True,
        check=False,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture
def folder(clusters):
    path = clusters.folder / "asked"
    yield path
    ask({"state": "absent", "folder": str(path), "clusters": [{"name": "one"}]})


def test_program_makes_stops_crashes_and_removes_a_cluster(folder):
    request = {"folder": str(folder), "clusters": [{"name": "one", "version": "17", "settings": {"fsync": False}}]}
    assert ask({**request, "check": True})["changed"] is True
    assert not folder.exists()
    made = ask(request)
    assert made["changed"] is True
    assert ask(request) == {**made, "changed": False}
    one = made["clusters"]["one"]

    def connect() -> Any:
        return psycopg.connect(
            host=one["login_host"],
            port=one["login_port"],
            user=one["login_user"],
            password=one["login_password"],
            dbname="postgres",
            autocommit=True,
        )

    with connect() as connection:
        assert connection.execute("SHOW wal_level").fetchone() == ("logical",)
        assert connection.execute("SHOW fsync").fetchone() == ("off",)
        connection.execute("CREATE TABLE kept AS SELECT 1 AS id")
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host="127.0.0.1", port=one["login_port"], user="postgres", password="wrong", dbname="postgres")

    pid = int((folder / "one" / "data" / "postmaster.pid").read_text(encoding="utf-8").splitlines()[0])
    assert pathlib.Path(f"/proc/{pid}").stat().st_uid != 0
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)
    assert ask(request)["changed"] is True
    assert ask({**request, "state": "restarted", "mode": "immediate"})["changed"] is True
    with connect() as connection:
        assert connection.execute("SELECT id FROM kept").fetchone() == (1,)

    assert ask({**request, "state": "stopped"})["changed"] is True
    assert ask({**request, "state": "stopped"})["changed"] is False
    assert (folder / "one" / "cluster.json").stat().st_mode & 0o077 == 0
    assert ask({**request, "state": "absent", "check": True})["changed"] is True
    assert ask({**request, "state": "absent"})["changed"] is True
    assert ask({**request, "state": "absent"})["changed"] is False
    assert not folder.exists()


def test_program_says_what_is_wrong(folder):
    answer = ask({"folder": str(folder), "clusters": [{"name": "one", "settings": {"port": 5432}}]})
    assert answer["failed"] is True
    assert "port" in answer["msg"]
    assert "Traceback" not in answer["msg"]


@pytest.mark.parametrize(
    ("end", "statement"),
    [
        ("destination", "UPDATE shop.goods SET price = 1.0 WHERE id = 1"),  # equal to 1.00, and not the same
        ("destination", "DELETE FROM shop.goods WHERE id = 2"),
        ("source", "INSERT INTO shop.twins VALUES ('a')"),
        ("source", "CREATE TABLE shop.more (id int)"),
    ],
)
def test_witness_sees_one_changed_row(pair, end, statement):
    pair.run(
        'CREATE SCHEMA shop; CREATE TABLE shop.goods (id int PRIMARY KEY, price numeric, "Größe" text);'
        "CREATE TABLE shop.twins (word text); INSERT INTO shop.twins VALUES ('a'), ('a');"
        "INSERT INTO shop.goods SELECT n, 1.00, 'x' FROM generate_series(1, 3) n"
    )
    assert witness.assert_identical(pair) == 5
    before = {name: witness.fingerprint(getattr(pair, name).sql) for name in ("source", "destination")}
    getattr(pair, end).run(statement)
    assert len(witness.differences(pair.source.sql, pair.destination.sql)) == 1
    assert (witness.fingerprint(getattr(pair, end).sql) == before[end]) is not statement.startswith("CREATE")
