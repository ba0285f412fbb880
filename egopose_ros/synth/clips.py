"""Which motion a recording gets: the motion library, asked with the world's own random numbers."""

from __future__ import annotations

from pathlib import Path

from egopose_ros.synth.materials import Draw
from egopose_ros.synth.motion.clip import Motion
from egopose_ros.synth.motion.library import clip_folder as motion_directory
from egopose_ros.synth.motion.library import draw_motion as draw_from_library
from egopose_ros.synth.splits import Split

__all__ = ["draw_motion", "motion_directory"]


def draw_motion(draw: Draw, split: Split, frames: int, fps: float, directory: Path | None) -> Motion:
    """Draw a motion of so many frames that belongs to the split."""
    return draw_from_library(draw.integer(0, 2**31 - 1), split.name, frames, fps, directory)
