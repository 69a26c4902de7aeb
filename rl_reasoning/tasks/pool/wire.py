"""What passes between the pool and its processes: frames with a length in front, over Unix sockets.

Towards a worker travel problems, pickled by multiprocessing's own pickler. Back come verdicts as JSON: the trainer
never unpickles what a process says that has read model-written text.
"""

import json
import math
import socket
import struct
from multiprocessing.reduction import ForkingPickler
from typing import Any

from rl_reasoning.types import Outcome, Verdict

LARGEST_REPLY = 1 << 20
LONGEST_TEXT = 2000  # characters of a verdict's answer and reason

_LENGTH = struct.Struct("!Q")


class Garbage(ValueError):
    """A process said something that is no frame or no verdict."""


def pack(value: Any) -> bytes:
    """A value as bytes for a worker. Raises what pickling raises when the value cannot be sent."""
    return bytes(ForkingPickler.dumps(value))


def unpack(payload: bytes) -> Any:
    """The value behind `pack`'s bytes; only ever called on what the trainer itself sent."""
    return ForkingPickler.loads(payload)


def send(connection: socket.socket, payload: bytes) -> None:
    """Writes one frame. Raises OSError (TimeoutError among them) when the other side is gone or does not read."""
    connection.sendall(_LENGTH.pack(len(payload)) + payload)


def receive(connection: socket.socket) -> bytes | None:
    """Reads one frame, or None when the other side has closed."""
    header = _exactly(connection, _LENGTH.size)
    return None if header is None else _exactly(connection, _LENGTH.unpack(header)[0])


def _exactly(connection: socket.socket, count: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(min(count - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)


def take_frame(buffer: bytearray) -> bytes | None:
    """Removes the first whole frame from what was received so far; None when it is not there yet.

    Raises:
      Garbage: the frame says that it is longer than any verdict.
    """
    if len(buffer) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack_from(buffer)
    if length > LARGEST_REPLY:
        raise Garbage(f"a frame of {length} bytes")
    end = _LENGTH.size + length
    if len(buffer) < end:
        return None
    frame = bytes(buffer[_LENGTH.size:end])
    del buffer[:end]
    return frame


def encode_verdict(verdict: Verdict) -> bytes:
    """A verdict as JSON, its texts cut to `LONGEST_TEXT` characters."""
    answer = None if verdict.answer is None else str(verdict.answer)[:LONGEST_TEXT]
    components = None if verdict.components is None else {k: float(v) for k, v in verdict.components.items()}
    return json.dumps([verdict.outcome, verdict.reward, answer, verdict.reason[:LONGEST_TEXT], components,
                       verdict.second]).encode()


def decode_verdict(payload: bytes) -> Verdict:
    """The verdict behind `encode_verdict`'s bytes.

    Raises:
      Garbage: they are anything else.
    """
    try:
        outcome, reward, answer, reason, parts, second = json.loads(payload)
        components = None if parts is None else {name: float(part) for name, part in parts.items()}
        verdict = Verdict(Outcome(outcome), float(reward), None if answer is None else str(answer), str(reason),
                          components, None if second is None else Outcome(second))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Garbage(f"{payload[:80]!r} is no verdict") from error
    if math.isfinite(verdict.reward) != verdict.scorable:
        raise Garbage(f"a reward of {verdict.reward} does not go with {verdict.outcome}")
    return verdict
