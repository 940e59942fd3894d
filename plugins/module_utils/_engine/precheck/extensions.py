# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the family "objects": do the extensions that selected objects need exist at the destination, or can they be
created there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ..objects.extensions import create_statements, not_there, other_version
from ..postgres.catalog import quoted
from .finding import Check, Found, at_both

if TYPE_CHECKING:
    from ..objects.extensions import Extension
    from .observed import DestinationView, Observation, SourceView

_NO_RIGHT = "42501"

OFFERS = "destination: offered extensions"
"""The part of the observation with the extensions that the destination's server offers."""


def _missing(seen: Observation, source: SourceView, destination: DestinationView) -> Iterator[Found]:
    """Yield the extensions that the schema phase cannot create; without that phase, all missing ones."""
    if OFFERS in seen.failures:
        return  # the check not_observed reports it
    for extension in not_there(source.extensions, {one.name for one in destination.extensions}):
        here = f"version {extension.version} at the source"
        refusal = destination.refused_extensions.get(extension.name)
        if extension.name not in destination.offers:
            yield Found(
                extension.name,
                f"{here}; the destination's server does not offer it",
                "SELECT name, default_version FROM pg_available_extensions",
                "Install the package that holds it on the destination's server (on a cloud: allow the extension there), or"
                " leave out the objects that use it.",
            )
        elif "schema" not in seen.spec.types:
            yield Found(
                extension.name,
                f"{here}, none at the destination, and the migration creates no schema (causeway_types)",
                "SELECT extname, extversion FROM pg_extension",
                _statements(seen, destination, extension),
            )
        elif refusal is not None:
            yield Found(
                extension.name,
                f"{here}; tried at the destination: {refusal.why} (SQLSTATE {refusal.sqlstate})",
                f"BEGIN; {_statements(seen, destination, extension)} ROLLBACK",
                _cure(seen, destination, extension) if refusal.sqlstate == _NO_RIGHT else refusal.remedy,
            )


def _statements(seen: Observation, destination: DestinationView, extension: Extension) -> str:
    """Return the statements that the schema phase executes, ready to be pasted."""
    one = replace(extension, schema=seen.mapping.schema(extension.schema))
    offer = destination.offers.get(extension.name)
    made = create_statements(one, offer, {"pg_catalog", *destination.catalog.schemas})
    return " ".join(f"{statement.as_string(None)};" for statement in made)


def _cure(seen: Observation, destination: DestinationView, extension: Extension) -> str:
    """Return the statement that an account with the necessary rights executes once."""
    server = destination.server
    if destination.offers[extension.name].trusted and not destination.may_create_schemas:
        return f"GRANT CREATE ON DATABASE {quoted(server.database)} TO {quoted(server.user)};"
    return _statements(seen, destination, extension)


def _version(seen: Observation, source: SourceView, destination: DestinationView) -> Iterator[Found]:
    there = {extension.name: extension.version for extension in destination.extensions}
    for extension in source.extensions:
        version = there.get(extension.name)
        if version is None:
            other = other_version(extension, destination.offers.get(extension.name))
            if other and "schema" in seen.spec.types:
                yield Found(
                    extension.name,
                    f"source {extension.version}, which the destination's server does not offer; it creates {other}",
                    "SELECT name, version FROM pg_available_extension_versions",
                    f"Nothing if {other} is acceptable; else install {extension.version} on the destination's server, or at"
                    f" the source: ALTER EXTENSION {quoted(extension.name)} UPDATE;",
                )
        elif version != extension.version:
            yield Found(
                extension.name,
                f"source {extension.version}, destination {version}",
                "SELECT extname, extversion FROM pg_extension",
                f"ALTER EXTENSION {quoted(extension.name)} UPDATE;",
            )


CHECKS = (
    Check(
        "extension_missing",
        "error",
        "Selected objects use it. The schema phase creates it, unless the destination's server does not offer it or the"
        " account may not create it.",
        "Install it on the destination's server, or execute the statement that the finding prints.",
        at_both(_missing),
    ),
    Check(
        "extension_version",
        "ignorable",
        "Types and functions of another version may behave differently.",
        "ALTER EXTENSION … UPDATE at the older end, or install the source's version on the destination's server.",
        at_both(_version),
    ),
)
