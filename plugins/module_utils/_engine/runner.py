# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The interface through which the engine runs programs; the caller passes in an implementation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Outcome:
    """A program's exit status and both its outputs as text."""

    status: int
    output: str
    errors: str


class Runner(Protocol):
    """Runs programs on the worker host."""

    def run(self, argv: Sequence[str], environment: Mapping[str, str]) -> Outcome:
        """Run a program to its end. ``environment`` is added to the present one and must hold no secret."""

    def find(self, program: str, folder: str) -> str:
        """Return the program's path, looked for in ``folder`` first if it is given; empty where it is missing."""
