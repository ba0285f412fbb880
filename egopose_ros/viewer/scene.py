"""The 3D scene: bodies, the camera on the head, its path and the floor. Nodes are made once and updated in place."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
import trimesh
import viser

from egopose_ros.geometry import rigid
from egopose_ros.skeleton import Skeleton, skeleton
from egopose_ros.structs import BodyPose
from egopose_ros.viewer.shapes import TRUTH, along, ellipsoids, frustum, side_colours, wxyz_from_matrix

CAMERA, PATH = (250, 204, 60), (170, 120, 230)

JOINT_RADIUS, HEAD_RADIUS, BONE_RADIUS = 0.024, 0.06, 0.026
FRUSTUM_HALF_ANGLE, FRUSTUM_SIZE = math.radians(62.0), 0.14
PATH_POINTS, PATH_STEP_M = 512, 0.02
FLOOR_POSES, FLOOR_SLACK_M = 150, 0.03
"""The floor lies below the lowest joint of these many poses (a high quantile) and keeps still within the slack."""
JUMP_M = 3.0
"""Nobody is followed slowly over more than this: the timeline was moved."""
SOLE_M = 0.03
"""from the lowest joint, the ball of a foot, down to the floor"""


@dataclass(frozen=True)
class Layers:
    """What is shown."""

    ellipsoids: bool = True
    truth: bool = True
    path: bool = True
    camera: bool = True
    follow: bool = True
    """keep the wearer in the middle while the floor moves below"""


class Scene:
    """The scene of one server."""

    def __init__(self, server: viser.ViserServer) -> None:
        self._server = server
        scene = server.scene
        scene.set_up_direction("+z")
        # Everything is below one frame, moved against the wearer: each browser keeps its own view untouched.
        scene.configure_default_lights(False)
        scene.add_light_ambient("/light/ambient", intensity=0.6)
        scene.add_light_directional("/light/key", position=(3.0, -2.0, 5.0), intensity=1.6, cast_shadow=True)
        scene.add_light_directional("/light/fill", position=(-3.0, 3.0, 2.0), intensity=0.5)
        self._world = scene.add_frame("/world", show_axes=False)
        self._floor = scene.add_grid(
            "/world/floor", infinite_grid=True, cell_size=0.25, section_size=1.0, cell_thickness=0.6,
            section_thickness=1.2, cell_color=(74, 80, 92), section_color=(104, 112, 128), fade_distance=14.0,
            fade_from="origin", shadow_opacity=0.35,
        )
        self._camera = scene.add_line_segments(
            "/world/camera", frustum(FRUSTUM_HALF_ANGLE, FRUSTUM_SIZE), CAMERA, thickness=2.0, thickness_units="screen"
        )
        nowhere = np.zeros((PATH_POINTS, 2, 3))
        self._path = scene.add_line_segments("/world/path", nowhere, PATH, thickness=2.5, thickness_units="screen")
        self._body = _Body(scene, "/world/body", sigma=2.0)
        self._truth = _Body(scene, "/world/truth", colour=TRUTH, opacity=0.45, slimmer=0.75)
        self._head_positions: deque[np.ndarray] = deque(maxlen=PATH_POINTS + 1)
        self._lowest: deque[float] = deque(maxlen=FLOOR_POSES)
        self._floor_height: float | None = None
        self._centre: np.ndarray | None = None

    def update(
        self,
        pose: BodyPose,
        truth: BodyPose | None,
        T_world_camera: np.ndarray,
        moving: bool,
        layers: Layers,
        path: np.ndarray | None = None,
    ) -> None:
        """Draw a pose with its camera at T_world_camera; `moving`: that is a true head pose, with a path to draw.

        `path` (N, 3) is all of it; None: it grows from one call to the next.
        """
        joints = rigid.apply(T_world_camera, pose.joints_camera)
        truth_joints = None if truth is None else rigid.apply(T_world_camera, truth.joints_camera)
        R = T_world_camera[:3, :3]
        covariance = None if pose.covariance_camera is None else R @ pose.covariance_camera @ R.T
        with self._server.atomic():
            self._body.show(pose.skeleton, joints, covariance if layers.ellipsoids else None)
            if truth is None or not layers.truth:
                self._truth.hide()
            else:
                self._truth.show(truth.skeleton, truth_joints, None)
            self._camera.visible = layers.camera
            self._camera.position = T_world_camera[:3, 3]
            self._camera.wxyz = wxyz_from_matrix(R)
            self._draw_path(T_world_camera[:3, 3], layers.path and moving, path)
            self._place_floor(joints if truth_joints is None else truth_joints)
            self._follow(T_world_camera[:3, 3], layers.follow)

    def restart(self) -> None:
        """Forget the path, the floor and the place of the wearer: the world has changed."""
        self._head_positions.clear()
        self._lowest.clear()
        self._centre = None

    def _draw_path(self, position: np.ndarray, visible: bool, path: np.ndarray | None) -> None:
        self._path.visible = visible
        if path is not None:
            if visible and len(path):
                # Ever the same points but the newest ones, so that the drawn path keeps still while it grows.
                step = -(-len(path) // PATH_POINTS)
                self._draw_points(np.concatenate([path[::step], path[-1:]]))
            return
        last = self._head_positions[-1] if self._head_positions else None
        if not visible or (last is not None and np.linalg.norm(position - last) < PATH_STEP_M):
            return
        self._head_positions.append(position.copy())
        self._draw_points(np.array(self._head_positions))

    def _draw_points(self, positions: np.ndarray) -> None:
        """Draw at most PATH_POINTS + 1 positions (N, 3)."""
        points = np.repeat(positions[-1:], PATH_POINTS + 1, 0)
        points[: len(positions)] = positions
        self._path.points = np.stack([points[:-1], points[1:]], 1)

    def _place_floor(self, joints: np.ndarray) -> None:
        finite = joints[np.isfinite(joints).all(-1)]
        if not len(finite):
            return
        self._lowest.append(float(finite[:, 2].min()))
        # Of a body that stands, walks or sits some foot is on the floor most of the time; jumps and errors are not.
        height = float(np.quantile(self._lowest, 0.2)) - SOLE_M
        if self._floor_height is None or abs(height - self._floor_height) > FLOOR_SLACK_M:
            self._floor_height = height
            self._floor.position = (0.0, 0.0, height)

    def _follow(self, position: np.ndarray, active: bool) -> None:
        target = np.array([position[0], position[1], self._floor_height or 0.0])
        if self._centre is None or (active and np.linalg.norm(target - self._centre) > JUMP_M):
            self._centre = target
        elif active:
            # Slowly, so that the motion of the wearer stays visible against the page.
            self._centre = self._centre + 0.08 * (target - self._centre)
        self._world.position = -self._centre


class _Body:
    """One drawn body. A skeleton of another size makes its nodes anew; everything else is updated in place."""

    def __init__(
        self,
        scene: viser.SceneApi,
        name: str,
        *,
        colour: tuple[int, int, int] | None = None,
        opacity: float | None = None,
        slimmer: float = 1.0,
        sigma: float = 2.0,
    ) -> None:
        self._scene, self._name = scene, name
        self._colour, self._opacity, self._slimmer, self._sigma = colour, opacity, slimmer, sigma
        self._skeleton: Skeleton | None = None
        self._root = scene.add_frame(name, show_axes=False, visible=False)
        self._sphere = trimesh.creation.icosphere(subdivisions=2)
        # A bone along +z from 0 to 1, of radius 1 where it is thickest.
        profile = [(0.0, 0.0), (0.55, 0.0), (1.0, 0.2), (0.8, 0.6), (0.4, 1.0), (0.0, 1.0)]
        self._spindle = trimesh.creation.revolve(profile, sections=12)

    def hide(self) -> None:
        self._root.visible = False

    def show(self, skeleton_name: str, joints: np.ndarray, covariance: np.ndarray | None) -> None:
        """Draw joints (J, 3), those that are not finite left out, and the ellipsoids of covariance (J, 3, 3)."""
        if self._skeleton is None or self._skeleton.name != skeleton_name:
            self._make(skeleton(skeleton_name))
        known = np.isfinite(joints).all(-1)
        joints = np.where(known[:, None], joints, 0.0)
        parents, children = self._bones.T
        wxyz, length = along(joints[parents], joints[children])
        drawn = known[parents] & known[children]
        radius = np.minimum(BONE_RADIUS, 0.25 * length) * self._slimmer
        self._joint_meshes.batched_positions = joints
        self._joint_meshes.batched_scales = np.where(known, self._radii, 0.0)
        self._bone_meshes.batched_positions = joints[parents]
        self._bone_meshes.batched_wxyzs = wxyz
        self._bone_meshes.batched_scales = np.where(drawn[:, None], np.stack([radius, radius, length], -1), 0.0)
        self._ellipsoid_meshes.visible = covariance is not None
        if covariance is not None:
            self._ellipsoid_meshes.batched_positions = joints
            wxyz, half_axes = ellipsoids(covariance, self._sigma)
            self._ellipsoid_meshes.batched_wxyzs = wxyz
            self._ellipsoid_meshes.batched_scales = half_axes
        self._root.visible = True

    def _make(self, body: Skeleton) -> None:
        self._skeleton = body
        self._bones = np.array(body.bones)
        self._radii = np.array([HEAD_RADIUS if joint == "head" else JOINT_RADIUS for joint in body.joints])
        self._radii = self._radii * self._slimmer
        sides = side_colours(body.joints)
        colours = sides if self._colour is None else np.broadcast_to(np.array(self._colour, np.uint8), sides.shape)
        self._joint_meshes = self._batch("joints", self._sphere, colours, self._opacity)
        self._bone_meshes = self._batch("bones", self._spindle, colours[self._bones[:, 1]], self._opacity)
        self._ellipsoid_meshes = self._batch("ellipsoids", self._sphere, colours, 0.18, shadow=False)

    def _batch(
        self, part: str, mesh: trimesh.Trimesh, colours: np.ndarray, opacity: float | None, shadow: bool = True
    ) -> viser.BatchedMeshHandle:
        count = len(colours)
        return self._scene.add_batched_meshes_simple(
            f"{self._name}/{part}",
            mesh.vertices,
            mesh.faces,
            batched_wxyzs=np.tile((1.0, 0.0, 0.0, 0.0), (count, 1)),
            batched_positions=np.zeros((count, 3)),
            batched_scales=np.zeros((count, 3)),
            # The page takes them for linear light; ours are those of the image overlay.
            batched_colors=np.round(255 * (colours / 255) ** 2.2).astype(np.uint8),
            opacity=opacity,
            lod="off",
            cast_shadow=shadow and opacity is None,
            receive_shadow=False,
        )
