# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(python -m bench NAME): one bench, whose last line is its result as JSON."""

from __future__ import annotations

import importlib
import sys

CDC = ("cdc_insert", "cdc_lag", "cdc_memory", "cdc_tpcb", "cdc_wide_update")
NAMES = (*CDC, "clone", "clone_mixed", "copy_scale", "definitions", "tables_10k", "validate")


def main() -> int:
    """Run the bench that the only argument names."""
    if len(sys.argv) != 2 or sys.argv[1] not in NAMES:
        print(f"Say which: make bench BENCH={' | '.join(NAMES)}", file=sys.stderr)
        return 2
    importlib.import_module(f"bench.{sys.argv[1]}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
