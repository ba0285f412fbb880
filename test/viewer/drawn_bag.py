"""A small bag of the walking body, by the conventions of our own bags, written without ROS."""

from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from walker import DOWNWARD, FOCAL_PX, SIZE_PX, drawn_image, walking_pose

from egopose_ros.camera import calibration
from egopose_ros.camera.models import KannalaBrandt
from egopose_ros.camera.rig import Rig, RigCamera
from egopose_ros.geometry import rigid
from egopose_ros.resources import share_file
from egopose_ros.skeleton import SMPL22

CENTRE = (SIZE_PX - 1) / 2


def write_bag(folder: Path, frames: int, truth: bool = True) -> None:
    """Write `frames` at 30 Hz: images, head pose, ground truth, and the calibration beside them."""
    types = get_typestore(Stores.ROS2_KILTED)
    types.register(get_types_from_msg(share_file("msg/BodyPose.msg").read_text(), "egopose_ros/msg/BodyPose"))
    topics = {
        "/camera/image_raw/compressed": "sensor_msgs/msg/CompressedImage",
        "/head_pose": "geometry_msgs/msg/PoseStamped",
        "/ground_truth/pose": "egopose_ros/msg/BodyPose",
    }
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as bag:
        connections = {topic: bag.add_connection(topic, kind, typestore=types) for topic, kind in topics.items()}
        for index in range(frames):
            pose = walking_pose(index, noise=0.0)
            messages = [_head_pose(types, pose), _image(types, pose)] + ([_truth(types, pose)] if truth else [])
            for topic, message in zip(("/head_pose", "/camera/image_raw/compressed", "/ground_truth/pose"), messages):
                data = types.serialize_cdr(message, topics[topic])
                bag.write(connections[topic], pose.stamp_ns, data)
    model = KannalaBrandt(size=(SIZE_PX, SIZE_PX), centre=(CENTRE, CENTRE), focal=(FOCAL_PX, FOCAL_PX),
                          k=(0.0, 0.0, 0.0, 0.0), max_angle=float(np.radians(100.0)))
    calibration.save(Rig((RigCamera("camera", model, DOWNWARD),)), folder / "calibration.yaml")


def _header(types, stamp_ns, frame_id):
    stamp = types.types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 10**9))
    return types.types["std_msgs/msg/Header"](stamp, frame_id)


def _image(types, pose):
    data = cv2.imencode(".jpg", drawn_image(pose)[..., ::-1])[1].ravel()
    return types.types["sensor_msgs/msg/CompressedImage"](_header(types, pose.stamp_ns, "camera"), "jpeg", data)


def _head_pose(types, pose):
    T = pose.T_world_camera @ rigid.invert(DOWNWARD)
    geometry = "geometry_msgs/msg/"
    point = types.types[geometry + "Point"](*T[:3, 3])
    quaternion = types.types[geometry + "Quaternion"](*rigid.quaternion_from_matrix(T[:3, :3]))
    stamped = types.types[geometry + "PoseStamped"]
    return stamped(_header(types, pose.stamp_ns, "world"), types.types[geometry + "Pose"](point, quaternion))


def _truth(types, pose):
    empty = np.zeros(0, np.float32)
    return types.types["egopose_ros/msg/BodyPose"](
        header=_header(types, pose.stamp_ns, "camera"), skeleton=pose.skeleton, joint_names=list(SMPL22.joints),
        positions=pose.joints_camera.ravel(), orientations=empty, covariance=empty, confidence=empty,
        tracking_state=1, globally_refined=False, window_length=1, frames_dropped=0, age=0.0,
        network="ground truth", weights_trained=True,
    )
