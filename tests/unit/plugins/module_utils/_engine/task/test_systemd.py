# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a unit goes, whose it is, and what is asked of systemctl."""

from __future__ import annotations

import os
import pathlib
import pwd
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.errors import StateError
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.runner import Outcome
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.task import systemd
from ansible_collections.causeway.postgresql.plugins.module_utils._engine.task.systemd import (
    Place,
    Systemd,
    find_systemd,
    observe_place,
)


class Programs:
    """A systemctl that writes down what it was asked, and answers what it was told to."""

    def __init__(self, answers: Mapping[str, Outcome] | None = None, program: str = "/bin/systemctl") -> None:
        self.asked: list[str] = []
        self.environments: list[Mapping[str, str]] = []
        self._answers = answers or {}
        self._program = program

    def find(self, program: str, folder: str) -> str:
        return self._program

    def run(self, argv: Sequence[str], environment: Mapping[str, str]) -> Outcome:
        self.asked.append(" ".join(argv[1:]))
        self.environments.append(environment)
        return self._answers.get(argv[-2], self._answers.get(argv[1], Outcome(0, "", "")))


def unit(folder: pathlib.Path, programs: Any, *, system: bool = True) -> Systemd:
    return Systemd(Place(system, folder, ""), "Ördérs 1", programs)


def test_root_has_system_units_and_everybody_else_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    account = pwd.getpwuid(os.getuid())
    assert observe_place({}, 0).folder == pathlib.Path("/etc/systemd/system")
    nobody = pwd.getpwnam("nobody")
    own = observe_place({}, nobody.pw_uid)
    assert not own.system and own.folder == pathlib.Path(nobody.pw_dir, ".config/systemd/user")
    assert observe_place({"XDG_CONFIG_HOME": "/x"}, nobody.pw_uid).folder == pathlib.Path("/x/systemd/user")
    given = observe_place({"SYSTEMD_UNIT_PATH": "/somewhere:/else"}, 0)
    assert given.folder == pathlib.Path("/somewhere") and given.why_not == ""
    # where its processes end with its login, a unit would be no help
    assert "enable-linger nobody" in observe_place({"SYSTEMD_UNIT_PATH": "/x"}, nobody.pw_uid).why_not
    assert account.pw_uid == os.getuid()


def test_a_unit_is_installed_once_and_taken_away(tmp_path: pathlib.Path) -> None:
    programs = Programs()
    one = unit(tmp_path / "units", programs)
    assert one.unit.startswith("causeway-") and one.unit.endswith(".service") and one.unit.isascii()
    assert [change.after for change in one.changes("text\n")] == ["text\n"]
    one.install("text\n")
    assert one.path.read_text() == "text\n" and one.path.stat().st_mode & 0o777 == 0o644
    assert programs.asked == ["daemon-reload", f"enable {one.unit}"]
    wants = tmp_path / "units" / "multi-user.target.wants"
    wants.mkdir()
    (wants / one.unit).symlink_to(one.path)
    assert one.changes("text\n") == []
    one.install("text\n")
    assert len(programs.asked) == 2
    assert one.changes("other\n") and one.changes(None)
    one.remove()
    one.remove()
    assert programs.asked[2:] == [f"disable --now {one.unit}", "daemon-reload"]
    assert not one.path.exists() and one.changes(None) == []


def test_a_user_s_manager_is_found(tmp_path: pathlib.Path) -> None:
    programs = Programs()
    unit(tmp_path, programs, system=False).start()
    assert [asked.split()[0] for asked in programs.asked] == ["--user", "--user"]
    assert programs.environments[0] == {"XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}"}


def test_a_refusal_is_told_in_systemd_s_words(tmp_path: pathlib.Path) -> None:
    refusing = Programs({"daemon-reload": Outcome(1, "", "Failed to connect to bus: No medium found\n")})
    with pytest.raises(StateError, match="No medium found"):
        unit(tmp_path, refusing).install("text\n")


@pytest.mark.parametrize(
    ("said", "gone"), [("active", ""), ("activating", ""), ("failed", "failed"), ("inactive", "inactive"), ("", "")]
)
def test_gone_is_what_will_not_come_back_by_itself(tmp_path: pathlib.Path, said: str, gone: str) -> None:
    answer = Outcome(0, f"ActiveState={said}\nResult=exit-code\n", "")
    assert gone in unit(tmp_path, Programs({"show": answer})).gone()
    assert bool(unit(tmp_path, Programs({"show": answer})).gone()) is bool(gone)


def test_auto_takes_what_there_is_and_systemd_insists(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setattr(systemd, "observe_place", lambda environ, uid: Place(True, tmp_path, "it does not run here"))
    assert find_systemd("auto", "x", Programs()) == (None, "it does not run here")
    with pytest.raises(StateError, match="it does not run here"):
        find_systemd("systemd", "x", Programs())
    monkeypatch.setattr(systemd, "observe_place", lambda environ, uid: Place(True, tmp_path, ""))
    assert find_systemd("auto", "x", Programs(program="")) == (None, "there is no systemctl")
    found, why = find_systemd("auto", "x", Programs())
    assert found is not None and why == ""
    assert find_systemd("none", "x", Programs()) == (None, "")
