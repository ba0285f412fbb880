"""Where the rig comes from: the calibration file, or CameraInfo; and its place on the head from TF where neither says.

The model of a camera is the core's business: `pipeline` makes rigs, this file only brings the numbers.
"""

from __future__ import annotations

import time
from typing import Any, Callable

import numpy as np
from sensor_msgs.msg import CameraInfo

from egopose_ros.config import Config
from egopose_ros.ros.cameras import Cameras
from egopose_ros.ros.notices import Notices
from egopose_ros.ros.tf_tree import Tf2Buffer, TfTree
from egopose_ros.ros.topics import SILENCE_S
from egopose_ros.ros.tracks import mounting
from egopose_ros.window.ring import Lookup


class RigSource:
    """Gives the rig as soon as it is known, and again when TF tells where it sits."""

    def __init__(
        self,
        config: Callable[[], Config],
        cameras: Cameras,
        tree: TfTree | Tf2Buffer | None,
        notices: Notices,
        rig: Any,
        rig_from_camera_info: Callable[[list[dict[str, Any]]], Any],
    ) -> None:
        """`rig` is that of the calibration file, None to wait for CameraInfo."""
        self._config = config
        self._cameras = cameras
        self._tree = tree
        self._notices = notices
        self._rig = rig
        self._make = rig_from_camera_info
        self._infos: list[CameraInfo] | None = None
        self._given = False
        self._placed = tree is None or (rig is not None and rig.head_known)

    def poll(self) -> Any:
        """Return the rig when it is new or has moved, otherwise None."""
        if self._rig is None or self._infos is not None:
            self._look_at_camera_info()
        if self._rig is None:
            return None
        moved = not self._placed and self._place_on_head()
        if self._given and not moved:
            return None
        self._given = True
        return self._rig

    def _look_at_camera_info(self) -> None:
        infos = [info for info in self._cameras.infos if info is not None]
        topics = [topic.name for topic in self._cameras.info_topics]
        if len(infos) < len(self._cameras.infos):
            missing = [name for name, info in zip(topics, self._cameras.infos) if info is None]
            first_s = self._cameras.first_image_s
            if self._rig is None and first_s is not None and time.monotonic() - first_s > SILENCE_S:
                text = f"images come, but no CameraInfo on {', '.join(missing)}; or name a camera.calibration file"
                self._notices.fault("calibration", "missing", text)
            return
        if self._infos is not None:
            if any(_values(new) != _values(old) for new, old in zip(infos, self._infos)):
                text = "CameraInfo differs from the first; it is not used until the node is activated again"
                self._notices.fault("calibration", "changed", text)
            return
        extrinsics = self._extrinsics(infos)
        if extrinsics is None:
            return
        try:
            values = [dict(_values(info), name=name) for name, info in zip(topics, infos)]
            self._rig = self._make([dict(v, T_head_camera=T) for v, T in zip(values, extrinsics)])
        except ValueError as error:
            self._notices.fault("calibration", str(error), f"{error}; waiting for a valid one")
            return
        self._infos = infos
        self._placed = self._placed or self._rig.head_known
        self._notices.well("calibration")

    def _extrinsics(self, infos: list[CameraInfo]) -> list[np.ndarray | None] | None:
        """Return T_head_camera by TF; None for one camera may come later, several wait until TF knows them all."""
        if len(infos) == 1:
            return [None]
        assert self._tree is not None, "several cameras without a calibration file need TF"
        head = self._config().head_pose.head_frame
        found = [self._tree.lookup(head, info.header.frame_id, None, 0) for info in infos]
        for info, (_, lookup) in zip(infos, found):
            if lookup is not Lookup.FOUND:
                text = f"waiting for TF {head} -> '{info.header.frame_id}': {lookup.value}"
                self._notices.fault("calibration", "extrinsics", text)
                return None
        return [T for T, _ in found]

    def _place_on_head(self) -> bool:
        """Move the whole rig to where TF has its first camera."""
        frame = self._cameras.frame_id() or (self._infos[0].header.frame_id if self._infos else None)
        if self._tree is None or frame is None:
            return False
        T_head_first, assumption = mounting(self._tree, self._config().head_pose.head_frame, frame)
        if assumption is not None:
            self._notices.fault("extrinsics", *assumption)
            return False
        self._rig = self._rig.placed(T_head_first)
        self._placed = True
        self._notices.well("extrinsics")
        return True


def _values(info: CameraInfo) -> dict[str, Any]:
    """Return what `pipeline.rig_from_camera_info` asks for."""
    return dict(
        width=info.width,
        height=info.height,
        distortion_model=info.distortion_model,
        d=info.d.tolist(),
        k=info.k.tolist(),
        binning=(info.binning_x, info.binning_y),
        roi=(info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height),
    )
