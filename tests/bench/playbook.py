# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the steps of a clone cost more through C(ansible-playbook) than in one process, on a database so small that
hardly anything else is measured.
"""

from __future__ import annotations

import sys

from bench.clone_peers import Peers
from bench.engine import Steps, carry_out
from bench.harness import Bench, timed
from demo.playbooks import Playbooks

from ansible_collections.causeway.postgresql.plugins.module_utils._engine.copy.limits import Limits

DBNAME = "small"
TAGS = "schema,full_copy,finalize"
"""The roles of which `Steps.clone` has the steps."""


def overhead(bench: Bench) -> dict[str, float]:
    """C(playbook_overhead_s) and the two of which it is the difference, C(playbook_s) and C(engine_s), one run each.

    The worker host has been prepared before: that happens once, not at each run.
    """
    folder = bench.folder / "playbooks"
    folder.mkdir(mode=0o700)
    bench.fresh(bench.source, DBNAME)
    done = Peers(bench, DBNAME).psql.program("pgbench", "-i", "-q", "-s", "1", "service=source")
    if done.returncode:
        raise RuntimeError(done.stderr)
    options = bench.options(DBNAME, "public")
    books = Playbooks(folder, print)
    books.prepare(
        DBNAME,
        {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "causeway_worker_python": sys.executable,
            "causeway_worker_home": str(folder / "home"),
            "causeway_worker_compile": "never",
            "causeway_client_bin": bench.bin_dir,
            **{
                f"causeway_{key}": options[key]
                for key in ("source", "destination", "objects", "types", "allow_keyless")
            },
        },
    )
    books.play("precheck", "prepared", "--tags", "worker")
    bench.fresh(bench.destination, DBNAME)
    in_process = timed(lambda: carry_out(options, Steps(bench.bin_dir, Limits()).clone()))
    bench.fresh(bench.destination, DBNAME)
    played = books.play("migrate", "migrate", "--tags", TAGS).seconds
    seconds = {"playbook_overhead_s": played - in_process, "playbook_s": played, "engine_s": in_process}
    return {key: round(value, 2) for key, value in seconds.items()}
