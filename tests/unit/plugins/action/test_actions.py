# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every module of the action group shows its result, and every action belongs to one."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import yaml

from ansible_collections.causeway.postgresql.plugins.plugin_utils._action import ShowingAction

ROOT = Path(__file__).resolve().parents[4]
GROUP = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text(encoding="utf-8"))["action_groups"]["migration"]


def test_actions_and_action_group_are_the_same() -> None:
    assert sorted(file.stem for file in (ROOT / "plugins" / "action").glob("pg_*.py")) == sorted(GROUP)


@pytest.mark.parametrize("name", GROUP)
def test_an_action_is_nothing_but_its_blocks(name: str) -> None:
    action = importlib.import_module(f"ansible_collections.causeway.postgresql.plugins.action.{name}").ActionModule
    assert issubclass(action, ShowingAction)
    assert not {"run", "_show"} & set(vars(action))
    for block in action.blocks:
        assert block({}, 100) == []
