"""Data sets of the field as training clips: right images and axes, what they lack left open, and networks that learn them."""

import json
import pickle
import shutil

import cv2
import numpy as np
import pytest
import torch

from egopose_ros import checkpoint, cli
from egopose_ros.camera import calibration
from egopose_ros.camera.models import KannalaBrandt
from egopose_ros.camera.rig import Rig, RigCamera, mounted_rotation, nominal_T_head_camera
from egopose_ros.config import replace
from egopose_ros.datasets.interface import DatasetError
from egopose_ros.skeleton import MPI15, SMPL22
from egopose_ros.training import ag_losses, cache, data_sets
from egopose_ros.training.ag_recipe import AgTrainConfig
from egopose_ros.training.config import DistillConfig, TrainConfig
from egopose_ros.training.data import ClipDataset, collate
from egopose_ros.training.labelled import LabelledClip, LabelledDataset, MixedDataset
from egopose_ros.training.loop import Trainer
from stick_figures import draw_clip

SIZE = (1280, 1024)
WRIST = MPI15.index("left_wrist")
QUICK = {"steps": 2, "batch": 2, "warmup": 1}


def rig(head_known: bool = True) -> Rig:
    """Return a camera whose image has the wearer's front at its right."""
    lens = dict(centre=(640.0, 512.0), focal=(360.0, 360.0), k=(0.01, 0.0, 0.0, 0.0), max_angle=1.8)
    R = mounted_rotation(90.0)
    return Rig((RigCamera("camera", KannalaBrandt(size=SIZE, **lens), nominal_T_head_camera(R), R),), head_known)


def poses(frames: int, joints: int) -> np.ndarray:
    return np.random.default_rng(0).uniform((-0.4, -0.4, 0.3), (0.4, 0.4, 1.2), (frames, joints, 3)).astype(np.float32)


@pytest.fixture
def egopw(tmp_path):
    """A data set of eight frames with a gap after the fifth; a bright spot marks the wrist in every image."""
    folder, truth = tmp_path / "EgoPW" / "person" / "walk", poses(8, 15)
    numbers = [0, 1, 2, 3, 4, 60, 61, 62]
    (folder / "imgs").mkdir(parents=True)
    camera = rig().cameras[0].model
    for number, pose in zip(numbers, truth):
        image = np.full((SIZE[1], SIZE[0], 3), 40, np.uint8)
        (x, y), _ = (part.tolist() for part in camera.project(torch.from_numpy(pose[WRIST]).double()))
        cv2.circle(image, (round(x), round(y)), 18, (255, 255, 255), -1)
        cv2.imwrite(str(folder / "imgs" / f"img_{number:06d}.jpg"), image)
    records = [{"image_name": f"img_{n:06d}.jpg", "optimized_local_pose": p} for n, p in zip(numbers, truth)]
    (folder / "pseudo_gt.pkl").write_bytes(pickle.dumps(records, protocol=2))
    calibration.save(rig(), tmp_path / "EgoPW" / "calibration.yaml")
    return tmp_path / "EgoPW", truth


def test_a_data_set_becomes_clips_in_canonical_axes_with_its_own_joints_alone(egopw, tmp_path):
    root, truth = egopw
    files = data_sets.build(f"egopw:{root}", tmp_path / "cache", 4, 1)
    clips = [cache.read(file, LabelledClip) for file in files]
    assert [clip.frames for clip in clips] == [4, 1, 3]
    R = mounted_rotation(90.0)
    for joint in ("left_wrist", "right_knee", "neck"):
        ours = np.concatenate([clip.joints[:, SMPL22.index(joint)] for clip in clips])
        np.testing.assert_allclose(ours, truth[:, MPI15.index(joint)] @ R, atol=1e-6)
    known = np.isfinite(clips[0].joints).all(-1)
    assert {joint for joint, there in zip(SMPL22.joints, known[0]) if there} == set(MPI15.joints)
    assert np.isnan(clips[0].rotations).all() and np.isnan(clips[0].confidence).all()
    assert np.isnan(clips[0].T_world_reference).all() and np.isnan(clips[0].gravity_reference).all()
    for clip in clips:
        for frame in range(clip.frames):
            x, y = np.rint(clip.joints_px[frame, 0, SMPL22.index("left_wrist")]).astype(int)
            assert clip.image(frame, 0)[y, x].min() > 150
    stamps = [file.stat().st_mtime_ns for file in files]
    again = data_sets.build(f"egopw:{root}", tmp_path / "cache", 4, 1)
    assert again == files and [file.stat().st_mtime_ns for file in again] == stamps


def test_what_a_data_set_keeps_for_tests_is_not_learnt(egopw, tmp_path):
    root, _ = egopw
    before = data_sets.build(f"egopw:{root}", tmp_path / "cache", 4, 1)
    shutil.copytree(root / "person", root / "kripa_new")
    assert data_sets.build(f"egopw:{root}", tmp_path / "cache", 4, 1) == before
    shutil.rmtree(root / "person")
    with pytest.raises(DatasetError, match="got those of the test split alone"):
        data_sets.build(f"egopw:{root}", tmp_path / "cache", 4, 1)


def test_better_poses_of_a_data_set_make_other_clips(egopw, tmp_path):
    root, _ = egopw
    before = data_sets.build(f"egopw:{root}", tmp_path / "cache", 4, 1)
    file = root / "person" / "walk" / "pseudo_gt.pkl"
    records = pickle.loads(file.read_bytes())
    records[0]["optimized_local_pose"] = records[0]["optimized_local_pose"] + np.float32(0.1)
    file.write_bytes(pickle.dumps(records, protocol=2))
    after = data_sets.build(f"egopw:{root}", tmp_path / "cache", 4, 1)
    change = cache.read(after[0], LabelledClip).joints[0] - cache.read(before[0], LabelledClip).joints[0]
    assert np.isclose(np.nanmax(np.linalg.norm(change, axis=-1)), 0.1 * 3**0.5, atol=1e-4)


def test_joints_of_the_world_come_into_the_camera(tmp_path):
    truth, head = poses(2, 26), np.eye(4)
    head[:3, :3], head[:3, 3] = mounted_rotation(30.0), (1.0, 2.0, 1.7)
    for number in range(2):
        content = {
            "world_from_headset_xf_cm": [[*row[:3], 100 * row[3]] for row in head[:3].tolist()] + [[0, 0, 0, 1]],
            "joint_positions_world_cm": (100 * truth[number]).tolist(),
            **{f"projected_joint_positions_cam{c}_px": np.zeros((26, 3)).tolist() for c in range(4)},
        }
        (tmp_path / f"frame{number:04d}.json").write_text(json.dumps(content))
        for camera in range(4):
            cv2.imwrite(str(tmp_path / f"frame{number:04d}_cam{camera}.jpg"), np.zeros((*SIZE[::-1], 3), np.uint8))
    calibration.save(rig(), tmp_path / "calibration.yaml")
    (file,) = data_sets.build(f"egobody3m:{tmp_path}", tmp_path / "cache", 24, 1)
    clip = cache.read(file, LabelledClip)
    T = head @ rig().cameras[0].T_head_canonical
    known = np.isfinite(clip.joints).all(-1)[0]
    world = clip.joints @ T[:3, :3].T + T[:3, 3]
    body = data_sets.skeleton_map("egobody3m26", SMPL22.name)
    np.testing.assert_allclose(world[:, known], body(truth)[:, known], atol=1e-4)
    assert known.sum() >= 12
    recording = data_sets.READERS["egobody3m"](tmp_path).clips[0]
    with pytest.raises(DatasetError, match="joints are in the frame 'world'; expected them in the camera's"):
        list(data_sets.cut(recording, rig(head_known=False), 24, 1))
    with pytest.raises(DatasetError, match=r"images and calibrations of 2 camera\(s\), got 4 and 1"):
        list(data_sets.cut(recording, rig(), 24, 2))


@pytest.mark.parametrize("network", ["egoposeformer_v2", "ag_egopose"])
def test_a_network_learns_from_a_data_set_beside_the_world(egopw, tmp_path, network):
    root, _ = egopw
    recorded = [cache.read(f, LabelledClip) for f in data_sets.build(f"egopw:{root}", tmp_path / "cache", 4, 1)]
    true = [draw_clip(seed) for seed in range(2)]
    shared = {"threads": 1, "loader_workers": 0, "autocast": False, "distill.datasets": (f"egopw:{root}",)}
    if network == "egoposeformer_v2":
        stages, frames, model = ("small", "sequences"), "sequences", {"width": 32, "heads": 2, "layers": 1, "window": 4}
        config = replace(TrainConfig(), {**shared, "frames.steps": 0, "decoders.steps": 0, "sequences.passes": 1})
    else:
        stages, frames = ("heatmaps", "singles", "poses"), "poses"
        model = {
            "spatial_backbone": "mobilenetv4_s", "temporal_backbone": "shared", "window": 4, "local_blocks": 1,
            "global_blocks": 1, "temporal_width": 32, "temporal_heads": 2, "width": 32, "heads": 2, "layers": 1,
        }  # fmt: skip
        config = replace(AgTrainConfig(), {**shared, "actions.steps": 0, "actions.frames": 3, "poses.train": ("projection", "decoder")})
    config = replace(config, {f"{s}.{name}": value for s in stages for name, value in {**QUICK, "side": 64}.items()})
    config = replace(config, {f"{frames}.frames": 3})
    trainer = Trainer(config, model, tmp_path / "run", true, true, None, recorded)
    _, card = checkpoint.load(trainer.run())
    assert card.training["frames_recorded"] == 8


def test_what_a_data_set_lacks_has_no_part_in_the_losses(egopw, tmp_path):
    root, _ = egopw
    recorded = [cache.read(f, LabelledClip) for f in data_sets.build(f"egopw:{root}", tmp_path / "cache", 4, 1)]
    world = ClipDataset([draw_clip(0)], 2, 0, None)
    mixed = MixedDataset(world, LabelledDataset(recorded, 2, 0, DistillConfig()), 4, 0.5)
    batch = collate([mixed[number] for number in range(4)])
    assert not batch.teacher.doubted.any() and batch.trusted[2:].all()
    joints = torch.zeros_like(batch.joints, requires_grad=True)
    bones = SMPL22.bones
    total = ag_losses.position_error(joints, batch.joints, batch.trusted)
    total = total + ag_losses.bone_length_error(joints, batch.joints, bones, batch.trusted)
    (total + ag_losses.bone_direction_error(joints, batch.joints, bones, batch.trusted)).backward()
    moved = joints.grad.abs().sum(-1) > 0
    assert torch.equal(moved, batch.trusted)
    assert batch.of("mpi15").trusted.all(), "it has all of these"


@pytest.mark.parametrize(
    ("harm", "settings", "complaint"),
    [
        (lambda folder: folder.rename(folder.with_name("moved")), [], "expected the data set egopw, found nothing"),
        (lambda folder: (folder / "calibration.yaml").unlink(), [], "expected the calibration of egopw's cameras"),
        (lambda folder: (folder / "calibration.yaml").write_text("cameras: 3"), [], "calibration.yaml: "),
        (
            lambda folder: None, ["data.views=2", "stills.views=2"],
            "calibration.yaml: expected calibrations of 2 camera(s), got 1",
        ),
    ],
    ids=["folder", "calibration", "damaged calibration", "cameras"],
)  # fmt: skip
def test_a_data_set_that_does_not_fit_is_said_before_anything_is_rendered(
    egopw, tmp_path, capsys, monkeypatch, harm, settings, complaint
):
    monkeypatch.setattr(cache, "render_run", lambda *_: pytest.fail("rendered"))
    root, _ = egopw
    harm(root)
    config = tmp_path / "config.yaml"
    config.write_text("threads: 1\n")
    train = ["train", str(config), "--output", str(tmp_path / "run"), "--cache", str(tmp_path / "cache")]
    assert cli.main([*train, "--set", f"distill.datasets=[egopw:{root}]", *settings]) == 1
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("source", ["egopw", "nothing:/data", "mo2cap2_test:/data"])
def test_a_source_without_a_reader_is_refused(source):
    with pytest.raises(ValueError, match="expected READER:FOLDER with a reader among egopw, sceneego"):
        data_sets.parse(source)
