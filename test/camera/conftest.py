"""One camera of each model, with every coefficient in use."""

from __future__ import annotations

import math

import pytest

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.camera.models import (
    EUCM,
    CameraModel,
    DoubleSphere,
    Fisheye62,
    Fisheye624,
    KannalaBrandt,
    OCam,
    Pinhole,
)

SCENE_EGO_C2W = (
    -292.4126419694919, 0.0, 1.075613595858202e-3, 2.072664555244253e-07, 4.493499097653669e-10,
    -1.192028310212584e-15, -1.822337421183959e-17,
)  # fmt: skip
SCENE_EGO_W2C = (
    478.5893205484341, 350.371582898077, 79.00065565120241, 62.28794005673283, 32.64466851189552, 15.68380500967838,
    7.766879336977007, 2.190791369989537, -0.1084229689289942, -0.1903842667463734, -0.02776267870029922,
)  # fmt: skip

_VGA = dict(size=(640, 480), centre=(322.3, 236.1))
_K6 = (-0.025, 0.09, -0.065, 0.014, 0.003, -0.0011)

CAMERAS: dict[str, CameraModel] = {
    "ocam": OCam(
        size=(1280, 1024),
        centre=(614.93216999, 527.53465649),
        c2w=SCENE_EGO_C2W,
        w2c=SCENE_EGO_W2C,
        affine=(1.01, 0.02, -0.03, 1.0),
        max_angle=math.radians(105.0),
    ),
    "kannala_brandt": KannalaBrandt(
        **_VGA, focal=(190.0, 195.0), k=(0.03, -0.012, 0.003, -0.0004), max_angle=math.radians(100.0)
    ),
    "fisheye62": Fisheye62(**_VGA, focal=(200.0, 204.0), k=_K6, p=(0.002, -0.001), max_angle=math.radians(95.0)),
    "fisheye624": Fisheye624(
        **_VGA,
        focal=(200.0, 200.0),
        k=_K6,
        p=(0.002, -0.001),
        s=(0.001, -0.0004, 0.0006, 0.0002),
        max_angle=math.radians(95.0),
    ),
    "double_sphere": DoubleSphere(**_VGA, focal=(160.0, 158.0), xi=-0.2, alpha=0.59, max_angle=math.radians(105.0)),
    "eucm": EUCM(
        **_VGA,
        focal=(190.0, 192.0),
        alpha=0.63,
        beta=1.1,
        distortion=(-0.01, 0.002, 0.0005, -0.0007, 0.0, 0.0, 0.0, 0.0),
        max_angle=math.radians(95.0),
    ),
    "pinhole": Pinhole(
        **_VGA,
        focal=(260.0, 262.0),
        distortion=(0.2, 0.03, 0.001, -0.002, 0.004, 0.45, 0.06, 0.005),
        max_angle=math.radians(55.0),
    ),
}


@pytest.fixture(params=[*CAMERAS, "canonical"])
def model(request: pytest.FixtureRequest) -> CameraModel:
    """Each camera in turn."""
    return CAMERAS.get(request.param, CANONICAL)


@pytest.fixture(scope="session")
def cameras() -> dict[str, CameraModel]:
    """All of them, by the names of `MODELS`."""
    return CAMERAS
