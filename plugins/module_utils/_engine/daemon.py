# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker as a program, ``python -m _engine.daemon --config FILE``: log, signals and exit status.

The work itself is done by `cdc.worker.worker`.

SIGTERM and SIGINT drain to a commit boundary and end with status 0; SIGHUP ends a wait for the next attempt. The log
holds names, counts and positions only.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import logging.handlers
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .cdc.control.config import LOG_FILE, PID_FILE
from .cdc.control.pidfile import hold
from .cdc.control.sd_notify import Notifier, Pulse, own_watchdog
from .cdc.control.signals import Signals, Supervisor
from .cdc.worker.worker import Worker

EXIT_ALREADY_RUNS = 4

PATIENCE = 120.0
"""Seconds without a sign of life after which the worker counts as hanging."""

_LOG_BYTES = 10 * 1024 * 1024
_LOG_FILES = 3


class JsonLines(logging.Formatter):
    """Formats one JSON object per line: time (UTC), level, message, thread; an event of the task has its ``event`` and
    ``detail`` as data too."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of one record, with the frames of its traceback, if any."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "at": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "thread": record.threadName,
            "pid": record.process,
        }
        for name, attribute in (("event", "event"), ("detail", "fields")):
            value = getattr(record, attribute, None)
            if value:
                line[name] = value
        where = _frames(record)
        if where:
            line["where"] = where
        return json.dumps(line, ensure_ascii=False, default=str)


def _frames(record: logging.LogRecord) -> str:
    """Return the frames of the traceback only: the message of an unforeseen exception may quote a value."""
    found = []
    trace = record.exc_info[2] if record.exc_info else None
    while trace is not None:
        code = trace.tb_frame.f_code
        found.append(f"{Path(code.co_filename).name}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return " > ".join(found)


def open_log(folder: Path) -> logging.Logger:
    """Return the worker's log: files of bounded size beside its configuration, readable by its owner only."""
    os.umask(0o077)
    handler = logging.handlers.RotatingFileHandler(
        folder / LOG_FILE, maxBytes=_LOG_BYTES, backupCount=_LOG_FILES, encoding="utf-8"
    )
    handler.setFormatter(JsonLines())
    log = logging.getLogger("causeway.worker")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.handlers = [handler]
    return log


def main(argv: Sequence[str]) -> int:
    """Run the worker of one migration to its end. Returns the exit status: 0 stopped, 1 failed, 3 no state row, 4
    another process runs it.
    """
    parser = argparse.ArgumentParser(prog="causeway-worker", description="CDC worker of one migration")
    parser.add_argument("--config", required=True, help="the configuration that pg_cdc_task wrote")
    path = Path(parser.parse_args(argv).config)
    held = hold(path.with_name(PID_FILE))
    if held is None:
        return EXIT_ALREADY_RUNS
    log = open_log(path.parent)
    orders = Signals()

    def told(number: int, dummy: object) -> None:
        if number != signal.SIGHUP:
            orders.stop.set()
        orders.wake.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, told)
    # Reader and applier share the interpreter lock: short turns keep either from blocking the other.
    sys.setswitchinterval(0.001)
    # Changes are created and dropped by the hundred thousand, never in cycles: the default, a collection for every
    # seven hundred new objects, would take a third of the time.
    gc.freeze()
    gc.set_threshold(1_000_000, 20, 20)
    notifier, pulse = Notifier(os.environ), Pulse(PATIENCE)
    own_watchdog(notifier, pulse)
    try:
        return Worker(str(path), log, orders, Supervisor(notifier, pulse)).run()
    finally:
        notifier.send(STOPPING=1)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
