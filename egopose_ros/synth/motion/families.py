"""Families of procedural motion: what the legs do, and what trunk, head and hands may do meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import numpy as np

from egopose_ros.synth.motion.choreography import Choreography
from egopose_ros.synth.motion.expression import (
    dance,
    explore,
    gesture,
    look_around,
    punch,
    rest,
    stretch,
    swing,
    throw,
    wave,
)
from egopose_ros.synth.motion.floor import crawl, kick, kneel, lunge, squat
from egopose_ros.synth.motion.gait import shuffle, stairs, walk
from egopose_ros.synth.motion.seats import sit
from egopose_ros.synth.motion.tasks import carry, drink, handle, lift, open_door, phone, push, reach, read, sweep, type_
from egopose_ros.synth.motion.upper import Scene, Upper

ACTIVITIES: dict[str, Callable[[Scene], Upper]] = {
    "swing": swing, "rest": rest, "reach": reach, "handle": handle, "type": type_, "phone": phone, "read": read,
    "drink": drink, "gesture": gesture, "wave": wave, "stretch": stretch, "punch": punch, "throw": throw,
    "open_door": open_door, "carry": carry, "lift": lift, "sweep": sweep, "look_around": look_around, "push": push,
    "dance": dance, "explore": explore,
}  # fmt: skip
"""name -> activity"""


@dataclass(frozen=True)
class Family:
    """A kind of procedural motion: what the legs do, and what the rest may do meanwhile."""

    lower: Callable[[Choreography, float], "Plan"]
    activities: tuple[str, ...]
    """drawn from, one after another"""
    span_s: tuple[float, float] = (4.0, 9.0)
    """how long an activity lasts"""
    lead_s: float = 10.0
    """a motion is cut from one that is so much longer, so that it begins and ends anywhere"""


@dataclass(frozen=True)
class Plan:
    """What a choreography means for the upper body."""

    seated: bool = False
    table: float | None = None
    """[m] above the ground"""


def _stand(choreography: Choreography, seconds: float) -> Plan:
    while choreography.t < seconds:
        choreography.stand(min(choreography.rng.uniform(3, 8), max(seconds - choreography.t, 1.0)))
        if choreography.rng.random() < 0.35:
            shuffle(choreography, choreography.rng.uniform(0.6, 1.5), 0.06, 0.0, "idle")
    return Plan()


def _walk(choreography: Choreography, seconds: float) -> Plan:
    rng = choreography.rng
    while choreography.t < seconds:
        if rng.random() < 0.12:
            direction = rng.choice([np.pi, np.pi / 2, -np.pi / 2])
            pace = rng.uniform(0.4, 0.8) if direction == np.pi else rng.uniform(0.2, 0.4)
            walk(choreography, [(rng.uniform(1.5, 3.0), pace, 0.0)], direction)
            continue
        pace = rng.uniform(0.5, 1.7)
        legs = [
            (rng.uniform(1.0, 3.0), np.clip(pace + rng.normal(0, 0.2), 0.3, 1.8), rng.choice([0.0, rng.normal(0, 0.5)]))
            for _ in range(rng.integers(2, 5))
        ]
        walk(choreography, legs, cadence=rng.uniform(0.92, 1.1))
        if rng.random() < 0.6:
            choreography.stand(rng.uniform(0.5, 2.5))
    return Plan()


def _run(choreography: Choreography, seconds: float) -> Plan:
    rng = choreography.rng
    while choreography.t < seconds:
        pace = rng.uniform(2.1, 3.2)
        walk(
            choreography, [(rng.uniform(3, 6), pace, rng.normal(0, 0.2)), (1.5, pace, rng.normal(0, 0.4))], action="run"
        )
        choreography.stand(rng.uniform(0.5, 1.5))
    return Plan()


def _turn(choreography: Choreography, seconds: float) -> Plan:
    rng = choreography.rng
    while choreography.t < seconds:
        rate = rng.choice([-1, 1]) * rng.uniform(0.7, 1.9)
        walk(choreography, [(rng.uniform(1.2, 2.5), rng.uniform(0.0, 0.25), rate)], action="turn")
        choreography.stand(rng.uniform(0.2, 1.5))
    return Plan()


def _stairs(choreography: Choreography, seconds: float) -> Plan:
    rng = choreography.rng
    count, rise = int(rng.integers(4, 9)), rng.uniform(0.13, 0.20)
    descend = rng.random() < 0.5
    if descend:
        choreography.climb_to(count * rise)
    choreography.stand(rng.uniform(0.5, 1.5))
    stairs(choreography, count, -rise if descend else rise, rng.uniform(0.26, 0.33), rng.uniform(1.3, 2.0))
    choreography.stand(max(seconds - choreography.t, 0.5))
    return Plan()


def _sit(choreography: Choreography, seconds: float, table: bool = False) -> Plan:
    rng = choreography.rng
    seat = float(
        rng.choice([rng.uniform(0.40, 0.50), rng.uniform(0.28, 0.40), rng.uniform(0.55, 0.72)], p=[0.6, 0.25, 0.15])
    )
    top = seat + rng.uniform(0.23, 0.32) if table else None
    seated = table or rng.random() < 0.4
    if not seated:
        choreography.stand(rng.uniform(0.5, 1.5))
    sit(
        choreography,
        seat,
        max(seconds - choreography.t - (0.0 if seated else 3.5), 2.0),
        table=top,
        start_seated=seated,
    )
    if not seated:
        choreography.stand(max(seconds - choreography.t, 0.8))
    return Plan(seated=True, table=top)


def _desk(choreography: Choreography, seconds: float) -> Plan:
    return _sit(choreography, seconds, table=True)


def _up_and_down(choreography: Choreography, seconds: float) -> Plan:
    rng = choreography.rng
    seat = rng.uniform(0.3, 0.6)
    while choreography.t < seconds:
        choreography.stand(rng.uniform(0.3, 1.2))
        sit(choreography, seat, rng.uniform(0.6, 3.0))
        choreography.supports[:] = choreography.supports[:2]
    return Plan()


def _squat(choreography: Choreography, seconds: float) -> Plan:
    rng = choreography.rng
    choreography.stance = choreography.stance + rng.uniform(0.0, 0.08)
    while choreography.t < seconds:
        choreography.stand(rng.uniform(0.3, 1.5))
        squat(choreography, rng.uniform(0.2, 0.58), rng.uniform(0.1, 3.5))
    return Plan()


def _kneel(choreography: Choreography, seconds: float) -> Plan:
    rng = choreography.rng
    while choreography.t < seconds:
        choreography.stand(rng.uniform(0.3, 1.2))
        kneel(choreography, rng.uniform(2.0, 7.0), rng.random() < 0.5)
    return Plan()


def _crawl(choreography: Choreography, seconds: float) -> Plan:
    crawl(choreography, seconds, choreography.rng.choice([0.0, choreography.rng.uniform(0.2, 0.6)], p=[0.2, 0.8]))
    return Plan()


def _kick(choreography: Choreography, seconds: float) -> Plan:
    rng = choreography.rng
    while choreography.t < seconds:
        choreography.stand(rng.uniform(0.3, 1.0))
        for _ in range(rng.integers(1, 4)):
            kick(choreography, rng.uniform(1.0, 1.5), rng.uniform(0.15, 0.8), int(rng.integers(2)))
    return Plan()


def _shuffle(
    reach: float, bounce: float, action: str, period: tuple[float, float]
) -> Callable[[Choreography, float], Plan]:
    def lower(choreography: Choreography, seconds: float) -> Plan:
        while choreography.t < seconds:
            shuffle(choreography, max(min(seconds - choreography.t, 6.0), 1.0), reach, bounce, action, period)
        return Plan()

    return lower


def _lunges(choreography: Choreography, seconds: float) -> Plan:
    rng = choreography.rng
    while choreography.t < seconds:
        choreography.stand(rng.uniform(0.3, 1.2))
        lunge(choreography, rng.uniform(1.5, 3.0), rng.uniform(0.25, 0.65), rng.uniform(0.03, 0.3), "idle")
    return Plan()


def _bends(choreography: Choreography, seconds: float) -> Plan:
    rng = choreography.rng
    choreography.stance += rng.uniform(0.0, 0.06)
    while choreography.t < seconds:
        choreography.stand(rng.uniform(0.3, 1.0))
        squat(choreography, rng.uniform(0.05, 0.4), rng.uniform(0.3, 1.5), "lift")
        if rng.random() < 0.5:
            walk(choreography, [(rng.uniform(1.5, 3.0), rng.uniform(0.5, 1.0), rng.normal(0, 0.6))])
    return Plan()


def _wandering(choreography: Choreography, seconds: float) -> Plan:
    """Anything that stands, walks, turns, squats or kneels, in any order."""
    rng = choreography.rng
    while choreography.t < seconds:
        kind = rng.random()
        if kind < 0.30:
            choreography.stand(rng.uniform(1.0, 4.0))
        elif kind < 0.60:
            walk(choreography, [(rng.uniform(1.0, 3.0), rng.uniform(0.4, 1.4), rng.normal(0, 0.6)) for _ in range(2)])
        elif kind < 0.72:
            squat(choreography, rng.uniform(0.1, 0.55), rng.uniform(0.2, 2.0))
        elif kind < 0.82:
            kneel(choreography, rng.uniform(1.5, 4.0), rng.random() < 0.5)
        elif kind < 0.92:
            shuffle(choreography, rng.uniform(1.5, 4.0), 0.12, 0.02, "idle")
        else:
            lunge(choreography, rng.uniform(1.5, 2.5), rng.uniform(0.25, 0.6), rng.uniform(0.05, 0.25), "idle")
    return Plan()


def _anywhere(choreography: Choreography, seconds: float) -> Plan:
    """A seat, or a place to stand, kneel and step about."""
    return _sit(choreography, seconds) if choreography.rng.random() < 0.35 else _wandering(choreography, seconds)


_STANDING = ("rest", "gesture", "phone", "reach", "handle", "read", "look_around", "carry")
_SEATED = ("rest", "gesture", "phone", "reach", "handle", "read", "look_around", "push")

FAMILIES: dict[str, Family] = {
    "idle": Family(_stand, ("rest", "rest", "swing", "look_around")),
    "walk": Family(_walk, ("swing", "swing", "swing", "swing", "phone", "carry", "gesture", "look_around", "rest")),
    "run": Family(_run, ("swing",)),
    "turn": Family(_turn, ("swing", "swing", "look_around", "carry", "gesture")),
    "stairs": Family(_stairs, ("swing", "swing", "phone", "carry"), lead_s=2.5),
    "sit_desk": Family(_desk, ("type", "type", "handle", "reach", "rest", "phone")),
    "sit_lounge": Family(_sit, _SEATED),
    "sit_stand": Family(_up_and_down, ("swing", "rest", "reach")),
    "squat": Family(_squat, ("reach", "handle", "swing", "rest")),
    "kneel": Family(_kneel, ("handle", "reach", "handle", "rest")),
    "crawl": Family(_crawl, ("swing",)),
    "kick": Family(_kick, ("swing", "punch")),
    "punch": Family(_shuffle(0.08, 0.02, "idle", (0.4, 0.9)), ("punch",)),
    "dance": Family(_shuffle(0.14, 0.05, "dance", (0.35, 0.7)), ("dance", "dance", "explore")),
    "throw": Family(_lunges, ("throw",)),
    "wave": Family(_stand, ("wave", "gesture")),
    "stretch": Family(_stand, ("stretch",)),
    "gesture": Family(_stand, ("gesture",)),
    "reach": Family(_lunges, ("reach",)),
    "handle": Family(_stand, ("handle",)),
    "phone": Family(_stand, ("phone",)),
    "read": Family(_stand, ("read",)),
    "read_seated": Family(_sit, ("read",)),
    "drink": Family(_stand, ("drink",)),
    "eat_seated": Family(_sit, ("drink",)),
    "open_door": Family(_lunges, ("open_door",)),
    "lift": Family(_bends, ("lift", "carry")),
    "sweep": Family(_shuffle(0.10, 0.02, "idle", (0.6, 1.2)), ("sweep",)),
    "push": Family(_walk, ("push",)),
    "mixed": Family(_wandering, _STANDING + ("swing", "swing", "stretch"), (2.0, 6.0)),
    "mixed_seated": Family(_sit, _SEATED + ("type",), (2.0, 6.0)),
    "explore": Family(_anywhere, ("explore",)),
}
"""name -> family"""
