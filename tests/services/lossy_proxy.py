"""A line to Postgres that can be cut: before a statement gets there, before its answer comes back, or for good."""

import contextlib
import socket
import struct
import threading
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo


class LossyProxy:
    """Listens on a port of this machine and passes everything on to Postgres, until it is asked not to. Use `with`."""

    def __init__(self, dsn: str) -> None:
        parts = conninfo_to_dict(dsn)
        self._postgres = str(Path(str(parts["host"])) / f".s.PGSQL.{parts['port']}")
        self._to_lose: str | None = None
        self._passed_first = 0
        self._lines: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None
        self.cuts = 0
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = int(probe.getsockname()[1])
        self.dsn = make_conninfo(dsn, host="127.0.0.1", port=self._port, sslmode="disable", gssencmode="disable")

    def __enter__(self) -> "LossyProxy":
        self.come_back()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_away()

    def come_back(self) -> None:
        """Accept connections, on the same port as before."""
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._start(self._accept, self._listener)

    def go_away(self) -> None:
        """Cut every line and refuse new ones."""
        if self._listener is not None:
            _close(self._listener)
        for line in self._lines:
            _close(line)
        for thread in self._threads:
            thread.join()
        self._lines, self._threads, self._listener = [], [], None

    def lose_next_answer(self, *, passed_first: int = 0) -> None:
        """Let the next execution of a statement through, and cut before its answer comes back.

        `passed_first`: so many answers come back before that.
        """
        self._to_lose, self._passed_first = "answer", passed_first

    def lose_next_statement(self) -> None:
        """Cut before the next execution of a statement gets to Postgres."""
        self._to_lose, self._passed_first = "statement", 0

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._postgres)
                self._lines += [client, server]
                self._start(self._pass_on, client, server, "statement")
                self._start(self._pass_on, server, client, "answer")

    def _pass_on(self, source: socket.socket, target: socket.socket, what: str) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                if self._is_lost(chunk, what):
                    break
                target.sendall(chunk)
        _close(source)
        _close(target)

    def _is_lost(self, chunk: bytes, what: str) -> bool:
        if self._to_lose != what or not (_executes(chunk) if what == "statement" else _executed(chunk)):
            return False
        if self._passed_first:
            self._passed_first -= 1
            return False
        self._to_lose = None
        self.cuts += 1
        return True


def _executes(chunk: bytes) -> bool:
    """Whether a client's message asks to execute: Execute (E, 9 bytes long) of the unnamed portal, without a limit.

    Or a simple Query (Q) with a select.
    """
    return b"E" + struct.pack(">ixi", 9, 0) in chunk or (chunk.startswith(b"Q\x00") and b"select" in chunk)


def _executed(chunk: bytes) -> bool:
    """Whether a server's message says that a select was executed: CommandComplete (C) with its tag.

    Outside of a transaction block Postgres sends it after the commit: it flushes when it is ready for the next query.
    """
    return b"SELECT " in chunk and b"C\x00\x00\x00" in chunk


def _close(line: socket.socket) -> None:
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits on it
    line.close()
