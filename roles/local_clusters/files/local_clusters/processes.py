# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts, stops and ends the server of a cluster, as a process."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import tempfile
import time

from .accounts import as_user
from .cluster import Cluster
from .folders import ClusterError


def run_program(cluster: Cluster, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of the cluster's programs as the server's user, and return it with its output.

    It gets none of the caller's PG* variables, and a session of its own: a Ctrl-C must not reach the server.
    """
    environment = {"PATH": cluster.bin_dir + ":/usr/bin:/bin", "LC_ALL": "C", "HOME": cluster.folder, "TZ": "UTC"}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        done = subprocess.run(
            [f"{cluster.bin_dir}/{program}", *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=cluster.folder,
            env=environment,
            umask=0o077,
            start_new_session=True,
            **as_user(cluster.user),
        )
        output.seek(0)
        return subprocess.CompletedProcess(done.args, done.returncode, output.read(), "")


def _is_dead(lock_file: pathlib.Path) -> bool:
    """Return whether the server that wrote this lock file is a zombie.

    A container's first process may never collect its children: for kill(pid, 0), and so for pg_ctl, such a server is alive.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid = int(lock_file.read_text(encoding="utf-8").splitlines()[0])
        status = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return status.rpartition(")")[2].split()[0] == "Z"
    return False


def is_running(cluster: Cluster) -> bool:
    """Return whether the server runs; a zombie does not."""
    if _is_dead(pathlib.Path(cluster.data_dir) / "postmaster.pid"):
        return False
    return run_program(cluster, "pg_ctl", "status", "-D", cluster.data_dir).returncode == 0


def start(cluster: Cluster, timeout: int = 60) -> bool:
    """Start the server and wait until it accepts connections; return False when it ran already."""
    if is_running(cluster):
        return False
    lock_file = pathlib.Path(cluster.data_dir) / "postmaster.pid"
    if _is_dead(lock_file):
        time.sleep(1)  # its children notice within moments
        lock_file.unlink(missing_ok=True)
    for _attempt in range(2):  # the port of a server that died a moment ago may still be held
        done = run_program(
            cluster, "pg_ctl", "start", "-D", cluster.data_dir, "-l", cluster.log_file, "-w", "-t", str(timeout)
        )
        if done.returncode == 0:
            return True
        time.sleep(1)
    raise ClusterError(f"Cluster {cluster.name} did not start: {done.stdout.strip()[-300:]} {log_end(cluster)}")


def log_end(cluster: Cluster) -> str:
    """Return the last lines of the server's log, for an error."""
    with contextlib.suppress(OSError):
        lines = pathlib.Path(cluster.log_file).read_text(encoding="utf-8", errors="replace").splitlines()
        return "The server's log ends with: " + " | ".join(lines[-6:])
    return ""


def stop(cluster: Cluster, mode: str = "fast", timeout: int = 60) -> bool:
    """Stop the server, C(fast) or C(immediate), which is a crash for the data; return False when it did not run."""
    if not is_running(cluster):
        return False
    done = run_program(cluster, "pg_ctl", "stop", "-D", cluster.data_dir, "-m", mode, "-w", "-t", str(timeout))
    if done.returncode != 0 and is_running(cluster):
        raise ClusterError(f"Cluster {cluster.name} did not stop within {timeout} s: {done.stdout.strip()[-300:]}")
    return True


def restart(cluster: Cluster, mode: str = "fast") -> None:
    """Stop the server, if it runs, and start it."""
    stop(cluster, mode)
    start(cluster)


def end_server(data: pathlib.Path) -> None:
    """End the server of a data folder. Its lock file names the process, whose working folder is checked."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid = int((data / "postmaster.pid").read_text(encoding="utf-8").splitlines()[0])
        for attempt in range(100):
            if _is_dead(data / "postmaster.pid") or os.path.realpath(f"/proc/{pid}/cwd") != str(data.resolve()):
                break
            os.kill(pid, signal.SIGQUIT if attempt < 50 else signal.SIGKILL)
            time.sleep(0.1)
