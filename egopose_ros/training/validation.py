"""Numbers and pictures of a network on held-out clips while it trains."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.evaluation.metrics import joint_errors, pa_mpjpe
from egopose_ros.networks import student_t
from egopose_ros.networks.interface import Prediction
from egopose_ros.skeleton import Skeleton
from egopose_ros.structs import Visibility
from egopose_ros.training.data import Batch

REGION = 0.9
"""share of joints that a region of confidence is to hold"""
_PICTURES = 12
_TILE = (2 * CANONICAL.size[0], 2 * CANONICAL.size[1])


def examine(network: nn.Module, batches: list[Batch], body: Skeleton, picture: Path) -> dict[str, float]:
    """Return the numbers of a network's poses, and draw some into a picture."""
    predicted = predictions(network, batches)
    draw(picture, batches, predicted, body)
    return numbers(batches, predicted, body)


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode for a while; what was frozen before stays frozen after."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@torch.inference_mode()
def predictions(network: nn.Module, batches: list[Batch]) -> list[Prediction]:
    """Return what a network in evaluation mode says about every frame but those that its lookahead leaves open."""
    with evaluation_mode(network):
        return [_answers(network(batch.input), network.lookahead) for batch in batches]


def _answers(said: Prediction, lookahead: int) -> Prediction:
    """Return what was said about each frame of what was said after it; at least the last word on the first."""
    values = {name: value for name, value in vars(said).items() if value is not None}
    first = min(lookahead, said.joints.shape[1] - 1)
    return dataclasses.replace(said, **{name: value[:, first:] for name, value in values.items()})


def numbers(batches: list[Batch], predicted: list[Prediction], body: Skeleton) -> dict[str, float]:
    """Return errors [mm], apart for visible and hidden joints, and the share of joints in their 90 % region."""
    batches = [_answered(batch, prediction) for batch, prediction in zip(batches, predicted)]
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
        columns = [i for i, joint in enumerate(body.joints) if region in joint]
        result[f"{name}_mm"] = float(errors[:, columns].mean())
    if predicted[0].covariance is not None:
        result["in_90_percent"] = float((_squared_distances(batches, predicted) <= student_t.quantile(REGION)).mean())
    return result


def _answered(batch: Batch, prediction: Prediction) -> Batch:
    """Return the truth of the frames that a prediction is about."""
    frames = prediction.joints.shape[1]
    return dataclasses.replace(batch, joints=batch.joints[:, :frames], visible=batch.visible[:, :frames])


def calibrate(network: nn.Module, batches: list[Batch]) -> None:
    """Widen or narrow each joint's uncertainty so that its 90 % regions hold 90 % of these batches, in place.

    Each batch counts twice, with its head pose and without: both are in use, and errors are larger without.
    """
    batches = [*batches, *map(_without_head_pose, batches)]
    predicted = predictions(network, batches)
    if predicted[0].covariance is None:
        return
    ratio = np.quantile(_squared_distances(batches, predicted), REGION, axis=0) / student_t.quantile(REGION)
    spread = network.uncertainty.spread
    spread.mul_(torch.from_numpy(np.sqrt(ratio)).to(spread))


def _without_head_pose(batch: Batch) -> Batch:
    unknown = {name: torch.zeros_like(getattr(batch.input, name)) for name in ("head_pose_valid", "gravity_valid")}
    return dataclasses.replace(batch, input=dataclasses.replace(batch.input, **unknown))


def _squared_distances(batches: list[Batch], predicted: list[Prediction]) -> np.ndarray:
    """Return the squared Mahalanobis distance (frames, J) of the truth by the scale matrix."""
    distances = []
    for batch, prediction in zip(batches, predicted):
        scale = prediction.covariance * ((student_t.NU - 2.0) / student_t.NU)
        error = _answered(batch, prediction).joints - prediction.joints
        distances.append(student_t.mahalanobis(error, torch.linalg.cholesky(scale)).flatten(0, 1).cpu().numpy())
    return np.concatenate(distances)


def draw(path: Path, batches: list[Batch], predicted: list[Prediction], body: Skeleton) -> None:
    """Write a sheet of last frames, first view: truth thin and white, prediction thick and coloured by side."""
    tiles = []
    for batch, prediction in zip(batches, predicted):
        last = prediction.joints.shape[1] - 1
        for clip in range(len(batch.joints)):
            image = np.ascontiguousarray(batch.input.images[clip, last, 0].cpu().permute(1, 2, 0).numpy())
            image = cv2.resize(image, _TILE, interpolation=cv2.INTER_LINEAR)  # a stage may see them smaller
            _draw_skeleton(image, prediction.joints[clip, last].cpu(), body, 2, None)
            _draw_skeleton(image, batch.joints[clip, last].cpu(), body, 1, (255, 255, 255))
            tiles.append(image)
    # Evenly over all clips: neighbours look alike.
    chosen = [tiles[round(i)] for i in np.linspace(0, len(tiles) - 1, min(_PICTURES, len(tiles)))]
    columns = min(4, len(chosen))
    chosen += [np.zeros_like(chosen[0])] * (-len(chosen) % columns)
    rows = [np.concatenate(chosen[i : i + columns], 1) for i in range(0, len(chosen), columns)]
    cv2.imwrite(str(path), cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR))


def _draw_skeleton(
    image: np.ndarray, joints: torch.Tensor, body: Skeleton, width: int, colour: tuple[int, int, int] | None
) -> None:
    pixels, valid = CANONICAL.project(joints)
    points = [tuple(int(v) for v in point) for point in np.rint(pixels.numpy() * 2 + 0.5)]
    for parent, child in body.bones:
        if valid[parent] and valid[child]:
            side = body.joints[child].partition("_")[0]
            own = {"left": (80, 160, 255), "right": (255, 120, 60)}.get(side, (90, 220, 90))
            cv2.line(image, points[parent], points[child], colour or own, width, cv2.LINE_AA)
