"""Recordings: reproducible, true to their own pictures, the same scene through every camera."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from egopose_ros import pipeline
from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.camera.interface import pixel_grid
from egopose_ros.camera.models import EUCM, DoubleSphere, Fisheye62, KannalaBrandt, OCam
from egopose_ros.camera.remap import Remapper
from egopose_ros.camera.rig import Rig, RigCamera
from egopose_ros.config import Config
from egopose_ros.skeleton import SKELETONS, SMPL22
from egopose_ros.structs import Frame, Visibility
from egopose_ros.synth import world
from egopose_ros.synth.raster import view_of_camera
from egopose_ros.synth.sensor import IDEAL
from egopose_ros.synth.sheet import sheet
from egopose_ros.synth.truth import adjacency
from egopose_ros.synth.world import record


@pytest.fixture(scope="module")
def recordings():
    return [record(seed, "train", frames=3, views=1 + seed % 2, extras=("part_mask", "depth")) for seed in range(4)]


def test_the_same_seed_gives_the_same_bytes(recordings):
    again = record(1, "train", frames=3, views=2, extras=("part_mask", "depth"))
    first = recordings[1]
    for item in dataclasses.fields(first):
        one, other = getattr(first, item.name), getattr(again, item.name)
        if isinstance(one, torch.Tensor):
            assert torch.equal(one, other), item.name
        elif isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, other, err_msg=item.name)
    np.testing.assert_array_equal(first.imu.specific_force, again.imu.specific_force)
    assert (first.motion, first.body, first.action, first.name) == (again.motion, again.body, again.action, again.name)


def test_seeds_and_splits_give_different_worlds(recordings):
    other = record(0, "test", frames=3)
    pictures = [recording.images[0, 0].float().mean((0, 1)) for recording in (*recordings, other)]
    assert len({tuple(picture.tolist()) for picture in pictures}) == len(pictures)
    assert other.motion != recordings[0].motion


def test_truth_agrees_between_frames_and_with_the_picture(recordings):
    for recording in recordings:
        frames, views = recording.images.shape[:2]
        assert recording.images.shape == (frames, views, 256, 256, 3) and recording.images.dtype == torch.uint8
        for view, camera in enumerate(recording.rig.cameras):
            joints = torch.from_numpy(recording.joints_camera[:, view])
            pixels, _ = camera.model.project(joints)
            np.testing.assert_allclose(recording.joints_px[:, view], pixels.numpy(), atol=2e-2)
            angle = recording.T_head_camera[:, view, :3, :3] @ camera.T_head_camera[:3, :3].T
            turned = np.degrees(np.arccos(np.clip((np.trace(angle, axis1=1, axis2=2) - 1) / 2, -1, 1)))
            assert turned.max() < 2.0  # nominal extrinsics are nearly true
            part, depth = recording.part_mask[:, view], recording.depth[:, view]
            assert ((part == -1) == (depth == 0)).all()
            assert (part[depth > 0] >= -2).all() and (part < SMPL22.size).all()
            _check_visible(recording, view, part, depth)
        R = recording.rotations_world
        np.testing.assert_allclose(R @ np.swapaxes(R, -1, -2), np.broadcast_to(np.eye(3), R.shape), atol=1e-4)
        lowest = recording.joints_world[..., 2].min()
        assert recording.floor_height - 0.02 < lowest < recording.floor_height + 1.2
        eyes = recording.landmarks_world[:, 0]
        assert np.linalg.norm(recording.T_world_head[:, :3, 3] - eyes, axis=-1).max() < 0.03


def _check_visible(recording, view, part, depth):
    touch = adjacency().numpy()
    for frame, joint in np.argwhere(recording.visible[:, view] == Visibility.VISIBLE):
        x, y = np.round(recording.joints_px[frame, view, joint]).astype(int)
        found = int(part[frame, y, x])
        assert found >= 0 and touch[joint, found]
        behind = np.linalg.norm(recording.joints_camera[frame, view, joint]) - float(depth[frame, y, x])
        assert -0.15 < behind < 0.26  # inside the limb, not behind it


def test_frames_rendered_together_are_the_same_as_one_by_one(monkeypatch):
    alone = record(2, "train", frames=3, sensor=IDEAL, extras=("part_mask", "depth"))
    monkeypatch.setattr(world, "_CHUNK", {"cpu": 3})
    together = record(2, "train", frames=3, sensor=IDEAL, extras=("part_mask", "depth"))
    difference = (alone.images.int() - together.images.int()).abs()
    assert (difference > 2).float().mean() < 1e-3  # rounding may tip a texel or the edge of a shadow
    assert (alone.part_mask != together.part_mask).float().mean() < 1e-4
    assert (alone.depth - together.depth).abs().quantile(0.999) < 1e-3


def test_every_skeleton_has_its_truth(recordings):
    recording = recordings[0]
    for name, skeleton in SKELETONS.items():
        joints = recording.joints(name)
        assert joints.shape == (3, skeleton.size, 3) and np.isfinite(joints).all(), name
        for row, joint in enumerate(skeleton.joints):
            if joint in SMPL22.joints:
                np.testing.assert_array_equal(joints[:, row], recording.joints_world[:, SMPL22.index(joint)])
    egocap = recording.joints("egocap18")
    hand = SKELETONS["egocap18"]
    reach = np.linalg.norm(egocap[:, hand.index("left_finger")] - egocap[:, hand.index("left_wrist")], axis=-1)
    assert (reach > 0.08).all() and (reach < 0.25).all()


def test_what_is_asked_of_it_is_checked():
    with pytest.raises(ValueError, match="unknown split 'tset'; expected one of train"):
        record(0, "tset", frames=1)
    with pytest.raises(ValueError, match="frames: expected 1 or more, got 0"):
        record(0, "train", frames=0)
    with pytest.raises(ValueError, match="views: expected 1 or 2"):
        record(0, "train", frames=1, views=3)
    with pytest.raises(ValueError, match="extras: expected some of part_mask, depth, got mask"):
        record(0, "train", frames=1, extras=("mask",))


_SIZE, _CENTRE = (420, 400), (211.3, 198.6)
REAL = {
    "kannala_brandt": KannalaBrandt(
        size=_SIZE, centre=_CENTRE, focal=(122.0, 121.5), k=(0.012, -0.006, 0.001, -0.0001), max_angle=1.62
    ),
    "fisheye62": Fisheye62(
        size=_SIZE, centre=_CENTRE, focal=(121.0, 121.0), k=(0.02, -0.01, 0.002, 0.0, 0.0, 0.0),
        p=(0.0006, -0.0004), max_angle=1.6,
    ),
    "double_sphere": DoubleSphere(
        size=_SIZE, centre=_CENTRE, focal=(105.0, 105.0), xi=-0.18, alpha=0.6, max_angle=1.65
    ),
    "eucm": EUCM(size=_SIZE, centre=_CENTRE, focal=(112.0, 112.0), alpha=0.64, beta=1.1, max_angle=1.6),
    "ocam": OCam(
        size=(1280, 1024), centre=(614.93, 527.53), max_angle=1.6,
        c2w=(-292.4126419694919, 0.0, 1.075613595858202e-3, 2.072664555244253e-07, 4.493499097653669e-10,
             -1.192028310212584e-15, -1.822337421183959e-17),
        w2c=(478.5893205484341, 350.371582898077, 79.00065565120241, 62.28794005673283, 32.64466851189552,
             15.68380500967838, 7.766879336977007, 2.190791369989537, -0.1084229689289942, -0.1903842667463734,
             -0.02776267870029922),
    ).resize(480, 384),
}  # fmt: skip


def test_cameras_of_different_sizes_are_refused_before_anything_is_rendered():
    cameras = tuple(RigCamera(f"camera{size}", CANONICAL.resize(size, size), np.eye(4)) for size in (64, 96))
    with pytest.raises(ValueError, match="expected cameras of one size to record together, got 64x64, 96x96"):
        record(5, "train", frames=10**6, rig=Rig(cameras))


@pytest.fixture(scope="module")
def one_scene():
    """One scene by name of the camera that took it; twice the sizes above, as of a headset's cameras."""
    place = np.eye(4)
    place[:3, :3] = [[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]]
    place[:3, 3] = [0.12, 0.0, 0.02]
    models = {
        name: model.resize(2 * model.size[0], 2 * model.size[1])
        for name, model in (("canonical", CANONICAL), *REAL.items())
    }
    return {
        name: record(5, "train", frames=1, rig=Rig((RigCamera("camera", model, place),)), sensor=IDEAL)
        for name, model in models.items()
    }


def remapped(recording):
    """The picture and the part of it that the camera sees."""
    (camera,) = recording.rig.cameras
    remapper = Remapper(camera.model)
    return remapper.numpy(recording.images[0, 0].numpy()), remapper.valid


def test_one_scene_through_five_cameras_is_one_canonical_picture(one_scene):
    reference = one_scene["canonical"]
    wanted, _ = remapped(reference)
    for name, model in REAL.items():
        recording = one_scene[name]
        np.testing.assert_array_equal(recording.joints_world, reference.joints_world)
        picture, _ = remapped(recording)
        rays, _ = CANONICAL.unproject(pixel_grid(CANONICAL.size))
        inside = model.project(rays)[1] & (rays[..., 2] > np.cos(model.max_angle - 0.05))
        # Compare local means: single pixels at edges and in fine texture are what interpolation cannot keep.
        blur = torch.nn.functional.avg_pool2d
        difference = torch.from_numpy(picture.astype(np.float32) - wanted)
        error = blur(difference.permute(2, 0, 1)[None], 4).abs().mean(1)[0]
        whole = blur(inside.float()[None, None], 4)[0, 0] == 1
        assert whole.float().mean() > 0.4, name
        assert error[whole].median() < 3.0, name
        assert error[whole].mean() < 6.0, name
        seen = view_of_camera(model).seen
        assert seen.float().mean() > 0.3, name


def test_one_scene_through_five_cameras_is_one_pose(one_scene):
    """Of the weights that ship, beside the canonical camera with the same field of view."""
    estimator = pipeline.load(Config(), pipeline.canonical_rig(1))
    assert estimator.weights_trained

    def joints(picture):
        return estimator.step(estimator.init_state(), Frame(10**9, (picture,)))[1].joints_camera

    def apart(one, other):
        return np.linalg.norm(joints(one) - joints(other), axis=-1).mean()

    wanted, _ = remapped(one_scene["canonical"])
    for name in REAL:
        picture, seen = remapped(one_scene[name])
        assert apart(wanted * seen[..., None], picture) < 0.012, name
        assert apart(wanted * seen[..., None], picture[:, ::-1]) > 0.07, name  # else nothing would be shown


def test_a_contact_sheet_is_a_picture_of_recordings(tmp_path):
    heard = []
    path = tmp_path / "sheet.png"
    sheet(path, seed=7, rows=1, columns=2, tile=128, progress=lambda done, of: heard.append((done, of)))
    picture = cv2.imread(str(path))
    assert picture.shape == (128, 256, 3) and heard == [(1, 2), (2, 2)]
    assert picture[:, :128].std() > 10 and np.abs(picture[:, :128].astype(float) - picture[:, 128:]).mean() > 5
    with pytest.raises(ValueError, match="expected the name of a .png or .jpg file"):
        sheet(tmp_path / "sheet.txt")
