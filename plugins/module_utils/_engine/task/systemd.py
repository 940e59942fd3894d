# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker's supervisor: systemd where it can be used, else none, and only the next run restarts the worker.

A system unit for root, a user unit for any other account, and only if that user's manager outlives a login. The unit is
installed and started here; its text comes from `systemd_unit`.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .. import names
from ..errors import StateError
from ..plan import Change

if TYPE_CHECKING:
    from ..runner import Outcome, Runner

_UNIT_PATH = "SYSTEMD_UNIT_PATH"


@dataclass(frozen=True, slots=True)
class Place:
    """Where units of this account go. ``why_not`` says why systemd cannot supervise a worker here; empty if it can."""

    system: bool
    folder: Path
    why_not: str


def observe_place(environ: Mapping[str, str], uid: int) -> Place:
    """Return where this account's units go on this host."""
    account = pwd.getpwuid(uid)
    system = uid == 0
    home = environ.get("XDG_CONFIG_HOME") or f"{account.pw_dir}/.config"
    # systemd's own variable for another search path; its first entry is for the administrator's units.
    given = environ.get(_UNIT_PATH, "").split(":")[0]
    folder = Path(given or ("/etc/systemd/system" if system else f"{home}/systemd/user"))
    why_not = ""
    if not given and not Path("/run/systemd/system").is_dir():
        why_not = "systemd does not run here"
    elif not system and not Path("/var/lib/systemd/linger", account.pw_name).exists():
        why_not = f"{account.pw_name}'s processes end with the last login (loginctl enable-linger {account.pw_name})"
    return Place(system, folder, why_not)


class Systemd:
    """One worker's unit. Programs are run by ``runner``; every method raises StateError if systemd refuses."""

    def __init__(self, place: Place, name: str, runner: Runner) -> None:
        self.system = place.system
        self.unit = f"causeway-{names.folder_name(name)}.service"
        self.path = place.folder / self.unit
        self._wanted = place.folder / f"{'multi-user' if place.system else 'default'}.target.wants" / self.unit
        self._runner = runner

    @property
    def installed(self) -> bool:
        return self.path.exists()

    def changes(self, text: str | None) -> list[Change]:
        """Return the changes that install and enable the unit with this text; that remove it for None."""
        try:
            present: str | None = self.path.read_text(encoding="utf-8")
        except OSError:
            present = None
        if present == text and (text is None or self._wanted.is_symlink()):
            return []
        verb = "disable" if text is None else "enable"
        return [Change("worker host", str(self.path), present, text, (f"systemctl {verb} {self.unit}",))]

    def install(self, text: str) -> None:
        """Write the unit and enable it at boot. Idempotent."""
        if not self.changes(text):
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        fresh.write_text(text, encoding="utf-8")
        fresh.chmod(0o644)
        fresh.replace(self.path)
        self._must("daemon-reload")
        self._must("enable", self.unit)

    def start(self) -> None:
        """Start the unit; this does not wait until the worker applies."""
        self._run("reset-failed", self.unit)
        self._must("start", "--no-block", self.unit)

    def gone(self) -> str:
        """Return why the unit has no process; empty while it has one, or will start one."""
        said = dict(
            line.split("=", 1)
            for line in self._run("show", "-p", "ActiveState", "-p", "Result", self.unit).output.splitlines()
            if "=" in line
        )
        state = said.get("ActiveState", "")
        return f"unit {self.unit} is {state} ({said.get('Result', '')})" if state in ("failed", "inactive") else ""

    def stop(self) -> None:
        """End the process, and cancel a pending restart."""
        self._must("stop", self.unit)

    def remove(self) -> None:
        """Stop the worker and remove the unit. Idempotent."""
        if self.installed:
            self._must("disable", "--now", self.unit)
            self.path.unlink(missing_ok=True)
            self._must("daemon-reload")

    def _run(self, *words: str) -> Outcome:
        program = self._runner.find("systemctl", "")
        if not program:
            raise StateError("asking systemd for the CDC worker", self.unit, "there is no systemctl", _NONE)
        scope = [] if self.system else ["--user"]
        # systemctl finds the manager of a user by this variable, which a session without a login need not have.
        environment = {} if self.system else {"XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}"}
        return self._runner.run([program, *scope, *words], environment)

    def _must(self, *words: str) -> None:
        outcome = self._run(*words)
        if outcome.status != 0:
            why = outcome.errors.strip().splitlines()
            raise StateError(
                f"systemctl {words[0]} for the CDC worker",
                self.unit,
                why[-1] if why else f"it ended with status {outcome.status}",
                _NONE,
            )


_NONE = "See journalctl for the unit; or set causeway_worker_supervisor: none, then the worker runs unsupervised."


def find_systemd(wanted: str, name: str, runner: Runner) -> tuple[Systemd | None, str]:
    """Return the unit that supervises the worker, or None and why. Raises StateError if systemd is required and missing."""
    place = observe_place(os.environ, os.getuid())
    if wanted == "none":
        return None, ""
    if not place.why_not and runner.find("systemctl", ""):
        return Systemd(place, name, runner), ""
    why = place.why_not or "there is no systemctl"
    if wanted == "systemd":
        raise StateError(
            "supervising with systemd the CDC worker of",
            name,
            why,
            "Correct that, or use causeway_worker_supervisor: auto.",
        )
    return None, why


def installed_systemd(name: str, runner: Runner) -> Systemd | None:
    """Return the unit that an earlier run has installed, regardless of the present options."""
    found = Systemd(observe_place(os.environ, os.getuid()), name, runner)
    return found if found.installed else None
