"""A rig: the cameras on one head, where they sit, and how they are turned."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

import numpy as np

from egopose_ros.camera.interface import quarter_turn_matrix
from egopose_ros.camera.models import CameraModel
from egopose_ros.geometry.rigid import invert, transform

MOUNTED_DEG = {"up": 0.0, "right": 90.0, "down": 180.0, "left": 270.0}
"""the edge of the raw image towards which the wearer's front lies, as degrees clockwise from its top"""

ROTATION_TOLERANCE = 1e-4

_DOWNWARD = transform(
    np.array([[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]]), np.array([0.12, 0.0, 0.12])
)


def nominal_T_head_camera(R_camera_canonical: np.ndarray | None = None) -> np.ndarray:
    """Return where a camera without extrinsics is taken to be: 12 cm before and above the eyes, looking down."""
    turned = np.eye(3) if R_camera_canonical is None else R_camera_canonical
    return _DOWNWARD @ transform(turned.T, np.zeros(3))


def mounted_rotation(degrees: float) -> np.ndarray:
    """Return R_camera_canonical of a camera whose image has the wearer's front so far clockwise from its top."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


@dataclass(frozen=True, eq=False)
class RigCamera:
    """A camera of a rig."""

    name: str
    model: CameraModel
    T_head_camera: np.ndarray = field(default_factory=nominal_T_head_camera)
    """(4, 4) float64; head frame between the eyes, x forward, y left, z up [m]"""
    R_camera_canonical: np.ndarray = field(default_factory=lambda: np.eye(3))
    """(3, 3) float64, from the canonical camera, which shares the centre of projection, to this one"""

    def __post_init__(self) -> None:
        T, R = np.asarray(self.T_head_camera, np.float64), np.asarray(self.R_camera_canonical, np.float64)
        if T.shape != (4, 4) or R.shape != (3, 3):
            raise ValueError(f"camera '{self.name}': expected extrinsics (4, 4) and (3, 3), got {T.shape}, {R.shape}")
        if not np.array_equal(T[3], (0.0, 0.0, 0.0, 1.0)):
            raise ValueError(f"camera '{self.name}': T_head_camera: expected a last row 0 0 0 1, got {T[3].tolist()}")
        check_rotation(T[:3, :3], f"camera '{self.name}': T_head_camera")
        check_rotation(R, f"camera '{self.name}': R_camera_canonical")
        if not np.isfinite(T).all():
            raise ValueError(f"camera '{self.name}': T_head_camera: expected finite numbers, got {T[:3, 3].tolist()}")
        object.__setattr__(self, "T_head_camera", T)
        object.__setattr__(self, "R_camera_canonical", R)

    @property
    def T_head_canonical(self) -> np.ndarray:
        """(4, 4) pose of this camera's canonical stand-in."""
        return self.T_head_camera @ transform(self.R_camera_canonical, np.zeros(3))

    def rotate(self, quarter_turns: int) -> RigCamera:
        """Follow numpy.rot90(image, quarter_turns): model and axes turn, the canonical camera stays where it is."""
        R_new_old = np.array(quarter_turn_matrix(quarter_turns))
        return dataclasses.replace(
            self,
            model=self.model.rotate(quarter_turns),
            T_head_camera=self.T_head_camera @ transform(R_new_old.T, np.zeros(3)),
            R_camera_canonical=R_new_old @ self.R_camera_canonical,
        )


@dataclass(frozen=True, eq=False)
class Rig:
    """Cameras in the order of their topics; the first one's optical frame is that of the poses."""

    cameras: tuple[RigCamera, ...]
    head_known: bool = True
    """whether the head frame was measured; if not, the first camera is at its nominal place, the rest relative to it"""

    def __post_init__(self) -> None:
        names = [camera.name for camera in self.cameras]
        if not names:
            raise ValueError("rig: expected one camera or more, got none")
        if len(set(names)) < len(names):
            raise ValueError(f"rig: expected different camera names, got {', '.join(names)}")

    def select(self, names: tuple[str, ...]) -> Rig:
        """Return the rig of some cameras, in the given order; ValueError names those there are."""
        by_name = {camera.name: camera for camera in self.cameras}
        missing = [name for name in names if name not in by_name]
        if missing:
            raise ValueError(f"rig: no camera {', '.join(missing)}; there are {', '.join(by_name)}")
        return Rig(tuple(by_name[name] for name in names), self.head_known)

    def placed(self, T_head_first: np.ndarray) -> Rig:
        """Return the whole rig moved to where its first camera was found on the head (4, 4)."""
        T_head_nominal = T_head_first @ invert(self.cameras[0].T_head_camera)
        moved = (dataclasses.replace(c, T_head_camera=T_head_nominal @ c.T_head_camera) for c in self.cameras)
        return Rig(tuple(moved), head_known=True)


def check_rotation(R: np.ndarray, name: str) -> None:
    """Refuse what is not orthonormal and right-handed within 1e-4, with the reason."""
    if not np.isfinite(R).all():
        raise ValueError(f"{name}: expected finite numbers, got {R.tolist()}")
    error = float(np.abs(R.clip(-2.0, 2.0) @ R.clip(-2.0, 2.0).T - np.eye(3)).max())
    if error > ROTATION_TOLERANCE:
        raise ValueError(f"{name}: expected an orthonormal rotation, got rows that miss it by {error:.3g}")
    if np.linalg.det(R) < 0:
        raise ValueError(f"{name}: expected a right-handed rotation (determinant +1), got a mirror image (-1)")
