# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's archive: the same bytes for the same files, whatever their dates and modes, and all of the engine."""

from __future__ import annotations

import io
import os
import pathlib
import subprocess
import sys
import zipfile

from ansible_collections.causeway.postgresql.plugins.lookup import engine_bundle


def make(folder: pathlib.Path, mode: int, date: float) -> pathlib.Path:
    engine = folder / "_engine"
    (engine / "cdc").mkdir(parents=True)
    for name in ("b.py", "a.py", "__init__.py", "cdc/x.py"):
        (engine / name).write_text(f"# {name}\n")
        (engine / name).chmod(mode)
        os.utime(engine / name, (date, date))
    (engine / "__pycache__").mkdir()
    (engine / "__pycache__" / "a.cpython-313.pyc").write_bytes(b"\0")
    return engine


def test_the_same_files_give_the_same_bytes(tmp_path: pathlib.Path) -> None:
    one = engine_bundle.pack(make(tmp_path / "one", 0o600, 1_000_000_000))
    two = engine_bundle.pack(make(tmp_path / "two", 0o755, 1_700_000_000))
    assert one == two


def test_another_byte_gives_another_archive(tmp_path: pathlib.Path) -> None:
    engine = make(tmp_path, 0o600, 0)
    before = engine_bundle.pack(engine)
    (engine / "a.py").write_text("# A\n")
    assert engine_bundle.pack(engine) != before


def test_only_python_files_in_order(tmp_path: pathlib.Path) -> None:
    archive = zipfile.ZipFile(io.BytesIO(engine_bundle.pack(make(tmp_path, 0o600, 0))))
    assert archive.namelist() == ["_engine/__init__.py", "_engine/a.py", "_engine/b.py", "_engine/cdc/x.py"]


def test_the_engine_of_the_collection_runs_from_its_archive(tmp_path: pathlib.Path) -> None:
    zipfile.ZipFile(io.BytesIO(engine_bundle.pack(engine_bundle.ENGINE))).extractall(tmp_path)
    command = [sys.executable, "-c", "import _engine.daemon, _engine.cdc.worker.worker"]
    subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, check=True)
