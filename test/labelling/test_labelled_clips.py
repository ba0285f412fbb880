"""Labels as training clips: right images, right axes, as edited; the gate; and batches that mix them with truth."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from bag_maker import FOCAL, IMAGE, SIZE, Maker, head_at, image_at, stamp_at, write_bag, write_rig
from scipy.spatial.transform import Rotation

from egopose_ros import checkpoint, pipeline
from egopose_ros.camera import calibration
from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.camera.models import KannalaBrandt
from egopose_ros.camera.remap import Remapper
from egopose_ros.camera.rig import Rig, RigCamera, mounted_rotation, nominal_T_head_camera
from egopose_ros.config import replace
from egopose_ros.labelling import clips, manifest
from egopose_ros.labelling.editing import edit
from egopose_ros.labelling.recordings import Reading, opened
from egopose_ros.ros.bag_poses import POSE, PoseBag, read_poses
from egopose_ros.ros.bag_reader import BagReader
from egopose_ros.ros.pose_fields import PoseStatus
from egopose_ros.skeleton import SMPL22
from egopose_ros.structs import BodyPose, TrackingState, Visibility
from egopose_ros.training import augment, cache
from egopose_ros.training.config import DistillConfig, TrainConfig
from egopose_ros.training.data import ClipDataset, collate, loader
from egopose_ros.training.heatmap_losses import heatmap_cross_entropy, heatmap_targets, map_weights
from egopose_ros.training.labelled import LabelledClip, LabelledDataset, MixedDataset
from egopose_ros.training.loop import Trainer

FRAMES = 10
SURE, UNSURE = SMPL22.index("left_wrist"), SMPL22.index("right_foot")


def turned_rig() -> Rig:
    """Return a camera whose image has the wearer's front at its right, below the head."""
    centre = (SIZE - 1) / 2
    lens = dict(centre=(centre, centre), focal=(FOCAL, FOCAL), k=(0.0,) * 4, max_angle=float(np.radians(100.0)))
    R = mounted_rotation(90.0)
    return Rig((RigCamera("camera", KannalaBrandt(size=(SIZE, SIZE), **lens), nominal_T_head_camera(R), R),))


def label_at(index: int) -> BodyPose:
    """Return a label with everything, in the camera's axes."""
    rng = np.random.default_rng(index)
    joints = rng.uniform((-0.3, -0.3, 0.2), (0.3, 0.3, 1.4), (SMPL22.size, 3)).astype(np.float32)
    axes = Rotation.random(SMPL22.size, random_state=index).as_matrix()
    covariance = (axes * rng.uniform(1e-4, 1e-2, (SMPL22.size, 1, 3))) @ np.swapaxes(axes, -1, -2)
    confidence = np.full(SMPL22.size, 0.9, np.float32)
    confidence[UNSURE] = 0.1
    return BodyPose(
        stamp_at(index),
        SMPL22.name,
        joints,
        axes.astype(np.float32),
        covariance.astype(np.float32),
        confidence,
        None,
        4,
        True,
    )


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """A folder of labels of one bag."""
    bag = write_bag(tmp_path / "take", FRAMES, truth=False)
    calibration.save(turned_rig(), bag / "calibration.yaml")
    folder = tmp_path / "labels"
    folder.mkdir()
    with PoseBag(folder / "take") as poses:
        for index in range(FRAMES):
            poses.write(
                label_at(index), "eye", "", PoseStatus(TrackingState.TRACKING, 0, 0.0, "egoposeformer_v2", True)
            )
    with manifest.Manifest(folder, {"reading": Reading().as_json()}) as open_:
        open_.add(manifest.Entry("take", str(bag), manifest.LABELLED, frames=FRAMES, confidence=0.86))
    return folder


def read(labels: Path, frames: int = 100) -> list[LabelledClip]:
    return list(clips.read_clips(labels / "take", labels.parent / "take", Reading(), frames, 1))


def test_a_clip_holds_images_and_labels_in_canonical_axes(labels):
    camera = turned_rig().cameras[0]
    whole, parts = read(labels), read(labels, frames=4)
    assert [clip.frames for clip in parts] == [4, 4, 2]
    (clip,) = whole
    R_canonical_camera = camera.R_camera_canonical.T
    for index in range(FRAMES):
        label = label_at(index)
        np.testing.assert_allclose(clip.joints[index], label.joints_camera @ R_canonical_camera.T, atol=1e-6)
        np.testing.assert_allclose(clip.rotations[index], R_canonical_camera @ label.rotations_camera, atol=1e-5)
        expected = R_canonical_camera @ label.covariance_camera @ R_canonical_camera.T
        np.testing.assert_allclose(clip.covariance[index], expected, rtol=1e-3, atol=2e-6)
        np.testing.assert_allclose(clip.T_world_reference[index], head_at(index) @ camera.T_head_canonical, atol=1e-3)
        image = Remapper(camera.model, camera.R_camera_canonical).numpy(image_at(index))
        assert np.abs(clip.image(index, 0).astype(int) - image).mean() < 3
        # A joint is at its pixel: through the camera's own lens, and back by the canonical one.
        pixels, valid = CANONICAL.project(torch.from_numpy(clip.joints[index]))
        np.testing.assert_allclose(clip.joints_px[index, 0], pixels, atol=1e-3)
        assert ((clip.visible[index, 0] == Visibility.OCCLUDED) <= valid.numpy()).all()
    assert clip.stamps_ns.tolist() == [stamp_at(index) for index in range(FRAMES)]


def test_labels_survive_an_edit_that_is_interrupted(labels, monkeypatch):
    take = labels / "take"
    (take / "notes.txt").write_text("checked")
    before, rename = {path.name: path.read_bytes() for path in take.iterdir()}, os.rename

    def interrupted(source, target):
        if Path(target) == take and Path(source).name == "take":
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        edit(take, lambda pose: pose)
    assert {path.name: path.read_bytes() for path in take.iterdir()} == before
    assert not [path for path in labels.iterdir() if path.name.startswith(".take")]


def test_edited_labels_are_what_is_learnt(labels, tmp_path):
    config = DistillConfig()
    before = clips.build(labels, tmp_path / "cache", 100, 1, 1)

    def corrected(pose: BodyPose) -> BodyPose | None:
        if pose.stamp_ns == stamp_at(3):
            return None
        if pose.stamp_ns == stamp_at(5):
            joints = pose.joints_camera.copy()
            joints[UNSURE] = (0.1, 0.2, 1.0)
            return dataclasses.replace(pose, joints_camera=joints, rotations_camera=None, confidence=None)
        return pose

    (labels / "take" / "notes.txt").write_text("checked")
    assert edit(labels / "take", corrected) == FRAMES - 1
    assert (labels / "take" / "notes.txt").read_text() == "checked" and sorted(p.name for p in labels.iterdir()) == [
        ".lock", "manifest.jsonl", "take",
    ]  # fmt: skip
    with BagReader(labels / "take") as bag:
        (_, status), *_ = read_poses(bag, POSE)
    assert status.network == "egoposeformer_v2"
    after = clips.build(labels, tmp_path / "cache", 100, 1, 1)
    assert after != before and clips.build(labels, tmp_path / "cache", 100, 1, 1) == after
    clip = cache.read(after[0], LabelledClip)
    np.testing.assert_allclose(
        clip.joints[5, UNSURE], np.array([0.1, 0.2, 1.0]) @ turned_rig().cameras[0].R_camera_canonical, atol=1e-6
    )
    dataset = LabelledDataset([clip], 1, 0, replace(config, {"min_trusted": 0.0}))
    gates = {
        int(sample.stamps_ns[0]): sample.trusted[0] for sample in (dataset.decode(0, i) for _, i in dataset.windows)
    }
    assert stamp_at(3) not in gates and len(gates) == FRAMES - 1  # taken out
    assert gates[stamp_at(5)].all() and not gates[stamp_at(4)][UNSURE]  # a corrected joint is sure
    sample = dataset.decode(0, 5)
    assert not sample.rotations.any() and np.isfinite(sample.joints).all()


def test_a_recording_without_labels_leaves_the_others_to_learn(labels, tmp_path, caplog):
    alone = clips.build(labels, tmp_path / "cache", 100, 1, 1)
    shutil.copytree(tmp_path / "take", tmp_path / "bad")
    shutil.copytree(labels / "take", labels / "bad")
    with manifest.Manifest(labels, {"reading": Reading().as_json()}) as open_:
        known = open_.entries[str(tmp_path / "take")]
        open_.add(dataclasses.replace(known, name="bad", source=str(tmp_path / "bad")))
    assert len(clips.build(labels, tmp_path / "cache", 100, 1, 1)) == 2 * len(alone)
    assert edit(labels / "bad", lambda pose: None) == 0
    assert clips.build(labels, tmp_path / "cache", 100, 1, 1) == alone
    assert "nothing is learnt from bad, where no frame has a label" in caplog.text
    shutil.rmtree(labels / "bad")
    assert clips.build(labels, tmp_path / "cache", 100, 1, 1) == alone
    assert "nothing is learnt from bad, which the manifest names" in caplog.text
    edit(labels / "take", lambda pose: None)
    with pytest.raises(manifest.LabelError, match="expected a label of some frame, got none in take"):
        clips.build(labels, tmp_path / "cache", 100, 1, 1)


def test_another_calibration_or_recording_makes_other_clips(labels, tmp_path):
    def built() -> list[Path]:
        return clips.build(labels, tmp_path / "cache", 100, 1, 1)

    first, take = built(), tmp_path / "take"
    write_rig(take)
    second = built()
    assert second != first
    joints = [cache.read(path, LabelledClip).joints for (path,) in (first, second)]
    assert np.abs(joints[0] - joints[1]).max() > 0.1
    os.utime(next(take.glob("*.mcap")))
    third = built()
    assert third != second and built() == third

    # The file that the labels were made with, where there is one.
    file = tmp_path / "rig.yaml"
    calibration.save(turned_rig(), file)
    overrides = {"camera.calibration": str(file)}
    with_file = clips.state(take, Reading(overrides=overrides))
    file.write_text(file.read_text() + "# checked\n")
    assert clips.state(take, Reading(overrides=overrides)) != with_file != clips.state(take, Reading())


def test_labels_of_a_teacher_without_confidence_are_refused(labels, tmp_path):
    with manifest.Manifest(labels, {"reading": Reading().as_json()}) as open_:
        open_.add(dataclasses.replace(open_.entries[str(tmp_path / "take")], confidence=None))
    with pytest.raises(manifest.LabelError, match="take: expected labels of a teacher with uncertainty"):
        clips.build(labels, tmp_path / "cache", 100, 1, 1)


def write_imu_bag(path: Path, stamps_ns: list[int], silent: int) -> Path:
    """Write a bag with an IMU that comes after some frames, and without a head pose."""
    rng = np.random.default_rng(0)
    with Maker(path) as maker:
        for index, stamp_ns in enumerate(stamps_ns):
            if index >= silent:
                rate, force = 0.5 * rng.standard_normal(3), np.array([1.0, 2.0, 9.4]) + rng.standard_normal(3)
                vectors = [maker.make("geometry_msgs/msg/Vector3", *value.tolist()) for value in (rate, force)]
                quaternion, covariance = maker.make("geometry_msgs/msg/Quaternion", 0.0, 0.0, 0.0, 1.0), np.zeros(9)
                values = quaternion, covariance, vectors[0], covariance, vectors[1], covariance
                message = maker.make("sensor_msgs/msg/Imu", maker.header(stamp_ns, "head"), *values)
                maker.write("/imu", message, stamp_ns, "sensor_msgs/msg/Imu")
            header, pixels = maker.header(stamp_ns, "eye"), image_at(index).ravel()
            image = maker.make("sensor_msgs/msg/Image", header, SIZE, SIZE, "rgb8", 0, 3 * SIZE, pixels)
            maker.write(IMAGE, image, stamp_ns)
    calibration.save(turned_rig(), path / "calibration.yaml")
    return path


def test_gravity_of_an_imu_is_the_one_that_the_teacher_had(teacher, tmp_path):
    stamps_ns = [stamp_at(index) + (index > 6) * 10**9 for index in range(FRAMES)]
    bag, labels = write_imu_bag(tmp_path / "take", stamps_ns, silent=2), tmp_path / "labels"
    labels.mkdir()
    status = PoseStatus(TrackingState.TRACKING, 0, 0.0, "egoposeformer_v2", True)
    with PoseBag(labels / "take") as poses:
        for index, stamp_ns in enumerate(stamps_ns):
            poses.write(dataclasses.replace(label_at(index), stamp_ns=stamp_ns), "eye", "", status)
    recorded = list(clips.read_clips(labels / "take", bag, Reading(), 4, 1))
    assert [clip.frames for clip in recorded] == [4, 3, 3]
    with opened(bag, Reading(overrides={"network.checkpoint": str(teacher), "runtime.device": "cpu"})) as recording:
        estimator = pipeline.load(recording.config, recording.rig)
        state, expected = estimator.init_state(), []
        for item in recording.frames:
            state = estimator.observe(state, item.frame)
            new = estimator._input(state)
            expected.append(torch.where(new.gravity_valid[0, -1], new.gravity_reference[0, -1], torch.nan).numpy())
    found = np.concatenate([clip.gravity_reference for clip in recorded])
    assert np.isnan(found).all(-1).tolist() == [True, True] + [False] * (FRAMES - 2)
    np.testing.assert_allclose(found, np.array(expected), atol=1e-6)

    # It comes into the batch as far as it is known, turned and mirrored as the joints are.
    dataset = LabelledDataset(recorded, 3, 0, DistillConfig())
    plain = dataset.decode(0, 0)
    turned = augment.roll(plain, np.array([0.7]))
    strong = augment.augment(plain, dataset.augmentation, np.random.default_rng(0))
    samples = [plain, turned, augment.mirror(turned), strong]
    new = collate(samples).input
    assert new.gravity_valid.tolist() == [[False, False, True]] * 4 and not new.head_pose_valid.any()
    assert torch.isfinite(new.gravity_reference).all() and not new.gravity_reference[:, :2].any()
    depth, same = plain.joints[2] @ plain.gravity_reference[2], range(SMPL22.size)
    for sample, down, order in zip(samples, new.gravity_reference[:, 2].numpy(), (same, same, SMPL22.mirror)):
        np.testing.assert_allclose(sample.joints[2] @ down, depth[list(order)], atol=1e-5)


def test_the_gate_keeps_out_what_the_teacher_is_not_sure_of(labels):
    recorded = read(labels)
    with pytest.raises(
        ValueError, match="at a confidence of 0.95 the best has 0% of its joints trusted, 50% are asked for"
    ):
        LabelledDataset(recorded, 4, 0, replace(DistillConfig(), {"min_confidence": 0.95}))
    open_, gated = (
        LabelledDataset(recorded, 4, 0, replace(DistillConfig(), {"min_confidence": c})) for c in (0.0, 0.5)
    )
    for dataset, expected in ((open_, SMPL22.size), (gated, SMPL22.size - 1)):
        sample = dataset[0]
        assert sample.trusted.sum() == 4 * expected
        out = (sample.visible == Visibility.OUT_OF_VIEW).all(1)
        assert out[~sample.trusted].all() and not out[sample.trusted].all()
    with pytest.raises(ValueError, match="at least 11 frames, got none of 1"):
        LabelledDataset(recorded, FRAMES + 1, 0, DistillConfig())


def test_changes_of_the_students_input_keep_uncertainty_and_gate_with_the_joints(labels):
    dataset = LabelledDataset(read(labels), 2, 0, DistillConfig())
    sample = dataset.decode(0, 0)
    rolled = augment.roll(sample, np.array([0.7]))
    for changed, order in ((rolled, range(SMPL22.size)), (augment.mirror(rolled), SMPL22.mirror)):
        # How far the joint's neighbour is, in standard deviations, is the same in all axes.
        offset = changed.joints - changed.joints[:, [order[SURE]]]
        known = sample.joints - sample.joints[:, [SURE]]
        distance = np.einsum("tja,tjab,tjb->tj", offset, np.linalg.inv(changed.covariance), offset)
        expected = np.einsum("tja,tjab,tjb->tj", known, np.linalg.inv(sample.covariance), known)
        np.testing.assert_allclose(distance, expected[:, list(order)], rtol=2e-3)
        np.testing.assert_array_equal(changed.trusted, sample.trusted[:, list(order)])


def test_batches_mix_labels_with_truth_and_are_the_same_again(labels):
    labelled = LabelledDataset(read(labels), 2, 0, DistillConfig())
    true = true_clips()
    for share, taught in ((0.5, 2), (0.0, 1), (1.0, 3)):
        mixed = MixedDataset(true, labelled, 4, share)
        batches = list(loader(mixed, 4, range(2), 0))
        for batch in batches:
            assert batch.teacher.taught.tolist() == [True] * taught + [False] * (4 - taught)
            assert batch.teacher.trusted.shape == (taught, 2, SMPL22.size)
            scale = batch.teacher.cholesky @ batch.teacher.cholesky.transpose(-1, -2)
            assert torch.isfinite(scale).all() and batch.teacher.doubted.all()
        (again,) = loader(mixed, 4, [1], 0)
        torch.testing.assert_close(again.joints, batches[1].joints, rtol=0, atol=0)
        assert (batches[0].joints != batches[1].joints).any()


def test_heatmaps_are_not_taught_of_joints_that_the_gate_keeps_out(labels):
    mixed = MixedDataset(true_clips(), LabelledDataset(read(labels), 2, 0, DistillConfig()), 4, 0.5)
    (batch,) = loader(mixed, 4, [0], 0)
    maps = torch.zeros(*batch.visible.shape, 16, 16, requires_grad=True)
    target = heatmap_targets(batch.joints_px, batch.visible, CANONICAL.size[0], 16)
    heatmap_cross_entropy(maps, target, weight=map_weights(batch)).backward()
    pulled = maps.grad.abs().sum((-1, -2))  # (B, T, V, J)
    kept_out = ~batch.teacher.trusted[:, :, None]
    assert kept_out.any() and not pulled[:2][kept_out].any()
    # Less than a true joint, hidden or not: the empty part of the map alone shows the weight, whatever the joint.
    corners = maps.grad[..., 0, 0].abs()
    assert corners[:2][~kept_out].max() < 0.31 * corners[2:].max() and (pulled[2:] > 0).all()


def test_footage_without_a_head_pose_is_known_to_have_none(labels):
    sample = LabelledDataset(read(labels), 2, 0, DistillConfig()).decode(0, 0)
    unknown = np.full_like(sample.T_world_reference, np.nan)
    down = np.full_like(sample.gravity_reference, np.nan)
    blind = dataclasses.replace(sample, T_world_reference=unknown, gravity_reference=down)
    batch = collate([sample, augment.augment(blind, DistillConfig().augment, np.random.default_rng(0))])
    assert batch.input.head_pose_valid.tolist() == [[True, True], [False, False]]
    for value in vars(batch.input).values():
        assert torch.isfinite(value.float()).all()


def test_a_run_on_labels_ends_in_a_checkpoint_that_says_so(labels, tmp_path):
    quick = {"steps": 2, "batch": 2, "warmup": 1, "side": 64}
    stages = {f"{stage}.{name}": value for stage in ("small", "sequences") for name, value in quick.items()}
    off = {"frames.steps": 0, "decoders.steps": 0, "sequences.frames": 4, "sequences.passes": 1, "threads": 1}
    overrides = {**stages, **off, "loader_workers": 0, "autocast": False, "distill.labels": (str(labels),)}
    model = {"width": 32, "heads": 2, "layers": 1, "window": 4}
    true = true_clips().clips
    trainer = Trainer(replace(TrainConfig(), overrides), model, tmp_path / "run", true, true, None, read(labels))
    assert trainer.run(stop_after=1) is None
    again = Trainer(replace(TrainConfig(), overrides), model, tmp_path / "run", true, true, None, read(labels))
    again.resume()
    _, card = checkpoint.load(again.run())
    assert card.training["frames_recorded"] == FRAMES
    assert card.training["settings"]["distill.labels"] == [str(labels)]


def true_clips() -> ClipDataset:
    rng = np.random.default_rng(0)
    jpeg, ends = cache.compress(rng.integers(0, 255, (6, 1, 256, 256, 3), np.uint8))
    poses = np.stack([np.eye(4)] * 6)
    clip = cache.CachedClip(
        jpeg,
        ends,
        stamps_ns=np.arange(6) * 10**8 + 1,
        joints=rng.uniform(0.2, 1.0, (6, 22, 3)).astype(np.float32),
        rotations=np.broadcast_to(np.eye(3, dtype=np.float32), (6, 22, 3, 3)),
        joints_px=rng.uniform(0, 255, (6, 1, 22, 2)).astype(np.float32),
        visible=np.full((6, 1, 22), 2, np.uint8),
        T_reference_camera=np.eye(4)[None],
        T_world_reference=poses,
    )
    return ClipDataset([clip], 2, 0, None)
