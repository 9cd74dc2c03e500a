"""The engine process: `python -m octavo.engine.process ADDRESS PARENT_PID RECORD`.

It reads an EngineConfig from its standard input, and notes in the file RECORD what it is trying.

One thread, one loop: take messages, run a step, send what it gave. It binds a ZeroMQ ROUTER at
ADDRESS, to which any number of front ends connect; a sequence belongs to the front end that
submitted it. It ends when told to, or when its parent process is gone.
"""

import logging
import os
import shutil
import signal
import sys
from pathlib import Path

import msgspec
import zmq

from .core import EngineCore
from .errors import OctavoError
from .flight_recorder import FlightRecorder
from .load_core import load_core
from .logs import configure_logging
from .messages import (
    Cancel,
    Failed,
    FromEngine,
    GetBlock,
    GetFrame,
    GetStats,
    Hello,
    PrefixCacheReset,
    Ready,
    ResetPrefixCache,
    SequenceDelta,
    Shutdown,
    StepResult,
    Submit,
    ToEngine,
)
from .owners import Owners, only_deltas
from .plan import EngineConfig

logger = logging.getLogger(__name__)

IDLE_POLL_MS = 500
MAX_MESSAGES_BETWEEN_STEPS = 256


class EngineLoop:
    """Serves front ends with one EngineCore until told to stop."""

    def __init__(
        self, core: EngineCore, socket: zmq.Socket[bytes], ready: Ready, parent_pid: int
    ) -> None:
        self._core = core
        self._socket = socket
        self._ready = ready
        self._owners = Owners()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(ToEngine)
        self._stopping = False
        self._parent_pid = parent_pid

    def run(self) -> None:
        """Loop until Shutdown or until the parent process is gone."""
        while not self._stopping:
            self._receive(timeout_ms=0 if self._core.has_work else IDLE_POLL_MS)
            if self._core.has_work:
                self._step()
            if os.getppid() != self._parent_pid:
                logger.warning("the process that started it is gone; the engine ends")
                return

    def _step(self) -> None:
        """Compute a step. One that fails is the end: another engine finds out who is the cause."""
        result = self._core.step()
        if self._core.failure is not None:
            logger.critical("the engine ends, since a step failed: %s", self._core.failure)
            sys.exit(1)
        self._publish(result)
        if self._core.is_compiling:
            self._tell_alive()

    def _tell_alive(self) -> None:
        """Without steps, who waits for grammars would take the engine for hung."""
        some = self._owners.some
        if some is not None:
            self._send(some, only_deltas(()))

    def _receive(self, timeout_ms: int) -> None:
        """Handle what has arrived, waiting up to `timeout_ms` for the first message only."""
        if not self._socket.poll(timeout_ms):
            return
        for _ in range(MAX_MESSAGES_BETWEEN_STEPS):
            try:
                sender, payload = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            except ValueError:
                logger.error("dropped a message that is not (sender, payload)")
                continue
            try:
                message = self._decoder.decode(payload)
            except (msgspec.MsgspecError, OctavoError, ValueError, RecursionError) as error:
                logger.error("dropped a malformed message of %d bytes: %s", len(payload), error)
                continue
            self._handle(sender, message)

    def _handle(self, sender: bytes, message: ToEngine) -> None:
        match message:
            case Submit():
                self._submit(sender, message)
            case Cancel():
                self._publish(only_deltas(tuple(self._core.cancel(message.request_ids))))
            case GetStats():
                self._send(sender, self._core.stats(message.ticket))
            case ResetPrefixCache():
                num_blocks = self._core.reset_prefix_cache()
                self._send(sender, PrefixCacheReset(num_blocks, message.ticket))
            case GetFrame() | GetBlock():
                self._show(sender, message)
            case Hello():
                self._send(sender, self._ready)
            case Shutdown():
                self._stopping = True

    def _show(self, sender: bytes, question: GetFrame | GetBlock) -> None:
        """Answer who only looks on, which must never cost those who are served."""
        view = self._core.live_view
        try:
            if isinstance(question, GetFrame):
                self._send(sender, view.frame(question))
            else:
                self._send(sender, view.block(question))
        except Exception:
            logger.exception("a question of the dashboard has no answer")

    def _submit(self, sender: bytes, submit: Submit) -> None:
        try:
            self._core.add(submit)
        except ValueError as error:
            refused = SequenceDelta(
                submit.request_id, finish_reason="error", error=str(error), is_own_fault=True
            )
            self._send(sender, only_deltas((refused,)))
            return
        self._owners.add(submit.request_id, sender)

    def _publish(self, result: StepResult) -> None:
        for sender, share in self._owners.shares(result):
            self._send(sender, share)

    def _send(self, receiver: bytes, message: FromEngine) -> None:
        self._socket.send_multipart([receiver, self._encoder.encode(message)])


def main() -> None:
    """Entry point of the process: load, announce, serve."""
    # These may reach the whole process group; the front end decides when the engine stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    import torch  # noqa: F401 - the longest part of starting, done while the configuration is made

    address, parent_pid, record = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    config = sys.stdin.buffer.read()
    try:
        if config:
            _serve(msgspec.json.decode(config, type=EngineConfig), address, parent_pid, record)
    finally:
        if not config or os.getppid() != parent_pid:  # who would have removed it is gone
            shutil.rmtree(record.parent, ignore_errors=True)


def _serve(config: EngineConfig, address: str, parent_pid: int, record: Path) -> None:
    configure_logging(config.log_level, config.log_format)
    context = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.LINGER, 1000)
    # A ROUTER drops what is beyond its mark, and a stream that misses its end never ends. Open
    # requests bound what can queue here.
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.bind(address)
    try:
        try:
            core, phases = load_core(config, recorder=FlightRecorder(record))
        except Exception as error:
            logger.debug("start failed", exc_info=True)
            _announce_failure(socket, error)
            sys.exit(1)
        EngineLoop(core, socket, Ready(phases, core.num_blocks), parent_pid).run()
    finally:
        socket.close()
        context.term()


def _announce_failure(socket: "zmq.Socket[bytes]", error: Exception) -> None:
    """Tell the front end, once it says hello, why there will be no engine."""
    if socket.poll(10_000):
        sender = socket.recv_multipart()[0]
        message = Failed(f"{type(error).__name__}: {error}")
        socket.send_multipart([sender, msgspec.msgpack.encode(message)])


if __name__ == "__main__":
    main()
