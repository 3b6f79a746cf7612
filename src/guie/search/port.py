"""The port of the search page. It is bound before the work begins, so that a port in use is reported at once."""

from __future__ import annotations

import errno
import os
import socket

HOST = "127.0.0.1"
DEFAULT_PORT = 8765
BACKLOG = 1024  # connections that may wait, including those made before the server has started


def listen(port: int | None) -> socket.socket:
    """A socket that listens on 127.0.0.1.

    Args:
        port: 0 takes a free one; None `DEFAULT_PORT`, or a free one if that is in use.

    Raises:
        OSError: the port is in use, or may not be used.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, DEFAULT_PORT if port is None else port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        if port is None and error.errno == errno.EADDRINUSE:
            return listen(0)
        remedy = "choose another one with --port, or a free one with --port 0"
        raise OSError(error.errno, f"port {port or DEFAULT_PORT}: {os.strerror(error.errno or 0)}; {remedy}") from error
    return listening
