"""A program: starts a Python worker of Spark that connects to the JVM before it imports pyspark.

Spark gives a worker of `foreachBatch` ten seconds to connect and ten more to show its secret, which
no setting changes; on a busy machine its imports alone take longer.
"""

import os
import runpy
import socket
import struct
import sys
from importlib import import_module
from typing import Any

__all__ = ["main"]

_TIMEOUT_S = 300.0  # as spark.python.authenticate.socketTimeout


def main() -> None:
    """Run the module that the command line names, as `python -m` does, on an open connection."""
    connection = _connect()
    stream = connection.makefile("rwb", int(os.environ.get("SPARK_BUFFER_SIZE", "65536")))
    secret = os.environ.get("PYTHON_WORKER_FACTORY_SECRET")
    if secret is not None:  # over a socket file there is none
        stream.write(struct.pack("!i", len(secret.encode())) + secret.encode())
        stream.flush()
        if stream.read(6) != struct.pack("!i", 2) + b"ok":
            raise SystemExit("the JVM does not take this worker's secret")

    worker_util: Any = import_module("pyspark.worker_util")
    connect = worker_util.local_connect_and_auth

    def connected(*_: object) -> tuple[Any, socket.socket]:
        worker_util.local_connect_and_auth = connect  # any further connection is a new one
        return stream, connection

    worker_util.local_connect_and_auth = connected
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _connect() -> socket.socket:
    path = os.environ.get("PYTHON_WORKER_FACTORY_SOCK_PATH")
    if path is not None:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_TIMEOUT_S)
        connection.connect(path)
        return connection
    host = "::1" if os.environ.get("SPARK_PREFER_IPV6", "").lower() == "true" else "127.0.0.1"
    port = int(os.environ["PYTHON_WORKER_FACTORY_PORT"])
    return socket.create_connection((host, port), timeout=_TIMEOUT_S)


if __name__ == "__main__":
    main()
