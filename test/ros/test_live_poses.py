"""The live graph against the pipeline without ROS, over DDS, in separate processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="the live graph needs rclpy")

import cv2
from geometry_msgs.msg import PoseStamped
from graph_probe import HEIGHT, K, LATCHED, WIDTH, Feed, camera_info, image, pictures, transforms, wait
from nav_msgs.msg import Odometry, Path
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from sensor_msgs.msg import Imu as ImuMessage
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from egopose_ros import pipeline
from egopose_ros.config import Config, replace
from egopose_ros.geometry import rigid
from egopose_ros.ros.messages import header, in_global_frame, pose_from_message, to_ns
from egopose_ros.ros.transform_tree import numbers
from egopose_ros.skeleton import skeleton
from egopose_ros.structs import Frame, ImuSample

STEP_NS = 33_333_333


def reference() -> pipeline.Pipeline:
    """Return the pipeline that the live node runs."""
    info = dict(width=WIDTH, height=HEIGHT, distortion_model="equidistant", d=[0.0] * 4, k=K, name="camera")
    config = replace(Config(), {"network.allow_untrained": True, "runtime.device": "cpu"})
    return pipeline.load(config, pipeline.rig_from_camera_info([info]))


@pytest.mark.parametrize("encoding", ["mono8", "bgr8", "png"])
def test_live_poses_equal_those_without_ros(feed: Feed, encoding: str) -> None:
    feed.start(kind=CompressedImage if encoding == "png" else Image)
    core = reference()
    state = core.init_state()
    for pixels in pictures(core.window + 2, 7, (HEIGHT, WIDTH) if encoding == "mono8" else (HEIGHT, WIDTH, 3)):
        feed.stamp_ns += STEP_NS
        if encoding == "png":
            message = CompressedImage(header=header(feed.stamp_ns, "eye"), format="png")
            message.data.frombytes(cv2.imencode(".png", pixels)[1].tobytes())
        else:
            message = image(feed.stamp_ns, pixels, encoding)
        feed.send(message)
        live = feed.probe.pose_at(feed.stamp_ns)
        rgb = np.ascontiguousarray(pixels[..., ::-1]) if pixels.ndim == 3 else pixels
        state, expected = core.step(state, Frame(feed.stamp_ns, (rgb,)))
        pose = pose_from_message(live)
        np.testing.assert_allclose(pose.joints_camera, expected.joints_camera, atol=1e-5)
        np.testing.assert_allclose(pose.rotations_camera, expected.rotations_camera, atol=5e-5)  # not in metres
        np.testing.assert_allclose(pose.covariance_camera, expected.covariance_camera, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(pose.confidence, expected.confidence, atol=1e-5)
        assert (live.window_length, live.frames_dropped) == (expected.window_length, 0)
        assert (live.tracking_state == live.INITIALIZING) is (not expected.window_full)
    assert expected.window_full and live.header.frame_id == "eye" and not live.globally_refined
    assert live.network == core.network_name and live.weights_trained is core.weights_trained


def test_poses_with_head_pose_and_imu_equal_those_without_ros(feed: Feed) -> None:
    """Odometry of an 'imu' body at other stamps than the images', extrinsics by TF, an IMU turned in the head."""
    T_head_camera = rigid.transform(_turn([0.1, 0.7, -0.2]), np.array([0.1, 0.02, 0.05]))
    T_head_imu = rigid.transform(_turn([0.0, 0.4, 0.3]), np.array([0.03, 0.0, -0.02]))
    static = [_row("head", "eye", 0, T_head_camera), _row("head", "imu", 0, T_head_imu)]
    feed.probe.advertise_latched(TFMessage, "/tf_static").publish(transforms(*static))
    topics = feed.topic.replace("image_raw", "odom"), feed.topic.replace("image_raw", "imu")
    tf: deque[TFMessage] = deque()
    feed.probe.keep(TFMessage, "/tf", tf)
    feed.start(
        head_pose__source="odometry", head_pose__topic=topics[0], imu__enabled=True, imu__topic=topics[1], tf__head_pose="head"
    )
    wait(lambda: "fault.extrinsics" not in feed.probe.status, "the camera's place on the head")
    rig = reference().rig
    core = reference().with_rig(_moved(rig, T_head_camera))
    state = core.init_state()
    for index in range(6):
        feed.stamp_ns += STEP_NS
        # Neighbours 10 ms before and after the image; between them motion is linear, and rotation about one axis.
        for side in (-1, 1):
            stamp_ns = feed.stamp_ns + side * 10_000_000
            feed.send(_odometry(stamp_ns, _head(index + side * 0.3) @ T_head_imu), topics[0])
            feed.send(_imu(stamp_ns, index + side * 0.3), topics[1])
        heard = 2 * (index + 1)
        wait(lambda: feed.probe.count("head_poses_in") == feed.probe.count("imu_in") == heard, "head pose and IMU")
        pixels = pictures(1, 50 + index)[0]
        feed.send(image(feed.stamp_ns, pixels))
        pose = pose_from_message(feed.probe.pose_at(feed.stamp_ns))
        R = T_head_imu[:3, :3]
        sample = ImuSample(R @ np.array([0.1 * index, 0.2, 0.3]), R @ np.array([0.0, 0.5 * index, 9.81]))
        state, expected = core.step(state, Frame(feed.stamp_ns, (pixels,), _head(index), sample))
        np.testing.assert_allclose(pose.joints_camera, expected.joints_camera, atol=1e-5)
        newest = wait(lambda: [p for p in feed.probe.poses_global if to_ns(p.header.stamp) == feed.stamp_ns], "global")
        pose_global, expected_global = pose_from_message(newest[0]), in_global_frame(expected)
        np.testing.assert_allclose(pose_global.joints_camera, expected_global.joints_camera, atol=1e-5)
        np.testing.assert_allclose(pose_global.rotations_camera, expected_global.rotations_camera, atol=1e-5)
        np.testing.assert_allclose(pose_global.covariance_camera, expected_global.covariance_camera, atol=1e-5)
        T = wait(lambda: _transform(tf, feed.stamp_ns, "odom", "head"), "the head as TF")[0]
        np.testing.assert_allclose(T, _head(index), atol=1e-6)
    assert newest[0].globally_refined and newest[0].header.frame_id == "odom"
    assert feed.rejected("head_pose.not_yet") == feed.rejected("imu.missing") == 0


def test_two_cameras_are_paired_by_stamp_over_losses_and_loops(feed: Feed) -> None:
    names, base = ("left", "right"), feed.topic.split("/image_raw")[0]
    T_head_camera = {
        name: rigid.transform(_turn([0.1, side * 0.3, 0.0]), np.array([0.1, side * 0.05, 0.0]))
        for name, side in zip(names, (1.0, -1.0))
    }
    static = [_row("head", f"{name}_eye", 0, T) for name, T in T_head_camera.items()]
    probe = feed.probe
    feed.reset(camera__topics=[f"{base}/{name}/image_raw" for name in names])
    assert probe.change_state("configure") and probe.change_state("activate"), probe.message
    for name in names:
        probe.advertise(f"{base}/{name}/camera_info", CameraInfo, LATCHED).publish(camera_info(f"{name}_eye"))
        probe.advertise(f"{base}/{name}/image_raw")
    wait(lambda: probe.status.get("fault.calibration") == "extrinsics", "TF to be missed")
    probe.advertise_latched(TFMessage, "/tf_static").publish(transforms(*static))
    wait(lambda: probe.status.get("calibrated") == "true", "the calibration")

    values = dict(width=WIDTH, height=HEIGHT, distortion_model="equidistant", d=[0.0] * 4, k=K)
    config = replace(Config(), {"network.allow_untrained": True, "runtime.device": "cpu"})
    rig = pipeline.rig_from_camera_info([dict(values, name=n, T_head_camera=T) for n, T in T_head_camera.items()])
    core = pipeline.load(config, rig)
    state = core.init_state()
    for index, loss in enumerate([None, None, "right", None, "left", None, "loop", None]):
        # A loop takes one camera back before the other; between losses both drift against each other.
        feed.stamp_ns += STEP_NS if loss != "loop" else -(10**10)
        stamps = dict(left=feed.stamp_ns, right=feed.stamp_ns + (index % 3 - 1) * 2_000_000)
        pixels = pictures(2, 90 + index)
        for name, picture in zip(names, pixels):
            if name != loss:
                message = image(stamps[name], picture, frame_id=f"{name}_eye")
                probe.advertise(f"{base}/{name}/image_raw").publish(message)
        if loss in names:
            continue
        live = probe.pose_at(max(stamps.values()))
        state, expected = core.step(state, Frame(max(stamps.values()), tuple(pixels)))
        np.testing.assert_allclose(pose_from_message(live).joints_camera, expected.joints_camera, atol=1e-5)
        assert live.window_length == expected.window_length
        assert live.header.frame_id == "left_eye"
    assert expected.window_length == 2
    wait(lambda: probe.count("images_unmatched") == 2, "the lone images to be counted")


def test_images_without_a_frame_get_one(feed: Feed) -> None:
    feed.start()
    feed.send(image(feed.stamp_ns, pictures(1)[0], frame_id=""))
    assert feed.probe.pose_at(feed.stamp_ns).header.frame_id == "camera"
    wait(lambda: feed.probe.status.get("fault.frame_id") == "empty", "the empty frame_id to be said")
    feed.start(camera__frame_id="forehead")
    assert feed.pose().header.frame_id == "forehead"


def test_everything_else_that_is_published_agrees_with_the_pose(feed: Feed) -> None:
    tf, markers, trail = deque(), deque(), deque()
    feed.probe.keep(TFMessage, "/tf", tf)
    feed.probe.keep(MarkerArray, "/estimator/markers", markers)
    feed.probe.keep(Path, "/estimator/trail", trail)
    topic = feed.topic.replace("image_raw", "slam")
    settings = dict(head_pose__source="pose", head_pose__topic=topic, head_pose__global_frame="map")
    feed.start(**settings, tf__head_pose="camera")
    wait(lambda: feed.probe.skeletons, "the latched skeleton")
    feed.probe.set_parameters(tf__rate_hz=15.0)
    joints = skeleton(feed.probe.skeletons[-1].name)
    assert list(feed.probe.skeletons[-1].joint_names) == list(joints.joints)
    assert tuple(feed.probe.skeletons[-1].parents) == joints.parents
    assert tuple(feed.probe.skeletons[-1].mirror) == joints.mirror
    poses = []
    for index in range(13):
        stamp_ns = feed.stamp_ns + STEP_NS
        head = PoseStamped(header=header(stamp_ns, "map"))
        head.pose.position.x, head.pose.orientation.w = 0.1 * index, 1.0
        feed.send(head, topic)
        poses.append(feed.pose(STEP_NS))
    pose = wait(lambda: poses[-1], "the last pose")
    wait(lambda: markers and to_ns(markers[-1].markers[0].header.stamp) == feed.stamp_ns, "the last markers")
    positions = np.array(pose.positions).reshape(-1, 3)

    by_id = {marker.id: marker for marker in markers[-1].markers}
    assert len(by_id) == len(markers[-1].markers) == 4 + joints.size, "ids are fixed and unique"
    assert all(0 < m.lifetime.sec + m.lifetime.nanosec * 1e-9 < 1 for m in by_id.values())
    np.testing.assert_allclose([[p.x, p.y, p.z] for p in by_id[0].points], positions, atol=1e-6)
    assert len(by_id[1].points) == 2 * len(joints.bones)
    covariance = pose_from_message(pose).covariance_camera
    for joint in range(joints.size):
        marker = by_id[100 + joint]
        q = marker.pose.orientation
        R, unit = rigid.matrix_from_quaternion(np.array([q.x, q.y, q.z, q.w]))
        half_axes = np.array([marker.scale.x, marker.scale.y, marker.scale.z]) / 2.0
        assert unit
        np.testing.assert_allclose(R @ np.diag((half_axes / 2.0) ** 2) @ R.T, covariance[joint], rtol=1e-3, atol=1e-6)

    ours = [m for m in tf if m.transforms and to_ns(m.transforms[0].header.stamp) > feed.stamp_ns - 14 * STEP_NS]
    assert 6 <= len(ours) <= 8, "30 Hz of poses, 15 Hz of TF"
    for message in ours:
        stamp_ns = to_ns(message.transforms[0].header.stamp)
        same = pose_from_message(next(p for p in poses if to_ns(p.header.stamp) == stamp_ns))
        *body, _ = message.transforms
        assert [t.child_frame_id for t in body] == ["wearer/" + joint for joint in joints.joints]
        assert {t.header.frame_id for t in body} == {"eye"}
        (T,) = _transform([message], stamp_ns, "map", "eye")
        globally = pose_from_message(next(p for p in feed.probe.poses_global if to_ns(p.header.stamp) == stamp_ns))
        placed = same.joints_camera @ T[:3, :3].T + T[:3, 3]
        np.testing.assert_allclose(placed, globally.joints_camera, atol=1e-5)
        for transform, position, rotation in zip(message.transforms, same.joints_camera, same.rotations_camera):
            t, q = transform.transform.translation, transform.transform.rotation
            np.testing.assert_allclose([t.x, t.y, t.z], position, atol=1e-6)
            R, _ = rigid.matrix_from_quaternion(np.array([q.x, q.y, q.z, q.w]))
            np.testing.assert_allclose(R, rotation, atol=1e-5)

    wait(lambda: trail and len(trail[-1].poses) >= 3, "a trail that grows")
    stamps = [to_ns(p.header.stamp) for p in trail[-1].poses]
    assert np.diff(stamps).min() >= 10**8, "a point of the trail each tenth of a second, not each frame"
    assert trail[-1].header.frame_id == "map"
    steps = np.diff([p.pose.position.x for p in trail[-1].poses])
    assert (steps > 0).all(), "the wearer walks forward"
    wait(lambda: feed.probe.count("poses_out") == 13, "the diagnostics")
    status = feed.probe.status
    assert (status["frames_in"], status["frames_dropped"], status["state"]) == ("13", "0", "active")
    assert (status["device"], status["precision"], status["tracking_state"]) == ("cpu", "float32", "INITIALIZING")
    assert 0.0 < float(status["latency_p50_ms"]) <= float(status["latency_p95_ms"]) <= float(status["latency_p99_ms"])
    assert float(status["input_hz"]) > 0.0 and float(status["output_hz"]) > 0.0
    feed.probe.set_parameters(tf__rate_hz=30.0)


def _turn(rotvec: list[float]) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    return Rotation.from_rotvec(rotvec).as_matrix()


def _head(time: float) -> np.ndarray:
    """Return T_world_head: it walks and turns evenly, so that interpolation is exact."""
    return rigid.transform(_turn([0.0, 0.0, 0.1 * time]) @ _turn([0.0, 0.2, 0.0]), np.array([0.05 * time, 1.0, 1.6]))


def _row(parent: str, child: str, stamp_ns: int, T: np.ndarray) -> tuple:
    return parent, child, stamp_ns, T[:3, 3].tolist(), rigid.quaternion_from_matrix(T[:3, :3]).tolist()


def _transform(messages: Iterable[TFMessage], stamp_ns: int, parent: str, child: str) -> list[np.ndarray]:
    """Return each transform (4, 4) of a child at a stamp."""
    found = []
    for row in [row for message in messages for row in message.transforms]:
        if (to_ns(row.header.stamp), row.header.frame_id, row.child_frame_id) == (stamp_ns, parent, child):
            found.append(rigid.transform(rigid.matrix_from_quaternion(numbers(row.transform)[3:])[0], numbers(row.transform)[:3]))
    return found


def _odometry(stamp_ns: int, T: np.ndarray) -> Odometry:
    message = Odometry(header=header(stamp_ns, "odom"), child_frame_id="imu")
    p, q = message.pose.pose.position, message.pose.pose.orientation
    p.x, p.y, p.z = T[:3, 3].tolist()
    q.x, q.y, q.z, q.w = rigid.quaternion_from_matrix(T[:3, :3]).tolist()
    return message


def _imu(stamp_ns: int, time: float) -> ImuMessage:
    message = ImuMessage(header=header(stamp_ns, "imu"))
    w, a = message.angular_velocity, message.linear_acceleration
    w.x, w.y, w.z, a.x, a.y, a.z = 0.1 * time, 0.2, 0.3, 0.0, 0.5 * time, 9.81
    return message


def _moved(rig, T_head_camera: np.ndarray):
    from dataclasses import replace as replaced

    return replaced(rig, cameras=(replaced(rig.cameras[0], T_head_camera=T_head_camera),), head_known=True)
