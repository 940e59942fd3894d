# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine as the role C(worker) compiles it, by the role's own program: once for each content of the files that are
compiled, kept in C(.cache/).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
ENGINE = ROOT / "plugins" / "module_utils" / "_engine"
PROGRAM = ROOT / "roles" / "worker" / "files" / "compile_engine.py"
KEPT = ROOT / ".cache" / "engines"


class NotCompiled(Exception):
    """Why there is no compiled engine here."""


def _content() -> str:
    """Of what is compiled, and what that imports: another change of the engine needs no compiler."""
    digest = hashlib.sha256(PROGRAM.read_bytes())
    imported = (ENGINE / "errors.py", ENGINE / "postgres" / "lsn.py", ENGINE / "postgres" / "key_order.py")
    for path in (*imported, *sorted((ENGINE / "cdc" / "changes").glob("*.py"))):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _refresh(folder: pathlib.Path) -> None:
    """Bring the files that are not compiled up to date."""
    for path in ENGINE.rglob("*.py"):
        copy = folder / "_engine" / path.relative_to(ENGINE)
        if not copy.exists() or copy.read_bytes() != path.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)


def _program(*arguments: str) -> dict[str, str]:
    done = subprocess.run([sys.executable, PROGRAM, *arguments], capture_output=True, text=True, check=False)
    if not done.stdout:
        raise NotCompiled(done.stderr)
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


def compiled_engine() -> pathlib.Path:
    """The folder that holds C(_engine), compiled for this interpreter. Raises NotCompiled."""
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        pure = KEPT / _content()
        if not pure.exists():
            for old in KEPT.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
            pure.mkdir()
        _refresh(pure)
        answer = _program("look", str(pure))
        if not answer["stands"] and not answer["why"]:
            answer = _program("make", str(pure))
        if not answer["stands"]:
            raise NotCompiled(answer["why"])
        _refresh(KEPT / answer["folder"])
        return KEPT / answer["folder"]
