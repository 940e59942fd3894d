# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import pytest
from dev import lanes, stages
from dev import workspace as dev_workspace
from dev.lanes import Lanes
from dev.workspace import Workspace


class Said(stages.Stages):
    """Stages of one command each: a Python program."""

    programs: dict[str, str]

    def __init__(self, workspace: Workspace, name: str, output: IO[str]) -> None:
        self.mark, self.output, self.workspace = workspace.mark_of(name), output, workspace
        self.bin = Path(sys.executable).parent
        self._process, self._over, self._lock = None, False, threading.Lock()
        self._name = name

    def environ(self, collections: Path | None = None) -> dict[str, str]:
        return {"CAUSEWAY_DEV_RUN": self.mark}

    def stage(self) -> bool:
        if self._name == "breaks":
            raise ValueError("it breaks")
        return self.run(sys.executable, "-c", self.programs[self._name])


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace(tmp_path) as made:
        yield made


def run(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, lanes_of: list[list[str]], order: list[str], **programs: str
) -> list[tuple[str, str]]:
    monkeypatch.setattr(Said, "programs", programs, raising=False)
    monkeypatch.setattr(lanes, "find", lambda found, name: found.stage)
    made = Lanes(workspace, lambda name, output: Said(workspace, name, output))
    return [(result.name, result.outcome) for result in made.run(lanes_of, order)]


def test_what_stages_print_is_shown_stage_by_stage_in_order(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = "import time; print('slow begins', flush=True); time.sleep(0.5); print('slow ends')"
    results = run(
        workspace, monkeypatch, [["slow"], ["one", "two"]], ["one", "slow", "two"],
        slow=slow, one="print('first')", two="import sys; sys.exit(3)",
    )  # fmt: skip
    assert results == [("one", "passed"), ("slow", "passed"), ("two", "failed")]
    said = [line for line in capsys.readouterr().out.splitlines() if line and not line.startswith("+")]
    assert said == ["=== one", "first", "=== slow", "slow begins", "slow ends", "=== two"]


def test_a_stage_that_breaks_fails_and_the_next_one_runs(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = run(workspace, monkeypatch, [["breaks", "one"]], ["breaks", "one"], one="print('still')")
    assert results == [("breaks", "failed"), ("one", "passed")]
    out = capsys.readouterr().out
    assert "ValueError: it breaks" in out and "still" in out


@pytest.mark.timeout(30)
def test_a_stage_that_cannot_be_set_up_fails_and_is_not_waited_for(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_tree(name: str, output: IO[str]) -> stages.Stages:
        raise FileExistsError("the tree is there")

    results = Lanes(workspace, no_tree).run([["one", "two"]], ["one", "two"])
    assert [(result.name, result.outcome) for result in results] == [("one", "failed"), ("two", "failed")]
    assert capsys.readouterr().out.count("FileExistsError: the tree is there") == 2


def test_lanes_that_begin_at_once_link_one_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev_workspace, "CACHE", tmp_path)
    together = threading.Barrier(8)

    def link(number: int) -> Path:
        together.wait()
        return dev_workspace.link_tree()

    with ThreadPoolExecutor(8) as pool:
        trees = set(pool.map(link, range(8)))
    assert trees == {tmp_path / "tree"}
    assert (tmp_path / "tree" / dev_workspace.COLLECTION).resolve() == dev_workspace.ROOT


def test_what_a_stage_leaves_running_is_ended_and_fails_it_alone(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workspace, "_wait_gone", lambda stage, seconds: workspace.processes(stage))
    leaves = f"import subprocess; subprocess.Popen([{sys.executable!r}, '-c', 'import time; time.sleep(60)'])"
    beside = "import time; time.sleep(2); print('undisturbed')"
    results = run(
        workspace, monkeypatch, [["leaves"], ["beside"]], ["leaves", "beside"], leaves=leaves, beside=beside
    )  # fmt: skip
    assert results == [("leaves", "failed"), ("beside", "passed")]
    out = capsys.readouterr().out
    assert "leaves left processes running: python" in out and "undisturbed" in out


def test_an_interrupt_ends_all_lanes(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(run: object) -> None:
        time.sleep(1)
        raise SystemExit(143)

    monkeypatch.setattr(lanes, "_show", interrupted)
    long = "import time; time.sleep(60)"
    started = time.monotonic()
    with pytest.raises(SystemExit):
        run(workspace, monkeypatch, [["one", "never"], ["two"]], ["one", "two", "never"], one=long, two=long)
    assert time.monotonic() - started < 30
    assert workspace.processes() == {}
    assert not (workspace.folder / "never.log").read_text()
