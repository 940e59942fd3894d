# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compiles the decoder and the batcher of an unpacked engine with mypyc, unchanged, on the worker host.

``compile_engine.py look ENGINE`` prints as JSON: C(folder), the name of this interpreter's compiled engine, C(stands),
whether it exists, and C(why), the reason why it cannot or could not be compiled. ``compile_engine.py make ENGINE [PIP
ARGUMENTS]`` compiles, and prints the same. Run it with the interpreter that runs the worker.

The compiled engine is a folder of its own beside the pure one, named for the interpreter's ABI: the same files, and the
extension modules compiled from them, which Python prefers. It is built under another name and renamed after it has been
tried, so that no worker finds an incomplete one, and of two parallel builds the second finds it done. mypy is installed
into a folder that is removed after the compilation.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence

HOT = "_engine/cdc/changes"
"""The folder whose files process every change: all of it is compiled, and nothing else."""

REQUIREMENTS = ("mypy[mypyc]>=1.15,<3", "setuptools>=75")

BUILD = """
import sys
from mypyc.build import mypycify
from setuptools import setup

options = ["--strict", "--ignore-missing-imports", "--follow-imports=silent", "--cache-dir=" + sys.argv.pop(1)]
files = sys.argv[1:]
sys.argv[1:] = ["--quiet", "build_ext", "--inplace"]
setup(name="engine", packages=[], ext_modules=mypycify(options + files, opt_level="3", debug_level="0"))
"""

TRY = """
import _engine.daemon
from _engine.cdc.changes import compiled
raise SystemExit(not compiled.is_compiled())
"""


class CannotCompile(Exception):
    """Raised if the engine cannot be compiled, with the reason."""


def abi() -> str:
    """Return the ABI tag in the names of this interpreter's extension modules; empty if it is unknown."""
    return str(sysconfig.get_config_var("SOABI") or "")


def compiled_folder(engine: pathlib.Path) -> pathlib.Path:
    """Return the folder of the compiled engine for this interpreter."""
    return engine.with_name(f"{engine.name}.{abi()}")


def failure_note(engine: pathlib.Path) -> pathlib.Path:
    """Return the file with the error of the last attempt: while it exists the role does not try again."""
    return compiled_folder(engine).with_name(compiled_folder(engine).name + ".failed")


def missing() -> str:
    """Return what this host lacks; empty if it can compile."""
    if not abi():
        return "this Python does not name its ABI"
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"there is no C compiler ({compiler})"
    header = pathlib.Path(sysconfig.get_path("include")) / "Python.h"
    if not header.exists():
        return f"the headers of this Python are missing ({header})"
    return ""


def look(engine: pathlib.Path) -> dict[str, object]:
    """Return the answer to ``look``; changes nothing."""
    folder = compiled_folder(engine)
    stands = (folder / "_engine" / "daemon.py").exists()
    why = "" if stands else missing()
    note = failure_note(engine)
    if not stands and not why and note.exists():
        why = f"the last attempt failed ({note} says why; remove it to try again)"
    return {"folder": folder.name, "stands": stands, "why": why}


def run(what: str, command: Sequence[str], folder: pathlib.Path, **more: str) -> None:
    """Run a program, quietly. Raises CannotCompile with the last lines of its output."""
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH")}
    try:
        done = subprocess.run(
            command, cwd=folder, env={**environ, **more}, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as exc:
        raise CannotCompile(f"{what}: {exc.strerror}") from exc
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise CannotCompile(f"{what}: {' / '.join(lines[-4:])[:1000] or f'exit status {done.returncode}'}")


def build(engine: pathlib.Path, work: pathlib.Path, pip: Sequence[str]) -> pathlib.Path:
    """Compile and try the engine below ``work``; return its folder. Raises CannotCompile."""
    tools = work / "tools"
    python = str(tools / "bin" / "python")
    run("making a virtualenv for the compiler", [sys.executable, "-m", "venv", str(tools)], work)
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "2", *pip]
    run("installing mypy", [*install, *REQUIREMENTS], work)
    made = work / "made"
    shutil.copytree(engine / "_engine", made / "_engine", ignore=shutil.ignore_patterns("__pycache__"))
    files = sorted(str(path.relative_to(made)) for path in (made / HOT).glob("*.py") if path.name != "__init__.py")
    run("compiling", [python, "-c", BUILD, str(work / "cache"), *files], made)
    shutil.rmtree(made / "build", ignore_errors=True)
    run("starting what was compiled", [sys.executable, "-c", TRY], made, PYTHONPATH=str(made))
    return made


def make(engine: pathlib.Path, pip: Sequence[str]) -> dict[str, object]:
    """Compile the engine, unless that has been done, and return the answer to ``make``. Raises CannotCompile."""
    final = compiled_folder(engine)
    why = missing()
    if why:
        raise CannotCompile(why)
    work = pathlib.Path(tempfile.mkdtemp(prefix=f".{engine.name[:12]}.", dir=engine.parent))
    try:
        made = build(engine, work, pip)
        try:
            made.rename(final)
        except OSError:
            if not (final / "_engine" / "daemon.py").exists():
                raise
        failure_note(engine).unlink(missing_ok=True)
    except (CannotCompile, OSError) as exc:
        failure_note(engine).write_text(f"{exc}\n", encoding="utf-8")
        raise CannotCompile(str(exc)) from exc
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return {"folder": final.name, "stands": True, "why": ""}


def main(arguments: Sequence[str]) -> int:
    """Execute ``look`` or ``make``; return the exit status, 1 if the engine could not be compiled."""
    what, engine = arguments[0], pathlib.Path(arguments[1]).expanduser().resolve()
    if what == "look":
        print(json.dumps(look(engine)))
        return 0
    try:
        print(json.dumps(make(engine, arguments[2:])))
    except CannotCompile as exc:
        print(json.dumps({"folder": compiled_folder(engine).name, "stands": False, "why": str(exc)}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
