# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for systemctl: keeps units in a folder, starts and ends what they name, and writes down what it was asked.

No machine of the tests runs systemd. What a unit says is judged by systemd-analyze, in the unit tests; here it is carried
out: environment, folder and command are the unit's.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from support.processes import lives

FOLDER = pathlib.Path(os.environ["SYSTEMD_UNIT_PATH"])


def values(unit: str, key: str) -> list[str]:
    lines = (FOLDER / unit).read_text().splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]


def wanted_by(unit: str) -> pathlib.Path:
    return FOLDER / f"{values(unit, 'WantedBy')[0]}.wants" / unit


def process(unit: str) -> int:
    """The process of the unit, 0 where none lives."""
    file = FOLDER / f"{unit}.pid"
    pid = int(file.read_text()) if file.exists() else 0
    return pid if pid and lives(pid) else 0


def start(unit: str) -> None:
    if process(unit):
        return
    environment = dict(entry.split("=", 1) for entry in values(unit, "Environment"))
    started = subprocess.Popen(
        shlex.split(values(unit, "ExecStart")[0]),
        cwd=values(unit, "WorkingDirectory")[0],
        env={"PATH": os.environ["PATH"], "INVOCATION_ID": "of the unit", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    (FOLDER / f"{unit}.pid").write_text(str(started.pid))


def stop(unit: str) -> None:
    while pid := process(unit):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        time.sleep(0.05)


def main(words: list[str]) -> int:
    with (FOLDER / "asked").open("a") as asked:
        asked.write(" ".join(words) + "\n")
    verb, unit = words[0], words[-1]
    if verb == "enable":
        wanted_by(unit).parent.mkdir(exist_ok=True)
        wanted_by(unit).unlink(missing_ok=True)
        wanted_by(unit).symlink_to(FOLDER / unit)
    elif verb == "disable":
        stop(unit)
        wanted_by(unit).unlink(missing_ok=True)
    elif verb == "start":
        start(unit)
    elif verb == "stop":
        stop(unit)
    elif verb == "show":
        sys.stdout.write(f"ActiveState={'active' if process(unit) else 'inactive'}\nResult=success\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
