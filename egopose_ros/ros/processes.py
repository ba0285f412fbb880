"""Start processes side by side and end them together."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Mapping, Sequence

# A node gives back its model and its shared memory on SIGINT; what does not is ended by force.
_PATIENCE_S = {signal.SIGINT: 10.0, signal.SIGTERM: 5.0, signal.SIGKILL: 5.0}
_POLL_S = 0.05


@dataclass(frozen=True)
class Process:
    """What to start; the whole graph ends when any of them ends."""

    name: str
    command: tuple[str, ...]
    judged: bool = False
    """whether a failure of its own, when it is ended after another, is one of the graph"""


def run(processes: Sequence[Process], environment: Mapping[str, str]) -> int:
    """Start the processes, wait until the first ends or SIGINT or SIGTERM comes, and end the others.

    Returns the status of the one that ended by itself or, where that is 0, the first failure of those that are judged;
    130 after a signal. Call it in the main thread.
    """
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for process in processes:
            # A session of its own: Ctrl-C reaches the child once, from here, and not from the terminal as well.
            running[process.name] = subprocess.Popen(process.command, env=dict(environment), start_new_session=True)
        while not stop.wait(_POLL_S):
            for name, child in running.items():
                status = child.poll()
                if status is not None:
                    return _report(name, status) or _judge(processes, running)
        return 130
    finally:
        end(running.values())
        for number, handler in before.items():
            signal.signal(number, handler)


def end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """End the processes together: SIGINT first, then with more force."""
    for number, patience_s in _PATIENCE_S.items():
        left = [child for child in children if child.poll() is None]
        for child in left:
            child.send_signal(number)
        for child in left:
            try:
                child.wait(patience_s)
            except subprocess.TimeoutExpired:
                pass


def _judge(processes: Sequence[Process], running: Mapping[str, subprocess.Popen[bytes]]) -> int:
    """End the processes; return the status of the first that is judged and failed by itself, 0 without one."""
    end(list(running.values()))
    for process in processes:
        status = running[process.name].returncode or 0
        if process.judged and status > 0:
            return _report(process.name, status)
    return 0


def _report(name: str, status: int) -> int:
    if status:
        reason = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        print(f"egopose: {name} ended with {reason}", file=sys.stderr)
    return abs(status)
