"""Frames in, poses out: remapping, network, and back to the user's first camera.

Everything that makes poses calls `Pipeline.step`, or `Pipeline.steps` where frames need not be waited for: the live
node, evaluation, bags. The state is an argument and a result. ROS is unknown here.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Callable

import numpy as np
import torch
from torch import nn

from egopose_ros import checkpoint, devices
from egopose_ros.camera import calibration
from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.camera.remap import Remapper
from egopose_ros.camera.rig import Rig, RigCamera
from egopose_ros.config import Config, ConfigError, RuntimeConfig
from egopose_ros.features.backbones import fold_batch_norms
from egopose_ros.geometry import rigid
from egopose_ros.geometry.stature import Stature
from egopose_ros.networks.interface import NetworkInput, Prediction
from egopose_ros.networks.table import build, most_views
from egopose_ros.skeleton import skeleton
from egopose_ros.structs import BodyPose, Frame
from egopose_ros.window.gravity import down_in, follow_up
from egopose_ros.window.smoothing import Reading, remember, smooth

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StreamState:
    """What a stream remembers: bounded, whatever its age."""

    network: Any
    pending: tuple[Frame, ...] = ()
    """frames not yet encoded, oldest first"""
    up_head: tuple[np.ndarray | None, ...] = ()
    """for each pending frame, up in the head frame by the IMU"""
    last_up_head: np.ndarray | None = None
    last_stamp_ns: int | None = None
    frames: int = 0
    """encoded since the window was last empty, counted no further than its size"""
    awaited: tuple[tuple[int, np.ndarray | None], ...] = ()
    """stamp and head pose of the newest encoded frame and of those before it whose poses still wait for it"""
    said: tuple[Reading, ...] = ()
    """the network's newest poses, which the next are smoothed with"""


class Pipeline:
    """A network on a device behind a rig; made by `load`."""

    def __init__(
        self,
        network: nn.Module,
        network_name: str,
        rig: Rig,
        config: Config,
        *,
        checkpoint: str,
        device: torch.device,
        warnings: tuple[str, ...] = (),
    ) -> None:
        self.rig = rig
        self.network_name = network_name
        self.skeleton: str = network.skeleton
        self.checkpoint = checkpoint
        """file of the weights, empty for random ones"""
        self.weights_trained = bool(checkpoint)
        self.device = str(device)
        self.precision = str(next(network.encoder.parameters()).dtype).removeprefix("torch.")
        self.window: int = network.attention_window
        """frames after which the temporal window is full"""
        self.lookahead: int = network.lookahead
        """frames that a pose waits for"""
        self.warnings = warnings
        """what the user should be told once"""
        self._network = network
        self.configure(config)
        cameras = rig.cameras[: network.views]
        self._remappers = [Remapper(camera.model, camera.R_camera_canonical) for camera in cameras]
        self._T_head_reference = cameras[0].T_head_canonical
        self._R_camera_reference = cameras[0].R_camera_canonical
        T_reference_camera = rigid.invert(self._T_head_reference) @ np.stack([c.T_head_canonical for c in cameras])
        self._T_reference_camera = torch.from_numpy(T_reference_camera).float().to(device)[None]

    @property
    def camera_frustum(self) -> np.ndarray:
        """Points (32, 3) float32 around the first camera's field of view, 0.1 m away, in its optical frame."""
        return _outline(self.rig.cameras[0]) * np.float32(0.1)

    def with_rig(self, rig: Rig) -> Pipeline:
        """Return the same network behind another rig."""
        return Pipeline(
            self._network,
            self.network_name,
            rig,
            self._config,
            checkpoint=self.checkpoint,
            device=torch.device(self.device),
            warnings=self.warnings,
        )

    def configure(self, config: Config) -> None:
        """Take over settings that may change while running."""
        self._config = config
        height_m = config.wearer.height_m
        self._stature = Stature(skeleton(self.skeleton), height_m) if height_m else None

    def init_state(self) -> StreamState:
        """Return the state before the first frame."""
        return StreamState(self._network.init_state(1))

    def continues(self, state: StreamState, frame: Frame) -> bool:
        """Say whether a frame goes on with the window, or begins one of its own after a gap or a jump back in time."""
        if state.last_stamp_ns is None:
            return True
        return 0.0 < (frame.stamp_ns - state.last_stamp_ns) * 1e-9 <= self._config.window.max_gap_s

    def observe(self, state: StreamState, frame: Frame) -> StreamState:
        """Keep a frame that arrived during an inference, without inferring.

        The window is emptied first when the stamp does not advance or leaves a gap above `window.max_gap_s`.
        ValueError for images that are not those of the rig.
        """
        self._check(frame)
        if not self.continues(state, frame):
            state = self.init_state()
        up = follow_up(state.last_up_head, state.last_stamp_ns, frame, self._config.window.max_gap_s)
        kept = self._config.window.max_pending
        return dataclasses.replace(
            state,
            pending=(*state.pending, frame)[-kept:],
            up_head=(*state.up_head, up)[-kept:],
            last_up_head=up,
            last_stamp_ns=frame.stamp_ns,
        )

    @torch.inference_mode()
    def step(self, state: StreamState, frame: Frame) -> tuple[StreamState, BodyPose]:
        """Encode the pending frames and this one together; return the pose at its stamp.

        With a lookahead of N, the pose at the stamp of the frame N before; of the window's first while it is shorter.
        """
        state, (pose,) = self._infer(self.observe(state, frame), 1)
        return state, pose

    @torch.inference_mode()
    def steps(self, state: StreamState, frames: Sequence[Frame]) -> tuple[StreamState, list[BodyPose]]:
        """Encode frames together; return for each what `step` would, up to rounding and in less time.

        For recordings, whose frames need not be waited for. At most `window.max_pending` are encoded at once.
        """
        poses: list[BodyPose] = []
        waiting = 0
        for frame in frames:
            observed = self.observe(state, frame)
            if waiting and len(observed.pending) <= len(state.pending):  # there is no room, or a window begins
                state, more = self._infer(state, waiting)
                poses += more
                observed, waiting = self.observe(state, frame), 0
            state, waiting = observed, waiting + 1
        if waiting:
            state, more = self._infer(state, waiting)
            poses += more
        return state, poses

    @torch.inference_mode()
    def finish(self, state: StreamState) -> list[BodyPose]:
        """Return the poses that a lookahead still owes after the last step of a stream; none without one."""
        owed = [(*frame, state.frames) for frame in state.awaited[1:]]
        if not owed:
            return []
        prediction = self._network.finish(state.network)
        newest = {name: None if x is None else x[:, -len(owed) :] for name, x in vars(prediction).items()}
        return self._read(Prediction(**newest), owed, state.said, len(owed))[1]

    def _infer(self, state: StreamState, count: int) -> tuple[StreamState, list[BodyPose]]:
        """Encode the pending frames; return what is said of the stream after each of the last `count`."""
        network_state, prediction = self._network.step(state.network, self._input(state))
        awaited, frames, answered = state.awaited, state.frames, []
        for frame in state.pending:
            awaited = (*awaited, (frame.stamp_ns, frame.T_world_head))[-self.lookahead - 1 :]
            frames = min(frames + 1, self.window)
            answered.append((*awaited[0], frames))
        said, poses = self._read(prediction, answered, state.said, count)
        state = dataclasses.replace(
            state, network=network_state, pending=(), up_head=(), frames=frames, awaited=awaited, said=said
        )
        return state, poses

    def _read(
        self,
        prediction: Prediction,
        answered: Sequence[tuple[int, np.ndarray | None, int]],
        said: tuple[Reading, ...],
        count: int,
    ) -> tuple[tuple[Reading, ...], list[BodyPose]]:
        """Return what was said last, and the last `count` poses of a prediction (1, T, ...).

        `answered` has for each of T its stamp, its head pose and the length of its window.
        """
        joints, rotations, covariance, confidence = (
            None if value is None else value[0].cpu().numpy()
            for value in (prediction.joints, prediction.rotations, prediction.covariance, prediction.confidence)
        )
        R = self._R_camera_reference.astype(np.float32)
        poses: list[BodyPose] = []
        for index, (stamp_ns, T_world_head, frames) in enumerate(answered):
            reading = Reading(stamp_ns, joints[index] @ R.T, None if rotations is None else R @ rotations[index])
            said = remember(said, reading)
            if index < len(answered) - count:
                continue
            smoothing = self._config.smoothing
            calm = smooth(said, smoothing) if smoothing.enabled else (reading.joints, reading.rotations)
            scale = np.float32(1.0 if self._stature is None else self._stature.scale(calm[0]))
            poses.append(
                BodyPose(
                    stamp_ns=stamp_ns,
                    skeleton=self.skeleton,
                    joints_camera=calm[0] * scale,
                    rotations_camera=calm[1],
                    covariance_camera=None if covariance is None else R @ covariance[index] @ R.T * scale**2,
                    confidence=None if confidence is None else confidence[index],
                    T_world_camera=None if T_world_head is None else T_world_head @ self.rig.cameras[0].T_head_camera,
                    window_length=frames,
                    window_full=frames == self.window,
                )
            )
        return said, poses

    def _check(self, frame: Frame) -> None:
        if len(frame.images) != len(self.rig.cameras):
            raise ValueError(f"frame: expected {len(self.rig.cameras)} images, got {len(frame.images)}")
        for image, camera in zip(frame.images, self.rig.cameras):
            if image.shape[1::-1] != camera.model.size:
                width, height = camera.model.size
                raise ValueError(
                    f"camera '{camera.name}': expected {width}x{height} images as in its calibration, "
                    f"got {image.shape[1]}x{image.shape[0]}"
                )

    def _input(self, state: StreamState) -> NetworkInput:
        """Return the pending frames as a clip (1, T, ...) on the device."""
        frames = state.pending
        images = np.stack([[r.numpy(i) for r, i in zip(self._remappers, f.images)] for f in frames])
        poses = np.stack([np.eye(4) if f.T_world_head is None else f.T_world_head for f in frames])
        T_world_reference = poses @ self._T_head_reference
        down = np.zeros((len(frames), 3))
        # Where the camera sits on the head is a guess, gravity and motion would be said in the wrong frame.
        has_pose = np.array([f.T_world_head is not None and self.rig.head_known for f in frames])
        for index, up_head in enumerate(state.up_head):
            R = T_world_reference[index, :3, :3] if has_pose[index] else None
            known = down_in(R, up_head if self.rig.head_known else None, self._T_head_reference[:3, :3])
            if known is not None:
                down[index] = known

        def on_device(array: np.ndarray, dtype: torch.dtype | None = None) -> torch.Tensor:
            return torch.from_numpy(array)[None].to(self.device, dtype, non_blocking=True)

        return NetworkInput(
            images=on_device(images).movedim(-1, -3),
            T_reference_camera=self._T_reference_camera,
            stamps_ns=on_device(np.array([f.stamp_ns for f in frames], np.int64)),
            T_world_reference=on_device(T_world_reference),
            head_pose_valid=on_device(has_pose),
            gravity_reference=on_device(down, torch.float32),
            gravity_valid=on_device(down.any(-1)),
        )


def load(config: Config, rig: Rig | None = None) -> Pipeline:
    """Return the pipeline that a configuration describes; without a rig, that of `camera.calibration`.

    ValueError says what is wrong with calibration, weights or device.
    """
    if rig is None:
        if not config.camera.calibration:
            raise ValueError("camera.calibration: expected a calibration file, or a rig from CameraInfo, got neither")
        rig = load_rig(config.camera.calibration)
    name = checkpoint.chosen_network(config.network)
    network, path, warnings = _load_network(name, config, len(rig.cameras))
    device, device_warnings = place(network, config.runtime)
    warnings += device_warnings
    for warning in warnings:
        log.warning(warning)
    return Pipeline(
        network,
        name,
        rig,
        config,
        checkpoint=path,
        device=device,
        warnings=warnings,
    )


def place(network: nn.Module, runtime: RuntimeConfig) -> tuple[torch.device, tuple[str, ...]]:
    """Make a network in evaluation mode ready to run, in place; return its device and what the user should know."""
    device, warnings = _select_device(runtime)
    network.requires_grad_(False)
    fold_batch_norms(network.encoder)
    # Only the encoder leaves fp32: it is nearly all of the cost, and geometry wants the precision.
    network.to(device).encoder.to(_select_dtype(runtime, device), memory_format=torch.channels_last)
    if runtime.threads and device.type == "cpu":
        torch.set_num_threads(runtime.threads)
    return device, warnings


def load_rig(path: str) -> Rig:
    """Return the rig of a calibration file."""
    return calibration.load(path)


def configured_rig(config: Config) -> Rig | None:
    """Return the rig of `camera.calibration`, None without one; ConfigError unless each camera has a topic."""
    path, topics = config.camera.calibration, config.camera.topics
    if not path:
        return None
    rig = load_rig(path)
    if len(rig.cameras) != len(topics):
        raise ConfigError(
            f"camera.topics: expected one for each of the {len(rig.cameras)} cameras of {path}, got {', '.join(topics)}"
        )
    return rig


def rig_from_camera_info(cameras: list[dict[str, Any]]) -> Rig:
    """Return the rig of sensor_msgs/CameraInfo contents, in order: dicts of the arguments of `calibration.from_camera_info`."""
    head_known = all(camera.get("T_head_camera") is not None for camera in cameras)
    return Rig(tuple(calibration.from_camera_info(**camera) for camera in cameras), head_known)


def canonical_rig(cameras: int) -> Rig:
    """Return canonical cameras at their nominal place: what stands in until CameraInfo has come."""
    return Rig(tuple(RigCamera(f"camera{i}", CANONICAL) for i in range(cameras)), head_known=False)


def projection(camera: RigCamera) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return the way from points (N, 3) in a camera's optical frame to pixels (N, 2) and whether they are in view."""

    def project(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pixels, valid = camera.model.project(torch.from_numpy(np.asarray(points, np.float64)))
        return pixels.numpy(), valid.numpy()

    return project


def _select_device(runtime: RuntimeConfig) -> tuple[torch.device, tuple[str, ...]]:
    if runtime.device != "cpu" and torch.cuda.is_available():
        return devices.require(runtime.device.replace("auto", "cuda"), "runtime.device"), ()
    if runtime.require_gpu:
        raise ValueError("runtime.require_gpu: expected a CUDA device, got none (torch sees no GPU)")
    if runtime.device == "cpu":
        return torch.device("cpu"), ()
    warning = f"no GPU: runtime.device is {runtime.device}, but torch sees no CUDA device; using the CPU"
    return torch.device("cpu"), (warning,)


def _select_dtype(runtime: RuntimeConfig, device: torch.device) -> torch.dtype:
    if runtime.precision == "auto":
        # Before, cuDNN has no convolutions in bf16.
        fast = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if fast else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[runtime.precision]


def _load_network(name: str, config: Config, cameras: int) -> tuple[nn.Module, str, tuple[str, ...]]:
    """Return the network, the file of its weights (empty for random ones), and what the user should know.

    A network with fewer views than the rig leaves the last cameras out.
    """
    path = config.network.checkpoint or next(
        (path for views in range(cameras, 0, -1) if (path := checkpoint.shipped(name, views))), None
    )
    if path is None:
        if not config.network.allow_untrained:
            raise ValueError(
                f"network.checkpoint: no weights of {name} for {cameras} camera(s) ship with this package; give a "
                "file, or set network.allow_untrained to run with random weights"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = build(name, {"views": min(cameras, most_views(name))}).eval()
        untrained = f"{name} runs with random weights: its poses mean nothing"
        return network, "", (untrained, *_unused(name, network, cameras))
    path = checkpoint.locate(path)
    network, _ = checkpoint.load(path, expected=name)
    if network.views > cameras:
        raise ValueError(f"checkpoint {path}: expected a rig of {network.views} cameras, got {cameras}")
    return network, str(path), _unused(str(path), network, cameras)


def _unused(name: str, network: nn.Module, cameras: int) -> tuple[str, ...]:
    unused = cameras - network.views
    return (f"{name} takes {network.views} view(s): the rig's other {unused} are not used",) if unused else ()


def _outline(camera: RigCamera) -> np.ndarray:
    """Return the outermost imaged unit rays (32, 3) float32 around the optical axis."""
    azimuth = torch.linspace(0.0, 2.0 * torch.pi, 33, dtype=torch.float64)[:-1, None]
    angle = torch.linspace(0.0, camera.model.max_angle, 400, dtype=torch.float64)
    sine = angle.sin()
    rays = torch.stack(
        [azimuth.cos() * sine, azimuth.sin() * sine, angle.cos().expand(len(azimuth), -1)], -1
    )  # (32, 400, 3)
    _, valid = camera.model.project(rays)
    outermost = valid.long().cumprod(-1).sum(-1).clamp(min=1) - 1
    return rays[torch.arange(len(rays)), outermost].float().numpy()
