# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m dev STAGE…`: prepare the environment, run the stages, sum up. The Makefile calls this."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from . import environment, stages
from .lanes import Lanes, Result, carry_out
from .workspace import Workspace


def _interrupt(number: int, dummy: object) -> None:
    raise SystemExit(128 + number)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _summary(results: Sequence[Result], seconds: float) -> int:
    """Print what each stage came to; the exit code. The last line is for a machine that reads it."""
    print("\n" + "=" * 48)
    for result in results:
        print(f"{result.name:<14}{result.outcome:<12}{_duration(result.seconds):>16}")
    failed = sum(result.outcome == "failed" for result in results)
    print("=" * 48)
    print(f"{'in all':<26}{_duration(seconds):>16}")
    print(f"{len(results) - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


def _carry_out(venv: Path, workspace: Workspace, variant: str, wanted: Sequence[str]) -> list[Result]:
    """Run the stages, those of `make test` in lanes, and return what came of each."""
    if list(wanted) == list(stages.TEST):
        workspace.copy()  # one for all lanes

        def make(name: str, output: IO[str]) -> stages.Stages:
            behind = name not in stages.LANES[0]
            return stages.Stages(venv, workspace, variant, workspace.mark_of(name), output, behind=behind)

        return Lanes(workspace, make).run(stages.LANES, wanted)
    results = []
    for name in wanted:
        print(f"\n=== {name}", flush=True)
        loop = stages.Stages(venv, workspace, variant, workspace.mark_of(name))
        results.append(carry_out(loop, workspace, name))
    return results


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
    results = [Result("environment", "passed", time.monotonic() - started)]
    # what is measured or shown to a person lies where a user's clusters would
    base = Path(tempfile.gettempdir()) if {*wanted} & {"bench", "demo"} else None
    with Workspace(base) as workspace:
        results += _carry_out(venv, workspace, variant, wanted)
    if len(wanted) == 1:
        return 0 if results[-1].outcome == "passed" else 1
    return _summary(results, time.monotonic() - started)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
