"""Numbers and pictures of a network on held-out clips while it trains."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.evaluation.metrics import joint_errors, pa_mpjpe
from egopose_ros.networks import student_t
from egopose_ros.networks.interface import Prediction
from egopose_ros.skeleton import SMPL22
from egopose_ros.structs import Visibility
from egopose_ros.training.data import Batch

REGION = 0.9
"""share of joints that a region of confidence is to hold"""
_PICTURES = 12
_TILE = (2 * CANONICAL.size[0], 2 * CANONICAL.size[1])


@torch.inference_mode()
def predictions(network: nn.Module, batches: list[Batch]) -> list[Prediction]:
    """Return what a network in evaluation mode says about every batch."""
    was_training = network.training
    network.eval()
    results = [network(batch.input) for batch in batches]
    network.train(was_training)
    return results


def numbers(batches: list[Batch], predicted: list[Prediction]) -> dict[str, float]:
    """Return errors [mm], apart for visible and hidden joints, and the share of joints in their 90 % region."""
    joints = np.concatenate([p.joints.flatten(0, 1).cpu().numpy() for p in predicted])
    truth = np.concatenate([b.joints.flatten(0, 1).cpu().numpy() for b in batches])
    seen = np.concatenate([(b.visible == Visibility.VISIBLE).any(2).flatten(0, 1).cpu().numpy() for b in batches])
    errors = joint_errors(joints, truth) * 1000.0
    result = {
        "mpjpe_mm": float(errors.mean()),
        "pa_mpjpe_mm": float(pa_mpjpe(joints, truth).mean() * 1000.0),
        "visible_mm": float(errors[seen].mean()) if seen.any() else float("nan"),
        "occluded_mm": float(errors[~seen].mean()) if (~seen).any() else float("nan"),
    }
    for name, region in (("wrist", "wrist"), ("foot", "foot"), ("knee", "knee")):
        columns = [i for i, joint in enumerate(SMPL22.joints) if region in joint]
        result[f"{name}_mm"] = float(errors[:, columns].mean())
    if predicted[0].covariance is not None:
        result["in_90_percent"] = float((_squared_distances(batches, predicted) <= student_t.quantile(REGION)).mean())
    return result


def calibrate(network: nn.Module, batches: list[Batch], predicted: list[Prediction]) -> None:
    """Widen or narrow each joint's uncertainty so that its 90 % regions hold 90 % of these batches, in place."""
    if predicted[0].covariance is None:
        return
    ratio = np.quantile(_squared_distances(batches, predicted), REGION, axis=0) / student_t.quantile(REGION)
    spread = network.uncertainty.spread
    spread.mul_(torch.from_numpy(np.sqrt(ratio)).to(spread))


def _squared_distances(batches: list[Batch], predicted: list[Prediction]) -> np.ndarray:
    """Return the squared Mahalanobis distance (frames, J) of the truth by the scale matrix."""
    distances = []
    for batch, prediction in zip(batches, predicted):
        scale = prediction.covariance * ((student_t.NU - 2.0) / student_t.NU)
        error = batch.joints - prediction.joints
        distances.append(student_t.mahalanobis(error, torch.linalg.cholesky(scale)).flatten(0, 1).cpu().numpy())
    return np.concatenate(distances)


def draw(path: Path, batches: list[Batch], predicted: list[Prediction]) -> None:
    """Write a sheet of last frames, first view: truth thin and white, prediction thick and coloured by side."""
    tiles = []
    for batch, prediction in zip(batches, predicted):
        for clip in range(len(batch.joints)):
            image = np.ascontiguousarray(batch.input.images[clip, -1, 0].cpu().permute(1, 2, 0).numpy())
            image = cv2.resize(image, _TILE, interpolation=cv2.INTER_LINEAR)  # a stage may see them smaller
            _draw_skeleton(image, prediction.joints[clip, -1].cpu(), 2, None)
            _draw_skeleton(image, batch.joints[clip, -1].cpu(), 1, (255, 255, 255))
            tiles.append(image)
    # Evenly over all clips: neighbours look alike.
    chosen = [tiles[round(i)] for i in np.linspace(0, len(tiles) - 1, min(_PICTURES, len(tiles)))]
    columns = min(4, len(chosen))
    chosen += [np.zeros_like(chosen[0])] * (-len(chosen) % columns)
    rows = [np.concatenate(chosen[i : i + columns], 1) for i in range(0, len(chosen), columns)]
    cv2.imwrite(str(path), cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR))


def _draw_skeleton(image: np.ndarray, joints: torch.Tensor, width: int, colour: tuple[int, int, int] | None) -> None:
    pixels, valid = CANONICAL.project(joints)
    points = [tuple(int(v) for v in point) for point in np.rint(pixels.numpy() * 2 + 0.5)]
    for parent, child in SMPL22.bones:
        if valid[parent] and valid[child]:
            side = SMPL22.joints[child].partition("_")[0]
            own = {"left": (80, 160, 255), "right": (255, 120, 60)}.get(side, (90, 220, 90))
            cv2.line(image, points[parent], points[child], colour or own, width, cv2.LINE_AA)
