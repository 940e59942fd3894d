# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The unit of a worker: systemd's own verdict where its program is here, and a lint of ours everywhere."""

from __future__ import annotations

import pathlib
import shutil
import subprocess

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import SpecError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.task.systemd_unit import (
    Unit,
    check_limits,
    render,
)

SYSTEM = Unit(
    "causeway-orders.service", "örders % 1", "/opt/causeway/orders", "/usr/bin/env", "/opt/causeway/engine/ab"
)


def made(**other: str) -> Unit:
    return Unit(**{**{name: getattr(SYSTEM, name) for name in SYSTEM.__slots__}, **other})


def settings(text: str) -> dict[str, list[str]]:
    """Section.Key to its values, and a complaint about a line that is none."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            section = line.strip("[]")
            continue
        key, equals, value = line.partition("=")
        assert equals and key.isalnum() and key[0].isupper(), line
        assert value == value.strip(), line
        found.setdefault(f"{section}.{key}", []).append(value)
    return found


@pytest.mark.parametrize("user", ["", "mover"])
def test_the_lint(user: str) -> None:
    text = render(made(user=user, memory="2G", cpu="150%"))
    assert text == render(made(user=user, memory="2G", cpu="150%"))
    found = settings(text)
    assert all(len(values) == 1 for values in found.values()), "a setting that stands twice"
    one = {key: values[0] for key, values in found.items()}
    assert one["Service.Type"] == "notify" and one["Service.NotifyAccess"] == "main"
    assert int(one["Service.WatchdogSec"]) > 0
    assert one["Service.Restart"] == "on-failure"
    # who has failed and said why is not started again and again; neither is who has no state
    assert one["Service.RestartPreventExitStatus"].split() == ["1", "3", "4"]
    assert one["Unit.StartLimitIntervalSec"] == "0"
    assert one["Service.LoadCredential"] == "config.json:/opt/causeway/orders/config.json"
    assert one["Service.ExecStart"] == ("/usr/bin/env -m _engine.daemon --config /opt/causeway/orders/config.json")
    assert one["Service.Environment"] == "PYTHONPATH=/opt/causeway/engine/ab"
    assert (one["Service.MemoryMax"], one["Service.CPUQuota"]) == ("2G", "150%")
    assert one["Service.NoNewPrivileges"] == "yes" and one["Service.UMask"] == "0077"
    assert one["Install.WantedBy"] == ("multi-user.target" if user else "default.target")
    hardened = {"Service.ProtectSystem", "Service.CapabilityBoundingSet", "Service.User", "Service.ReadWritePaths"}
    assert (hardened <= one.keys()) is bool(user), "what only the system's manager may give"
    assert one.get("Service.User", "") == user
    assert "%" not in one["Unit.Description"].replace("%%", "")


def test_no_limit_is_no_line() -> None:
    assert not {"Service.MemoryMax", "Service.CPUQuota"} & settings(render(SYSTEM)).keys()


@pytest.mark.parametrize("user", ["", "root"])
def test_systemd_takes_it(tmp_path: pathlib.Path, user: str) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed here")
    unit = tmp_path / SYSTEM.name
    folder = tmp_path / "orders"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    unit.write_text(render(made(user=user, folder=str(folder), memory="2G", cpu="150%")))
    verdict = subprocess.run([program, "verify", str(unit)], capture_output=True, text=True, check=False)
    # of other units of this machine it may say what it likes
    said = [line for line in verdict.stderr.splitlines() if unit.name in line or str(tmp_path) in line]
    assert said == [], verdict.stderr
    assert verdict.returncode == 0 or "Failed to" in verdict.stderr, verdict.stderr
    unit.write_text(unit.read_text().replace("Restart=on-failure", "Restart=sometimes"))
    verdict = subprocess.run([program, "verify", str(unit)], capture_output=True, text=True, check=False)
    assert "sometimes" in verdict.stderr, "a verdict that never says no says nothing"


@pytest.mark.parametrize(
    "path", ["/opt/my worker", "/opt/100%", "/opt/a:b", '/opt/"', "relative", "/opt/ü", "/opt/a\nb"]
)
def test_a_path_that_a_unit_cannot_name_plainly_is_refused(path: str) -> None:
    with pytest.raises(SpecError, match="causeway_worker_supervisor"):
        render(made(folder=path))


@pytest.mark.parametrize(("memory", "cpu"), [("lots", ""), ("2GB", ""), ("", "2"), ("", "0%"), ("2G\nUser=root", "")])
def test_limits_that_systemd_would_not_take_are_named(memory: str, cpu: str) -> None:
    with pytest.raises(SpecError, match="memory_max" if memory else "cpu_quota"):
        check_limits(memory, cpu)


def test_limits_as_people_write_them() -> None:
    for memory, cpu in (("2G", "150%"), ("512M", "50%"), ("1073741824", ""), ("40%", ""), ("infinity", ""), ("", "")):
        check_limits(memory, cpu)
