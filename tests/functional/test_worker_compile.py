# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role C(worker) compiles the engine where it can, says so where it cannot, and a worker says which of both it runs.

A real compilation through the role is part of the molecule scenario; here what C(tests/support/compiling.py) made is put in place.
"""

from __future__ import annotations

import pathlib
import shutil
import sys
from typing import Any

import pytest
from support.compiling import NotCompiled, compiled_engine
from support.harness.streaming import MakeStreaming
from support.playbooks import Playbooks
from support.witness import assert_identical


def compiled() -> pathlib.Path:
    try:
        return compiled_engine()
    except NotCompiled as why:
        pytest.skip(f"the engine is not compiled here: {why}")


def variables(folder: pathlib.Path, **more: Any) -> dict[str, Any]:
    nowhere = {"login_host": "127.0.0.1", "login_port": 1, "login_db": "none", "login_user": "none"}
    return {
        "causeway_source": nowhere,
        "causeway_destination": nowhere,
        "causeway_objects": [{"schema": "public"}],
        "causeway_worker_home": str(folder / "worker"),
        "causeway_worker_python": sys.executable,
        **more,
    }


def prepare(playbooks: Playbooks, folder: pathlib.Path, fails: bool = False, **more: Any) -> Any:
    playbooks.describe({"shop": variables(folder, **more)})
    return playbooks.play("precheck", "--tags", "worker", fails=fails)


@pytest.mark.faults_heavy
def test_where_it_cannot_be_compiled(tmp_path: pathlib.Path) -> None:
    """auto: said once, and pure; require: an error that says what is missing; never: nothing is tried."""
    playbooks = Playbooks(tmp_path, {})
    current = tmp_path / "worker" / "engine" / "current"
    no_index: dict[str, Any] = {"causeway_worker_pip_extra_args": ["--no-index"]}
    first = prepare(playbooks, tmp_path, **no_index)
    assert "could not be compiled" in first.output and "installing mypy" in first.output
    pure = current.readlink()
    assert (current / "_engine" / "daemon.py").exists() and "." not in pure.name
    again = prepare(playbooks, tmp_path, **no_index)
    assert not again.changed and "could not be compiled" not in again.output
    required = prepare(playbooks, tmp_path, fails=True, causeway_worker_compile="require", **no_index)
    assert "causeway_worker_compile is require" in required.output and "installing mypy" in required.output
    assert not prepare(playbooks, tmp_path, causeway_worker_compile="never").changed
    assert current.readlink() == pure
    leftovers = [path.name for path in current.parent.iterdir() if path.is_dir() and path != current]
    assert leftovers == [pure.name]


def test_what_was_compiled_is_what_new_workers_start_with(tmp_path: pathlib.Path) -> None:
    made = compiled()
    playbooks = Playbooks(tmp_path, {})
    current = tmp_path / "worker" / "engine" / "current"
    prepare(playbooks, tmp_path, causeway_worker_compile="never")
    pure = current.readlink().name
    abi = made.name.partition(".")[2]
    shutil.copytree(made, current.parent / f"{pure}.{abi}")
    for mode in ("auto", "require"):
        prepare(playbooks, tmp_path, causeway_worker_compile=mode)
        assert current.readlink().name == f"{pure}.{abi}"
    assert not prepare(playbooks, tmp_path).changed
    prepare(playbooks, tmp_path, causeway_worker_compile="never")
    assert current.readlink().name == pure


def test_a_worker_says_which_it_runs(make_streaming: MakeStreaming) -> None:
    """Compiled and pure, one after the other on the same task."""
    made = compiled()
    streaming = make_streaming("CREATE TABLE t (id int PRIMARY KEY, v text)")
    streaming.begin()
    pure = streaming.engine
    for engine, name in ((made, made.name), (pure, pure.name)):
        streaming.engine = engine
        streaming.configure()
        streaming.start()
        streaming.wait_state("running")
        streaming.pair.source.run("INSERT INTO t SELECT coalesce(max(id), 0) + 1, 'x' FROM t")
        streaming.drain()
        assert streaming.progress("engine") == name
        assert streaming.stop() == 0
    assert_identical(streaming.pair, ["public"])


def test_files_for_another_interpreter_are_passed_over(make_streaming: MakeStreaming, tmp_path: pathlib.Path) -> None:
    """A compiled folder that this interpreter cannot use runs as what it is: pure."""
    made = compiled()
    abi = made.name.partition(".")[2]
    other = tmp_path / "other" / made.name
    shutil.copytree(made, other)
    for library in other.rglob("*.so"):
        library.rename(library.with_name(library.name.replace(abi, "cpython-27-nowhere")))
    streaming = make_streaming("CREATE TABLE t (id int PRIMARY KEY)")
    streaming.engine = other
    streaming.begin()
    streaming.start()
    streaming.wait_state("running")
    assert streaming.progress("engine") == made.name.partition(".")[0]
