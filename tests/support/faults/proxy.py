# Copyright (c) 2026, Causeway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A TCP proxy in front of a server, which breaks a connection in ways that a restart does not.

What a middlebox does that keeps one leg of a connection: the other side is gone, and nobody is told.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any


class _Connection:
    """One connection: two sockets, and a thread for each direction."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.forwards = True
        for one, other in ((client, server), (server, client)):
            threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                if self.forwards:
                    other.sendall(data)
        if self.forwards:
            for leg in (one, other):
                with contextlib.suppress(OSError):
                    leg.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for leg in (self.client, self.server):
            with contextlib.suppress(OSError):
                leg.shutdown(socket.SHUT_RDWR)
            leg.close()


class Proxy:
    """Listens on a port of its own, and forwards to a server's.

    ``silence`` forwards nothing more of the connections that stand, and lets both legs believe that all is well;
    ``drop_server`` closes the server's leg, and keeps the client's; ``drop_client`` the other way round. What connects
    later is forwarded, unless C(deaf) is set: then it is accepted, and nothing more.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.deaf = False
        self._connections: list[_Connection] = []
        self._held: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, dummy = self._listener.accept()
                if self.deaf:
                    self._held.append(client)
                    continue
                try:
                    server = socket.create_connection(self._target)
                except OSError:
                    client.close()
                    continue
                self._connections.append(_Connection(client, server))

    def silence(self) -> None:
        for one in self._connections:
            one.forwards = False

    def drop_server(self) -> None:
        for one in self._connections:
            one.forwards = False
            with contextlib.suppress(OSError):
                one.server.shutdown(socket.SHUT_RDWR)

    def drop_client(self) -> None:
        for one in self._connections:
            one.forwards = False
            with contextlib.suppress(OSError):
                one.client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        for one in self._connections:
            one.close()
        for client in self._held:
            client.close()


@contextlib.contextmanager
def before(end: Any) -> Iterator[tuple[Proxy, Mapping[str, Any]]]:
    """A proxy before the server of C(end), and the endpoint that goes through it."""
    endpoint = dict(end.endpoint)
    proxy = Proxy(str(endpoint.get("login_host") or "127.0.0.1"), int(endpoint["login_port"]))
    try:
        yield proxy, {**endpoint, "login_host": "127.0.0.1", "login_port": proxy.port}
    finally:
        proxy.close()
