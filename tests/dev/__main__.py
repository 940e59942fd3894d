# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m dev STAGE…`: prepare the environment, run the stages one after the other, sum up. The Makefile calls this."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence

from . import environment, stages
from .workspace import Workspace


def _interrupt(number: int, dummy: object) -> None:
    raise SystemExit(128 + number)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _summary(results: list[tuple[str, str, float]]) -> int:
    """Print what each stage came to; the exit code. The last line is for a machine that reads it."""
    print("\n" + "=" * 48)
    for name, outcome, seconds in results:
        print(f"{name:<14}{outcome:<12}{_duration(seconds):>16}")
    failed = sum(outcome == "failed" for dummy, outcome, dummy_time in results)
    print("=" * 48)
    print(f"{len(results) - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


def main(names: Sequence[str]) -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    # a shell starts background jobs with it ignored, and commands would inherit that and not let themselves be stopped
    signal.signal(signal.SIGINT, signal.default_int_handler)
    variant, wanted = stages.expand(names)
    started = time.monotonic()
    try:
        venv = environment.prepare(variant)
    except environment.NoEnvironment as error:
        print(error, file=sys.stderr)
        return 1
    results = [("environment", "passed", time.monotonic() - started)]
    with Workspace() as workspace:
        loop = stages.Stages(venv, workspace, variant)
        for name in wanted:
            print(f"\n=== {name}", flush=True)
            started = time.monotonic()
            passed = stages.find(loop, name)()
            left = workspace.end_processes()
            if left:
                print(f"{name} left processes running: {', '.join(f'{left[pid]} ({pid})' for pid in sorted(left))}")
            results.append((name, "passed" if passed and not left else "failed", time.monotonic() - started))
    if len(wanted) == 1:
        return 0 if results[-1][1] == "passed" else 1
    return _summary(results)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
