"""The camera models, by the names that calibration files use."""

from __future__ import annotations

from egopose_ros.camera.angular import Fisheye62, Fisheye624, KannalaBrandt, OCam
from egopose_ros.camera.interface import CameraModel
from egopose_ros.camera.planar import EUCM, DoubleSphere, Pinhole

__all__ = [
    "CameraModel", "DoubleSphere", "EUCM", "Fisheye62", "Fisheye624", "KannalaBrandt", "MODELS", "OCam", "Pinhole"
]

MODELS: dict[str, type[CameraModel]] = {
    "ocam": OCam,
    "kannala_brandt": KannalaBrandt,
    "fisheye62": Fisheye62,
    "fisheye624": Fisheye624,
    "double_sphere": DoubleSphere,
    "eucm": EUCM,
    "pinhole": Pinhole,
}
