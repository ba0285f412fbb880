"""The pipeline: frames in any camera, gaps, pending frames, head pose, IMU, devices and weights."""

import dataclasses

import numpy as np
import pytest
import torch

from egopose_ros import checkpoint, pipeline
from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.camera.models import KannalaBrandt
from egopose_ros.camera.rig import Rig, RigCamera, mounted_rotation
from egopose_ros.config import Config, replace
from egopose_ros.geometry import rigid
from egopose_ros.geometry.stature import Stature
from egopose_ros.networks.table import build
from egopose_ros.skeleton import SKELETONS
from egopose_ros.structs import Frame, ImuSample
from egopose_ros.window.smoothing import MEMORY, Reading, smooth
from scipy.spatial.transform import Rotation

RATE_NS = 33_333_333
WINDOW = 4
AG_EGOPOSE = {
    "spatial_backbone": "mobilenetv4_s", "temporal_backbone": "shared", "window": WINDOW, "local_window": 2,
    "local_blocks": 1, "global_blocks": 1, "temporal_width": 32, "temporal_heads": 2, "width": 32, "heads": 2, "layers": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Checkpoints whose outputs depend on everything."""
    folder = tmp_path_factory.mktemp("weights")
    former = dict(width=32, heads=2, layers=1, window=WINDOW)
    for file, name, settings in (
        ("1", "egoposeformer_v2", {**former, "views": 1}),
        ("2", "egoposeformer_v2", {**former, "views": 2}),
        ("ag_egopose", "ag_egopose", AG_EGOPOSE),
        ("ahead", "ag_egopose", {**AG_EGOPOSE, "lookahead": 2}),
    ):
        torch.manual_seed(1)
        network = build(name, settings)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        checkpoint.save(folder / f"{file}.safetensors", network, {})
    return folder


@pytest.fixture(scope="module")
def load(weights):
    def load(rig, **settings):
        overrides = {"network.checkpoint": str(weights / f"{len(rig.cameras)}.safetensors"), "runtime.device": "cpu"}
        return pipeline.load(replace(Config(), {**overrides, **settings}), rig)

    return load


@pytest.fixture(params=["egoposeformer_v2", "ag_egopose"])
def load_any(request, load, weights):
    """Load either network, one camera."""
    file = "1" if request.param == "egoposeformer_v2" else request.param
    chosen = {"network.checkpoint": str(weights / f"{file}.safetensors")}
    return lambda rig, **settings: load(rig, **chosen, **settings)


def canonical_rig(views=1, **changes):
    T = np.eye(4)
    cameras = []
    for view in range(views):
        T = RigCamera("x", CANONICAL).T_head_camera.copy()
        T[1, 3] -= 0.06 * view
        cameras.append(RigCamera(f"camera{view}", CANONICAL, T))
    return Rig(tuple(cameras), **changes)


def frames(count, rig=None, seed=0, start=10**18, head=False):
    rng = np.random.default_rng(seed)
    cameras = (rig or canonical_rig()).cameras
    T_world_head = np.stack([np.eye(4)] * count)
    T_world_head[:, :3, :3] = Rotation.from_rotvec(0.1 * rng.normal(size=(count, 3)).cumsum(0)).as_matrix()
    T_world_head[:, :3, 3] = 0.02 * rng.normal(size=(count, 3)).cumsum(0)
    return [
        Frame(
            start + index * RATE_NS,
            tuple(rng.integers(0, 256, (*c.model.size[::-1], 3), np.uint8) for c in cameras),
            T_world_head[index] if head else None,
        )
        for index in range(count)
    ]


def play(loaded, clip, state=None):
    state = loaded.init_state() if state is None else state
    poses = []
    for frame in clip:
        state, pose = loaded.step(state, frame)
        poses.append(pose)
    return state, poses


def assert_same(one, other, tolerance=1e-5):
    for field in dataclasses.fields(one):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if isinstance(left, np.ndarray):
            np.testing.assert_allclose(left, right, atol=tolerance, err_msg=field.name)
        else:
            assert left == right, field.name


def test_pending_frames_are_encoded_with_the_next_and_change_nothing(load_any):
    loaded, clip = load_any(canonical_rig()), frames(7)
    _, poses = play(loaded, clip)
    state, _ = play(loaded, clip[:2])
    for frame in clip[2:6]:
        state = loaded.observe(state, frame)
    _, pose = loaded.step(state, clip[6])
    assert_same(pose, poses[6])


@pytest.mark.parametrize("room", [1, 3, 8])
def test_frames_that_go_together_give_the_poses_of_single_ones(load_any, room):
    """With less room than frames, too, and across a gap."""
    loaded, clip = load_any(canonical_rig(), **{"window.max_pending": room}), frames(10, head=True)
    clip[6:] = [dataclasses.replace(frame, stamp_ns=frame.stamp_ns + 10**9) for frame in clip[6:]]
    _, poses = play(loaded, clip)
    state, together = loaded.init_state(), []
    for part in (clip[:2], [], clip[2:9], clip[9:]):
        state, more = loaded.steps(state, part)
        together += more
    assert len(together) == len(poses) and state.pending == ()
    for one, other in zip(together, poses):
        assert_same(one, other)


def test_no_more_than_max_pending_frames_wait(load_any):
    loaded, clip = load_any(canonical_rig(), **{"window.max_pending": 2}), frames(6)
    state = loaded.init_state()
    for frame in clip[:5]:
        state = loaded.observe(state, frame)
    assert [frame.stamp_ns for frame in state.pending] == [frame.stamp_ns for frame in clip[3:5]]
    state, pose = loaded.step(state, clip[5])
    assert pose.window_length == 2 and state.pending == ()


@pytest.mark.parametrize("jump_ns", [600_000_000, -50_000_000, -3_600_000_000_000, -RATE_NS])
@pytest.mark.parametrize("pending", [False, True])
def test_a_gap_or_a_stamp_that_does_not_advance_empties_the_window(load_any, jump_ns, pending):
    loaded, before, after = load_any(canonical_rig()), frames(6), frames(6, seed=1)
    shift = before[-1].stamp_ns + RATE_NS + jump_ns - after[0].stamp_ns
    after = [dataclasses.replace(frame, stamp_ns=frame.stamp_ns + shift) for frame in after]
    state, poses = play(loaded, before[:-1])
    assert [pose.window_length for pose in poses] == [1, 2, 3, 4, 4]
    assert [pose.window_full for pose in poses] == [False, False, False, True, True]
    state = loaded.observe(state, before[-1]) if pending else play(loaded, before[-1:], state)[0]
    _, continued = play(loaded, after, state)
    _, fresh = play(loaded, after)
    for one, other in zip(continued, fresh):
        assert_same(one, other)


def test_a_network_that_looks_ahead_answers_for_earlier_frames(load, weights):
    chosen = {"network.name": "ag_egopose", "network.checkpoint": str(weights / "ahead.safetensors")}
    loaded, clip = load(canonical_rig(), **chosen), frames(6, head=True)
    state, poses = play(loaded, clip)
    answered = [clip[index] for index in (0, 0, 0, 1, 2, 3)]
    assert [pose.stamp_ns for pose in poses] == [frame.stamp_ns for frame in answered]
    T_head_camera = loaded.rig.cameras[0].T_head_camera
    for pose, frame in zip(poses, answered):
        np.testing.assert_array_equal(pose.T_world_camera, frame.T_world_head @ T_head_camera)
    # Also when they come together, and never across a gap.
    late = dataclasses.replace(frames(1)[0], stamp_ns=clip[-1].stamp_ns + 10**9)
    assert loaded.step(state, late)[1].stamp_ns == late.stamp_ns
    state, _ = play(loaded, clip[:2])
    for frame in clip[2:5]:
        state = loaded.observe(state, frame)
    assert_same(loaded.step(state, clip[5])[1], poses[5])
    for one, other in zip(loaded.steps(loaded.init_state(), clip)[1], poses, strict=True):
        assert_same(one, other)


def test_the_pipeline_changes_nothing_of_what_a_network_says(load_any):
    """Folded batch norms and steps against the network itself on a whole clip."""
    loaded, clip = load_any(canonical_rig(), **{"smoothing.enabled": False}), frames(6)
    network, _ = checkpoint.load(loaded.checkpoint)
    state = loaded.init_state()
    for frame in clip:
        state = dataclasses.replace(state, pending=(*state.pending, frame), up_head=(*state.up_head, None))
    with torch.no_grad():
        said = network(loaded._input(state)).joints[0].numpy()
    _, poses = play(loaded, clip)
    np.testing.assert_allclose(np.stack([pose.joints_camera for pose in poses]), said, atol=1e-4)


def test_poses_are_smoothed_with_what_was_said_before(load_any):
    """Also with what was said of frames that came during an inference, and no more from the moment it is turned off."""
    clip = frames(12)
    plain = load_any(canonical_rig(), **{"smoothing.enabled": False})
    loaded = load_any(canonical_rig())
    said = [Reading(p.stamp_ns, p.joints_camera, p.rotations_camera) for p in play(plain, clip)[1]]
    state, poses = play(loaded, clip)
    assert all(np.abs(pose.joints_camera - word.joints).max() > 1e-6 for pose, word in zip(poses[1:], said[1:]))
    for index, pose in enumerate(poses):
        joints, rotations = smooth(said[max(0, index + 1 - MEMORY) : index + 1], Config().smoothing)
        np.testing.assert_allclose(pose.joints_camera, joints, atol=1e-5)
        assert (rotations is None) == (pose.rotations_camera is None)
        if rotations is not None:
            np.testing.assert_allclose(pose.rotations_camera, rotations, atol=1e-4)
    loaded.configure(replace(Config(), {"smoothing.enabled": False}))
    later = dataclasses.replace(frames(1, seed=3)[0], stamp_ns=clip[-1].stamp_ns + RATE_NS)
    np.testing.assert_allclose(
        loaded.step(state, later)[1].joints_camera, play(plain, [*clip, later])[1][-1].joints_camera, atol=1e-5
    )


def test_a_known_height_scales_poses_about_the_camera_and_their_uncertainty_alike(load_any):
    plain, known = load_any(canonical_rig()), load_any(canonical_rig(), **{"wearer.height_m": 1.6})
    for pose, scaled in zip(play(plain, frames(5))[1], play(known, frames(5))[1]):
        scale = Stature(SKELETONS[pose.skeleton], 1.6).scale(pose.joints_camera)
        assert abs(scale - 1.0) > 0.01
        np.testing.assert_allclose(scaled.joints_camera, scale * pose.joints_camera, rtol=1e-5)
        np.testing.assert_allclose(scaled.covariance_camera, scale**2 * pose.covariance_camera, rtol=1e-4)
        assert np.array_equal(scaled.confidence, pose.confidence)


def test_a_turned_camera_gives_the_same_pose_in_its_own_frame(load):
    """The same light through another sensor: rotated by a quarter turn, its poses are turned with it."""
    straight = canonical_rig()
    turned = Rig((straight.cameras[0].rotate(1),))
    clip = frames(3, head=True)
    rotated = [dataclasses.replace(f, images=(np.rot90(f.images[0]).copy(),)) for f in clip]
    _, poses = play(load(straight), clip)
    _, others = play(load(turned), rotated)
    R = turned.cameras[0].R_camera_canonical
    for pose, other in zip(poses, others):
        # Bilinear resampling moves no pixel here, only OpenCV's 1/32 px grid is between them.
        np.testing.assert_allclose(other.joints_camera, pose.joints_camera @ R.T, atol=2e-3)
        np.testing.assert_allclose(other.rotations_camera, R @ pose.rotations_camera, atol=2e-2)
        np.testing.assert_allclose(
            rigid.apply(other.T_world_camera, other.joints_camera),
            rigid.apply(pose.T_world_camera, pose.joints_camera), atol=2e-3,
        )  # fmt: skip


def test_another_lens_of_the_same_place_sees_the_same(load):
    focal = 2 * 128 / np.radians(100.0)
    fine = KannalaBrandt(size=(512, 512), centre=(255.5, 255.5), focal=(focal,) * 2, k=(0,) * 4, max_angle=np.radians(100))
    clip = [dataclasses.replace(f, images=(np.repeat(np.repeat(f.images[0], 2, 0), 2, 1),)) for f in frames(3)]
    _, others = play(load(Rig((RigCamera("fine", fine),))), clip)
    _, poses = play(load(canonical_rig()), frames(3))
    for pose, other in zip(poses, others):
        np.testing.assert_allclose(other.joints_camera, pose.joints_camera, atol=3e-3)


def test_head_pose_places_the_camera_in_the_world(load):
    rig, clip = canonical_rig(), frames(2, head=True)
    _, poses = play(load(rig), clip)
    np.testing.assert_allclose(poses[1].T_world_camera, clip[1].T_world_head @ rig.cameras[0].T_head_camera)
    assert play(load(rig), frames(1))[1][0].T_world_camera is None


def test_gravity_of_an_imu_is_that_of_the_head_pose(load):
    """At rest both say the same, so the poses agree; without extrinsics neither is believed."""
    tilt = Rotation.from_euler("xyz", [0.3, -0.4, 1.0]).as_matrix()
    still = dataclasses.replace(frames(1)[0], T_world_head=rigid.transform(tilt, np.zeros(3)))
    imu = ImuSample(np.zeros(3), tilt.T @ [0.0, 0.0, 9.81])
    by_imu = dataclasses.replace(still, T_world_head=None, imu=imu)
    neither = dataclasses.replace(still, T_world_head=None)
    known, unknown = load(canonical_rig()), load(canonical_rig(head_known=False))
    pose, other, plain = (play(known, [frame])[1][0].joints_camera for frame in (still, by_imu, neither))
    np.testing.assert_allclose(pose, other, atol=1e-5)
    assert np.abs(pose - plain).max() > 1e-3
    for frame in (still, by_imu):
        np.testing.assert_allclose(play(unknown, [frame])[1][0].joints_camera, plain, atol=1e-6)


def test_a_rig_with_more_cameras_than_the_network_uses_the_first(load, weights):
    rig = canonical_rig(2)
    clip = frames(3, rig)
    stereo = load(rig)
    mono = load(rig, **{"network.checkpoint": str(weights / "1.safetensors")})
    assert stereo.warnings == () and "the rig's other 1 are not used" in mono.warnings[0]
    alone = [dataclasses.replace(frame, images=frame.images[:1]) for frame in clip]
    for pose, other in zip(play(mono, clip)[1], play(load(canonical_rig()), alone)[1]):
        assert_same(pose, other)
    with pytest.raises(ValueError, match="expected a rig of 2 cameras, got 1"):
        load(canonical_rig(), **{"network.checkpoint": str(weights / "2.safetensors")})


def test_images_of_another_size_or_number_are_refused(load):
    loaded = load(canonical_rig())
    with pytest.raises(ValueError, match="camera 'camera0': expected 256x256 images as in its calibration, got 128x256"):
        loaded.step(loaded.init_state(), Frame(1, (np.zeros((256, 128, 3), np.uint8),)))
    with pytest.raises(ValueError, match="expected 1 images, got 2"):
        loaded.step(loaded.init_state(), Frame(1, (np.zeros((256, 256), np.uint8),) * 2))


def test_another_rig_takes_the_weights_along(load):
    clip = frames(2)
    loaded = load(Rig((RigCamera("turned", CANONICAL, R_camera_canonical=mounted_rotation(90)),)))
    for pose, other in zip(play(loaded.with_rig(canonical_rig()), clip)[1], play(load(canonical_rig()), clip)[1]):
        assert_same(pose, other)


def test_devices_and_weights_that_are_not_there_are_named(load, tmp_path, monkeypatch):
    rig = canonical_rig()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert load(rig, **{"runtime.device": "auto"}).warnings == (
        "no GPU: runtime.device is auto, but torch sees no CUDA device; using the CPU",
    )
    with pytest.raises(ValueError, match="require_gpu: expected a CUDA device, got none"):
        load(rig, **{"runtime.device": "auto", "runtime.require_gpu": True})
    with pytest.raises(ValueError, match="nothing.safetensors: expected a file or"):
        load(rig, **{"network.checkpoint": str(tmp_path / "nothing.safetensors")})
    with pytest.raises(ValueError, match="camera.calibration: expected a calibration file"):
        pipeline.load(Config())
    monkeypatch.setattr(checkpoint, "shipped", lambda *_: None)
    with pytest.raises(ValueError, match="no weights of egoposeformer_v2 for 1 camera"):
        load(rig, **{"network.checkpoint": ""})
    untrained = load(rig, **{"network.checkpoint": "", "network.allow_untrained": True})
    assert not untrained.weights_trained and "random weights" in untrained.warnings[0]
    settings = {"network.name": "ag_egopose", "network.checkpoint": "", "network.allow_untrained": True}
    assert "ag_egopose takes 1 view(s): the rig's other 1 are not used" in load(canonical_rig(2), **settings).warnings


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), torch.float32), ((8, 0), torch.bfloat16)])
def test_half_precision_is_chosen_where_it_is_fast(capability, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert pipeline._select_dtype(Config().runtime, torch.device("cuda")) is expected
    assert pipeline._select_dtype(Config().runtime, torch.device("cpu")) is torch.float32


def test_half_precision_stays_close(load_any):
    clip = frames(4)
    whole, half = (play(load_any(canonical_rig(), **{"runtime.precision": p}), clip)[1] for p in ("fp32", "bf16"))
    for pose, other in zip(whole, half):
        np.testing.assert_allclose(other.joints_camera, pose.joints_camera, atol=0.03)
        assert other.joints_camera.dtype == np.float32


def test_the_frustum_is_the_edge_of_the_image():
    model = KannalaBrandt(size=(640, 480), centre=(320, 240), focal=(180, 180), k=(0, 0, 0, 0), max_angle=1.7)
    outline = pipeline._outline(RigCamera("camera", model))
    np.testing.assert_allclose(np.linalg.norm(outline, axis=-1), 1.0, atol=1e-6)
    inward = torch.from_numpy(outline + 1e-3 * np.array([0, 0, 1.0]))  # float32 rays may round to just outside
    pixels, valid = model.project(inward)
    assert bool(valid.all())
    margin = torch.minimum(pixels + 0.5, torch.tensor([639.5, 479.5]) - pixels).amin(-1)
    angle = np.arccos(outline[:, 2])
    assert bool(((margin.numpy() < 3) | (angle > 1.69)).all())
