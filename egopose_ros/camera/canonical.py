"""The one camera that networks see: an ideal equidistant fisheye, 100 degrees from its axis at 128 px."""

from __future__ import annotations

import math

from egopose_ros.camera.models import KannalaBrandt

MAX_ANGLE = math.radians(100.0)
_FOCAL = 128.0 / MAX_ANGLE

CANONICAL = KannalaBrandt(
    size=(256, 256), centre=(127.5, 127.5), focal=(_FOCAL, _FOCAL), k=(0.0, 0.0, 0.0, 0.0), max_angle=MAX_ANGLE
)
