"""The nouns of motion: a clip without a body, and a clip on one. World axes: x forward, y left, z up, floor z = 0."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

ACTIONS = (
    "idle", "walk", "run", "turn", "stairs", "sit", "sit_down", "stand_up", "squat", "kneel", "crawl", "lie", "jump",
    "kick", "punch", "dance", "throw", "wave", "gesture", "reach", "handle", "type", "phone", "read", "drink",
    "stretch", "lift", "sweep", "open_door", "look_around", "push", "exercise", "explore",
)  # fmt: skip
"""Every action label that a frame may carry."""

SUPPORTS = (
    "seat",
    "backrest",
    "step",
    "table",
    "box",
    "handle",
    "book",
    "tablet",
    "newspaper",
    "phone",
    "cup",
    "stick",
)
"""Kinds of support: furniture that stays, and things held in the hands."""


BUTTOCKS = 0.15
"""[m] pelvis above a seat, on the reference body"""


@dataclass(frozen=True)
class Support:
    """A box that the body rests on or handles."""

    kind: str
    centre: np.ndarray
    """(3,) [m] world; of a held thing: in the wrist's axes, from the wrist (T-pose axes: the left hand points to +y)"""
    yaw: float
    """[rad] about z"""
    size: np.ndarray
    """(3,) [m] along its own x, y, z"""
    holder: str = ""
    """joint that carries it, 'left_wrist' or 'right_wrist'; empty for furniture"""
    first: int = 0
    """first frame in which it is there"""
    last: int = -1
    """last frame in which it is there, -1 for the end"""


@dataclass(frozen=True)
class Motion:
    """A motion of SMPL-22 segments on no particular body."""

    name: str
    source: str
    """cmu, mesh2motion or procedural"""
    family: str
    """CMU subject, family of mesh2motion clips, or procedural family: what splits are made of"""
    licence: str
    fps: float
    rotations_world: np.ndarray
    """(T, 22, 3, 3) float32, each segment's orientation relative to a T-pose facing +x, arms along +-y"""
    pelvis_world: np.ndarray
    """(T, 3) float32 [m], pelvis of the reference body (`body.REFERENCE`) scaled to `leg_length`"""
    leg_length: float
    """[m] hip to ankle, straight"""
    foot_contact: np.ndarray
    """(T, 2) bool, left and right: some of the sole is planted"""
    action: tuple[str, ...]
    """T labels of `ACTIONS`"""
    supports: tuple[Support, ...] = ()

    @property
    def frames(self) -> int:
        return len(self.rotations_world)

    def cut(self, first: int, last: int) -> Motion:
        """Return frames first..last-1; supports that are not there in them are dropped."""
        supports = []
        for support in self.supports:
            end = self.frames - 1 if support.last < 0 else support.last
            if end >= first and support.first < last:
                window = dict(first=max(support.first - first, 0), last=min(end, last - 1) - first)
                supports.append(replace(support, **window))
        return replace(
            self,
            rotations_world=self.rotations_world[first:last],
            pelvis_world=self.pelvis_world[first:last],
            foot_contact=self.foot_contact[first:last],
            action=self.action[first:last],
            supports=tuple(supports),
        )


@dataclass(frozen=True)
class PlacedMotion:
    """A motion on a body, its feet on the floor."""

    rotations_world: np.ndarray
    """(T, 22, 3, 3) float32"""
    pelvis_world: np.ndarray
    """(T, 3) float32 [m]"""
    joints_world: np.ndarray
    """(T, 22, 3) float32 [m]"""
    foot_contact: np.ndarray
    """(T, 2) bool"""
    supports: tuple[Support, ...]
    floor_height: float
    """[m]"""
