# -*- coding: utf-8 -*-
# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # The options of every module of the action group; plugins/module_utils/_arguments.py has the same in code.
    DOCUMENTATION = r"""
options:
  name:
    description:
      - The migration's name. Slot, publication, locks and state are derived from it.
    type: str
    required: true
  source:
    description:
      - The database that is moved. The primary's own address, not a proxy's.
    type: dict
    required: true
    suboptions: &endpoint
      login_host:
        description: Host name or address of the server.
        type: str
      login_port:
        description: TCP port of the server.
        type: int
        default: 5432
      login_user:
        description: Account to log in with.
        type: str
      login_password:
        description: Its password. Never written to a log, a process title or a state table.
        type: str
      login_db:
        description: The database. May be left out only where O(source.connect_params) names a service.
        type: str
      login_unix_socket:
        description: Folder of the server's Unix socket, instead of a host.
        type: path
      ssl_mode:
        description: As libpq's C(sslmode).
        type: str
        default: prefer
        choices: [disable, allow, prefer, require, verify-ca, verify-full]
      ca_cert:
        description: Certificate authority file, a path on the worker host.
        type: path
      ssl_cert:
        description: Client certificate file, a path on the worker host.
        type: path
      ssl_key:
        description: Client key file, a path on the worker host.
        type: path
      connect_params:
        description: Further libpq connection parameters, C(service) among them.
        type: dict
        default: {}
      session_role:
        description: Role to switch to with C(SET ROLE) in every session.
        type: str
  destination:
    description:
      - The database that it is moved to. It must exist.
    type: dict
    required: true
    suboptions: *endpoint
  objects:
    description:
      - What is moved. An entry names a whole schema, or some tables of it.
    type: list
    elements: dict
    required: true
    suboptions:
      schema:
        description: The schema's name.
        type: str
        required: true
      tables:
        description: Only these tables, with the objects that they own. If omitted or empty, the whole schema is moved.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: The table's name, or a pattern with C(*) and C(?).
            type: str
            required: true
      exclude:
        description: Names or patterns of tables that are left out.
        type: list
        elements: str
        default: []
  types:
    description:
      - What the migration consists of. Without V(incremental) it ends as completed; with it the destination is kept in
        sync until the cutover.
    type: list
    elements: str
    choices: [schema, full, incremental]
    default: [schema, full, incremental]
  state_schema:
    description:
      - Schema at the destination that holds the state of migrations.
    type: str
    default: causeway
  allow_keyless:
    description:
      - Whether tables without a key may be moved; their rows are matched by the output text of the whole row.
    type: bool
    default: false
  conflicting_tables:
    description:
      - How to treat tables that already exist at the destination. V(report) makes them a precheck error. V(ignore)
        keeps their rows in the copy; changes overwrite them.
    type: str
    choices: [report, ignore]
    default: report
  restart:
    description:
      - Whether to migrate again over a destination that has been opened. Without it no module writes there.
    type: bool
    default: false
  tags:
    description:
      - Labels of your own for this migration, such as its environment, by key. The status and the worker's metrics show
        them.
    type: dict
requirements:
  - "python >= 3.10"
  - "psycopg >= 3.2"
"""
