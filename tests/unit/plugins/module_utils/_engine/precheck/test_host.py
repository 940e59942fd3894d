# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a machine is taken for a job container: both kinds of signs, never one alone."""

from __future__ import annotations

import pytest

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.precheck.host import (
    signs_of_a_job_container,
    version_of,
)

RUNNER = ("/runner/artifacts", "/runner/project")


@pytest.mark.parametrize(
    ("environ", "paths", "ephemeral"),
    [
        ({"AWX_ISOLATED_DATA_DIR": "/runner/artifacts/42"}, ("/run/.containerenv",), True),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, RUNNER, True),
        ({"container": "oci"}, RUNNER, True),
        # a plain machine, a container that stays, a CI job in a container, a pod
        ({}, (), False),
        ({}, ("/.dockerenv",), False),
        ({"CI": "true", "RUNNER_OS": "Linux", "RUNNER_TEMP": "/tmp"}, ("/.dockerenv", "/runner"), False),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, ("/.dockerenv",), False),
        # ansible-runner on a machine, and in a container that stays
        ({"AWX_ISOLATED_DATA_DIR": "/home/ada/job/artifacts/42"}, (), False),
        ({"AWX_ISOLATED_DATA_DIR": "/home/ada/job/artifacts/42"}, ("/.dockerenv",), False),
        ({"AWX_ISOLATED_DATA_DIR": "/runner2/artifacts"}, ("/.dockerenv",), False),
    ],
)
def test_signs_of_a_job_container(environ: dict[str, str], paths: tuple[str, ...], ephemeral: bool) -> None:
    container, job = signs_of_a_job_container(environ, lambda path: path in paths)
    assert bool(container and job) is ephemeral


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("pg_dump (PostgreSQL) 17.5 (Debian 17.5-1)", (17, 5)),
        ("3.2.0.dev1", (3, 2, 0)),
        ("it does not run", ()),
        ("", ()),
    ],
)
def test_versions(text: str, version: tuple[int, ...]) -> None:
    assert version_of(text) == version
