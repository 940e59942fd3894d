# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the decoder and the batcher run compiled, or as the Python files of the collection.

The worker role unpacks an engine to a folder that its hash names, and compiles it beside that to one whose name has the
interpreter's ABI behind a dot: ``<hash>.cpython-313-x86_64-linux-gnu``.
"""

from __future__ import annotations

from . import pgoutput


def is_compiled() -> bool:
    """Return whether the loaded module is compiled: one for another interpreter is skipped without an error."""
    return not str(pgoutput.__file__).endswith((".py", ".pyc"))


def running_engine(folder: str) -> str:
    """Return the name of the engine that this process runs from ``folder``: with the ABI only if it runs compiled."""
    return folder if is_compiled() else version_of(folder)


def version_of(engine: str) -> str:
    """Return the hash of an engine, compiled or not."""
    return engine.partition(".")[0]


def says_compiled(engine: str) -> bool:
    """Return whether a worker that reports this engine name runs compiled."""
    return version_of(engine) != engine
