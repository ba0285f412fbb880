"""Motions made from a seed alone: a choreography of pelvis and feet, and one activity of the upper body after another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Callable

import numpy as np

from egopose_ros.synth.motion.augment import mirror, resample, turn
from egopose_ros.synth.motion.body import REFERENCE_LEG, rotation_about
from egopose_ros.synth.motion.clip import Motion
from egopose_ros.synth.motion.curves import blur, minimum_jerk, noise
from egopose_ros.synth.motion.lower import Choreography, Tracks
from egopose_ros.synth.motion.solver import Controls, chest_rotation, outside_trunk, shoulders_world, solve
from egopose_ros.synth.motion.upper import ACTIVITIES, Scene, Upper

LICENCE = "Apache-2.0 (generated)"
_FADE_S = 0.7


@dataclass(frozen=True)
class Family:
    """A kind of procedural motion: what the legs do, and what the rest may do meanwhile."""

    lower: Callable[[Choreography, float], "Plan"]
    activities: tuple[str, ...]
    """drawn from, one after another"""
    span_s: tuple[float, float] = (4.0, 9.0)
    """how long an activity lasts"""


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
            choreography.shuffle(choreography.rng.uniform(0.6, 1.5), 0.06, 0.0, "idle")
    return Plan()


def _walk(choreography: Choreography, seconds: float) -> Plan:
    rng = choreography.rng
    while choreography.t < seconds:
        if rng.random() < 0.12:
            direction = rng.choice([np.pi, np.pi / 2, -np.pi / 2])
            pace = rng.uniform(0.4, 0.8) if direction == np.pi else rng.uniform(0.2, 0.4)
            choreography.walk([(rng.uniform(1.5, 3.0), pace, 0.0)], direction)
            continue
        pace = rng.uniform(0.5, 1.7)
        legs = [
            (rng.uniform(1.0, 3.0), np.clip(pace + rng.normal(0, 0.2), 0.3, 1.8), rng.choice([0.0, rng.normal(0, 0.5)]))
            for _ in range(rng.integers(2, 5))
        ]
        choreography.walk(legs, cadence=rng.uniform(0.92, 1.1))
        if rng.random() < 0.6:
            choreography.stand(rng.uniform(0.5, 2.5))
    return Plan()


def _run(choreography: Choreography, seconds: float) -> Plan:
    rng = choreography.rng
    while choreography.t < seconds:
        pace = rng.uniform(2.1, 3.2)
        choreography.walk([(rng.uniform(3, 6), pace, rng.normal(0, 0.2)), (1.5, pace, rng.normal(0, 0.4))], action="run")
        choreography.stand(rng.uniform(0.5, 1.5))
    return Plan()


def _turn(choreography: Choreography, seconds: float) -> Plan:
    rng = choreography.rng
    while choreography.t < seconds:
        rate = rng.choice([-1, 1]) * rng.uniform(0.7, 1.9)
        choreography.walk([(rng.uniform(1.2, 2.5), rng.uniform(0.0, 0.25), rate)], action="turn")
        choreography.stand(rng.uniform(0.2, 1.5))
    return Plan()


def _stairs(choreography: Choreography, seconds: float) -> Plan:
    rng = choreography.rng
    count, rise = int(rng.integers(4, 9)), rng.uniform(0.13, 0.20)
    descend = rng.random() < 0.5
    if descend:
        choreography.climb_to(count * rise)
    choreography.stand(rng.uniform(0.5, 1.5))
    choreography.stairs(count, -rise if descend else rise, rng.uniform(0.26, 0.33), rng.uniform(1.3, 2.0))
    choreography.stand(max(seconds - choreography.t, 0.5))
    return Plan()


def _sit(choreography: Choreography, seconds: float, table: bool = False) -> Plan:
    rng = choreography.rng
    seat = float(rng.choice([rng.uniform(0.40, 0.50), rng.uniform(0.28, 0.40), rng.uniform(0.55, 0.72)], p=[0.6, 0.25, 0.15]))
    top = seat + rng.uniform(0.23, 0.32) if table else None
    seated = table or rng.random() < 0.4
    if not seated:
        choreography.stand(rng.uniform(0.5, 1.5))
    choreography.sit(seat, max(seconds - choreography.t - (0.0 if seated else 3.5), 2.0), table=top, start_seated=seated)
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
        choreography.sit(seat, rng.uniform(0.6, 3.0))
        choreography.supports[:] = choreography.supports[:2]
    return Plan()


def _squat(choreography: Choreography, seconds: float) -> Plan:
    rng = choreography.rng
    choreography.stance = choreography.stance + rng.uniform(0.0, 0.08)
    while choreography.t < seconds:
        choreography.stand(rng.uniform(0.3, 1.5))
        choreography.squat(rng.uniform(0.2, 0.58), rng.uniform(0.1, 3.5))
    return Plan()


def _kneel(choreography: Choreography, seconds: float) -> Plan:
    rng = choreography.rng
    while choreography.t < seconds:
        choreography.stand(rng.uniform(0.3, 1.2))
        choreography.kneel(rng.uniform(2.0, 7.0), rng.random() < 0.5)
    return Plan()


def _crawl(choreography: Choreography, seconds: float) -> Plan:
    choreography.crawl(seconds, choreography.rng.choice([0.0, choreography.rng.uniform(0.2, 0.6)], p=[0.2, 0.8]))
    return Plan()


def _kick(choreography: Choreography, seconds: float) -> Plan:
    rng = choreography.rng
    while choreography.t < seconds:
        choreography.stand(rng.uniform(0.3, 1.0))
        for _ in range(rng.integers(1, 4)):
            choreography.kick(rng.uniform(1.0, 1.5), rng.uniform(0.15, 0.8), int(rng.integers(2)))
    return Plan()


def _shuffle(reach: float, bounce: float, action: str, period: tuple[float, float]) -> Callable[[Choreography, float], Plan]:
    def lower(choreography: Choreography, seconds: float) -> Plan:
        while choreography.t < seconds:
            choreography.shuffle(max(min(seconds - choreography.t, 6.0), 1.0), reach, bounce, action, period)
        return Plan()

    return lower


def _lunges(choreography: Choreography, seconds: float) -> Plan:
    rng = choreography.rng
    while choreography.t < seconds:
        choreography.stand(rng.uniform(0.3, 1.2))
        choreography.lunge(rng.uniform(1.5, 3.0), rng.uniform(0.25, 0.65), rng.uniform(0.03, 0.3), "idle")
    return Plan()


def _bends(choreography: Choreography, seconds: float) -> Plan:
    rng = choreography.rng
    choreography.stance += rng.uniform(0.0, 0.06)
    while choreography.t < seconds:
        choreography.stand(rng.uniform(0.3, 1.0))
        choreography.squat(rng.uniform(0.05, 0.4), rng.uniform(0.3, 1.5), "lift")
        if rng.random() < 0.5:
            choreography.walk([(rng.uniform(1.5, 3.0), rng.uniform(0.5, 1.0), rng.normal(0, 0.6))])
    return Plan()


def _wandering(choreography: Choreography, seconds: float) -> Plan:
    """Anything that stands, walks, turns, squats or kneels, in any order."""
    rng = choreography.rng
    while choreography.t < seconds:
        kind = rng.random()
        if kind < 0.30:
            choreography.stand(rng.uniform(1.0, 4.0))
        elif kind < 0.60:
            choreography.walk([(rng.uniform(1.0, 3.0), rng.uniform(0.4, 1.4), rng.normal(0, 0.6)) for _ in range(2)])
        elif kind < 0.72:
            choreography.squat(rng.uniform(0.1, 0.55), rng.uniform(0.2, 2.0))
        elif kind < 0.82:
            choreography.kneel(rng.uniform(1.5, 4.0), rng.random() < 0.5)
        elif kind < 0.92:
            choreography.shuffle(rng.uniform(1.5, 4.0), 0.12, 0.02, "idle")
        else:
            choreography.lunge(rng.uniform(1.5, 2.5), rng.uniform(0.25, 0.6), rng.uniform(0.05, 0.25), "idle")
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
    "stairs": Family(_stairs, ("swing", "swing", "phone", "carry")),
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


def procedural(seed: int, family: str | None = None, seconds: float = 10.0, fps: float = 30.0) -> Motion:
    """Make a motion; the same seed, family, length and rate give the same numbers. No family: one by the seed."""
    rng = np.random.default_rng([seed, 0x6D6F7469])
    if family is None:
        family = str(rng.choice(list(FAMILIES)))
    if family not in FAMILIES:
        raise ValueError(f"unknown family '{family}'; expected one of {', '.join(FAMILIES)}")
    if not (seconds > 0 and fps > 0):
        raise ValueError(f"expected a positive length and rate, got {seconds} s at {fps} Hz")
    recipe = FAMILIES[family]
    choreography = Choreography(rng, stance=float(np.clip(rng.normal(0.10, 0.025), 0.06, 0.17)))
    skip = rng.uniform(0.0, 2.0)  # clips start anywhere within a movement
    plan = recipe.lower(choreography, seconds + skip)
    frames = max(int(round(seconds * fps)), 2)
    rate = max(fps, 60.0)
    times = np.arange(int(np.ceil((seconds + skip) * rate)) + 2) / rate
    motion = _render(rng, choreography, plan, recipe, times)
    from_times = skip + np.arange(frames) / fps
    motion = replace(motion, name=f"{family}_{seed}", family=family, fps=rate)
    motion = resample(motion, from_times, fps)
    motion = turn(motion, 0.0, np.array([*motion.pelvis_world[0, :2], 0.0]))
    return mirror(motion) if rng.random() < 0.5 else motion


def _render(
    rng: np.random.Generator, choreography: Choreography, plan: Plan, recipe: Family, times: np.ndarray
) -> Motion:
    """Evaluate choreography and activities at times [s] and solve for the segments."""
    tracks = choreography.tracks(times)
    height = float(np.median(shoulders_world(tracks.pelvis_world, tracks.pelvis_angles, tracks.spine)[:, 2]))
    scene = dict(swing=tracks.swing, table=plan.table, seated=plan.seated, chest_height=height)
    layers, held = [], []
    begin = 0.0
    total = np.zeros(len(times))
    while begin < times[-1]:
        end = begin + rng.uniform(*recipe.span_s)
        if times[-1] - end < 2.0:
            end = times[-1] + 1.0
        weight = minimum_jerk((times - begin) / _FADE_S + (begin == 0)) * (1 - minimum_jerk((times - end) / _FADE_S))
        layer = ACTIVITIES[str(rng.choice(recipe.activities))](Scene(rng, times, **scene))
        layers.append((weight, layer))
        total += weight
        inside = np.flatnonzero((times >= begin + _FADE_S * (begin > 0)) & (times <= end))
        if len(inside):
            held += [replace(thing, first=int(inside[0]), last=int(inside[-1])) for thing in layer.held]
        begin = end
    layers = [(weight / np.maximum(total, 1e-9), layer) for weight, layer in layers]
    leading = np.argmax([weight for weight, _ in layers], 0)
    actions = (layers[which][1].action or stance for which, stance in zip(leading, tracks.action))
    rotations = solve(_controls(rng, tracks, layers, times, plan.table))
    return Motion(
        name="",
        source="procedural",
        family="",
        licence=LICENCE,
        fps=0.0,
        rotations_world=rotations.astype(np.float32),
        pelvis_world=tracks.pelvis_world.astype(np.float32),
        leg_length=REFERENCE_LEG,
        foot_contact=tracks.contact,
        action=tuple(actions),
        supports=tuple(choreography.supports) + tuple(held),
    )


def _controls(
    rng: np.random.Generator,
    tracks: Tracks,
    layers: list[tuple[np.ndarray, Upper]],
    times: np.ndarray,
    table: float | None,
) -> Controls:
    """Mix the activities' layers onto the choreography's tracks."""
    spine = tracks.spine + sum(weight[:, None] * layer.spine for weight, layer in layers) * (1 - 0.8 * tracks.crawl[:, None])
    spine = blur(_limited(spine, [-0.75, -0.4, -0.5], [0.75, 1.0, 0.5]), times, 0.05)
    R_chest = chest_rotation(tracks.pelvis_angles, spine)
    shoulders = shoulders_world(tracks.pelvis_world, tracks.pelvis_angles, spine)
    R_heading = rotation_about("z", tracks.heading)
    root = tracks.pelvis_world * [1.0, 1.0, 0.0]
    to_chest = lambda points: np.einsum("tji,tsj->tsi", R_chest, points - shoulders[:, None])  # noqa: E731
    wrist, hand = np.zeros((len(times), 2, 3)), np.zeros((len(times), 2, 3))
    swivel, head = np.zeros((len(times), 2)), np.zeros((len(times), 3))
    level = _level_head(R_chest, tracks.heading)
    for weight, layer in layers:
        hands = layer.wrist
        if layer.rooted:
            hands = to_chest(root[:, None] + np.einsum("tij,tsj->tsi", R_heading, hands))
        wrist += weight[:, None, None] * hands
        hand += weight[:, None, None] * layer.hand
        swivel += weight[:, None] * layer.swivel
        head += weight[:, None] * (layer.head if layer.looking else layer.head + level)
    wrist = _hung(wrist, R_chest)
    if table is not None:
        hands = np.einsum("tji,tsj->tsi", R_heading, np.einsum("tij,tsj->tsi", R_chest, wrist) + (shoulders - root)[:, None])
        hands[..., 2] += _above(hands, table + 0.045)
        wrist = to_chest(root[:, None] + np.einsum("tij,tsj->tsi", R_heading, hands))
    if tracks.crawl.any():
        mix = tracks.crawl[:, None, None]
        wrist = (1 - mix) * wrist + mix * to_chest(tracks.hands_world)
        hand = (1 - mix) * hand + mix * np.array([1.35, -1.05, 0.0])
    head = _limited(head, [-1.25, -0.75, -0.45], [1.25, 0.95, 0.45])
    tremor = 0.0025 * noise(rng, times, (2, 3), 0.2)
    return Controls(
        tracks.pelvis_world,
        tracks.pelvis_angles,
        spine,
        blur(head, times, 0.06),
        blur(outside_trunk(wrist), times, 0.05) + tremor,
        blur(swivel, times, 0.06),
        blur(hand, times, 0.04),
        tracks.ankle_world,
        tracks.foot_angles,
        tracks.toe,
        tracks.knee_out,
    )


def _hung(wrist: np.ndarray, R_chest: np.ndarray) -> np.ndarray:
    """Turn hands (T, 2, 3) that hang at full length back to the vertical when the trunk leans."""
    pitch = -np.arcsin(np.clip(R_chest[:, 2, 0], -1.0, 1.0))
    share = minimum_jerk((-wrist[..., 2] - 0.40) / 0.10) * minimum_jerk((0.25 - wrist[..., 0]) / 0.15)
    turned = rotation_about("y", -0.8 * np.clip(pitch, -0.4, 1.2)[:, None] * share)
    return np.einsum("tsij,tsj->tsi", turned, wrist)


def _above(hands: np.ndarray, height: float) -> np.ndarray:
    """Return how far (T, 2) [m] hands in root axes must rise to be above a table's top."""
    over = minimum_jerk((hands[..., 0] - 0.18) / 0.12)
    return over * np.logaddexp(0.0, (height - hands[..., 2]) / 0.015) * 0.015


def _level_head(R_chest: np.ndarray, heading: np.ndarray, share: float = 0.75) -> np.ndarray:
    """Return head angles (T, 3) that undo most of the chest's lean, as people do who look where they go."""
    R = np.swapaxes(rotation_about("z", heading), -1, -2) @ R_chest
    yaw, pitch = np.arctan2(R[:, 1, 0], R[:, 0, 0]), -np.arcsin(np.clip(R[:, 2, 0], -1, 1))
    roll = np.arctan2(R[:, 2, 1], R[:, 2, 2])
    return -share * np.stack([yaw * (np.abs(pitch) < 1.0), 0.85 * np.tanh(pitch / 0.85), np.clip(roll, -0.5, 0.5)], -1)


def _limited(values: np.ndarray, low: list[float], high: list[float]) -> np.ndarray:
    """Keep (T, 3) values within bounds, smoothly, leaving small ones as they are."""
    positive = np.array(high) * np.tanh(np.maximum(values, 0) / high)
    negative = np.array(low) * np.tanh(np.minimum(values, 0) / low)
    return positive + negative
