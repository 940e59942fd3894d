# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQLSTATEs: which failures are retried, and what the operator does about each (PostgreSQL manual, appendix A)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Retry(Enum):
    """Whether a failure is retried. Everything that is not on the short list stops the task."""

    CONNECTION = "connection"
    OTHER = "other"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class SqlStatePolicy:
    """How one kind of failure is handled. ``remedy`` is a full sentence, or empty where the caller has a better one."""

    retry: Retry
    remedy: str = ""


_CONNECTION = SqlStatePolicy(Retry.CONNECTION, "Check that the server is up and reachable from the worker host.")

_BY_STATE = {
    "57P01": SqlStatePolicy(
        Retry.CONNECTION, "The session was ended by an administrator or a shutdown; run the same playbook again."
    ),
    "57P02": SqlStatePolicy(Retry.CONNECTION, "The server crashed and is recovering; run the same playbook again."),
    "57P03": SqlStatePolicy(
        Retry.CONNECTION, "The server is starting up or shutting down; run the same playbook again."
    ),
    "53300": SqlStatePolicy(Retry.CONNECTION, "Raise max_connections, or free connections."),
    "53100": SqlStatePolicy(Retry.OTHER, "Free disk space on the server that reported it."),
    "53200": SqlStatePolicy(
        Retry.OTHER,
        "The server ran out of memory: raise max_locks_per_transaction if it says so, else lower the parallelism.",
    ),
    "53400": SqlStatePolicy(
        Retry.NEVER, "A limit of the server is reached, which the message names: raise it, or free what uses it up."
    ),
    "40001": SqlStatePolicy(Retry.OTHER),
    "40P01": SqlStatePolicy(Retry.OTHER),
    "55P03": SqlStatePolicy(Retry.OTHER, "Another session holds the lock; see pg_locks and pg_blocking_pids()."),
    "55006": SqlStatePolicy(Retry.OTHER, "Another session uses the object, mostly a worker that has not ended yet."),
    "57014": SqlStatePolicy(Retry.OTHER, "The statement was cancelled by another session or by a timeout."),
    "25006": SqlStatePolicy(
        Retry.OTHER, "The server is read-only: name the primary, or check default_transaction_read_only."
    ),
    "28P01": SqlStatePolicy(Retry.NEVER, "Correct the password."),
    "28000": SqlStatePolicy(Retry.NEVER, "Correct the user, or add the matching line to pg_hba.conf."),
    "3D000": SqlStatePolicy(Retry.NEVER, "Create the database, or correct login_db."),
    "42501": SqlStatePolicy(Retry.NEVER, "Grant the missing privilege to the migration's account."),
    "42P01": SqlStatePolicy(Retry.NEVER, "The relation no longer exists; run the migrate playbook again."),
    "54000": SqlStatePolicy(Retry.NEVER),
}

_BY_CLASS = {
    "08": _CONNECTION,
    "58": SqlStatePolicy(Retry.OTHER, "The server reported an error of its operating system; see its log."),
}


def policy_for(sqlstate: str) -> SqlStatePolicy:
    """Return the policy for a SQLSTATE; an empty one means that the connection broke before the server answered."""
    if not sqlstate:
        return _CONNECTION
    return _BY_STATE.get(sqlstate) or _BY_CLASS.get(sqlstate[:2]) or SqlStatePolicy(Retry.NEVER)
