"""The playhead over a recording, and a bag as a recording: what is shown when, and the numbers at that place."""

import argparse
import dataclasses
import shutil
import sys
import threading
import time
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
from walker import VIEW, drawn_image, walking_pose

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))
from bag_maker import TRUTH, Maker, write_rig  # noqa: E402

from egopose_ros import cli  # noqa: E402
from egopose_ros.commands import view  # noqa: E402
from egopose_ros.evaluation.contenders import contenders  # noqa: E402
from egopose_ros.evaluation.metrics import mpjpe  # noqa: E402
from egopose_ros.geometry import rigid  # noqa: E402
from egopose_ros.ros import bag_reader, bag_view  # noqa: E402
from egopose_ros.ros.bag_reader import POSE_TYPE  # noqa: E402
from egopose_ros.viewer.playback import Playback  # noqa: E402
from egopose_ros.viewer.recording import Recording, Track, truth_in_camera  # noqa: E402

FRAMES = 12


def track(label, frames, complete=True):
    made = Track(label)
    made.network = "drawn"
    for index in frames:
        made.add(walking_pose(index), age_s=0.01 * index)
    made.complete = complete
    return made


def recording(*tracks):
    poses = [walking_pose(index, noise=0.0) for index in range(FRAMES)]
    return Recording(
        "walk",
        np.array([pose.stamp_ns for pose in poses]),
        np.stack([pose.T_world_camera for pose in poses]),
        (VIEW,),
        tracks,
        np.stack([pose.joints_camera for pose in poses]),
        "smpl22",
        lambda index: [drawn_image(poses[index])],
    )


class Screen:
    """What a playback hands over."""

    def __init__(self, *tracks):
        self.playback = Playback(recording(*tracks))
        self.shots, self.positions = [], []
        self._moved = threading.Condition()
        self.playback.start(self.shots.append, self._on_moved)
        self.until(lambda: self.positions)

    def _on_moved(self, position):
        with self._moved:
            self.positions.append(position)
            self._moved.notify()

    def until(self, condition):
        with self._moved:
            assert self._moved.wait_for(condition, 20.0), "did not come within 20 s"

    def at(self, index):
        self.until(lambda: self.positions[-1].index == index and len(self.shots) == len(self.positions))
        return self.shots[-1]


@pytest.fixture
def screen():
    made = []

    def make(*tracks):
        made.append(Screen(*tracks))
        return made[-1]

    yield make
    for each in made:
        each.playback.close()


def test_scrubbing_and_stepping_show_just_that_frame(screen):
    shown = screen(track("all", range(FRAMES)))
    for act, index in (
        (lambda: shown.playback.seek(7), 7),
        (lambda: shown.playback.step(1), 8),
        (lambda: shown.playback.step(-3), 5),
        (lambda: shown.playback.seek(99), FRAMES - 1),
        (lambda: shown.playback.step(-99), 0),
    ):
        act()
        shot, truth = shown.at(index), walking_pose(index, noise=0.0)
        np.testing.assert_array_equal(shot.pose.joints_camera, walking_pose(index).joints_camera)
        np.testing.assert_array_equal(shot.truth.joints_camera, truth.joints_camera)
        np.testing.assert_array_equal(shot.images()[0], drawn_image(truth))
        np.testing.assert_allclose(shot.path[-1], truth.T_world_camera[:3, 3])
        assert len(shot.path) == index + 1
    assert not any(position.playing for position in shown.positions)


def test_playing_goes_on_frame_by_frame_to_the_end_and_again_from_the_start(screen):
    shown = screen(track("all", range(FRAMES)))
    shown.playback.set_speed(0.5)
    shown.playback.toggle()
    shown.until(lambda: shown.positions[-1].index == FRAMES - 1 and not shown.positions[-1].playing)
    indices = [position.index for position in shown.positions]
    assert indices == sorted(indices) and len(set(indices)) > 2
    count = len(shown.positions)
    shown.playback.toggle()
    shown.until(lambda: len(shown.positions) > count and shown.positions[count].index < FRAMES - 1)
    shown.playback.toggle()
    shown.until(lambda: not shown.positions[-1].playing)


def test_playing_waits_for_poses_that_are_still_computed(screen):
    growing = track("computed", range(3), complete=False)
    shown = screen(growing)
    shown.playback.set_speed(4.0)
    shown.playback.toggle()
    shown.until(lambda: shown.positions[-1].index == 2)
    shown.playback.seek(6)
    shot = shown.at(6)
    assert np.isnan(shot.pose.joints_camera).all() and not shown.positions[-1].settled
    for index in range(3, 7):
        growing.add(walking_pose(index))
    shown.until(lambda: shown.positions[-1].settled)
    np.testing.assert_array_equal(shown.shots[-1].pose.joints_camera, walking_pose(6).joints_camera)
    assert shown.positions[-1].index == 6 and shown.positions[-1].playing


def test_another_choice_shows_its_poses_and_begins_to_compute_them(screen):
    begun = []
    lazy = Track("computed", begun.append)
    shown = screen(track("recorded", range(0, FRAMES, 2)), lazy)
    shown.playback.seek(3)
    assert np.isnan(shown.at(3).pose.joints_camera).all(), "dropped: no pose is shown, and none of another frame"
    assert begun == []
    shown.playback.choose("computed")
    assert begun == [lazy]
    shown.until(lambda: shown.positions[-1].track is lazy)
    shown.playback.choose("recorded")
    shown.playback.choose("computed")
    assert begun == [lazy]


def test_numbers_and_graphs_are_those_of_the_place(screen):
    playback = screen(track("even", range(0, FRAMES, 2))).playback
    playback.seek(7)
    status, curves = playback.status(0.0), playback.curves(0.0)
    assert (status.frames_in, status.poses_out, status.network) == (8, 4, "drawn")
    assert status.input_hz == pytest.approx(30.0, rel=1e-3) and status.output_hz == pytest.approx(15.0, rel=1e-3)
    assert status.latency_ms[0] == pytest.approx(30.0)
    errors = [mpjpe(walking_pose(i).joints_camera, walking_pose(i, noise=0.0).joints_camera) for i in (0, 2, 4, 6)]
    assert status.mpjpe_mm == pytest.approx(1e3 * np.mean(errors))
    np.testing.assert_allclose(curves.error_mm, 1e3 * np.array(errors), rtol=1e-5)
    np.testing.assert_allclose(curves.pose_s, np.array([-7, -5, -3, -1]) / 30.0, atol=1e-6)
    np.testing.assert_allclose(curves.latency_ms, [0.0, 20.0, 40.0, 60.0])
    assert playback.status(0.0).quiet_s == pytest.approx(1 / 30.0, rel=1e-3)


def test_truth_in_the_world_is_taken_to_the_camera():
    pose = walking_pose(4)
    world = rigid.apply(pose.T_world_camera, pose.joints_camera)
    T = np.stack([pose.T_world_camera, np.full((4, 4), np.nan)])
    here, unknown = truth_in_camera(np.stack([world, world]), "world", T)
    np.testing.assert_allclose(here, pose.joints_camera, atol=1e-5)
    assert np.isnan(unknown).all()


def test_a_bag_is_indexed_and_its_images_are_found_anywhere(bag, predictions):
    with bag_view.opened(bag_view.Asked(bag, predictions=(predictions,))) as opened:
        assert [each.label for each in opened.tracks] == ["poses"]
        assert opened.size == 45 and np.isfinite(opened.T_world_camera).all()
        for index in (40, 3, 4, 44, 0):
            truth = walking_pose(index, noise=0.0)
            shot = opened.shot(index, opened.tracks[0])
            assert shot.pose.stamp_ns == truth.stamp_ns
            assert np.isfinite(shot.pose.joints_camera).all() == (index % 2 == 0 and index < 40)
            np.testing.assert_allclose(shot.truth.joints_camera, truth.joints_camera, atol=1e-6)
            np.testing.assert_allclose(shot.pose.T_world_camera, truth.T_world_camera, atol=1e-3)
            assert np.abs(shot.images()[0].astype(int) - drawn_image(truth)).mean() < 4


def test_predictions_of_one_name_are_told_apart(bag, predictions, tmp_path):
    other = tmp_path / "second" / predictions.name
    shutil.copytree(predictions, other)
    with bag_view.opened(bag_view.Asked(bag, predictions=(predictions, other))) as opened:
        first, second = opened.tracks
        assert first.label != second.label and second.label == "second/poses"
        errors = opened.errors_m(first, 10)
        second._reports.clear()
        assert np.isfinite(errors).any() and not np.isfinite(opened.errors_m(second, 10)).any()


def test_what_a_damaged_bag_lacks_is_told(bag, predictions, tmp_path, monkeypatch, capsys):
    """The bag and one of poses, both cut off behind their last chunk; the page is left out."""
    cuts = []
    for name, whole in (("walk", bag), ("poses", predictions)):
        file = next(whole.glob("*.mcap"))
        cuts.append(tmp_path / f"{name}.mcap")
        cuts[-1].write_bytes(file.read_bytes()[:-60])
    for name in ("Page", "Playback", "Timeline"):
        monkeypatch.setattr(view, name, MagicMock())
    parser = argparse.ArgumentParser()
    view.add_arguments(parser)
    stop = threading.Event()
    stop.set()
    assert view._bag(parser.parse_args([str(cuts[0]), "--predictions", str(cuts[1])]), stop) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("egopose view: ")]
    assert len(said) == 2 and all(f"bag {cut}: truncated" in line for cut, line in zip(cuts, said))


def test_a_damaged_bag_is_salvaged_once_and_no_reader_stays_open(bag, tmp_path, monkeypatch):
    file = next(bag.glob("*.mcap"))
    (tmp_path / "walk.mcap").write_bytes(file.read_bytes()[:-60])
    salvaged, readers = [], []
    salvage, close, opened = bag_reader.salvage, bag_reader.BagReader.close, bag_reader.BagReader._enter
    monkeypatch.setattr(bag_reader, "salvage", lambda *given: (salvaged.append(given), salvage(*given))[1])
    monkeypatch.setattr(bag_reader.BagReader, "close", lambda reader: (readers.remove(reader), close(reader))[1])
    monkeypatch.setattr(bag_reader.BagReader, "_enter", lambda reader, paths: (opened(reader, paths), readers.append(reader))[0])
    monkeypatch.setattr(bag_view.bag_runs, "load", lambda frames, config: MagicMock(network_name="quick"))
    with bag_view.opened(bag_view.Asked(tmp_path / "walk.mcap")) as shown:
        assert len(shown.images(2)) == 1 and len(readers) == 2
        shown.images(30)
    assert len(salvaged) == 1 and readers == []


@pytest.mark.parametrize(
    "topics, shown",
    [("/mocap/ground_truth", True), ("", False), ("/a/ground_truth /b/ground_truth", False)],
)
def test_the_truth_of_a_bag_is_found_as_by_the_evaluation(tmp_path, topics, shown):
    """The one topic that is named so; one that is declared and empty is none, and of two nobody knows which."""
    with Maker(tmp_path / "bag") as maker:
        for index in range(3):
            maker.image(index)
            maker.truth(index, "/estimator/pose")
            for topic in topics.split():
                maker.truth(index, topic)
        maker._writer.add_connection(TRUTH, POSE_TYPE, typestore=maker.types)
    write_rig(tmp_path / "bag")
    with bag_view.opened(bag_view.Asked(tmp_path / "bag")) as opened:
        assert (opened.truth is not None) is shown
        assert len(opened.losses) == len(topics.split()) // 2 and all("--truth" in line for line in opened.losses)


def test_a_topic_of_live_poses_is_no_choice_for_a_bag(bag, capsys):
    assert cli.main(["view", str(bag), "--pose", "/other/pose"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "expected no --pose with a BAG" in said[0]


def test_a_network_that_fails_is_told_and_ends_its_track(bag, predictions, monkeypatch):
    class Broken:
        network_name, weights_trained = "broken", True

        def init_state(self):
            return None

        def steps(self, state, frames):
            raise RuntimeError("out of memory")

    monkeypatch.setattr(bag_view.bag_runs, "load", lambda frames, config: Broken())
    with bag_view.opened(bag_view.Asked(bag, contenders=contenders(["egoposeformer_v2", "ag_egopose"], []))) as opened:
        first, other = opened.tracks
        assert (first.label, other.label) == ("computed: egoposeformer_v2", "computed: ag_egopose")
        first.begin()
        deadline = time.monotonic() + 20
        while not first.complete and time.monotonic() < deadline:
            time.sleep(0.01)
        assert first.problem == "RuntimeError: out of memory" and first.network == "broken"
        assert not other.complete


@pytest.mark.parametrize(
    "change, reason",
    [
        (dict(bag="nowhere"), "expected a bag"),
        (dict(topics=("/other",)), "expected images on /other, got /camera/image_raw"),
        (dict(truth="/missing", predictions=True), "expected topic /missing"),
        (dict(contenders=contenders(["egoposeformer_v2"], ["nowhere.safetensors"])), "nowhere.safetensors"),
    ],
)
def test_what_does_not_fit_is_an_error_at_once(bag, predictions, tmp_path, change, reason):
    asked = bag_view.Asked(tmp_path / change["bag"] if "bag" in change else bag)
    changes = {name: value for name, value in change.items() if name != "bag"}
    if changes.pop("predictions", False):
        changes["predictions"] = (predictions,)
    with pytest.raises((OSError, ValueError), match=reason):
        with bag_view.opened(dataclasses.replace(asked, **changes)):
            pass
