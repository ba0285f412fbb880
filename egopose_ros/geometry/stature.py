"""The size of a pose from the height of the wearer.

A camera cannot tell a small person close to it from a tall one farther off: both make the same picture, and the same pose
but for a scale about the camera. Who knows the wearer's height knows that scale:

    s = (l(h) / l) ^ TRUST

l is the length of a pose's bones from head to ankle, or from hip to ankle in a skeleton without a spine; l(h) is that of
a person of height h without shoes, a line through 1,000 bodies of the synthetic world's training split (which leaves
0.9 % of it open). The exponent is below one since the bones of a pose are uncertain themselves.
"""

from __future__ import annotations

import numpy as np

from egopose_ros.skeleton import Skeleton

TRUST = 0.7
"""Of 0.5, 0.7, 0.85 and 1 the best for both networks on the validation split."""
_SPINE = ("head", "neck", "spine3", "spine2", "spine1", "pelvis")
_LEG = ("hip", "knee", "ankle")
_LEGS_BY_HEIGHT = 0.591, -0.184
_BODY_BY_HEIGHT = 0.935, -0.033
"""slope and offset [m] of the bones' length against height"""


class Stature:
    """Scales poses of a skeleton to a wearer of a height."""

    def __init__(self, skeleton: Skeleton, height_m: float) -> None:
        """ValueError for a skeleton without legs."""
        whole = set(_SPINE) <= set(skeleton.joints)
        spine = _SPINE if whole else ()
        bones = [(*pair, 1.0) for pair in zip(spine, spine[1:])]
        for side in ("left_", "right_"):
            leg = (*spine[-1:], *(side + joint for joint in _LEG))
            bones += [(*pair, 0.5) for pair in zip(leg, leg[1:])]
        self._from = [skeleton.index(joint) for joint, _, _ in bones]
        self._to = [skeleton.index(joint) for _, joint, _ in bones]
        self._weights = np.array([weight for _, _, weight in bones])
        slope, offset = _BODY_BY_HEIGHT if whole else _LEGS_BY_HEIGHT
        self._expected = slope * height_m + offset

    def scale(self, joints: np.ndarray) -> float:
        """Return what a pose (J, 3) [m] in a camera's frame is to be multiplied with; 1 for one without extent."""
        length = float(np.linalg.norm(joints[self._from] - joints[self._to], axis=-1) @ self._weights)
        return (self._expected / length) ** TRUST if length > 0.0 else 1.0
