"""Motions made from a seed alone: a choreography of pelvis and feet, and activities of the upper body upon it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from egopose_ros.synth.motion.augment import mirror, resample, turn
from egopose_ros.synth.motion.body import REFERENCE_LEG, rotation_about
from egopose_ros.synth.motion.choreography import Choreography, Tracks
from egopose_ros.synth.motion.clip import Motion
from egopose_ros.synth.motion.curves import blur, minimum_jerk, noise
from egopose_ros.synth.motion.families import ACTIVITIES, FAMILIES, Family, Plan
from egopose_ros.synth.motion.solver import (
    Controls,
    chest_rotation,
    clear_of_the_rig,
    outside_trunk,
    shoulders_world,
    solve,
)
from egopose_ros.synth.motion.upper import Scene, Upper

LICENCE = "Apache-2.0 (generated)"
_FADE_S = 0.7


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
    skip = rng.uniform(0.0, recipe.lead_s)
    plan = recipe.lower(choreography, seconds + recipe.lead_s)
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
    spine = tracks.spine + sum(weight[:, None] * layer.spine for weight, layer in layers) * (
        1 - 0.8 * tracks.crawl[:, None]
    )
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
        hands = np.einsum(
            "tji,tsj->tsi", R_heading, np.einsum("tij,tsj->tsi", R_chest, wrist) + (shoulders - root)[:, None]
        )
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
        blur(outside_trunk(clear_of_the_rig(wrist)), times, 0.05) + tremor,
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
