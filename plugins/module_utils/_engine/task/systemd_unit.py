# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The systemd unit of one worker, as text (systemd.service(5), systemd.exec(5)). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..cdc.control.config import CONFIG_FILE
from ..errors import SpecError

WATCHDOG_SECONDS = 120
_PLAIN = re.compile(r"[A-Za-z0-9_./@+,=-]+")
_MEMORY = re.compile(r"[0-9]+[KMGT]?|[0-9]{1,2}%|100%|infinity")
_CPU = re.compile(r"[1-9][0-9]*%")

_FOR_ALL = (
    "NoNewPrivileges=yes",
    "LockPersonality=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    "SystemCallArchitectures=native",
)
# A user's manager may not grant these. /tmp stays shared: a server's socket may be there.
_FOR_SYSTEM = (
    "CapabilityBoundingSet=",
    "PrivateDevices=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHome=read-only",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectSystem=strict",
)


@dataclass(frozen=True, slots=True)
class Unit:
    """The values of a unit. ``user`` is the account that a system unit runs as; empty for a user unit.
    ``memory`` and ``cpu`` are systemd's MemoryMax and CPUQuota, empty for none."""

    name: str
    migration: str
    folder: str
    python: str
    engine: str
    user: str = ""
    memory: str = ""
    cpu: str = ""


def check_limits(memory: str, cpu: str) -> None:
    """Raise SpecError for a limit that systemd would reject or silently ignore."""
    for option, value, form, example in (("memory_max", memory, _MEMORY, "2G"), ("cpu_quota", cpu, _CPU, "150%")):
        if value and not form.fullmatch(value):
            raise SpecError(
                "reading the limits of the CDC worker",
                option,
                f"{value!r} is not a limit of systemd's",
                f"Write {example}.",
            )


def nameable(path: str) -> bool:
    """Return whether a unit can name this path without quoting: systemd interprets blanks, quotes, % and $."""
    return bool(_PLAIN.fullmatch(path)) and path.startswith("/")


def render(unit: Unit) -> str:
    """Return the unit's text, the same for the same values. Raises SpecError for a path that would need quoting."""
    for path in (unit.folder, unit.python, unit.engine):
        if not nameable(path):
            raise SpecError(
                "writing the systemd unit of",
                unit.migration,
                f"{path} is not an absolute path of plain letters, digits and ._-+,=@ only",
                "Choose another causeway_worker_home, or set causeway_worker_supervisor: none.",
            )
    check_limits(unit.memory, unit.cpu)
    described = re.sub(r"[^\w .:@-]", "_", unit.migration).replace("%", "%%")
    service = [
        "Type=notify",
        "NotifyAccess=main",
        f"ExecStart={unit.python} -m _engine.daemon --config {unit.folder}/{CONFIG_FILE}",
        f"Environment=PYTHONPATH={unit.engine}",
        f"WorkingDirectory={unit.folder}",
        f"LoadCredential={CONFIG_FILE}:{unit.folder}/{CONFIG_FILE}",
        *([f"User={unit.user}"] if unit.user else []),
        "UMask=0077",
        # A worker is ready when it applies, or has reported why not: a source may be away for hours.
        "TimeoutStartSec=infinity",
        "TimeoutStopSec=90",
        "KillMode=mixed",
        f"WatchdogSec={WATCHDOG_SECONDS}",
        # 1: it has failed and said why; 3: no state row; 4: another process runs it. Seven days are the worker's own rule.
        "Restart=on-failure",
        "RestartSec=10",
        "RestartPreventExitStatus=1 3 4",
        *([f"MemoryMax={unit.memory}"] if unit.memory else []),
        *([f"CPUQuota={unit.cpu}"] if unit.cpu else []),
        *_FOR_ALL,
        *((*_FOR_SYSTEM, f"ReadWritePaths={unit.folder}") if unit.user else ()),
    ]
    lines = [
        "# Made by causeway.postgresql.pg_cdc_task, which overwrites it.",
        "[Unit]",
        f"Description=Causeway CDC worker of migration {described}",
        *(("Wants=network-online.target", "After=network-online.target") if unit.user else ()),
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        *service,
        "",
        "[Install]",
        f"WantedBy={'multi-user.target' if unit.user else 'default.target'}",
    ]
    return "\n".join(lines) + "\n"
