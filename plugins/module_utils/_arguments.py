# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arguments that modules share, as the doc fragments describe them; a unit test compares the two."""

from __future__ import annotations

from typing import Any

MIGRATION_TYPES = ("schema", "full", "incremental")


def endpoint_arguments() -> dict[str, Any]:
    """Return the suboptions of I(source) and I(destination): community.postgresql's names (fragment C(migration))."""
    return {
        "login_host": {"type": "str"},
        "login_port": {"type": "int", "default": 5432},
        "login_user": {"type": "str"},
        "login_password": {"type": "str", "no_log": True},
        "login_db": {"type": "str"},
        "login_unix_socket": {"type": "path"},
        "ssl_mode": {
            "type": "str",
            "default": "prefer",
            "choices": ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"],
        },
        "ca_cert": {"type": "path"},
        "ssl_cert": {"type": "path"},
        "ssl_key": {"type": "path", "no_log": False},
        "connect_params": {"type": "dict", "default": {}, "no_log": True},
        "session_role": {"type": "str"},
    }


def migration_arguments() -> dict[str, Any]:
    """Return the arguments of every module of the action group (fragment C(migration))."""
    return {
        "name": {"type": "str", "required": True},
        "source": {"type": "dict", "required": True, "options": endpoint_arguments()},
        "destination": {"type": "dict", "required": True, "options": endpoint_arguments()},
        "objects": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "schema": {"type": "str", "required": True},
                "tables": {
                    "type": "list",
                    "elements": "dict",
                    "default": [],
                    "options": {"name": {"type": "str", "required": True}},
                },
                "exclude": {"type": "list", "elements": "str", "default": []},
            },
        },
        "types": {
            "type": "list",
            "elements": "str",
            "choices": list(MIGRATION_TYPES),
            "default": list(MIGRATION_TYPES),
        },
        "state_schema": {"type": "str", "default": "causeway"},
        "allow_keyless": {"type": "bool", "default": False},
        "conflicting_tables": {"type": "str", "choices": ["report", "ignore"], "default": "report"},
        "restart": {"type": "bool", "default": False},
        "tags": {"type": "dict"},
    }


def state_argument() -> dict[str, Any]:
    """Return C(state): C(present) creates, C(absent) undoes (fragment C(state))."""
    return {"state": {"type": "str", "choices": ["present", "absent"], "default": "present"}}


def lock_timeout_arguments() -> dict[str, Any]:
    """Return the wait for a lock at the source in seconds, and the number of retries (fragment C(lock_timeout))."""
    return {"lock_timeout": {"type": "int", "default": 2}, "lock_retries": {"type": "int", "default": 60}}


def progress_file_argument() -> dict[str, Any]:
    """Return the file for lines of progress (fragment C(progress_file))."""
    return {"progress_file": {"type": "path"}}


def client_arguments() -> dict[str, Any]:
    """Return the folder of PostgreSQL's client programs (fragment C(client_bin))."""
    return {"client_bin": {"type": "path"}}


def drift_arguments() -> dict[str, Any]:
    """Return the options of a comparison of definitions (fragments C(client_bin) and C(differences))."""
    return {**client_arguments(), "ignore_differences": {"type": "list", "elements": "str", "default": []}}


def worker_arguments() -> dict[str, Any]:
    """Return the folder of the CDC worker on the worker host (fragment C(worker))."""
    return {"worker_home": {"type": "path", "required": True}}
