# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The virtualenv that the tests run in: found or made, by nothing but the standard library.

It lies in `.cache/` of the checkout under a name that hashes the requirement files and the interpreter, so a changed
requirement makes a new one and nothing is ever upgraded in place.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"
REQUIREMENTS = ROOT / "tests" / "requirements"

# Which Pythons an environment may stand on, best first. ansible-core 2.16 ends at Python 3.12.
VARIANTS = {"newest": ((3, 13), (3, 12), (3, 11)), "compat": ((3, 12), (3, 11))}

_PROBE = """
import importlib.util, json, sys, venv
print(json.dumps({
    "version": sys.version_info[:2], "full": sys.version.split()[0],
    "executable": getattr(sys, "_base_executable", None) or sys.executable,
    "ensurepip": importlib.util.find_spec("ensurepip") is not None,
    "pip": importlib.util.find_spec("pip") is not None,
}))
"""


class NoEnvironment(Exception):
    """The environment cannot be made; the message says what to do."""


@dataclass(frozen=True)
class Interpreter:
    """A Python that was really run."""

    executable: Path
    version: tuple[int, int]
    full: str
    ensurepip: bool


def _folders() -> Iterator[Path]:
    """Folders that may hold a `python3.x`: PATH, what stands behind shims on it, and version managers' own places."""
    home = Path(os.environ.get("HOME") or "/nonexistent")
    roots = [home / ".pyenv", home / ".asdf/installs/python", home / ".local/share/mise/installs/python"]
    roots += [home / ".local/share/uv/python", Path("/usr/local/pyenv"), Path("/opt/pyenv")]
    if os.environ.get("PYENV_ROOT"):
        roots.insert(0, Path(os.environ["PYENV_ROOT"]))
    for entry in os.environ.get("PATH", os.defpath).split(os.pathsep):
        folder = Path(entry or ".")
        if folder.name == "shims":
            roots.insert(0, folder.parent)
        else:
            yield folder
    for root in roots:
        for pattern in ("versions/*/bin", "*/bin"):
            try:
                yield from sorted(root.glob(pattern), reverse=True)
            except OSError:
                continue
    yield from map(Path, ("/usr/local/bin", "/usr/bin", "/opt/homebrew/bin"))


def _probe(executable: Path) -> Interpreter | None:
    try:
        answer = subprocess.run(
            [str(executable), "-I", "-c", _PROBE], capture_output=True, text=True, timeout=30, check=True
        ).stdout
        seen = json.loads(answer)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    if not (seen["ensurepip"] or seen["pip"]):
        return None
    major, minor = seen["version"]
    return Interpreter(Path(seen["executable"]), (major, minor), seen["full"], seen["ensurepip"])


def interpreter(variant: str) -> Interpreter:
    """The newest Python of the variant that runs and can make a virtualenv."""
    folders = list(dict.fromkeys(_folders()))
    for version in VARIANTS[variant]:
        for folder in folders:
            candidate = folder / f"python{version[0]}.{version[1]}"
            try:
                there = candidate.is_file()
            except OSError:
                there = False
            found = _probe(candidate) if there else None
            if found is not None and found.version == version:
                return found
    wanted = ", ".join(f"{major}.{minor}" for major, minor in VARIANTS[variant])
    raise NoEnvironment(
        f"The '{variant}' environment needs one of Python {wanted} with venv and pip, and none was found to run. "
        "Install one (on Debian: python3-venv too), put its bin folder on PATH, and run the same command again."
    )


def _requirement_files(top: Path) -> list[Path]:
    """The file and every file that it includes with -r, in that order."""
    files = [top]
    for line in top.read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            files += _requirement_files(top.parent / line[3:].strip())
    return files


def _key(variant: str, python: Interpreter) -> str:
    digest = hashlib.sha256(f"{python.executable}\n{python.full}\n".encode())
    for file in _requirement_files(REQUIREMENTS / f"{variant}.txt"):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _say(text: str) -> None:
    print(text, flush=True)


def _install(folder: Path, python: Interpreter, variant: str) -> None:
    """Make the virtualenv and fill it, showing what pip does as it does it."""
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH")}
    environ.update(PYTHONUNBUFFERED="1", PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1")
    # without pip of its own where the distribution left out ensurepip: then the interpreter's pip fills it
    options = [] if python.ensurepip else ["--without-pip"]
    subprocess.run([str(python.executable), "-I", "-m", "venv", *options, str(folder)], check=True, env=environ)
    pip = [str(folder / "bin" / "python"), "-m", "pip"]
    if not python.ensurepip:
        pip = [str(python.executable), "-m", "pip", "--python", str(folder / "bin" / "python")]
    command = [*pip, "install", "--progress-bar", "off", "pip", "-r", str(REQUIREMENTS / f"{variant}.txt")]
    log: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environ
    ) as process:
        for line in process.stdout or ():
            log.append(line)
            words = line.split()
            if words[:1] == ["Collecting"]:
                _say(f"  {words[1]}")
            elif words[:2] in (["Installing", "collected"], ["Building", "wheel"]):
                _say(f"  {line.strip()[:100]}")
    if process.returncode:
        sys.stderr.write("".join(log[-60:]))
        raise NoEnvironment(
            f"pip could not install {REQUIREMENTS.relative_to(ROOT)}/{variant}.txt (its last words stand above). "
            "It needs a package index that it can reach; run the same command again when there is one."
        )


def prepare(variant: str = "newest") -> Path:
    """The folder of the virtualenv, made now if it does not stand yet."""
    python = interpreter(variant)
    folder = CACHE / f"venv-{variant}-{_key(variant, python)}"
    ready = folder / "ready"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            for old in CACHE.glob(f"venv-{variant}-*"):
                shutil.rmtree(old)
            _say(f"Preparing the {variant} environment, once: Python {python.full} ({python.executable})")
            _install(folder, python, variant)
            ready.touch()
    return folder
