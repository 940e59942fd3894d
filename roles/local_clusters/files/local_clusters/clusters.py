# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Creates, changes and removes clusters."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import secrets
import shutil
from collections.abc import Mapping
from typing import Any

from .accounts import check_passable, give, server_user
from .binaries import bin_dir
from .cluster import Cluster, load, save
from .folders import ClusterError, locked, own_folder, write_private
from .processes import end_server, log_end, run_program, start, stop
from .settings import free_port, wanted_settings, write_settings


def _initialise(cluster: Cluster) -> None:
    """Run initdb in an empty data folder and write the settings."""
    folder = pathlib.Path(cluster.folder)
    for name in ("data", "log", "run"):
        path = folder / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        give(path, cluster.user, 0o700)
    password_file = folder / "run" / "password"
    write_private(password_file, cluster.password + "\n")
    give(password_file, cluster.user, 0o600)
    try:
        done = run_program(
            cluster, "initdb", "-D", cluster.data_dir, "-U", cluster.superuser, f"--pwfile={password_file}",
            "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync",
        )  # fmt: skip
    finally:
        password_file.unlink(missing_ok=True)
    if done.returncode != 0:
        raise ClusterError(f"Cluster {cluster.name} could not be initialised: {done.stdout.strip()[-600:]}")
    with (folder / "data" / "postgresql.conf").open("a", encoding="utf-8") as handle:
        handle.write("\ninclude 'causeway.conf'\n")
    write_settings(cluster)


def _first_start(cluster: Cluster) -> Cluster:
    """Start a new cluster and return it: with another port where another process has taken its port meanwhile."""
    for _attempt in range(3):
        try:
            start(cluster)
            return cluster
        except ClusterError:
            if "Address already in use" not in log_end(cluster):
                raise
            cluster = dataclasses.replace(cluster, port=free_port())
            write_settings(cluster)
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
    """Return a cluster of this version in this folder, started unless C(running) is false, and whether it was changed.

    Changed settings are written and the server restarted. Raises ClusterError, for a cluster of another version too.
    """
    place = own_folder(pathlib.Path(folder).absolute())
    major = str(version).partition(".")[0]
    wanted = wanted_settings(settings)
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
            check_passable(place, cluster.user)
            check_passable(pathlib.Path(cluster.bin_dir), cluster.user)
            _initialise(cluster)
            if running:
                cluster = _first_start(cluster)
            save(cluster)
            return cluster, True
        changed = cluster.settings != wanted
        if changed:
            cluster = dataclasses.replace(cluster, settings=wanted)
            write_settings(cluster)
            stop(cluster)
            save(cluster)
        if not pathlib.Path(cluster.bin_dir, "postgres").exists():
            cluster = dataclasses.replace(cluster, bin_dir=bin_dir(major, home))
            save(cluster)
        return cluster, (start(cluster) if running else False) or changed


def destroy(folder: str | os.PathLike[str]) -> bool:
    """Stop the server and remove the folder; return False when there was none."""
    place = pathlib.Path(folder)
    if not place.exists():
        return False
    with contextlib.suppress(ClusterError, FileNotFoundError):
        cluster = load(place)
        if cluster is not None:
            stop(cluster, "immediate")
    end_server(place / "data")  # also one whose state file was never written
    shutil.rmtree(place)
    return True
