"""Every reader on a recording in the exact layout of its data set, written here with known joints."""

import json
import pickle
import shutil

import cv2
import h5py
import numpy as np
import pytest
from scipy.io import savemat

from egopose_ros.datasets.interface import DatasetError
from egopose_ros.datasets.joint_names import mixamo_names, unreal_names
from egopose_ros.datasets.readers import READERS
from egopose_ros.datasets.unpickle import load_npy, load_pickle
from egopose_ros.skeleton import UNREALEGO16, UNREALEGO2_16

RANDOM = np.random.default_rng(0)


def poses(frames, joints):
    return RANDOM.normal(size=(frames, joints, 3)).astype(np.float32)


def write_image(path, size, level):
    """Write a picture whose left half is red of the given level, so that order and mirroring show."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.zeros((size[1], size[0], 3), np.uint8)
    image[:, : size[0] // 2, 2] = level
    assert cv2.imwrite(str(path), image)


def write_pickle(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.fixture
def egopw(tmp_path):
    truth = poses(4, 15)
    truth[2, 5] = np.nan
    folder = tmp_path / "ayush" / "walk"
    records = [{"image_name": f"img_{n:06d}.jpg", "optimized_local_pose": p} for n, p in zip((7, 8, 9, 11), truth)]
    write_pickle(folder / "pseudo_gt.pkl", records)
    for n in (7, 8, 9, 11):
        write_image(folder / "imgs" / f"img_{n:06d}.jpg", (1280, 1024), 20 * n)
    return tmp_path, truth


def test_egopw_keeps_gaps_and_counts_the_poses_it_skips(egopw):
    root, truth = egopw
    reading = READERS["egopw"](root, fps=25.0)
    (clip,) = reading.clips
    assert clip.name == "ayush/walk" and clip.skeleton == "mpi15" and clip.frame == "camera"
    assert np.array_equal(clip.joints, truth[[0, 1, 3]])
    assert np.diff(clip.stamps_ns).tolist() == [40_000_000, 120_000_000]
    assert len(reading.skipped) == 1 and "record 2" in reading.skipped[0]
    assert abs(int(clip.images[2][0][500, 10, 0]) - 220) < 8 and clip.images[2][0][500, 10, 2] < 8  # RGB, frame 11


def test_sceneego_finds_images_by_name_and_by_the_offset_of_the_external_camera(tmp_path):
    truth = poses(3, 15)
    by_name = [{"image_name": f"img_{n:06d}.jpg", "ego_pose_gt": p} for n, p in zip((0, 1, 2), truth)]
    by_offset = [{"ext_id": 100 + n, "ego_pose_gt": p} for n, p in zip((0, 1, 2), truth)]
    by_offset.append({"ext_id": 103, "ego_pose_gt": None})
    for name, records in (("a", by_name), ("b", by_offset)):
        write_pickle(tmp_path / name / "annotation.pkl", records)
        (tmp_path / name / "syn.json").write_text(json.dumps({"ego": 5, "ext": 105}))
        for n in range(3):
            write_image(tmp_path / name / "imgs" / f"img_{n:06d}.jpg", (1280, 1024), 50)
    reading = READERS["sceneego"](tmp_path)
    assert [clip.name for clip in reading.clips] == ["a", "b"] and len(reading.skipped) == 1
    for clip in reading.clips:
        assert np.array_equal(clip.joints, truth)


def test_mo2cap2_training_and_test(tmp_path):
    truth = poses(5, 15)
    with h5py.File(tmp_path / "chunk_0001.hdf5", "w") as file:
        file["Images"] = np.linspace(0, 1, 5)[:, None, None, None] * np.ones((5, 3, 8, 8))
        file["Annot3D"] = truth.transpose(0, 2, 1) * 1000
        file["Heatmap"] = np.zeros((5, 15, 4, 4))
    (clip,) = READERS["mo2cap2"](tmp_path).clips
    assert np.allclose(clip.joints, truth, atol=1e-6)
    assert [int(images[0][0, 0, 0]) for images in clip.images] == [0, 64, 128, 191, 255]

    savemat(tmp_path / "olek.mat", {"pose_gt": truth.transpose(1, 2, 0)[::1].transpose(1, 0, 2) * 1000})
    for n in range(386, 391):
        write_image(tmp_path / "test" / f"img-{n}.jpg", (64, 48), 40)
    (clip,) = READERS["mo2cap2_test"](tmp_path / "olek.mat", tmp_path / "test", 386).clips
    assert np.allclose(clip.joints, truth, atol=1e-6) and len(clip.images) == 5
    with pytest.raises(DatasetError, match="frame 391 is missing"):
        READERS["mo2cap2_test"](tmp_path / "olek.mat", tmp_path / "test", 387)


def write_stereo(folder, numbers, size):
    for n in numbers:
        for level, camera in ((60, "camera_left"), (120, "camera_right")):
            write_image(folder / "fisheye_final_image" / camera / f"final_{n}.png", size, level)


def test_unrealego_raw_by_name(tmp_path):
    truth, folder = poses(2, 16), tmp_path / "Alley" / "Day" / "rp_001" / "SKM" / "jumping" / "seq"
    (folder / "json").mkdir(parents=True)
    for n, pose in zip((10, 9), truth):  # 9 before 10: frames are numbers, not strings
        joints = {
            unreal_names(joint)[-1]: {
                "camera_left_pts3d": (100 * pose[j]).tolist(),
                "camera_left_pts2d": [n, j],
                "camera_right_pts2d": [n, -j],
            }
            for j, joint in enumerate(UNREALEGO16.joints)
        }
        (folder / "json" / f"frame_{n}.json").write_text(json.dumps({"joints": joints, "ground_z_value": 0}))
    write_stereo(folder, (9, 10), (1024, 1024))
    (clip,) = READERS["unrealego"](tmp_path).clips
    assert clip.frame == "camera" and np.allclose(clip.joints, truth[::-1], atol=1e-6)
    assert clip.joints_px[1, 1, 3].tolist() == [10, -3]
    assert [image[0, 0, 0] for image in clip.images[0]] == [60, 120]


def test_unrealego_preprocessed_undoes_the_normalisation(tmp_path):
    truth, image = poses(2, 16), RANDOM.integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)
    folder = tmp_path / "seq" / "all_data_with_img-256_hm-64_pose-16_npy"
    folder.mkdir(parents=True)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normalised = ((image / 255.0 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    for n in range(2):
        content = {"input_rgb_left": normalised[0], "input_rgb_right": normalised[1], "gt_local_pose": 100 * truth[n]}
        np.save(folder / f"frame_{n}.npy", content, allow_pickle=True)
    (clip,) = READERS["unrealego"](tmp_path).clips
    assert clip.frame == "pelvis" and np.allclose(clip.joints, truth, atol=1e-6)
    assert all(np.array_equal(got, want) for got, want in zip(clip.images[1], image))


def test_unrealego2_reads_points_by_joint_name(tmp_path):
    truth, folder = poses(1, 16), tmp_path / "seq"
    (folder / "json").mkdir(parents=True)
    content = {mixamo_names(joint)[0]: (100 * truth[0, j]).tolist() for j, joint in enumerate(UNREALEGO2_16.joints)}
    (folder / "json" / "frame_0.json").write_text(json.dumps(content))
    write_stereo(folder, (0,), (872, 872))
    (clip,) = READERS["unrealego2"](tmp_path).clips
    assert clip.frame == "device" and np.allclose(clip.joints, truth, atol=1e-6)
    assert [image.shape for image in clip.images[0]] == [(872, 872, 3)] * 2
    write_image(folder / "fisheye_final_image" / "camera_right" / "final_0.png", (1024, 1024), 60)
    with pytest.raises(DatasetError, match="final_0.png: expected 872x872, got 1024x1024"):
        READERS["unrealego2"](tmp_path).clips[0].images[0]
    write_stereo(folder, (0,), (1024, 1024))
    assert READERS["unrealego2"](tmp_path).clips[0].images[0][1].shape == (1024, 1024, 3)
    write_stereo(folder, (0,), (512, 512))
    with pytest.raises(DatasetError, match="final_0.png: expected 1024x1024 or 872x872, got 512x512"):
        READERS["unrealego2"](tmp_path)


def test_egocap_training(tmp_path):
    truth, pixels = poses(3, 18), RANDOM.random((3, 18, 2)).astype(np.float32)
    with h5py.File(tmp_path / "labels.hdf5", "w") as file:
        file["pose_3d"] = truth * np.array([1, 1, -1]) * 1000
        file["pose_2d"] = pixels
    for n in range(3):
        write_image(tmp_path / "images" / f"{n}.jpg", (640, 512), 50)
    (clip,) = READERS["egocap"](tmp_path / "labels.hdf5", tmp_path / "images").clips
    assert np.allclose(clip.joints, truth, atol=1e-6)
    assert np.allclose(clip.joints_px[:, 0], pixels * [640, 512], atol=1e-3)
    (tmp_path / "images" / "2.jpg").unlink()
    with pytest.raises(DatasetError, match="expected 3 images, one a pose, found 2"):
        READERS["egocap"](tmp_path / "labels.hdf5", tmp_path / "images")


def test_egocap_validation_pairs_the_cameras_and_unmirrors_the_second(tmp_path):
    truth = poses(3, 18)
    rows = [" ".join(map(str, [100 + n, *(1000 * truth[n]).ravel()])) for n in range(3)]
    (tmp_path / "dataset3D.mddd").write_text("\n".join(["Skeletool Marker 3D V1", "18", *rows]))
    for n in (100, 101):
        write_image(tmp_path / "images" / "franzi_01-cam0" / f"frame-{n}.jpg", (640, 512), 200)
        write_image(tmp_path / "images" / "franzi_01-cam1" / f"frame-{n - 85}.jpg", (640, 512), 200)
    reading = READERS["egocap_validation"](tmp_path)
    (clip,) = reading.clips
    assert np.allclose(clip.joints, truth[:2], atol=1e-6) and len(reading.skipped) == 1
    left, right = clip.images[0]
    assert left[0, 0, 0] > 150 and right[0, 0, 0] < 50 and right[0, -1, 0] > 150
    with (tmp_path / "dataset3D.mddd").open("a") as file:
        file.write("\n103 1 2 3")
    with pytest.raises(DatasetError, match="line 6: expected 55 numbers, got 4"):
        READERS["egocap_validation"](tmp_path)


def test_xr_egopose_selects_joints_by_name_among_more(tmp_path):
    names = ["Hips", *(mixamo_names(joint)[0] for joint in reversed(UNREALEGO2_16.joints))]
    points = poses(1, 17)[0]
    folder = tmp_path / "TrainSet" / "female_001_a_a" / "env_01" / "cam_down"
    (folder / "json").mkdir(parents=True)
    content = {
        "joints": [{"name": f"mixamorig:{name}", "rot": [0, 0, 0], "trans": [0, 0, 0]} for name in names],
        "pts3d_fisheye": (100 * points.T).tolist(),
        "pts2d_fisheye": points[:, :2].T.tolist(),
        "action": "greeting",
    }
    (folder / "json" / "female_001_a_a_000001.json").write_text(json.dumps(content))
    write_image(folder / "rgba" / "female_001_a_a.rgba.000001.png", (1280, 800), 50)
    (clip,) = READERS["xr_egopose"](tmp_path).clips
    assert clip.action == ("greeting",) and np.allclose(clip.joints[0], points[:0:-1], atol=1e-6)


def test_egobody3m_brings_head_pose_and_projections_of_the_cameras_asked_for(tmp_path):
    truth, head = poses(2, 26), np.eye(4)
    head[:3, 3] = (100, 200, 300)
    folder = tmp_path / "123456789"
    folder.mkdir()
    for n in range(2):
        content = {
            "frame_index": n,
            "world_from_headset_xf_cm": head.tolist(),
            "joint_positions_world_cm": (100 * truth[n]).tolist(),
            "annotation_level": 1,
            **{f"projected_joint_positions_cam{c}_px": np.full((26, 3), 10 * c + n).tolist() for c in range(4)},
        }
        (folder / f"frame{n:04d}.json").write_text(json.dumps(content))
        for c in range(4):
            write_image(folder / f"frame{n:04d}_cam{c}.jpg", (636, 480), 50 * c)
    (clip,) = READERS["egobody3m"](tmp_path, cameras=(3, 1)).clips
    assert np.allclose(clip.joints, truth, atol=1e-6) and clip.T_world_head[0, :3, 3].tolist() == [1, 2, 3]
    assert clip.joints_px[1, :, 0, 0].tolist() == [31, 11]
    assert [round(int(image[0, 0, 0]), -1) for image in clip.images[0]] == [150, 50]


def test_a_missing_image_is_named_before_training_starts(egopw):
    root, _ = egopw
    (root / "ayush" / "walk" / "imgs" / "img_000008.jpg").unlink()
    with pytest.raises(DatasetError, match="img_000008.jpg: expected an image"):
        READERS["egopw"](root)


def test_a_broken_image_is_named_when_it_is_read(egopw):
    root, _ = egopw
    (root / "ayush" / "walk" / "imgs" / "img_000008.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    clip = READERS["egopw"](root).clips[0]
    with pytest.raises(DatasetError, match="img_000008.jpg: .*cannot decode"):
        clip.images[1]


@pytest.mark.parametrize("name", [name for name in READERS if name not in ("mo2cap2_test", "egocap")])
def test_an_absent_or_empty_folder_is_an_error_that_says_what_was_expected(name, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    for root in (tmp_path / "absent", empty):
        with pytest.raises(DatasetError, match="expected"):
            READERS[name](root)


class Attack:
    def __reduce__(self):
        return shutil.rmtree, ("/nonexistent",)


def test_pickles_admit_arrays_and_plain_containers_only(tmp_path):
    honest = [{"pose": poses(1, 15), "name": "a", "scalar": np.float64(2.5), "bytes": b"\xff", "none": None}]
    for protocol in range(2, 6):
        (tmp_path / "honest.pkl").write_bytes(pickle.dumps(honest, protocol=protocol))
        (back,) = load_pickle(tmp_path / "honest.pkl")
        assert np.array_equal(back["pose"], honest[0]["pose"]) and back["scalar"] == 2.5 and back["bytes"] == b"\xff"
    (tmp_path / "attack.pkl").write_bytes(pickle.dumps([Attack()]))
    with pytest.raises(DatasetError, match=r"shutil\.rmtree"):
        load_pickle(tmp_path / "attack.pkl")
    np.save(tmp_path / "attack.npy", np.array({"x": Attack()}), allow_pickle=True)
    with pytest.raises(DatasetError, match=r"shutil\.rmtree"):
        load_npy(tmp_path / "attack.npy")
    whole = pickle.dumps(honest)
    (tmp_path / "half.pkl").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match="half.pkl"):
        load_pickle(tmp_path / "half.pkl")
