# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import sys
from pathlib import Path

import pytest
from dev import __main__ as loop
from dev import environment
from dev.environment import Interpreter
from dev.lanes import Result


@pytest.fixture
def requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(environment, "REQUIREMENTS", tmp_path)
    (tmp_path / "newest.txt").write_text("one\n-r more.txt\n")
    (tmp_path / "more.txt").write_text("two\n")
    return tmp_path


PYTHON = Interpreter(Path("/usr/bin/python3.11"), (3, 11), "3.11.2", True)


def test_an_included_requirement_makes_another_environment(requirements: Path) -> None:
    before = environment._key("newest", PYTHON)
    assert environment._key("newest", PYTHON) == before
    (requirements / "more.txt").write_text("two>=2\n")
    assert environment._key("newest", PYTHON) != before


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *folders: Path) -> None:
    """Look for the Python that runs this test, in these folders of PATH and nowhere else."""
    for name in ("PYENV_ROOT",):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("PATH", ":".join(map(str, folders)))
    monkeypatch.setattr(environment, "VARIANTS", {"newest": ((3, 99), sys.version_info[:2])})


def test_a_python_that_does_not_run_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    program(tmp_path / "broken", name, "#!/bin/sh\nexit 127\n")
    program(tmp_path / "broken", "python3.99", "#!/bin/sh\nexit 127\n")
    program(tmp_path / "real", name, f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    only(monkeypatch, tmp_path, tmp_path / "broken", tmp_path / "real")
    assert environment.interpreter("newest").version == sys.version_info[:2]


def test_what_stands_behind_a_shim_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    program(tmp_path / "manager/shims", name, "#!/bin/sh\nexit 127\n")
    program(tmp_path / "manager/versions/x/bin", name, f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    only(monkeypatch, tmp_path, tmp_path / "manager" / "shims")
    folders = list(environment._folders())
    assert tmp_path / "manager/versions/x/bin" in folders
    assert tmp_path / "manager/shims" not in folders
    assert environment.interpreter("newest").version == sys.version_info[:2]


def test_without_a_python_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "VARIANTS", {"newest": ((3, 98), (3, 99))})
    with pytest.raises(environment.NoEnvironment, match=r"needs one of Python 3\.98, 3\.99"):
        environment.interpreter("newest")


def test_the_last_line_counts_the_stages(capsys: pytest.CaptureFixture[str]) -> None:
    code = loop._summary([Result("lint", "passed", 61.0), Result("unit", "failed", 2.0)], 63.0)
    assert code == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "1 passed, 1 failed"
    assert any("lint" in line and "1 min 01 s" in line for line in lines)
