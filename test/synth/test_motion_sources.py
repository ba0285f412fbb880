"""Clips read from files keep the directions of the source's limbs, whatever its axes, rest pose and channel order."""

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from egopose_ros.synth.motion.body import INDEX, REFERENCE, SOLE, forward_kinematics
from egopose_ros.synth.motion.bvh import load_bvh, read_hierarchy, world_segments
from egopose_ros.synth.motion.clip import ACTIONS
from egopose_ros.synth.motion.gltf import Glb, family_of, load_glb, sample_channel
from egopose_ros.synth.motion.placement import place, soles
from egopose_ros.synth.motion.retarget import LIMBS, R_WORLD_YUP

FOLDER = Path(os.environ.get("EGOPOSE_MOTION_DIR") or Path(__file__).resolve().parents[3] / "shared" / "motion")
needs_clips = pytest.mark.skipif(not FOLDER.is_dir(), reason="no folder of motion clips (EGOPOSE_MOTION_DIR)")

# name, parent, offset: a figure in the manner of the CMU files, arms sloping down at rest
_BVH = [
    ("Hips", None, (0, 0, 0)),
    *[
        (f"{S}{name}", parent if parent == "Hips" else f"{S}{parent}", (x * (1 if S == "Left" else -1), y, z))
        for S in ("Left", "Right")
        for name, parent, (x, y, z) in (
            ("UpLeg", "Hips", (1.6, -1.8, 0.6)), ("Leg", "UpLeg", (0.1, -7.1, 0)), ("Foot", "Leg", (0.1, -6.8, 0)),
            ("ToeBase", "Foot", (0.1, -0.6, 2.1)),
        )
    ],
    ("LowerBack", "Hips", (0, 0.1, 0)), ("Spine", "LowerBack", (0, 2, 0)), ("Spine1", "Spine", (0, 2, 0)),
    ("Neck1", "Spine1", (0, 1.5, 0)), ("Head", "Neck1", (0, 1.5, 0)),
    *[
        (f"{S}{name}", parent if parent == "Spine1" else f"{S}{parent}", (x * (1 if S == "Left" else -1), y, 0))
        for S in ("Left", "Right")
        for name, parent, (x, y) in (
            ("Shoulder", "Spine1", (0.1, 0)), ("Arm", "Shoulder", (3.5, 0.9)), ("ForeArm", "Arm", (4.8, -0.8)),
            ("Hand", "ForeArm", (3.3, -0.5)),
        )
    ],
]  # fmt: skip


def write_bvh(path: Path, values: np.ndarray, order: str = "ZYX") -> None:
    def block(name: str, depth: int) -> list[str]:
        offset = next(offset for joint, _, offset in _BVH if joint == name)
        channels = [f"{axis}rotation" for axis in order]
        root = name == "Hips"
        channels = (["Xposition", "Yposition", "Zposition"] if root else []) + channels
        lines = [("ROOT " if root else "JOINT ") + name, "{", "OFFSET " + " ".join(map(str, offset))]
        lines.append(f"CHANNELS {len(channels)} " + " ".join(channels))
        children = [joint for joint, parent, _ in _BVH if parent == name]
        for child in children:
            lines += block(child, depth + 1)
        return lines + ([] if children else ["End Site", "{", "OFFSET 0 1 0", "}"]) + ["}"]

    rows = [" ".join(f"{value:.6f}" for value in row) for row in values]
    motion = ["MOTION", f"Frames: {len(values)}", "Frame Time: .0083333", *rows]
    path.write_text("\n".join(["HIERARCHY", *block("Hips", 0), *motion]))


@pytest.fixture
def bvh(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(0, 25, (30, 3 + 3 * len(_BVH)))
    values[:, :3] = [3, 17, -2]
    values[0, 3:] = 0
    path = tmp_path / "99_01.bvh"
    write_bvh(path, values)
    return path


CMU_LIMBS = {"hip": "UpLeg", "knee": "Leg", "ankle": "Foot", "shoulder": "Arm", "elbow": "ForeArm", "wrist": "Hand"}


def limb_cosines(motion, positions, name_of, names):
    """Cosines between the limbs' directions on the reference body and in the source's own axes."""
    joints = forward_kinematics(motion.rotations_world.astype(float), motion.pelvis_world, REFERENCE)
    for a, b in LIMBS:
        ours = joints[:, INDEX[b]] - joints[:, INDEX[a]]
        theirs = (positions[:, names.index(name_of(b))] - positions[:, names.index(name_of(a))]) @ R_WORLD_YUP.T
        yield np.sum(ours * theirs, -1) / np.linalg.norm(ours, axis=-1) / np.linalg.norm(theirs, axis=-1)


def test_bvh_keeps_limb_directions(bvh):
    motion = load_bvh(bvh)
    file = read_hierarchy(bvh)
    _, positions = world_segments(file)
    name_of = lambda joint: joint.split("_")[0].capitalize() + CMU_LIMBS[joint.split("_")[1]]  # noqa: E731
    for cosine in limb_cosines(motion, positions[1:], name_of, file.names):
        assert cosine.min() > 0.9999
    assert motion.frames == 29 and motion.family == "99" and motion.fps == pytest.approx(120, abs=0.01)


def test_bvh_channel_order_is_that_of_the_file(tmp_path):
    turns = np.array([30.0, -40.0, 50.0])
    values = np.zeros((2, 3 + 3 * len(_BVH)))
    values[1, 3:6] = turns
    write_bvh(tmp_path / "a.bvh", values, "XYZ")
    rotations, _ = world_segments(read_hierarchy(tmp_path / "a.bvh"))
    x, y, z = (Rotation.from_euler(axis, angle, degrees=True) for axis, angle in zip("xyz", turns))
    np.testing.assert_allclose(rotations[1, 0], (x * y * z).as_matrix(), atol=1e-9)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("not a bvh", "HIERARCHY"),
        ("HIERARCHY\nROOT Hips\n{\nOFFSET 0 0 0\nCHANNELS 3 Zrotation Yrotation Xrotation\n}\n"
         "MOTION\nFrames: 2\nFrame Time: .01\n0 0 0", "2 frames of 3 values, got 3"),
        ("HIERARCHY\nROOT Hips\n{\nOFFSET 0 0 0\nCHANNELS 3 Zrotation Yrotation Xrotation\n}\n"
         "MOTION\nFrames: 2\nFrame Time: .01\n0 0 0\n0 0 0", "LeftUpLeg"),
    ],
)  # fmt: skip
def test_bvh_errors_name_what_is_wrong(tmp_path, text, expected):
    (tmp_path / "x.bvh").write_text(text)
    with pytest.raises(ValueError, match=expected):
        load_bvh(tmp_path / "x.bvh")


GLB_NODES = [("root", None, (0, 0, 0)), ("pelvis", "root", (0, 0.93, 0)), ("spine_01", "pelvis", (0, 0.1, 0)),
             ("spine_02", "spine_01", (0, 0.12, 0)), ("spine_03", "spine_02", (0, 0.14, 0)),
             ("neck_01", "spine_03", (0, 0.2, 0)), ("head", "neck_01", (0, 0.1, 0))] + [
    (f"{name}_{s}", parent if parent in ("pelvis", "spine_03") else f"{parent}_{s}", (x * (-1) ** (s == "r"), y, z))
    for s in "lr"
    for name, parent, (x, y, z) in (
        ("thigh", "pelvis", (0.09, 0, 0)), ("calf", "thigh", (0, -0.41, 0.02)), ("foot", "calf", (0, -0.42, -0.06)),
        ("ball", "foot", (0, -0.08, 0.16)), ("clavicle", "spine_03", (0.02, 0.14, 0.06)),
        ("upperarm", "clavicle", (0.15, 0, -0.1)), ("lowerarm", "upperarm", (0.29, -0.02, 0)),
        ("hand", "lowerarm", (0.27, -0.01, 0)),
    )
]  # fmt: skip


def write_glb(path: Path, kind: str, times: np.ndarray, quaternions: np.ndarray) -> None:
    """Write a figure whose nodes rest turned and scaled, with one animation of every node's rotation."""
    names = [name for name, _, _ in GLB_NODES]
    nodes = [dict(name=name, translation=list(offset), rotation=[0.0, 0.0, 0.0, 1.0]) for name, _, offset in GLB_NODES]
    for i, (name, parent, _) in enumerate(GLB_NODES):
        if parent:
            nodes[names.index(parent)].setdefault("children", []).append(i)
    buffers, accessors, views = b"", [], []

    def add(array: np.ndarray, type_: str) -> int:
        nonlocal buffers
        array = np.ascontiguousarray(array, np.float32)
        views.append(dict(buffer=0, byteOffset=len(buffers), byteLength=array.nbytes))
        accessors.append(
            dict(
                bufferView=len(views) - 1,
                componentType=5126,
                count=array.size // (4 if type_ == "VEC4" else 1),
                type=type_,
            )
        )
        buffers += array.tobytes()
        return len(accessors) - 1

    clock = add(times, "SCALAR")
    samplers = [dict(input=clock, output=add(quaternions[:, i], "VEC4"), interpolation=kind) for i in range(len(nodes))]
    channels = [dict(sampler=i, target=dict(node=i, path="rotation")) for i in range(len(nodes))]
    animation = dict(name="Bow", samplers=samplers, channels=channels)
    document = dict(
        asset=dict(version="2.0"),
        nodes=nodes,
        accessors=accessors,
        bufferViews=views,
        buffers=[dict(byteLength=len(buffers))],
        animations=[animation],
    )
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    size = 12 + 8 + len(text) + 8 + len(buffers)
    head = b"glTF" + struct.pack("<II", 2, size) + struct.pack("<I", len(text)) + b"JSON"
    path.write_bytes(head + text + struct.pack("<I", len(buffers)) + b"BIN\0" + buffers)


@pytest.mark.parametrize("kind", ["LINEAR", "STEP"])
def test_glb_keeps_limb_directions(tmp_path, kind):
    rng = np.random.default_rng(1)
    times = np.arange(12) / 24
    quaternions = Rotation.from_rotvec(rng.normal(0, 0.4, (12 * len(GLB_NODES), 3))).as_quat().reshape(12, -1, 4)
    write_glb(tmp_path / "a.glb", kind, times, quaternions)
    (motion,) = load_glb(tmp_path / "a.glb")
    glb = Glb(tmp_path / "a.glb")
    rest = [np.repeat(values[None], 12, 0) for values in glb.rest()]
    _, positions = glb.world(rest[0], quaternions, rest[2])
    names = {
        "hip": "thigh",
        "knee": "calf",
        "ankle": "foot",
        "shoulder": "upperarm",
        "elbow": "lowerarm",
        "wrist": "hand",
    }
    name_of = lambda joint: f"{names[joint.split('_')[1]]}_{joint[0]}"  # noqa: E731
    for cosine in limb_cosines(motion, positions, name_of, glb.names):
        assert cosine.min() > 0.999
    assert motion.family == "talk" and motion.frames == 12


def test_cubic_spline_follows_a_cubic_and_its_tangents():
    times = np.array([0.0, 0.5, 2.0])
    cubic, slope = (lambda t: 1 - 2 * t + 0.5 * t**3), (lambda t: -2 + 1.5 * t**2)
    rows = np.stack([slope(times), cubic(times), slope(times)], 1).reshape(-1, 1)
    at = np.linspace(0, 2, 31)
    np.testing.assert_allclose(sample_channel(times, rows, "CUBICSPLINE", at, False)[:, 0], cubic(at), atol=1e-9)


def test_step_holds_and_linear_rotation_has_constant_speed():
    times = np.array([0.0, 1.0])
    ends = Rotation.from_rotvec([[0, 0, 0], [0, 0, 2.0]]).as_quat()
    at = np.array([0.0, 0.25, 0.999, 1.0])
    angles = [
        Rotation.from_quat(sample_channel(times, ends, kind, at, True)).magnitude() for kind in ("STEP", "LINEAR")
    ]
    np.testing.assert_allclose(angles[0], [0, 0, 0, 2], atol=1e-6)
    np.testing.assert_allclose(angles[1], 2 * at, atol=1e-6)


def test_glb_errors_name_what_is_wrong(tmp_path):
    (tmp_path / "x.glb").write_bytes(b"no glTF at all, but long enough")
    with pytest.raises(ValueError, match="binary glTF 2.0"):
        load_glb(tmp_path / "x.glb")


@needs_clips
def test_cmu_clips_face_where_they_walk_and_keep_their_limbs():
    for name in ("02_01", "07_03", "08_05", "16_47"):
        path = FOLDER / "cmu" / f"{name}.bvh"
        motion, file = load_bvh(path), read_hierarchy(path)
        _, positions = world_segments(file)
        name_of = lambda joint: joint.split("_")[0].capitalize() + CMU_LIMBS[joint.split("_")[1]]  # noqa: E731
        for cosine in limb_cosines(motion, positions[1:], name_of, file.names):
            assert cosine.min() > 0.99
        travel = motion.pelvis_world[-1, :2] - motion.pelvis_world[0, :2]
        facing = motion.rotations_world[:, 0, :2, 0].mean(0)
        assert travel @ facing > 0.9 * np.linalg.norm(travel) * np.linalg.norm(facing)
        assert 0.7 < motion.leg_length < 0.95


@needs_clips
def test_every_mesh2motion_clip_is_a_body_on_the_floor():
    motions = [motion for path in sorted(FOLDER.rglob("*.glb")) for motion in load_glb(path)]
    assert len(motions) > 70
    assert "idle" in {motion.family for motion in motions} and family_of("Sitting_Enter") == "sit"
    for motion in motions:
        assert set(motion.action) <= set(ACTIONS)
        placed = place(motion, REFERENCE, SOLE)
        lowest = soles(placed.rotations_world, placed.joints_world, REFERENCE, SOLE)[..., 2].min()
        assert lowest > -0.01, motion.name
        knees = placed.joints_world[:, [INDEX["left_knee"], INDEX["right_knee"]]]
        assert np.isfinite(knees).all() and knees[..., 2].min() > -0.06, motion.name
