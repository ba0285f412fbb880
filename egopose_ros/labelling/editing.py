"""Labels changed by a program: pose after pose, with everything else of the bag as it was.

edit(Path("labels/take_3"), lambda pose: None if pose.confidence.mean() < 0.3 else pose)
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer

from egopose_ros.labelling.manifest import LabelError
from egopose_ros.ros.bag_poses import POSE, status_of
from egopose_ros.ros.bag_reader import POSE_TYPE, typestore
from egopose_ros.ros.pose_fields import pose_fields, pose_from_message
from egopose_ros.structs import BodyPose


def edit(labels: Path, change: Callable[[BodyPose], BodyPose | None]) -> int:
    """Replace every pose of a bag of labels by what `change` returns, None to take it out; return how many remain.

    The bag is replaced when the new one is whole. LabelError for what is no bag of labels.
    """
    if not (labels / "metadata.yaml").is_file():
        raise LabelError(f"{labels}: expected a bag of labels, got none")
    types = typestore()
    staging = Path(tempfile.mkdtemp(prefix=f".{labels.name}.", dir=labels.absolute().parent))
    new, count = staging / labels.name, 0
    try:
        with AnyReader([labels], default_typestore=types) as reader, _writer(new) as writer:
            connections = {c.id: writer.add_connection(c.topic, c.msgtype, typestore=types) for c in reader.connections}
            for connection, stamp_ns, data in reader.messages():
                if (connection.topic, connection.msgtype) == (POSE, POSE_TYPE):
                    data = _changed(types.deserialize_cdr(data, POSE_TYPE), change, types)
                    count += data is not None
                if data is not None:
                    writer.write(connections[connection.id], stamp_ns, data)
        for file in labels.iterdir():
            if file.name != "metadata.yaml" and file.suffix != ".mcap":
                shutil.copy2(file, new)
        old = staging / "old"
        os.rename(labels, old)  # a folder cannot be renamed onto one that is not empty
        try:
            os.rename(new, labels)
        except BaseException:
            os.rename(old, labels)
            raise
    finally:
        if labels.is_dir():  # else what it was is in there
            shutil.rmtree(staging, ignore_errors=True)
    return count


def _writer(path: Path) -> Writer:
    return Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)


def _changed(message: Any, change: Callable[[BodyPose], BodyPose | None], types: Any) -> bytes | None:
    pose = change(pose_from_message(message))
    if pose is None:
        return None
    fields = pose_fields(pose, status_of(message), globally_refined=message.globally_refined)
    return types.serialize_cdr(types.types[POSE_TYPE](header=message.header, **fields), POSE_TYPE)
