# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker as a program: its log tells no values, and one process is enough."""

from __future__ import annotations

import json
import logging
import os
import pathlib

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine import daemon
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.cdc.control.pidfile import hold


def test_a_log_line_is_json_and_a_traceback_is_frames_alone(tmp_path: pathlib.Path) -> None:
    mask = os.umask(0o022)
    log = daemon.open_log(tmp_path)
    os.umask(mask)
    log.info("running from %s", "0/1A")
    log.info("paused", extra={"event": "paused", "fields": {"slot_keeps_bytes": 7}})
    try:
        raise ValueError("secret value")
    except ValueError:
        log.exception("a bug")
    logging.getLogger("causeway.worker").handlers[0].close()
    path = tmp_path / "worker.log"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["message"] for line in lines] == ["running from 0/1A", "paused", "a bug"]
    assert lines[1]["event"] == "paused" and lines[1]["detail"] == {"slot_keeps_bytes": 7}
    assert "event" not in lines[0]
    assert lines[0]["level"] == "info"
    assert lines[0]["at"].endswith("Z")
    assert "test_daemon.py:" in lines[2]["where"]
    assert "secret" not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_second_process_leaves_at_once(tmp_path: pathlib.Path) -> None:
    descriptor = hold(tmp_path / "worker.pid")
    assert descriptor is not None
    assert daemon.main(["--config", str(tmp_path / "config.json")]) == daemon.EXIT_ALREADY_RUNS
    os.close(descriptor)
    assert not (tmp_path / "worker.log").exists()


def test_without_a_configuration_argument_it_says_how_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        daemon.main([])
    assert "--config" in capsys.readouterr().err
