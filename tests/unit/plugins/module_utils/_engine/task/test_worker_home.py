# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is found in a worker's home, and what of it has to be written again."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.control.config import WorkerConfig
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import MismatchError, StateError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.plan import Change
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.postgres.connect import Endpoint
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.task import worker_home

SECRET = "correct horse"
CONFIG = WorkerConfig(
    "shop",
    "causeway",
    Endpoint("source", host="a", password=SECRET),
    Endpoint("destination", host="b", password=SECRET),
    "new",
    9187,
)


@pytest.mark.parametrize(
    ("name", "folder"), [("shop", "shop"), ("../etc", "___etc_f7f9121f"), ("x" * 49, "x" * 39 + "_55bb9823")]
)
def test_a_worker_has_a_folder_below_its_home(name: str, folder: str) -> None:
    assert worker_home.worker_folder(Path("/home/w"), name) == Path("/home/w") / folder


def test_another_engine_changes_nothing_else() -> None:
    other = worker_home.with_engine(CONFIG, "old")
    assert (other.name, other.engine, other.metrics_port) == ("shop", "old", 9187)
    assert (other.source, other.destination, other.state_schema) == (CONFIG.source, CONFIG.destination, "causeway")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"engine": "abc", "metrics_port": 9187}', ("abc", 9187)),
        ('{"engine": "abc.cpython-313"}', ("abc.cpython-313", 0)),
        ("{}", ("", 0)),
        ("", ("", 0)),
        ("[1]", ("", 0)),
        ("null", ("", 0)),
        ('{"engine": "abc", "metrics_port": "none"}', ("", 0)),
    ],
)
def test_what_a_worker_was_started_with_is_read_from_its_file(
    tmp_path: Path, text: str, found: tuple[str, int]
) -> None:
    path = tmp_path / "config.json"
    path.write_text(text, encoding="utf-8")
    assert worker_home.stored_process(path) == found


def test_no_file_names_no_engine(tmp_path: Path) -> None:
    assert worker_home.stored_process(tmp_path / "config.json") == ("", 0)
    (tmp_path / "config.json").write_bytes(b"\xff\xfe")
    assert worker_home.stored_process(tmp_path / "config.json") == ("", 0)


def test_a_configuration_that_is_missing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    expected = [Change("worker host", str(path), None, "connection options of both ends")]
    assert worker_home.config_changes(path, CONFIG, keep_engine=False) == expected
    assert worker_home.config_changes(path, CONFIG, keep_engine=True) == expected


def written(path: Path, **changed: object) -> Path:
    """Write what the configuration should be, apart from what is given."""
    endpoint = {
        "host": "a",
        "port": 5432,
        "user": "",
        "password": SECRET,
        "dbname": "",
        "unix_socket": "",
        "ssl_mode": "prefer",
        "ca_cert": "",
        "ssl_cert": "",
        "ssl_key": "",
        "connect_params": {},
        "session_role": "",
    }
    values = {
        "name": "shop",
        "state_schema": "causeway",
        "engine": "new",
        "metrics_port": 9187,
        "source": {**endpoint, "end": "source"},
        "destination": {**endpoint, "end": "destination", "host": "b"},
        **changed,
    }
    path.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return path


def test_a_configuration_that_is_as_wanted_is_left_alone(tmp_path: Path) -> None:
    path = written(tmp_path / "config.json")
    assert worker_home.config_changes(path, CONFIG, keep_engine=False) == []
    assert worker_home.config_changes(path, CONFIG, keep_engine=True) == []


def test_the_engine_of_a_running_worker_is_no_difference(tmp_path: Path) -> None:
    path = written(tmp_path / "config.json", engine="old")
    assert worker_home.config_changes(path, CONFIG, keep_engine=True) == []
    assert len(worker_home.config_changes(path, CONFIG, keep_engine=False)) == 1


@pytest.mark.parametrize("keep_engine", [True, False])
def test_a_difference_is_reported_without_the_content(tmp_path: Path, keep_engine: bool) -> None:
    path = written(tmp_path / "config.json", metrics_port=0)
    (change,) = worker_home.config_changes(path, CONFIG, keep_engine=keep_engine)
    assert change.before == "other connection options or another engine"
    assert SECRET not in repr(change)


def unpack(home: Path, engine: str) -> Path:
    """Make what the worker role unpacks."""
    folder = home / "engine" / engine
    (folder / "_engine").mkdir(parents=True)
    (folder / "_engine" / "daemon.py").touch()
    return folder.resolve()


def test_the_engine_that_is_named_is_run(tmp_path: Path) -> None:
    first, second = unpack(tmp_path, "aaa"), unpack(tmp_path, "bbb")
    assert worker_home.engine_folder(tmp_path, "aaa", sys.executable) == first
    assert worker_home.engine_folder(tmp_path, "bbb", sys.executable) == second


def test_the_current_engine_is_run_where_none_is_named(tmp_path: Path) -> None:
    unpack(tmp_path, "aaa")
    second = unpack(tmp_path, "bbb")
    (tmp_path / "engine" / "current").symlink_to("bbb")
    assert worker_home.engine_folder(tmp_path, "", sys.executable) == second


def test_the_only_engine_is_run_where_none_is_current(tmp_path: Path) -> None:
    only = unpack(tmp_path, "aaa")
    (tmp_path / "engine" / "half").mkdir()
    assert worker_home.engine_folder(tmp_path, "", sys.executable) == only


@pytest.mark.parametrize("unpacked", [(), ("aaa", "bbb")])
def test_no_engine_is_guessed(tmp_path: Path, unpacked: tuple[str, ...]) -> None:
    for engine in unpacked:
        unpack(tmp_path, engine)
    with pytest.raises(StateError) as caught:
        worker_home.engine_folder(tmp_path, "", sys.executable)
    assert caught.value.what == str(tmp_path / "engine" / "current")


def test_an_engine_that_is_named_and_missing_is_not_replaced_by_another(tmp_path: Path) -> None:
    unpack(tmp_path, "aaa")
    with pytest.raises(StateError) as caught:
        worker_home.engine_folder(tmp_path, "bbb", sys.executable)
    assert caught.value.what == str(tmp_path / "engine" / "bbb")


def test_a_python_that_cannot_be_run_is_refused(tmp_path: Path) -> None:
    unpack(tmp_path, "aaa")
    with pytest.raises(MismatchError) as caught:
        worker_home.engine_folder(tmp_path, "", str(tmp_path / "python"))
    assert caught.value.what == str(tmp_path / "python")
