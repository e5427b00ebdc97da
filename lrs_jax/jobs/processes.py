"""Several processes on one or many hosts (host).

Each has JAX, its devices and a share of the job to itself. The first one keeps a connection to each
of the others, through which all wait for each other, and see it if one is gone. (JAX's own runtime
for several processes would abort all of them then, and with them what was counted.) Without `start`
there is one process, and all of this holds trivially.
"""

import _thread
import contextlib
import queue
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import jax

_PATIENCE = 300.0
"""Seconds that processes may start one after the other."""

_KEEP_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}
"""A host that vanishes is gone after 30 + 6 · 10 s; its kernel answers for a process that waits."""


class _Link(NamedTuple):
  """A connection to another process."""

  connection: socket.socket
  said: queue.SimpleQueue[str]  # meetings that it has come to


_PLACE = {"index": 0, "count": 1}  # of this process among all
_LINKS: dict[int, _Link] = {}  # those of this process: of the first to all, of any other to it
_LOST: list[int] = []  # the processes that are gone, the first one first


def start(coordinator: str, num_processes: int | None, process_id: int | None) -> None:
  """Joins the processes of a job; called before anything else uses JAX.

  `coordinator` is HOST:PORT of process 0, or "auto" where JAX finds everything out by itself: under
  Slurm, Open MPI, Kubernetes and on TPU pods. `process_id` counts from 0. From then on this process
  gets a SIGTERM if another one is lost, and `lost` says which.

  Raises:
    ValueError: numbers that are missing, that are not asked for or that do not fit.
    OSError: not all processes could be reached.
  """
  address, count, index = coordinator, num_processes, process_id
  if coordinator == "auto":
    if num_processes is not None or process_id is not None:
      raise ValueError("--coordinator auto finds --num-processes and --process-id by itself.")
    address, count, index = _found()
  if count is None or index is None:
    raise ValueError(f"--coordinator {coordinator} needs --num-processes and --process-id.")
  if not 0 <= index < count:
    limits = f"[0, --num-processes) = [0, {count})"
    raise ValueError(f"--process-id must lie in {limits}, but it is {index}.")
  host, _, port = address.rpartition(":")
  if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
    raise ValueError(f"--coordinator must be HOST:PORT or auto, but it is {address}.")
  connect = _accept(int(port), count) if index == 0 else _reach(host.strip("[]"), int(port), index)
  for number, connection in connect:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
      if hasattr(socket, name):
        connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    connection.settimeout(None)
    _LINKS[number] = _Link(connection, queue.SimpleQueue())
  _PLACE.update(index=index, count=count)
  for number in _LINKS:
    threading.Thread(target=_listen, args=(number,), daemon=True).start()


def _found() -> tuple[str, int | None, int | None]:
  """Where the first process listens, how many there are, and which this one is, if JAX can tell."""
  from jax._src import clusters

  asked = None, None, None, None, None, int(_PATIENCE)
  address, count, index, devices = clusters.ClusterEnv.auto_detect_unset_distributed_params(*asked)
  if address is None:
    raise ValueError("--coordinator auto finds no Slurm, Open MPI, Kubernetes or TPU pod.")
  if devices:  # as `jax.distributed.initialize` does: a process has those, of all on its host
    for platform in ("cuda", "rocm"):
      jax.config.update(f"jax_{platform}_visible_devices", ",".join(map(str, devices)))
  return address, count, index


def total() -> int:
  """How many processes there are."""
  return _PLACE["count"]


def is_first() -> bool:
  """Whether this is the process that writes what all have in common."""
  return _PLACE["index"] == 0


def mine(number: int) -> bool:
  """Whether the input with this number is dealt to this process."""
  return number % _PLACE["count"] == _PLACE["index"]


def wait_for_all(what: str) -> None:
  """Returns when every process is here, `what` being the same for all.

  Raises:
    KeyboardInterrupt: a process was `lost`.
    OSError: the processes do different things.
  """
  if not is_first():
    _say(what)
  for number, link in _LINKS.items():
    said = _next(link)
    if said != what:
      raise OSError(
        f"process {number} waits for all at {said!r}, but this one at {what!r}: give all of them "
        "the same command."
      )
  if is_first():
    _say(what)


def lost() -> str | None:
  """Which process is gone before the job has ended, in words; None if all are there."""
  if not _LOST:
    return None
  return f"process {_LOST[0]} (of 0 to {total() - 1}) has ended, or is out of reach"


def leave() -> None:
  """Tells the others that this process has done its part."""
  _say(_GOODBYE)
  for link in _LINKS.values():
    link.connection.close()


_GOODBYE, _GONE = "goodbye", "gone "


def _say(what: str) -> None:
  """Tells all that this process has a connection to; who cannot be reached is seen by `_listen`."""
  for link in _LINKS.values():
    with contextlib.suppress(OSError):
      link.connection.sendall(f"{what}\n".encode())


def _next(link: _Link) -> str:
  """What a process says next."""
  while not _LOST:
    with contextlib.suppress(queue.Empty):
      return link.said.get(timeout=0.5)
  for _ in range(10):  # the SIGTERM is on its way, and does the same
    time.sleep(0.1)
  raise KeyboardInterrupt


def _listen(number: int) -> None:
  """Hears what a process says, until it says goodbye, or is gone."""
  link = _LINKS[number]
  with (
    contextlib.suppress(OSError, ValueError),  # it is out of reach, or this process has left
    link.connection.makefile(encoding="utf-8", errors="replace") as lines,
  ):
    for line in map(str.strip, lines):
      if line == _GOODBYE:
        return
      if line.startswith(_GONE):
        number = int(line.removeprefix(_GONE))
        break
      link.said.put(line)
  _LOST.append(number)
  if is_first():
    _say(f"{_GONE}{number}")
  _thread.interrupt_main(signal.SIGTERM)


_HELLO = "lrs_jax process "


def _accept(port: int, count: int) -> Iterator[tuple[int, socket.socket]]:
  """Waits, as the first process, for all others: their numbers and connections."""
  there, deadline = {0}, time.monotonic() + _PATIENCE
  both = socket.has_dualstack_ipv6()
  family = socket.AF_INET6 if both else socket.AF_INET
  with socket.create_server(("", port), family=family, dualstack_ipv6=both) as server:
    while len(there) < count:
      server.settimeout(max(deadline - time.monotonic(), 0.01))
      try:
        connection, _ = server.accept()
      except TimeoutError:
        missing = ", ".join(str(i) for i in range(count) if i not in there)
        raise OSError(f"processes {missing} did not connect to port {port} in time.") from None
      number = _hello(connection)
      if number in set(range(count)) - there:
        there.add(number)
        connection.sendall(_HELLO.encode() + b"0\n")
        yield number, connection
      else:
        connection.close()


def _reach(host: str, port: int, index: int) -> Iterator[tuple[int, socket.socket]]:
  """Connects to the first process, which may not have begun to listen yet."""
  deadline = time.monotonic() + _PATIENCE
  while time.monotonic() < deadline:
    with contextlib.suppress(OSError):
      connection = socket.create_connection((host, port), timeout=_PATIENCE)
      connection.sendall(f"{_HELLO}{index}\n".encode())
      if _hello(connection) == 0:
        yield 0, connection
        return
      connection.close()
    time.sleep(0.1)
  raise OSError(f"process 0 cannot be reached at {host}:{port}.")


def _hello(connection: socket.socket) -> int | None:
  """The number of the process that a new connection leads to; None if it is to something else."""
  connection.settimeout(10)
  received = b""
  with contextlib.suppress(OSError):
    while not received.endswith(b"\n") and len(received) < 64:
      if not (byte := connection.recv(1)):
        break
      received += byte
  hello, _, number = received.decode("utf-8", "replace").rpartition(" ")
  return int(number) if f"{hello} " == _HELLO and number.strip().isdecimal() else None
