"""Ground truth from every source is the same; its clock's offset is found; names are understood; doubt is said."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from bag_maker import IMAGE, T_HEAD_CAMERA, Maker, stamp_at, truth_at, write_bag

from egopose_ros.config import Config, replace
from egopose_ros.evaluation import truth as truths
from egopose_ros.evaluation.truth import Truth, TruthError, match_names
from egopose_ros.geometry import rigid
from egopose_ros.ros import bag_runs, bag_truth
from egopose_ros.ros.bag_frames import BagFrames
from egopose_ros.ros.bag_reader import BagReader
from egopose_ros.skeleton import EGOBODY3M26, SMPL22

FRAMES = 8
EXPECTED = np.stack([truth_at(index) for index in range(FRAMES)])
STAMPS = np.array([stamp_at(index) for index in range(FRAMES)])


def mocap_name(joint: str) -> str:
    """Return a joint's name as motion capture has it: left_wrist is LeftHand."""
    side, _, bare = joint.partition("_")
    others = {"wrist": "Hand", "elbow": "ForeArm", "hip": "UpLeg", "ankle": "Ankle"}
    if side in ("left", "right"):
        return side.capitalize() + others.get(bare, bare.capitalize())
    return {"pelvis": "Hips"}.get(joint, joint.capitalize())


def in_csv(folder: Path) -> Path:
    with (folder / "truth.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["stamp_ns", *(f"{mocap_name(joint)}_{axis}" for joint in SMPL22.joints for axis in "xyz")])
        writer.writerows([stamp, *joints.ravel().tolist()] for stamp, joints in zip(STAMPS.tolist(), EXPECTED))
    return folder / "truth.csv"


def in_json(folder: Path) -> Path:
    frames = [{"stamp_ns": s, "joints_m": j.tolist()} for s, j in zip(STAMPS.tolist(), EXPECTED)]
    (folder / "truth.json").write_text(json.dumps({"joint_names": list(SMPL22.joints), "frames": frames}))
    return folder / "truth.json"


def in_npz(folder: Path) -> Path:
    order = np.random.default_rng(0).permutation(SMPL22.size)
    names = np.array(SMPL22.joints)[order]
    np.savez(folder / "truth.npz", stamps_ns=STAMPS, joints=EXPECTED[:, order], joint_names=names)
    return folder / "truth.npz"


def test_seconds_since_1970_keep_their_nanoseconds(tmp_path: Path) -> None:
    path, stamps = tmp_path / "slow.csv", ("1700000000.123456789", "1700000000.323456791")
    head = ",".join(f"{joint}_{axis}" for joint in SMPL22.joints for axis in "xyz")
    path.write_text("\n".join([f"stamp,{head}", *(stamp + ",1" * 3 * SMPL22.size for stamp in stamps)]))
    assert truths.load(path).stamps_ns.tolist() == [1700000000123456789, 1700000000323456791]


@pytest.mark.parametrize("write", [in_csv, in_json, in_npz])
def test_files_give_what_was_written(write: object, tmp_path: Path) -> None:
    found = truths.load(write(tmp_path))
    assert (found.skeleton, found.frame) == ("smpl22", "camera")
    np.testing.assert_array_equal(found.stamps_ns, STAMPS)
    np.testing.assert_allclose(found.joints, EXPECTED, atol=1e-6)


def rows(*times: str) -> str:
    """Return a CSV of three joints at some times."""
    head = ["time", *(f"{joint}_{axis}" for joint in ("head", "neck", "pelvis") for axis in "xyz")]
    return "\n".join(",".join(line) for line in [head, *([time] + ["1"] * 9 for time in times)])


DAMAGED = {
    "cut.npz": (b"PK\x03\x04 cut off", "arrays stamps_ns"),
    "array.npz": (b"\x93NUMPY", "arrays stamps_ns"),
    "flat.npz": ({"stamps_ns": np.int64(1), "joints": np.zeros(()), "skeleton": "smpl22"}, "arrays stamps_ns"),
    "number.json": (b'{"frames": [1], "joint_names": []}', '{"frames":'),
    "empty.json": (b'{"frames": [], "joint_names": []}', '{"frames":'),
    "list.json": (b"[]", '{"frames":'),
    "nested.json": (b"[" * 100_000, '{"frames":'),
    "short.json": (b'{"frames": [{"stamp_ns": 1, "joints_m": [[0, 0, 0]]}], "joint_names": ["head", "neck"]}', "2 joints"),
    "cell.csv": (rows("1" * 200_000).encode(), "a header"),
    "latin.csv": (rows("0").replace("head", "t\xeate").encode("latin-1"), "a header"),
    "endless.csv": (rows("inf").encode(), "expected numbers, got"),
    "far.csv": (rows("1e30").encode(), "a header"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_refused_in_one_line_that_names_it(name: str, tmp_path: Path) -> None:
    content, expected = DAMAGED[name]
    path = tmp_path / name
    np.savez(path, **content) if isinstance(content, dict) else path.write_bytes(content)
    with pytest.raises(TruthError) as refused:
        truths.load(path)
    said = str(refused.value)
    assert said.startswith(f"{path}: expected ") and expected in said and "\n" not in said and len(said) < 400


def write_tf(maker: Maker, index: int) -> None:
    """Write the joints as frames below the camera's, and one that is no joint."""
    frames = {f"mocap/{joint}": p for joint, p in zip(SMPL22.joints, truth_at(index))} | {"mocap/hat": np.zeros(3)}
    rows = [
        maker.transform(stamp_at(index), "eye", name, rigid.transform(np.eye(3), point.astype(float)))
        for name, point in frames.items()
    ]
    maker.write("/tf", maker.make("tf2_msgs/msg/TFMessage", rows), stamp_at(index))


def write_markers(maker: Maker, index: int, named: bool) -> None:
    make = maker.make
    zero = make("builtin_interfaces/msg/Duration", 0, 0)
    points = [make("geometry_msgs/msg/Point", *map(float, point)) for point in truth_at(index)]
    origin = make("geometry_msgs/msg/Point", 0.0, 0.0, 0.0)
    upright = make("geometry_msgs/msg/Quaternion", 0.0, 0.0, 0.0, 1.0)
    colour, scale = make("std_msgs/msg/ColorRGBA", 1.0, 1.0, 1.0, 1.0), make("geometry_msgs/msg/Vector3", 1.0, 1.0, 1.0)
    plain = dict(
        header=maker.header(stamp_at(index), "eye"), action=0, scale=scale, color=colour, lifetime=zero,
        frame_locked=False, colors=[], mesh_resource="", mesh_use_embedded_materials=False, texture_resource="",
        texture=make("sensor_msgs/msg/CompressedImage", maker.header(0, ""), "", np.zeros(0, np.uint8)),
        uv_coordinates=[],
        mesh_file=make("visualization_msgs/msg/MeshFile", "", np.zeros(0, np.uint8)),
    )  # fmt: skip
    if named:
        rows = [
            make("visualization_msgs/msg/Marker", ns=joint, id=number, type=2, text="", points=[],
                 pose=make("geometry_msgs/msg/Pose", point, upright), **plain)
            for number, (joint, point) in enumerate(zip(SMPL22.joints, points))
        ]  # fmt: skip
    else:
        pose = make("geometry_msgs/msg/Pose", origin, upright)
        rows = [make("visualization_msgs/msg/Marker", ns="all", id=0, type=7, text="", points=points, pose=pose, **plain)]
    maker.write("/truth_markers", make("visualization_msgs/msg/MarkerArray", rows), stamp_at(index))


@pytest.mark.parametrize("source", ["/ground_truth/pose", "/tf", "named", "list"])
def test_topics_give_what_was_written(source: str, tmp_path: Path) -> None:
    topic = source if source.startswith("/") else "/truth_markers"
    with Maker(tmp_path / "bag") as maker:
        for index in range(FRAMES):
            maker.image(index)
            if source == "/tf":
                write_tf(maker, index)
            elif topic == "/truth_markers":
                write_markers(maker, index, source == "named")
            else:
                maker.truth(index)
    with BagReader(tmp_path / "bag") as reader:
        if source == "list":
            with pytest.raises(TruthError, match="--truth-skeleton"):
                bag_truth.read(reader, topic)
        found = bag_truth.read(reader, topic, "smpl22" if source == "list" else "")
        frames = BagFrames(reader, replace(Config(), {"camera.topics": (IMAGE,)}))
        assert bag_runs.resolve_frame(found, frames, False).frame == "camera"
    np.testing.assert_array_equal(found.stamps_ns, STAMPS)
    np.testing.assert_allclose(found.joints, EXPECTED, atol=1e-6)
    assert found.skeleton == "smpl22" and found.frame == "eye"


def test_truth_below_a_frame_that_tf_connects_with_the_camera(tmp_path: Path) -> None:
    with Maker(tmp_path / "bag") as maker:
        maker.tf(0, "head", "eye", T_HEAD_CAMERA)
        maker.image(0)
    with BagReader(tmp_path / "bag") as reader:
        frames = BagFrames(reader, replace(Config(), {"camera.topics": (IMAGE,)}))
        in_head = Truth("x", STAMPS, rigid.apply(T_HEAD_CAMERA, EXPECTED).astype(np.float32), "smpl22", "head")
        np.testing.assert_allclose(bag_runs.resolve_frame(in_head, frames, False).joints, EXPECTED, atol=1e-5)
        elsewhere = Truth("x", STAMPS, EXPECTED, "smpl22", "lighthouse")
        with pytest.raises(ValueError, match="got 'lighthouse'; --truth-frame"):
            bag_runs.resolve_frame(elsewhere, frames, False)


def test_truth_in_the_world_is_resolved_by_the_head_pose(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", 2)
    with BagReader(tmp_path / "bag") as reader:
        config = bag_runs.settings(reader, (), {})
        frames = BagFrames(reader, config)
        world = Truth("x", STAMPS, EXPECTED, "smpl22", "world")
        assert bag_runs.resolve_frame(world, frames, True).frame == "world"


@pytest.mark.parametrize("offset_s", [0.0, 0.137, -0.8])
def test_the_offset_of_a_clock_is_found(offset_s: float) -> None:
    """Truth at another rate, with noise on the poses."""
    rng = np.random.default_rng(1)
    poses_ns = np.array([stamp_at(index) for index in range(240)])
    poses = np.stack([truth_at(index) for index in range(240)]) + rng.normal(scale=0.0005, size=(240, 22, 3))
    moments = np.arange(0, 240, 0.5)
    joints = np.stack([truth_at(moment) for moment in moments])
    truth_ns = np.round(poses_ns[0] + moments / 30.0 * 1e9 + offset_s * 1e9).astype(np.int64)
    found, correlation = truths.estimate_offset(truth_ns, joints, poses_ns, poses)
    assert found == pytest.approx(offset_s, abs=0.01) and correlation > 0.8
    with pytest.raises(TruthError, match="give --truth-offset"):
        truths.estimate_offset(truth_ns, rng.normal(size=joints.shape), poses_ns, poses)


@pytest.mark.parametrize("apart_s", [9.5, 3600.0, -9.5])
def test_no_offset_is_looked_for_where_nothing_overlaps(apart_s: float) -> None:
    stamps = np.array([stamp_at(index) for index in range(240)])
    joints = np.stack([truth_at(index) for index in range(240)])
    with pytest.raises(TruthError, match="s makes overlap, got them .* s apart; give --truth-offset"):
        truths.estimate_offset(stamps + round(apart_s * 1e9), joints, stamps, joints)


def test_truth_between_stamps_is_interpolated_and_gaps_are_not_bridged() -> None:
    stamps = np.array([0, 50, 300, 350]) * 1_000_000
    joints = np.arange(4, dtype=np.float32)[:, None, None] * np.ones((1, 22, 3), np.float32)
    found, _ = Truth("x", stamps, joints, "smpl22", "camera").at(np.array([-1, 0, 25, 50, 100, 300, 340, 360]) * 1_000_000)
    np.testing.assert_allclose(found[:, 0, 0], [np.nan, 0.0, 0.5, 1.0, np.nan, 2.0, 2.8, np.nan], atol=1e-6)
    shifted, _ = Truth("x", stamps, joints, "smpl22", "camera").at(np.array([-25_000_000]), 0.05)
    assert shifted[0, 0, 0] == pytest.approx(0.5)


@pytest.mark.parametrize("body", [SMPL22, EGOBODY3M26], ids=lambda body: body.name)
def test_names_of_every_spelling_are_matched(body: object) -> None:
    names = list(reversed(body.joints))
    for spell in (str, lambda j: "wearer/" + j, lambda j: j.replace("left_", "l_").replace("right_", "r_"), str.upper):
        found, places = match_names([spell(name) for name in names], "x")
        assert found is body and [names[place] for place in places] == list(body.joints)
    with pytest.raises(TruthError, match="got a, b"):
        match_names(["a", "b"], "x")


MIXAMO = {
    "Hips": "pelvis", "Spine": "spine1", "Spine1": "spine2", "Spine2": "spine3", "Neck": "neck", "Head": "head",
    "HeadTop_End": None,
    **{f"{side.capitalize()}{theirs}": ours and f"{side}_{ours}" for side in ("left", "right") for theirs, ours in {
        "Shoulder": "collar", "Arm": "shoulder", "ForeArm": "elbow", "Hand": "wrist", "UpLeg": "hip", "Leg": "knee",
        "Foot": "ankle", "ToeBase": "foot", "Toe_End": None,
    }.items()},
}  # fmt: skip
ROKOKO = {
    "Hips": "pelvis", "Spine1": "spine1", "Spine2": "spine2", "Spine3": "spine3", "Neck": "neck", "Head": "head",
    **{f"{side.capitalize()}{theirs}": f"{side}_{ours}" for side in ("left", "right") for theirs, ours in {
        "Shoulder": "collar", "Arm": "shoulder", "ForeArm": "elbow", "Hand": "wrist", "Thigh": "hip", "Shin": "knee",
        "Foot": "ankle", "Toe": "foot",
    }.items()},
}  # fmt: skip
UNREAL = {
    "root": None, "pelvis": "pelvis",
    **{f"{theirs}_{side[0]}": f"{side}_{ours}" for side in ("left", "right") for theirs, ours in {
        "clavicle": "collar", "upperarm": "shoulder", "lowerarm": "elbow", "hand": "wrist", "thigh": "hip",
        "calf": "knee", "foot": "ankle", "ball": "foot",
    }.items()},
}  # fmt: skip


@pytest.mark.parametrize("spelling", [MIXAMO, ROKOKO, UNREAL], ids=["mixamo", "rokoko", "unreal"])
def test_motion_capture_names_are_understood_by_what_stands_beside_them(spelling: dict[str, str | None]) -> None:
    """A foot beside a toe is the ankle, a shoulder beside an arm the collar, a bare spine beside others the first."""
    for prefix in ("", "mocap/", "mixamorig:", "actor1:mixamorig_", "Bip01 "):
        names = [prefix + name for name in sorted(spelling, reverse=bool(prefix))]
        body, places = match_names(names, "x", "smpl22")
        found = {joint: names[place].removeprefix(prefix) for joint, place in zip(body.joints, places) if place >= 0}
        assert found == {ours: theirs for theirs, ours in spelling.items() if ours}


def test_the_shoulder_of_egobody3m_is_the_collar() -> None:
    others = {"collar": "shoulder", "shoulder": "arm", "elbow": "forearm"}
    split = [joint.partition("_") for joint in EGOBODY3M26.joints]
    names = [f"{side[0]}_{others.get(bare, bare)}" if bare else side for side, _, bare in split]
    assert match_names(names, "x") == (EGOBODY3M26, list(range(EGOBODY3M26.size)))


def test_the_hand_of_a_body_that_has_wrists_is_none() -> None:
    names = ["left_hand", "right_hand", *SMPL22.joints]
    assert match_names(names, "x") == (SMPL22, list(range(2, 2 + SMPL22.size)))


@pytest.mark.parametrize("names", [("a/left_wrist", "b/left_wrist"), ("Left_Ankle", "LeftFoot", "LeftToeBase")])
def test_names_that_mean_the_same_joint_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(TruthError, match=f"x: expected one .* got .*{', '.join(names[-2:])}"):
        match_names(["pelvis", "neck", "head", *names], "x", "smpl22")
