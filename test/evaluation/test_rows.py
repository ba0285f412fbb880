"""Recordings of any length: what is worked out piece by piece is what it is as a whole, in memory that does not grow."""

from __future__ import annotations

import dataclasses
import os
import resource
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from egopose_ros.evaluation import results, rows, scores
from egopose_ros.evaluation.protocols import PROTOCOLS
from egopose_ros.evaluation.runs import Run, agreement
from egopose_ros.evaluation.truth import Truth, estimate_offset
from egopose_ros.geometry import rigid
from egopose_ros.skeleton import skeleton

STEP_NS = 33_333_333


def recording(frames: int, protocol: str = "egopose", seed: int = 0, head_pose: bool = True) -> tuple[Run, Truth]:
    """Return poses with gaps in time beside truth with gaps in space."""
    random, body = np.random.default_rng(seed), skeleton(PROTOCOLS[protocol].skeleton)
    made = {
        "truth": (body.size, 3), "error": (body.size, 3), "covariance": (body.size, 3, 3), "T": (4, 4), "visible": (body.size,),
    }  # fmt: skip
    kept = {name: rows.Rows(shape, np.uint8 if name == "visible" else np.float32) for name, shape in made.items()}
    place = random.normal(size=(body.size, 3))
    for part in rows.slices(frames):
        count = part.stop - part.start
        truth = place + np.cumsum(random.normal(0.0, 0.02, (count, body.size, 3)), 0)
        truth[random.random((count, body.size)) < 0.1] = np.nan
        T = rigid.transform(np.eye(3), np.cumsum(random.normal(0.0, 0.02, (count, 3)), 0))
        made = {
            "truth": truth, "error": random.normal(0.0, 0.05, truth.shape), "T": T,
            "covariance": np.eye(3) * random.uniform(0.001, 0.01, (count, body.size, 1, 1)),
            "visible": random.integers(0, 3, (count, body.size)),
        }  # fmt: skip
        for name, values in made.items():
            kept[name].extend(values)
    truth, error, covariance, T, visible = (kept[name].array() for name in ("truth", "error", "covariance", "T", "visible"))
    joints = rows.gathered(np.nan_to_num(truth[part]) + error[part] for part in rows.slices(frames))
    stamps_ns = np.arange(frames) * STEP_NS
    segment = (np.arange(frames) * 3 // max(frames, 1)).astype(np.int32)
    times = np.full(frames, 0.02, np.float32)
    run = Run(
        "x", "n", True, body.name, stamps_ns, joints, covariance, None, T if head_pose else np.full_like(T, np.nan), segment,
        times, times, 0, 8.0, np.full(frames, 16, np.int32),
    )  # fmt: skip
    return run, Truth("t", stamps_ns, truth, body.name, "camera", visible)


def everything(run: Run, truth: Truth, protocol: str) -> dict:
    comparison = scores.compare(run, truth, protocol)
    merged = scores.merge([comparison, comparison])
    later = dataclasses.replace(run, joints=run.joints + np.float32(0.01))
    told = {
        **{name: dataclasses.astuple(metric) for name, metric in scores.score(merged, draws=40).items()},
        "published": results.published_json(comparison), "joints": scores.per_joint(comparison),
        "difference": dataclasses.astuple(scores.difference([comparison], [comparison], draws=4)),
        "agreement": dataclasses.astuple(agreement(run, later)),
        "offset": estimate_offset(truth.stamps_ns, truth.joints, run.stamps_ns + 500_000_000, truth.joints)[0],
    }  # fmt: skip
    return {f"{key} {index}": value for key, values in told.items() for index, value in flat(values)}


def flat(values):
    return enumerate(values.values() if isinstance(values, dict) else values if isinstance(values, tuple) else (values,))


@pytest.mark.parametrize("protocol, head_pose", [("egopose", True), ("emhi", True), ("sceneego", False), ("unrealego", False)])
def test_pieces_say_what_the_whole_says(protocol: str, head_pose: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    run, truth = recording(90, protocol, head_pose=head_pose)
    expected = everything(run, truth, protocol)
    for piece in (4, 7, 89):
        monkeypatch.setattr(rows, "PIECE", piece)
        monkeypatch.setattr(rows, "_IN_MEMORY", 1000)  # on disk, too
        monkeypatch.setattr(rows, "_AT_ONCE", 1000)
        found = everything(run, truth, protocol)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name] == value or found[name] == pytest.approx(value, rel=1e-6, nan_ok=True), (piece, name)


def test_memory_does_not_grow_with_the_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "PIECE", 256)
    monkeypatch.setattr(rows, "_IN_MEMORY", 100_000)
    monkeypatch.setattr(rows, "_AT_ONCE", 10_000)

    def peak(frames: int) -> int:
        tracemalloc.start()
        try:
            run, truth = recording(frames)
            comparison = scores.compare(run, truth, "egopose")
            scores.score(comparison, draws=10)
            results.published_json(comparison)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(256)  # what is made once
    assert (peak(12_000) - peak(4000)) / 8000 < 200, "bytes a frame; its pose alone has 1300"


@given(
    st.lists(st.lists(st.floats(0.0, 1e6) | st.just(float("nan")), max_size=30), max_size=6), st.sampled_from([0, 5, 50, 95, 100])
)
@example([[0.0, 2.225073858507203e-309]], 0)
@settings(deadline=None)
def test_the_percentile_of_pieces_is_that_of_all(pieces: list[list[float]], percent: float) -> None:
    arrays = [np.array(piece, np.float64) for piece in pieces]
    known = np.concatenate([np.zeros(0), *arrays])
    known = known[np.isfinite(known)]
    expected = np.percentile(known, percent) if len(known) else float("nan")
    assert rows.percentile(lambda: arrays, percent) == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)


def test_rows_come_back_as_they_went(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_IN_MEMORY", 500)
    monkeypatch.setattr(rows, "_AT_ONCE", 100)
    random, kept = np.random.default_rng(0), rows.Rows((2, 3), np.float32)
    sent = random.normal(size=(200, 2, 3)).astype(np.float32)
    for index, row in enumerate(sent):
        kept.append(row)
        if index in (10, 11, 150):
            np.testing.assert_array_equal(kept.array(), sent[: index + 1])
    early = kept.array()
    kept.extend(sent)
    np.testing.assert_array_equal(early, sent)
    np.testing.assert_array_equal(kept.array(), np.concatenate([sent, sent]))
    with pytest.raises(ValueError, match=r"expected shape \(2, 3\), got \(3, 2\)"):
        kept.append(np.zeros((3, 2)))
    blank = rows.blank((40, 3))
    assert np.isnan(blank).all()
    blank[3] = 1.0
    assert blank[3].sum() == 3.0


def test_arrays_are_not_limited_by_the_files_that_a_process_usually_may_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_IN_MEMORY", 10)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, before[1]))
        rows.allow_many_files()
        arrays = [rows.gathered([np.full((3, 2), number)]) for number in range(60)]
        assert [int(array[2, 1]) for array in arrays] == list(range(60))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
