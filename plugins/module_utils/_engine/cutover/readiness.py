# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be true before the application loses any right, as far as it is known without reading rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import StateError
from ..state.copies import describe_uncopied, uncopied
from ..state.large_objects import read_copied
from ..validate.surplus import require_no_surplus, require_nothing_fires

if TYPE_CHECKING:
    from ..migration import Migration

_DOING = "cutting over migration"
_MIGRATE = "Run the migrate playbook until it changes nothing, then cut over."


def require_alike(migration: Migration) -> None:
    """Raise what can be known without reading rows: StateError as `require_copied`, MismatchError where the destination
    has tables or firing triggers that the source has not."""
    require_copied(migration)
    require_no_surplus(migration, migration.destination_catalog(), _DOING)
    require_nothing_fires(migration, _DOING)


def require_copied(migration: Migration) -> None:
    """Raise StateError while a selected table has not been copied, for instance one that was created since; or while
    only some of the large objects have been."""
    copies = migration.copies()
    missing = uncopied(migration.selected().leaves, copies)
    if missing:
        raise StateError(_DOING, migration.name, describe_uncopied(missing, copies), _MIGRATE)
    objects = read_copied(migration.store)
    if objects is not None and objects.state != "complete":
        raise StateError(
            _DOING,
            migration.name,
            f"its large objects are partly copied, {objects.objects} of {objects.total}",
            _MIGRATE,
        )
