"""Recordings on disk: bags that say what the recording knows, clips that read back, runs that resume."""

import dataclasses
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rosbags.highlevel import AnyReader

from egopose_ros import cli
from egopose_ros.camera import calibration
from egopose_ros.geometry import rigid
from egopose_ros.skeleton import SMPL22
from egopose_ros.structs import Visibility
from egopose_ros.synth import export as exporting
from egopose_ros.synth.bags import START_NS, write_bag
from egopose_ros.synth.clip_files import read_clip, write_clip
from egopose_ros.synth.export import ConfigError, SynthConfig, export
from egopose_ros.synth.world import record

FRAMES = 4


@pytest.fixture(scope="module", params=[1, 2], ids=["mono", "stereo"])
def recording(request):
    return record(11, "validation", frames=FRAMES, views=request.param, clips=None)


@pytest.fixture(scope="module")
def messages(recording, tmp_path_factory):
    """topic -> [(stamp_ns, message)] of the recording's bag, and its folder."""
    folder = tmp_path_factory.mktemp("bags") / "bag"
    write_bag(recording, folder)
    with AnyReader([folder]) as reader:
        found = {}
        for connection, stamp_ns, data in reader.messages():
            found.setdefault(connection.topic, []).append((stamp_ns, reader.deserialize(data, connection.msgtype)))
    return found, folder


def stamp_of(message):
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def matrix(pose_or_transform, position):
    xyzw = [
        getattr(
            pose_or_transform.rotation if hasattr(pose_or_transform, "rotation") else pose_or_transform.orientation, a
        )
        for a in "xyzw"
    ]
    return rigid.transform(
        rigid.matrix_from_quaternion(np.array(xyzw))[0], np.array([getattr(position, a) for a in "xyz"])
    )


def test_bag_has_every_topic_at_every_stamp(recording, messages):
    found, folder = messages
    with np.load(folder / "truth.npz") as truth:
        assert truth["stamps_ns"].tolist() == (recording.stamps_ns + START_NS).tolist()
    bases = ["/camera"] if recording.images.shape[1] == 1 else [f"/camera/{c.name}" for c in recording.rig.cameras]
    every = ["/head_pose", "/imu", "/imu/left_wrist", "/imu/right_lower_leg", "/ground_truth/pose"]
    every += [f"{base}/{name}" for base in bases for name in ("image_raw/compressed", "camera_info")]
    for topic in every:
        stamps = [stamp_of(message) for _, message in found[topic]]
        assert stamps == (recording.stamps_ns + START_NS).tolist(), topic
        assert stamps == [stamp for stamp, _ in found[topic]]
        assert all(message.header.frame_id for _, message in found[topic])
    for topic in ("/tf_static", "/ground_truth/skeleton"):
        assert len(found[topic]) == 1


def test_bag_images_are_the_recording(recording, messages):
    found, _ = messages
    topics = sorted(topic for topic in found if topic.endswith("compressed"))
    assert len(topics) == recording.images.shape[1]
    for view, topic in enumerate(topics):  # left before right, as in the rig
        for frame, (_, message) in enumerate(found[topic]):
            image = cv2.imdecode(message.data, cv2.IMREAD_COLOR)[..., ::-1]
            error = np.abs(image.astype(int) - recording.images[frame, view].numpy().astype(int))
            assert error.mean() < 6.0 and message.format == "jpeg"


def test_truth_projects_to_the_joints_pixels(recording, messages):
    """The pose message, the calibration beside the bag and the recording's 2D joints agree."""
    found, folder = messages
    camera = calibration.load(folder / "calibration.yaml").cameras[0]
    checked = 0
    for frame, (_, message) in enumerate(found["/ground_truth/pose"]):
        assert list(message.joint_names) == list(SMPL22.joints) and message.skeleton == SMPL22.name
        points = torch.tensor(np.array(message.positions).reshape(-1, 3))
        pixels = camera.model.project(points)[0].numpy()
        seen = recording.visible[frame, 0] != Visibility.OUT_OF_VIEW
        np.testing.assert_allclose(pixels[seen], recording.joints_px[frame, 0][seen], atol=0.05)
        checked += seen.sum()
        R = rigid.matrix_from_quaternion(np.array(message.orientations, float).reshape(-1, 4))[0]
        R_world = recording.T_world_camera[frame, 0, :3, :3] @ R
        np.testing.assert_allclose(R_world, recording.rotations_world[frame], atol=1e-3)
    assert checked > 10


def test_head_pose_and_extrinsics_place_the_truth_in_the_world(recording, messages):
    found, _ = messages
    transforms = found["/tf_static"][0][1].transforms
    assert [t.header.frame_id for t in transforms] == ["head"] * recording.images.shape[1]
    first = found[sorted(topic for topic in found if topic.endswith("compressed"))[0]][0][1]
    assert transforms[0].child_frame_id == first.header.frame_id == found["/ground_truth/pose"][0][1].header.frame_id
    T_head_camera = matrix(transforms[0].transform, transforms[0].transform.translation)
    for frame, (_, message) in enumerate(found["/head_pose"]):
        T = matrix(message.pose, message.pose.position) @ T_head_camera
        joints = np.array(found["/ground_truth/pose"][frame][1].positions).reshape(-1, 3)
        world = rigid.apply(T, joints)
        assert np.abs(world - recording.joints_world[frame]).max() < 0.08  # the camera slips a little on the head


def test_camera_info_and_imu(recording, messages):
    found, folder = messages
    topic = sorted(topic for topic in found if topic.endswith("camera_info"))[0]
    info = found[topic][0][1]
    k, d = info.k.tolist(), info.d.tolist()
    model = calibration.from_camera_info(info.width, info.height, info.distortion_model, d, k).model
    ray = torch.tensor([0.3, -0.2, 0.4])
    expected = recording.rig.cameras[0].model.project(ray)[0]
    np.testing.assert_allclose(model.project(ray)[0], expected, atol=1e-3)
    assert info.distortion_model == "equidistant"
    force = np.array([[getattr(m.linear_acceleration, a) for a in "xyz"] for _, m in found["/imu"]])
    assert np.abs(np.linalg.norm(force, axis=-1) - 9.81).max() < 12.0
    latched = found["/ground_truth/skeleton"][0][1]
    assert list(latched.parents) == list(SMPL22.parents) and list(latched.mirror) == list(SMPL22.mirror)
    metadata = (folder / "metadata.yaml").read_text()
    assert "mcap" in metadata and "transient_local" in metadata


def test_clip_reads_back(recording, tmp_path):
    write_clip(recording, tmp_path / "clip")
    clip = read_clip(tmp_path / "clip")
    np.testing.assert_allclose(clip.joints, recording.joints_camera[:, 0], atol=1e-6)
    np.testing.assert_array_equal(clip.visible, recording.visible)
    np.testing.assert_allclose(clip.joints_px, recording.joints_px)
    assert clip.action == recording.action and len(clip.images) == FRAMES
    assert [camera.name for camera in clip.rig.cameras] == [camera.name for camera in recording.rig.cameras]
    for view, image in enumerate(clip.images[-1]):
        assert np.abs(image.astype(int) - recording.images[-1, view].numpy().astype(int)).mean() < 6.0
    next((tmp_path / "clip" / "images").rglob("000001.jpg")).write_bytes(b"no image")
    with pytest.raises(ValueError, match="000001.jpg: expected a JPEG"):
        clip.images[1]
    with pytest.raises(IndexError):
        clip.images[FRAMES]


@pytest.fixture
def counted(recording, monkeypatch):
    """Stand in for the renderer, so that a run costs nothing; seeds that were rendered are noted."""
    rendered = []

    def fake(seed, split, **_):
        rendered.append(seed)
        return dataclasses.replace(recording, seed=seed, split=split)

    monkeypatch.setattr(exporting, "record", fake)
    monkeypatch.delenv("EGOPOSE_MOTION_DIR", raising=False)
    return rendered


@pytest.mark.parametrize("kind", ["bag", "clip"])
def test_runs_resume_and_extend(tmp_path, counted, kind):
    config = SynthConfig(split="test", seed=3, count=2, seconds=0.2, format=kind)
    paths = export(config, tmp_path)
    assert [path.name for path in paths] == ["test_0000003", "test_0000004"] and counted == [3, 4]
    export(SynthConfig(split="test", seed=3, count=3, seconds=0.2, format=kind), tmp_path)
    assert counted == [3, 4, 5]
    shutil.rmtree(tmp_path / "test_0000004")
    (tmp_path / "manifest.json").unlink()  # as if ended before it was written
    (tmp_path / ".test_0000004.partial").mkdir()
    export(SynthConfig(split="test", seed=3, count=3, seconds=0.2, format=kind), tmp_path)
    assert counted == [3, 4, 5, 4]
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert {entry["seed"] for entry in manifest["recordings"].values()} == {3, 4, 5}
    assert all(entry["licences"] and entry["split"] == "test" for entry in manifest["recordings"].values())
    assert {path.name for path in tmp_path.iterdir()} == {
        "manifest.json",
        "test_0000003",
        "test_0000004",
        "test_0000005",
    }


def test_an_ended_run_leaves_nothing_half_written(tmp_path, counted, monkeypatch):
    def breaks(recording, folder: Path):
        folder.mkdir()
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    monkeypatch.setitem(exporting._WRITERS, "clip", breaks)
    with pytest.raises(KeyboardInterrupt):
        export(SynthConfig(seconds=0.2, format="clip"), tmp_path)
    assert not (tmp_path / "train_0000000").exists()
    monkeypatch.setitem(exporting._WRITERS, "clip", write_clip)
    (path,) = export(SynthConfig(seconds=0.2, format="clip"), tmp_path)
    assert (path / "truth.npz").is_file() and not list(tmp_path.glob(".*"))


def test_runs_side_by_side_list_the_recordings_of_both(tmp_path, counted, monkeypatch):
    first = exporting.record

    def while_another_runs(seed, split, **arguments):
        if seed == 0:
            monkeypatch.setattr(exporting, "record", first)
            export(SynthConfig(seconds=0.2, format="clip", seed=5), tmp_path)
        return first(seed, split, **arguments)

    monkeypatch.setattr(exporting, "record", while_another_runs)
    export(SynthConfig(seconds=0.2, format="clip"), tmp_path)
    assert set(json.loads((tmp_path / "manifest.json").read_text())["recordings"]) == {"train_0000000", "train_0000005"}


def test_other_settings_and_other_files_are_refused(tmp_path, counted):
    export(SynthConfig(seconds=0.2, format="clip"), tmp_path)
    with pytest.raises(ConfigError, match=r"seconds 0.2 \(now 0.5\)"):
        export(SynthConfig(seconds=0.5, format="clip"), tmp_path)
    (tmp_path / "train_0000001").mkdir()
    with pytest.raises(ConfigError, match="train_0000001"):
        export(SynthConfig(seconds=0.2, format="clip", seed=1), tmp_path)
    with pytest.raises(ConfigError, match="expected up to"):
        SynthConfig(seconds=600.0, fps=240.0).load_rig()


@pytest.mark.parametrize(
    ("device", "gpus", "complaint"),
    [
        ("foo", 1, "device: expected auto, cpu, cuda or cuda:N, got 'foo'"),
        ("cuda:x", 1, "device: expected auto, cpu, cuda or cuda:N, got 'cuda:x'"),
        ("cuda", 0, "device: expected a CUDA device for cuda, torch sees none"),
        ("cuda:1", 1, "device: expected a number below the 1 CUDA devices, got cuda:1"),
    ],
)
def test_a_device_that_is_not_there_is_one_line(tmp_path, monkeypatch, capsys, device, gpus, complaint):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    out = ["synth", "--device", device, "--out", str(tmp_path / "out")]
    for arguments in (out, [*out, "--sheet", str(tmp_path / "sheet.png")]):
        assert cli.main(arguments) == 1
        assert capsys.readouterr().err == f"egopose synth: {complaint}\n"
    assert not list(tmp_path.iterdir())


def test_command_makes_a_bag_with_a_real_rig(tmp_path, capsys):
    """One command, the real renderer and a camera model of its own."""
    rig = Path(__file__).resolve().parents[2] / "config" / "cameras" / "cap_equidistant.yaml"
    small = tmp_path / "rig.yaml"
    loaded = calibration.load(rig)
    camera = loaded.cameras[0]
    width, height = camera.model.size
    shrunk = dataclasses.replace(camera, model=camera.model.resize(width // 4, height // 4))
    calibration.save(dataclasses.replace(loaded, cameras=(shrunk,)), small)
    arguments = ["synth", "--seconds", "0.1", "--rig", str(small), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert cli.main(arguments) == 0
    folder = Path(capsys.readouterr().out.strip())
    with AnyReader([folder]) as reader:
        kinds = {connection.topic: connection.msgcount for connection in reader.connections}
    assert kinds["/camera/image_raw/compressed"] == 3
    assert calibration.load(folder / "calibration.yaml").cameras[0].model == shrunk.model
    assert cli.main(["synth", "--rig", str(tmp_path / "none.yaml"), "--out", str(tmp_path / "x")]) == 1
    assert "none.yaml" in capsys.readouterr().err
