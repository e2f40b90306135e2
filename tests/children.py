"""Children: processes of the hub, forked from one that has imported it already.

To start Python and to import the hub takes a processor a second, and tests start hundreds of hubs, sandboxes and commands. A
forked one is a process like any other: with arguments, environment, output and a pid of its own; it can be killed, and its
exit code is told. What starts Python anew nevertheless: tests of installing, of containers, and of the command line itself.
"""

import asyncio
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp
from typing import IO, Any

PIPE = asyncio.subprocess.PIPE
IMPORTED = ("commands_run", "commands_ask", "commands_steward", "commands_parked", "commands_source", "sandboxes")
"""Modules of the command line that start no thread, for a process with threads cannot be forked safely."""


class Child:
    """A forked process, as `asyncio.subprocess.Process` is one that was started."""

    def __init__(self, pid: int, stdout: asyncio.StreamReader | None, stderr: asyncio.StreamReader | None) -> None:
        self.pid = pid
        self.stdout, self.stderr = stdout, stderr
        self.returncode: int | None = None
        self.watching: asyncio.Task[None] | None = None
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        """Return when it has ended: its exit code, or the negative number of the signal."""
        return await asyncio.shield(self._ended)

    async def communicate(self) -> tuple[bytes, bytes]:
        """All that it writes until it ends."""
        out, err, _ = await asyncio.gather(_all(self.stdout), _all(self.stderr), self.wait())
        return out, err

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal; nothing where it has ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    async def watch(self, told: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Wait for what the process that forked it tells of its end."""
        self.returncode = os.waitstatus_to_exitcode(int(await told.readline()))
        self._ended.set_result(self.returncode)
        writer.close()


async def _all(stream: asyncio.StreamReader | None) -> bytes:
    return await stream.read() if stream else b""


async def start(
    program: str,
    *args: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdout: int | IO[Any] | None = None,
    stderr: int | IO[Any] | None = None,
) -> Child:
    """As `asyncio.create_subprocess_exec(sys.executable, "-m", module, …)`, without an input."""
    assert (program, args[0]) == (sys.executable, "-m"), "only modules, by this Python"
    asked = {"args": args[1:], "env": dict(os.environ if env is None else env), "cwd": str(cwd or Path.cwd())}
    (out, out_fd), (err, err_fd) = await _output(stdout, 1), await _output(stderr, 2)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(_nursery()[0])
    body = json.dumps(asked).encode()
    socket.send_fds(connection, [len(body).to_bytes(8, "big")], [out_fd, err_fd])
    connection.sendall(body)
    for stream, fd in ((out, out_fd), (err, err_fd)):
        if stream is not None:
            os.close(fd)
    connection.setblocking(False)
    told, writer = await asyncio.open_unix_connection(sock=connection)
    child = Child(int(await told.readline()), out, err)
    child.watching = asyncio.create_task(child.watch(told, writer))
    return child


async def _output(wanted: int | IO[Any] | None, usual: int) -> tuple[asyncio.StreamReader | None, int]:
    """Where a child writes to, and who reads that, if anybody."""
    if wanted == asyncio.subprocess.DEVNULL:
        return None, os.open(os.devnull, os.O_WRONLY)
    if wanted != PIPE:
        return None, usual if wanted is None else wanted if isinstance(wanted, int) else wanted.fileno()
    ours, theirs = os.pipe()
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(ours, "rb"))
    return reader, theirs


@cache
def _nursery() -> tuple[str, "subprocess.Popen[bytes]"]:
    """The address of the process that forks, and that process: it ends when its input does, which is with this one."""
    path = Path(mkdtemp(prefix="hub-")) / "nursery"
    keeper = subprocess.Popen([sys.executable, "-m", __name__, str(path)], stdin=subprocess.PIPE)
    while not path.exists():
        assert keeper.poll() is None, "the process that forks did not start"
        time.sleep(0.02)
    return str(path), keeper


def nurse(path: Path) -> None:
    """Fork a child for each connection, until the standard input ends."""
    for name in IMPORTED:
        import_module(f"hub.edge.{name}")
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a module starts a thread: see IMPORTED"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the guardians
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path.with_suffix(".new")))
    listener.listen(64)
    path.with_suffix(".new").rename(path)
    while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _guard(connection)
        connection.close()


def _guard(connection: socket.socket) -> None:
    """Fork the child, tell its pid, and at its end how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    length, fds, _, _ = socket.recv_fds(connection, 8, 2)
    with connection.makefile("rb") as file:
        asked = json.loads(file.read(int.from_bytes(length, "big")))
    pid = os.fork()
    if pid == 0:
        connection.close()
        _become(asked, fds)
    for fd in fds:
        os.close(fd)
    connection.sendall(b"%d\n" % pid)
    _, status = os.waitpid(pid, 0)
    with suppress(OSError):  # who asked may be gone
        connection.sendall(b"%d\n" % status)
    os._exit(0)


def _become(asked: dict[str, Any], fds: list[int]) -> None:
    """Run the module as Python would, from the beginning to the exit."""
    for fd, usual in zip((os.open(os.devnull, os.O_RDONLY), *fds), (0, 1, 2), strict=True):
        os.dup2(fd, usual)
        os.close(fd)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    module, *args = asked["args"]
    sys.argv = [module, *args]
    _start_anew()
    code: object = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _start_anew() -> None:
    """What is as old as the process begins now."""
    for name in ("hub.edge.gauges", "streams.watch"):
        import_module(name).STARTED = time.time()


if __name__ == "__main__":
    nurse(Path(sys.argv[1]))
