"""Where recordings are labelled: processes of this machine, or a Ray cluster. Both give the same events.

A worker that dies takes only its recording with it.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import cv2

from egopose_ros.labelling.manifest import FAILED, Entry
from egopose_ros.labelling.teacher import Task, label

_SUBMITTED = 1000
"""recordings that Ray knows of at a time, far more than it runs"""
_TELL_S = 0.5
"""between two reports of a worker's frames"""


@dataclass(frozen=True)
class Progress:
    """Frames that were labelled since the last report."""

    frames: int


Event = Progress | Entry


def on_this_machine(tasks: list[Task], workers: int) -> Iterator[Event]:
    """Label in some processes; yield progress, and an entry for every task in the order they end."""
    waiting, crew = deque(tasks), []
    try:
        while waiting or crew:
            while waiting and len(crew) < workers:
                crew.append(_Worker(waiting.popleft()))
            for worker in _ready(crew):
                event = worker.receive()
                yield event
                if isinstance(event, Progress):
                    continue
                if worker.alive and waiting:
                    worker.give(waiting.popleft())
                else:
                    worker.stop()
                    crew.remove(worker)
    finally:
        for worker in crew:
            worker.stop()


def on_ray(tasks: list[Task], cpus: float, gpus: float) -> Iterator[Event]:
    """Label on the Ray cluster that RAY_ADDRESS names, or else on one that is started here; yield as above.

    Progress comes with the end of a recording. ValueError where Ray is not installed.
    """
    try:
        import ray
    except ImportError:
        raise ValueError(
            "--engine ray: expected the package ray, which is not installed: pip install 'egopose_ros[ray]'"
        ) from None
    began = not ray.is_initialized()
    if began:
        ray.init(log_to_driver=False)
    try:
        remote = ray.remote(_label).options(num_cpus=cpus, num_gpus=gpus, max_retries=1)
        waiting, pending = deque(tasks), {}
        while waiting or pending:
            while waiting and len(pending) < _SUBMITTED:
                task = waiting.popleft()
                pending[remote.remote(task)] = task
            done, _ = ray.wait(list(pending), num_returns=1)
            for reference in done:
                task = pending.pop(reference)
                entry = _outcome(ray, reference, task)
                yield Progress(entry.frames)
                yield entry
    finally:
        if began:
            ray.shutdown()


def _outcome(ray: Any, reference: Any, task: Task) -> Entry:
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:  # the worker or its machine died, or lacks the package
        return _failed(task, " ".join(str(error).split())[:500])


def _failed(task: Task, reason: str) -> Entry:
    return Entry(task.name, str(task.source), FAILED, reason=reason)


def _ready(crew: list[_Worker]) -> list[_Worker]:
    ready = set(wait([worker.connection for worker in crew]))
    return [worker for worker in crew if worker.connection in ready]


class _Worker:
    """A process and the recording that it has."""

    def __init__(self, task: Task) -> None:
        # spawn: a forked child inherits locks of torch's thread pool.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.alive = True
        self._process = context.Process(target=_work, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()  # or the end of the process would not be seen
        self.give(task)

    def give(self, task: Task) -> None:
        self._task = task
        try:
            self.connection.send(task)
        except OSError:  # it died between two recordings; `receive` says so
            pass

    def receive(self) -> Event:
        """Return what the process says, or that its recording failed with it."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.alive = False
            self._process.join()
            return _failed(
                self._task, f"its worker died with exit status {self._process.exitcode} (-9: out of memory?)"
            )

    def stop(self) -> None:
        self._process.terminate()
        self._process.join()
        self.connection.close()


def _work(connection: Connection) -> None:
    """Label what comes, until the connection ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that gives the tasks
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        counter = _Counter(connection)
        entry = _label(task, counter.count)
        counter.tell()
        connection.send(entry)


def _label(task: Task, on_frame: Callable[[], object] = lambda: None) -> Entry:
    """Label beside other processes, which OpenCV leaves their cores."""
    cv2.setNumThreads(1)
    return label(task, on_frame)


class _Counter:
    """Counts frames and tells it now and then."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._frames = 0
        self._told_s = time.monotonic()

    def count(self) -> None:
        self._frames += 1
        if time.monotonic() - self._told_s > _TELL_S:
            self.tell()

    def tell(self) -> None:
        if self._frames:
            self._connection.send(Progress(self._frames))
        self._frames, self._told_s = 0, time.monotonic()
