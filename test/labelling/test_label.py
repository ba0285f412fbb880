"""`egopose label`: each recording once, whole or not at all, and one that fails takes no other with it."""

from __future__ import annotations

import dataclasses
import json
import os
import runpy
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from bag_maker import SIZE, image_at, stamp_at, write_bag, write_rig

from egopose_ros import checkpoint, cli, pipeline
from egopose_ros.config import Config, replace
from egopose_ros.labelling import engines, manifest
from egopose_ros.labelling.recordings import Reading, find, opened
from egopose_ros.labelling.teacher import Task
from egopose_ros.networks.table import build
from egopose_ros.ros.bag_poses import POSE, read_poses
from egopose_ros.ros.bag_reader import BagReader
from egopose_ros.structs import Frame

FRAMES = 6


def label(teacher: Path, out: Path, *inputs: object) -> int:
    command = ["label", *map(str, inputs), "--out", str(out), "--checkpoint", str(teacher), "--workers", "1"]
    return cli.main([*command, "--set", "runtime.device=cpu"])


def write_video(folder: Path) -> Path:
    folder.mkdir()
    write_rig(folder)
    writer = cv2.VideoWriter(str(folder / "film.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (SIZE, SIZE))
    for index in range(FRAMES):
        writer.write(image_at(index)[..., ::-1])
    writer.release()
    return folder / "film.avi"


def poses_of(folder: Path) -> list:
    with BagReader(folder) as bag:
        return [pose for pose, _ in read_poses(bag, POSE)]


def entries(out: Path) -> dict[str, manifest.Entry]:
    return {entry.name: entry for entry in manifest.read(out)[1]}


def test_each_recording_once_and_the_rest_go_on(teacher, tmp_path, capsys):
    fleet, out = tmp_path / "fleet", tmp_path / "labels"
    fleet.mkdir()
    good = write_bag(fleet / "good", FRAMES, truth=False)
    film = write_video(fleet / "day2")
    (fleet / "broken.mcap").write_bytes(b"no bag")
    assert label(teacher, out, fleet, tmp_path / "gone") == 1
    said = capsys.readouterr().err
    assert (
        "broken.mcap: expected a db3, mcap or ROS 1 bag" in said and "gone: expected a recording, got nothing" in said
    )
    assert {name: entry.status for name, entry in entries(out).items()} == {
        "good": "labelled", "film": "labelled", "broken": "failed", "gone": "failed",
    }  # fmt: skip
    assert sorted(path.name for path in out.iterdir()) == [".lock", "film", "good", "manifest.jsonl"]

    # The labels are the pipeline's poses; those of a video bring its images and rig, to be looked at by themselves.
    estimator = pipeline.load(
        replace(Config(), {"network.checkpoint": str(teacher)}), pipeline.load_rig(str(good / "calibration.yaml"))
    )
    found, state = poses_of(out / "film"), estimator.init_state()
    with opened(out / "film", Reading()) as recording:
        frames = [item.frame for item in recording.frames]
    with opened(film, Reading()) as recording:
        for pose, copied, item in zip(found, frames, recording.frames, strict=True):
            state, expected = estimator.step(state, Frame(item.frame.stamp_ns, item.frame.images))
            np.testing.assert_allclose(pose.joints_camera, expected.joints_camera, atol=1e-5)
            np.testing.assert_allclose(pose.covariance_camera, expected.covariance_camera, atol=1e-6)
            assert copied.stamp_ns == pose.stamp_ns
            assert (
                np.abs(copied.images[0].astype(int) - item.frame.images[0]).mean() < 10
            )  # JPEG; neighbours differ by 80
    assert [pose.stamp_ns for pose in poses_of(out / "good")] == [stamp_at(index) for index in range(FRAMES)]

    # Killed while it wrote: half a bag, a bag that the manifest does not know, half a line.
    (out / ".partial" / "broken").mkdir(parents=True)
    shutil.copytree(out / "film", out / "broken")
    with (out / "manifest.jsonl").open("a") as file:
        file.write('{"name": "brok')
    kept = {path: path.stat().st_mtime_ns for name in ("good", "film") for path in (out / name).iterdir()}
    (fleet / "broken.mcap").unlink()
    shutil.copy(next(good.glob("*.mcap")), fleet / "broken.mcap")
    write_rig(fleet)
    assert label(teacher, out, fleet) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert entries(out)["broken"].frames == len(poses_of(out / "broken")) == FRAMES
    assert all(json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines())

    # Nothing is left to do, and a recording that has changed since is not passed over.
    assert label(teacher, out, fleet) == 0
    shutil.copy(next(good.glob("*.mcap")), good / "more.mcap")
    assert label(teacher, out, fleet) == 1
    assert "changed since it was labelled" in capsys.readouterr().err


def test_labels_of_two_teachers_are_not_mixed(teacher, tmp_path, capsys):
    header = {"teacher": {"sha256": "another"}}
    (tmp_path / "labels").mkdir()
    with manifest.Manifest(tmp_path / "labels", header) as open_:
        with pytest.raises(manifest.LabelError, match="no other run that writes there"):
            manifest.Manifest(tmp_path / "labels", header)
        assert open_.entries == {}
    bag = write_bag(tmp_path / "bag", 2, truth=False)
    assert label(teacher, tmp_path / "labels", bag) == 1
    assert "expected a folder for labels of the same making" in capsys.readouterr().err


def test_what_is_a_recording(tmp_path):
    (tmp_path / "one").mkdir()
    one = write_bag(tmp_path / "one" / "take", 1)
    two = tmp_path / "two" / "take"
    two.mkdir(parents=True)
    cv2.imwrite(str(two / "0.png"), image_at(0))
    killed = tmp_path / "killed"
    killed.mkdir()
    shutil.copy(next(one.glob("*.mcap")), killed / "killed_0.mcap")  # without metadata
    (tmp_path / "notes.txt").write_text("no recording")
    assert find([tmp_path, one]) == [killed, one, two]
    with manifest.Manifest(tmp_path, {}) as open_:
        assert list(open_.names([one, two, two / "0.png"]).values()) == ["take", "two_take", "0"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: expected bags, videos or images in it, got none"):
        find([tmp_path / "empty"])


def test_labels_are_not_labelled_again(teacher, tmp_path, capsys):
    fleet = tmp_path / "fleet"
    fleet.mkdir()
    write_video(fleet / "day2")
    out = fleet / "day2" / "labels"
    for _ in range(2):
        assert label(teacher, out, fleet, *fleet.iterdir()) == 0
    assert list(entries(out)) == ["film"]
    assert find([fleet], tmp_path / "labels") == [fleet / "day2" / "film.avi"]  # of another run
    assert find([out / "film"], tmp_path / "labels") == [out / "film"]  # that is asked for by its name

    # Nor may recordings be where labels go: a bag of labels takes the place of what has its name.
    take = write_bag(fleet / "take", 2, truth=False)
    for source, said in (
        (out, "expected recordings outside of folders of labels, got none"),
        (out / "film", f"--out {out}: expected a folder without the recordings, got {out / 'film'} in it"),
    ):
        capsys.readouterr()
        assert label(teacher, out, source) == 1 and said in capsys.readouterr().err
    assert label(teacher, fleet, take) == 1
    assert f"--out {fleet}: expected a folder without the recordings, got {take} in it" in capsys.readouterr().err
    assert label(teacher, fleet, out / "film") == 1
    assert label(teacher, tmp_path / "fleet", write_bag(tmp_path / "take", 2, truth=False)) == 1
    assert f"--out {fleet}: expected a new folder, an empty one or one of labels" in capsys.readouterr().err
    assert len(list(take.iterdir())) == 3


def test_a_teacher_without_uncertainty_is_refused(tmp_path, capsys):
    bag, path = write_bag(tmp_path / "bag", 1, truth=False), tmp_path / "sure.safetensors"
    checkpoint.save(path, build("egoposeformer_v2", {"width": 32, "heads": 2, "layers": 1, "uncertainty": False}), {})
    assert label(path, tmp_path / "labels", bag) == 1
    assert f"{path}: expected a teacher with uncertainty" in capsys.readouterr().err
    assert not (tmp_path / "labels").exists()


@dataclasses.dataclass(frozen=True)
class Deadly(Task):
    """A recording that takes its worker with it, as a decoder that crashes does."""

    def __reduce__(self):
        return os._exit, (7,)


def test_a_worker_that_dies_takes_only_its_recording(teacher, tmp_path):
    reading = Reading(overrides={"network.checkpoint": str(teacher), "runtime.device": "cpu"})
    bag = write_bag(tmp_path / "bag", 2, truth=False)
    tasks = [Deadly(bag, "deadly", tmp_path, reading, False), Task(bag, "good", tmp_path, reading, False)]
    events = list(engines.on_this_machine(tasks, 1))
    ends = {event.name: event for event in events if isinstance(event, manifest.Entry)}
    assert ends["deadly"].status == "failed" and "exit status 7" in ends["deadly"].reason
    assert ends["good"].status == "labelled" and len(poses_of(tmp_path / "good")) == 2
    assert sum(event.frames for event in events if isinstance(event, engines.Progress)) == 2


def test_ray_labels_as_processes_do(teacher, tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="ray is an extra: pip install 'egopose_ros[ray]'")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    bag = write_bag(tmp_path / "bag", FRAMES, truth=False)
    (tmp_path / "broken.mcap").write_bytes(b"no bag")
    command = ["label", str(bag), str(tmp_path / "broken.mcap"), "--checkpoint", str(teacher), "--out"]
    for engine in ("ray", "local"):
        assert cli.main([*command, str(tmp_path / engine), "--engine", engine, "--set", "runtime.device=cpu"]) == 1
        assert {name: entry.status for name, entry in entries(tmp_path / engine).items()} == {
            "bag": "labelled",
            "broken": "failed",
        }
    for one, other in zip(poses_of(tmp_path / "ray" / "bag"), poses_of(tmp_path / "local" / "bag"), strict=True):
        np.testing.assert_allclose(one.joints_camera, other.joints_camera, atol=1e-5)


def test_a_recording_has_one_thread_of_opencv_on_ray_too(tmp_path, monkeypatch):
    told: list[int] = []

    def label_it(task, on_frame=None):
        told.append(cv2.getNumThreads())
        return manifest.Entry(task.name, str(task.source), manifest.LABELLED, frames=1)

    class Remote:
        def __init__(self, call):
            self.remote = lambda task: lambda entry=call(task): entry  # what `get` calls

        def options(self, **_):
            return self

    calls = dict(get=lambda reference: reference(), wait=lambda ready, num_returns: (ready[:1], []))
    ray = SimpleNamespace(is_initialized=lambda: True, remote=Remote, **calls)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(engines, "label", label_it)
    before = cv2.getNumThreads()
    cv2.setNumThreads(4)
    try:
        list(engines.on_ray([Task(tmp_path, "take", tmp_path, Reading(), False)], 1, 0))
    finally:
        cv2.setNumThreads(before)
    assert told == [1]


def test_the_benchmark_counts_what_is_labelled(tmp_path):
    benchmark = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "auto_labelling.py"))
    assert benchmark["labelled"](tmp_path) == 0
    with manifest.Manifest(tmp_path, {}) as open_:
        open_.add(manifest.Entry("one", "/one", manifest.LABELLED))
        open_.add(manifest.Entry("two", "/two", manifest.FAILED))
    assert benchmark["labelled"](tmp_path) == 1


def test_ray_that_is_missing_is_said(teacher, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    bag = write_bag(tmp_path / "bag", 1, truth=False)
    command = ["label", str(bag), "--out", str(tmp_path / "labels"), "--checkpoint", str(teacher), "--engine", "ray"]
    assert cli.main(command) == 1
    assert "expected the package ray, which is not installed" in capsys.readouterr().err
