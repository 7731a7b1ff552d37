"""Free TCP ports on 127.0.0.1, outside the range that the kernel gives to outgoing connections.

A server that is killed and restarted must find its port free again; a port of the kernel's range may meanwhile have
become the near end of somebody's connection, even of a client that retries to reach the very server.
"""

import errno
import random
import socket
from collections.abc import Collection

from pipeline.edge.local import EmbeddedError

_FIRST, _LAST = 15_000, 32_000
HOST = "127.0.0.1"
PROBE_S = 5.0  # for an answer: on a machine under load one takes its time


def is_free(port: int) -> bool:
    """Could a server listen on it now?"""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: old connections do not matter
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
        return True


def free_port(taken: Collection[int] = ()) -> int:
    """A free port that is none of `taken`."""
    for _ in range(1000):
        port = random.randint(_FIRST, _LAST)  # noqa: S311 - not a secret
        if port not in taken and is_free(port):
            return port
    raise EmbeddedError(f"no free port on {HOST} between {_FIRST} and {_LAST}")


def free_ports(count: int) -> list[int]:
    """Several free ports."""
    ports: list[int] = []
    while len(ports) < count:
        ports.append(free_port(ports))
    return ports
