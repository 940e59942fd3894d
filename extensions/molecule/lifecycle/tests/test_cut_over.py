# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After the cutover: the rows are there, the source refuses, the worker is gone."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Ask = Callable[[str, str], str]
Psql = Callable[..., Any]
TABLES = ("customer", "product", "purchase", "purchase_line", "visit")
SETTINGS = "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET extra_float_digits = 3; SET search_path = '';"


def digest(ask: Ask, end: str, relation: str) -> str:
    """Rows and two sums over halves of their md5: no order and no pair of twins can deceive them."""
    halves = (f"sum(('x' || substr(md5(r::text), {first}, 16))::bit(64)::bigint::numeric)" for first in (1, 17))
    return ask(end, f"{SETTINGS} SELECT count(*), {', '.join(halves)} FROM {relation} r;")


@pytest.mark.parametrize("table", TABLES)
def test_rows_are_the_same_at_both_ends(ask: Ask, table: str) -> None:
    source = digest(ask, "source", f"ONLY sales.{table}")
    assert int(source.split("|")[0]) > 0
    assert digest(ask, "destination", f"ONLY sales.{table}") == source


def test_changes_made_after_the_copy_are_there(ask: Ask) -> None:
    assert ask("destination", "SELECT count(*) FROM sales.customer WHERE email LIKE 'late-%';") == "300"
    assert ask("destination", "SELECT count(*) FROM sales.purchase WHERE id % 50 = 0;") == "0"
    assert ask("destination", "SELECT count(*) FROM sales.visit WHERE page = '/twice';") == "1"


def test_the_view_answers_the_same(ask: Ask) -> None:
    assert digest(ask, "destination", "sales.open_purchase") == digest(ask, "source", "sales.open_purchase")


def test_the_application_works_at_the_destination(ask: Ask) -> None:
    """It can write, and its sequences continue where those of the source stopped."""
    fresh = ask(
        "destination_app",
        "BEGIN; INSERT INTO sales.customer (email) VALUES ('x@example.org') RETURNING id; ROLLBACK;",
    )
    assert int(fresh) > int(ask("source", "SELECT max(id) FROM sales.customer;"))
    used = ask("source", "SELECT last_value FROM sales.invoice_number;")
    assert int(ask("destination_app", "SELECT nextval('sales.invoice_number');")) == int(used) + 7


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO sales.visit VALUES ('/lost', now())",
        "UPDATE sales.product SET price = 0",
        "DELETE FROM sales.purchase_line",
        "TRUNCATE sales.visit",
    ],
)
def test_the_application_is_refused_at_the_source(psql: Psql, statement: str) -> None:
    refused = psql("source_app", statement)
    assert refused.rc != 0
    assert "ERROR:  42501:" in refused.stderr


def test_the_state_says_opened(ask: Ask) -> None:
    state = ask("destination", "SELECT phase, opened_at IS NOT NULL, certificate IS NOT NULL FROM causeway.migration;")
    assert state == "opened|t|t"


def command_lines() -> list[str]:
    """Return the command lines of all processes; one that ends meanwhile is left out."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


def test_the_worker_is_gone(ask: Ask, folder: Path) -> None:
    config = next((folder / "worker").rglob("config.json"), folder / "worker")
    assert not [line for line in command_lines() if str(config.parent) in line]
    held = "SELECT count(*) FROM pg_replication_slots WHERE active;"
    assert ask("source", held) == "0"
    assert ask("destination", "SELECT wanted FROM causeway.cdc_task;") == "disarmed"


@pytest.mark.skipif(shutil.which("cc") is None, reason="the worker host has no C compiler")
def test_the_worker_ran_compiled(ask: Ask) -> None:
    """The role compiles by default if it can; the engine name that the worker recorded contains the ABI."""
    engine, dot, abi = ask("destination", "SELECT engine FROM causeway.cdc_progress;").partition(".")
    assert len(engine) == 64 and dot and abi
