"""Reader of skinned animations in binary glTF 2.0, with the joint names of Mesh2Motion's two human rigs."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from egopose_ros.geometry.rigid import slerp
from egopose_ros.synth.motion.clip import BUTTOCKS, Motion, Support
from egopose_ros.synth.motion.retarget import retarget, skeleton_rows

LICENCE = "CC0-1.0 (Mesh2Motion)"
SAMPLE_FPS = 24.0

_RIGS = (
    {
        "pelvis": "DEF-hips", "hip": "DEF-thigh.{S}", "knee": "DEF-shin.{S}", "ankle": "DEF-foot.{S}",
        "foot": "DEF-toe.{S}", "spine1": "DEF-spine.001", "spine2": "DEF-spine.002", "spine3": "DEF-spine.003",
        "neck": "DEF-neck", "head": "DEF-head", "collar": "DEF-shoulder.{S}", "shoulder": "DEF-upper_arm.{S}",
        "elbow": "DEF-forearm.{S}", "wrist": "DEF-hand.{S}",
    },
    {
        "pelvis": "pelvis", "hip": "thigh_{s}", "knee": "calf_{s}", "ankle": "foot_{s}", "foot": "ball_{s}",
        "spine1": "spine_01", "spine2": "spine_02", "spine3": "spine_03", "neck": "neck_01", "head": "head",
        "collar": "clavicle_{s}", "shoulder": "upperarm_{s}", "elbow": "lowerarm_{s}", "wrist": "hand_{s}",
    },
)  # fmt: skip

_FAMILIES = {
    "sit": ("sit", "driving"), "crouch": ("crouch",), "kneel": ("fixing_kneeling", "kneeling"), "crawl": ("crawl",),
    "walk": ("walk",), "run": ("jog", "sprint", "run"), "jump": ("jump", "backflip"),
    "dance": ("dance",), "fight": ("punch", "fighting", "defend", "hit", "sword", "angry", "two-hand"),
    "talk": ("idle_talking", "greeting", "reject", "confused", "head nod", "idle listening", "bow"),
    "handle": ("interact", "pickup", "push_loop", "throw", "consume", "pistol", "idle_torch", "spell"),
    "exercise": ("jumping jacks", "pushup", "victory", "power up", "shivering", "tired", "dizzy"),
    "floor": ("sleeping", "meditate", "roll", "death", "swim", "flying", "levitate"),
}  # fmt: skip
_ACTIONS = {
    "sit": "sit", "crouch": "squat", "kneel": "kneel", "crawl": "crawl", "walk": "walk", "run": "run", "jump": "jump",
    "dance": "dance", "fight": "punch", "talk": "gesture", "handle": "handle", "exercise": "exercise", "floor": "lie",
}  # fmt: skip
UNPOSED = ("a_tpose", "t-pose", "rest pose", "idle", "walk", "sit")
"""Names, in lower case, of clips that are one key and no motion"""

IN_PLACE = ("walk", "run", "crouch_fwd", "jog", "sprint")
"""Beginnings of names, in lower case, of gaits without travel"""

_NUMPY = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
_WIDTH = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class Glb:
    """A GLB container: its JSON document and its binary chunk."""

    def __init__(self, path: str | Path):
        data = Path(path).read_bytes()
        if len(data) < 20 or data[:4] != b"glTF" or struct.unpack("<I", data[4:8])[0] != 2:
            raise ValueError(f"{path}: expected binary glTF 2.0, got a file that starts with {data[:8]!r}")
        length = struct.unpack("<I", data[12:16])[0]
        self.document: dict[str, Any] = json.loads(data[20 : 20 + length])
        self._binary = data[20 + length + 8 :]
        nodes = self.document["nodes"]
        self.names = [node.get("name", f"node{i}") for i, node in enumerate(nodes)]
        self.parents = [-1] * len(nodes)
        for i, node in enumerate(nodes):
            for child in node.get("children", ()):
                self.parents[child] = i

    def accessor(self, number: int) -> np.ndarray:
        """Return (count, width) values of an accessor, normalised integers as floats."""
        accessor = self.document["accessors"][number]
        if "sparse" in accessor or "bufferView" not in accessor:
            raise ValueError("expected a dense glTF accessor, got a sparse one")
        view = self.document["bufferViews"][accessor["bufferView"]]
        kind, width = np.dtype(_NUMPY[accessor["componentType"]]), _WIDTH[accessor["type"]]
        start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        stride = view.get("byteStride", kind.itemsize * width)
        values = np.ndarray((accessor["count"], width), kind, self._binary, start, (stride, kind.itemsize)).copy()
        if accessor.get("normalized"):
            return np.maximum(values / np.iinfo(kind).max, -1.0)
        return values

    def rest(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return every node's local translation (N, 3), quaternion x y z w (N, 4) and scale (N, 3)."""
        nodes = self.document["nodes"]
        return (
            np.array([node.get("translation", (0, 0, 0)) for node in nodes], float),
            np.array([node.get("rotation", (0, 0, 0, 1)) for node in nodes], float),
            np.array([node.get("scale", (1, 1, 1)) for node in nodes], float),
        )

    def world(self, translation: np.ndarray, rotation: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return world rotations (T, N, 3, 3) and positions (T, N, 3) of local transforms (T, N, ...)."""
        linear = Rotation.from_quat(rotation.reshape(-1, 4)).as_matrix().reshape(*rotation.shape[:-1], 3, 3)
        linear = linear * scale[..., None, :]
        positions = translation.copy()
        done: set[int] = set()

        def visit(node: int) -> None:
            parent = self.parents[node]
            if node in done:
                return
            done.add(node)
            if parent >= 0:
                visit(parent)
                positions[:, node] = positions[:, parent] + (linear[:, parent] @ positions[:, node, :, None])[..., 0]
                linear[:, node] = linear[:, parent] @ linear[:, node]

        for node in range(len(self.parents)):
            visit(node)
        u, _, vh = np.linalg.svd(linear)  # nodes carry scales: the nearest rotation is their orientation
        return u @ vh, positions


def sample_channel(times: np.ndarray, values: np.ndarray, kind: str, at: np.ndarray, rotation: bool) -> np.ndarray:
    """Sample an animation channel as glTF 2.0 defines it: STEP, LINEAR (slerp for rotations) or CUBICSPLINE."""
    if kind == "CUBICSPLINE":
        in_tangent, points, out_tangent = values.reshape(len(times), 3, -1).transpose(1, 0, 2)
    elif kind in ("LINEAR", "STEP"):
        points = values
    else:
        raise ValueError(f"expected interpolation STEP, LINEAR or CUBICSPLINE, got '{kind}'")
    if len(times) == 1:
        return np.repeat(points, len(at), 0).astype(float)
    left = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 2)
    span = times[left + 1] - times[left]
    u = np.clip((at - times[left]) / span, 0.0, 1.0)
    if kind == "STEP":
        # Keys are stored in single precision: just before a key counts as at it.
        return points[np.where(u * span >= span - 1e-5, left + 1, left)].astype(float)
    if kind == "LINEAR":
        if rotation:
            return slerp(points[left].astype(float), points[left + 1].astype(float), u)
        return points[left] + (points[left + 1] - points[left]) * u[:, None]
    u, span = u[:, None], span[:, None]
    result = (
        (2 * u**3 - 3 * u**2 + 1) * points[left]
        + span * (u**3 - 2 * u**2 + u) * out_tangent[left]
        + (3 * u**2 - 2 * u**3) * points[left + 1]
        + span * (u**3 - u**2) * in_tangent[left + 1]
    )
    return result / np.linalg.norm(result, axis=-1, keepdims=True) if rotation else result


def load_glb(path: str | Path) -> list[Motion]:
    """Load every animation of a Mesh2Motion figure, retargeted; clips of a single key are left out."""
    glb = Glb(path)
    rig = next((rig for rig in _RIGS if rig["pelvis"] in glb.names), None)
    if rig is None:
        wanted = " or ".join(f"'{rig['pelvis']}'" for rig in _RIGS)
        raise ValueError(f"{path}: expected a figure with a joint {wanted}, got {', '.join(glb.names)}")
    rows = skeleton_rows(rig, glb.names)
    rest = tuple(values[None] for values in glb.rest())
    reference_rotations, reference_joints = glb.world(*rest)
    motions = []
    for animation in glb.document.get("animations", ()):
        name = animation.get("name", f"animation{len(motions)}")
        if name.lower() in UNPOSED:
            continue
        rotations, positions = glb.world(*_sample(glb, animation, rest))
        family = family_of(name)
        motion = retarget(
            rotations[:, rows],
            positions[:, rows],
            reference_rotations[0, rows],
            reference_joints[0, rows],
            fps=SAMPLE_FPS,
            name=name.replace(" ", "_"),
            source="mesh2motion",
            family=family,
            licence=LICENCE,
            action=_ACTIONS.get(family, "idle"),
            in_place=name.lower().startswith(IN_PLACE),
        )
        motions.append(replace(motion, supports=(_seat(motion),)) if family == "sit" else motion)
    return motions


def _sample(glb: Glb, animation: dict[str, Any], rest: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    """Return local translations, rotations and scales (T, N, ...) of an animation at `SAMPLE_FPS`."""
    inputs = [glb.accessor(sampler["input"])[:, 0] for sampler in animation["samplers"]]
    at = np.arange(int(round(max(times[-1] for times in inputs) * SAMPLE_FPS)) + 1) / SAMPLE_FPS
    tracks = {path: np.repeat(values, len(at), 0) for path, values in zip(("translation", "rotation", "scale"), rest)}
    for channel in animation["channels"]:
        target, number = channel["target"], channel["sampler"]
        if target["path"] in tracks and "node" in target:
            sampler = animation["samplers"][number]
            tracks[target["path"]][:, target["node"]] = sample_channel(
                inputs[number],
                glb.accessor(sampler["output"]),
                sampler.get("interpolation", "LINEAR"),
                at,
                target["path"] == "rotation",
            )
    return list(tracks.values())


def _seat(motion: Motion) -> Support:
    """Return a seat below the lowest place of the pelvis, which the animation leaves out."""
    lowest = int(motion.pelvis_world[:, 2].argmin())
    pelvis, facing = motion.pelvis_world[lowest], motion.rotations_world[lowest, 0, :, 0]
    top = max(float(pelvis[2]) - BUTTOCKS, 0.1)
    centre = np.array([*pelvis[:2], top - 0.04])
    return Support("seat", centre, float(np.arctan2(facing[1], facing[0])), np.array([0.44, 0.46, 0.08]))


def family_of(name: str) -> str:
    """Return the family of a Mesh2Motion clip, 'idle' where none fits."""
    lower = name.lower()
    matches = [(len(stem), family) for family, stems in _FAMILIES.items() for stem in stems if lower.startswith(stem)]
    return max(matches)[1] if matches else "idle"
