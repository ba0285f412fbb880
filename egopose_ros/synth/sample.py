"""The sample bag that `egopose demo` plays: made once, kept in the cache."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from egopose_ros.camera import calibration
from egopose_ros.camera.rig import Rig
from egopose_ros.resources import cache_directory, share_file
from egopose_ros.synth import splits
from egopose_ros.synth.bags import write_bag
from egopose_ros.synth.motion.library import clip_folder, mark_of
from egopose_ros.synth.world import record

SPLIT, SEED = "test", 3
"""Of the benchmark's test split: what no network has been trained on."""
FRAMES, FPS = 300, 30.0
SIZE_PX = 384
"""Square around the lens circle; more only takes longer to render, networks see 256."""


def sample_rig() -> Rig:
    """Return the cap camera, cut to its lens circle and scaled down."""
    (camera,) = calibration.load(share_file("config/cameras/cap_equidistant.yaml")).cameras
    width, height = camera.model.size
    model = camera.model.crop((width - height) // 2, 0, height, height).resize(SIZE_PX, SIZE_PX)
    return Rig((replace(camera, model=model),))


def sample_bag() -> Path:
    """Return the sample bag; the first time it is rendered, with a progress bar."""
    path = cache_directory() / f"sample_{splits.VERSION}_{SPLIT}_{SEED}{mark_of(clip_folder())}"
    if path.is_dir():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    # Moved to its name when it is whole: what was broken off is made anew.
    staging = path.parent / f".{os.getpid()}.partial"
    with tqdm(total=FRAMES, desc="making the sample bag, once", unit="frame") as bar:
        recording = record(SEED, SPLIT, frames=FRAMES, fps=FPS, rig=sample_rig(), progress=bar.update)
    try:
        staging.mkdir()
        write_bag(recording, staging / path.name)
        (staging / path.name).rename(path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return path
