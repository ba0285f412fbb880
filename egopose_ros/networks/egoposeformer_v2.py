"""EgoPoseFormer v2 (CVPR 2026, arXiv 2603.04090): one causal query a frame, two decoders, forward kinematics.

    images ─► ImageEncoder ─► tokens of each view ────────────┬───────────────────────┐
    head motion, gravity ─► query q = MLP(H) ─► proposal decoder ─► joints ─► refinement decoder ─► joints, covariance
                                                  ▲ camera embeddings      ▲ the proposal's joints, projected into
                                                                             every view through its fisheye model

A decoder layer is causal temporal attention (rotary, cached), conditional multi-view cross-attention, feed-forward.

No code was published; where the paper is silent:

- Place of the temporal attention: first in every decoder layer. The first one is the paper's (before any image is
  seen); only the later ones can carry what was seen of now hidden legs, which is the purpose the paper states.
- Width 256, 8 heads, 2 layers a decoder: the whole network stays below 8 M parameters with MobileNetV4-S.
- Image 256x256 in the canonical camera, or the square of it that holds the wearer, at its own resolution; tokens at
  stride 16 with the stride-32 map added, since a wrist is 8 px wide.
- Cross-attention of a single query never needs the tokens' keys and values: scores are (W_k^T q) . token, and the
  values are projected after pooling. The same function as standard attention at a twenty-fifth of its cost.
- "Linear fusion" of the views is one linear map of their concatenation.
- Camera embeddings are a learned vector for each view plus an MLP of its extrinsics, so that rigs may differ.
- Metadata H: gravity in the reference frame, linear and angular velocity of the head and the time since the last
  frame. Nothing else of a head pose is the same in two rooms. Gravity and motion have an MLP each, whose sum is the
  query: either may be missing, and is then replaced by a learned token of its own.
- Rotations are each segment's own in the reference frame, not relative to the parent: images show those, and errors do
  not add up along a limb. The root is the head, the joint best known to a camera that is fixed to it.
- Body: a scale and an offset of each bone from a template, equal on both sides (mirrored). Kinematics are those of
  smpl22, which every other skeleton of the project is mapped from (`skeleton.skeleton_map`).
- The refinement adds to the proposal's parameters: the second decoder explains what the first one missed.
- Student-t with nu = 4: finite covariance (nu > 2), tails far heavier than Laplace's, and its distribution function in
  closed form, which gives the confidence exactly up to a quadrature over directions.
- Only the refinement predicts an uncertainty, since only it has a likelihood in the loss.
- Rotary positions are stamps, in frames of 30 Hz, and not numbers of frames: rates change and frames get lost.
- Training has losses beside the paper's: of rotations, of heatmaps at stride 4, of where some heads look
  (`training.losses`). Jerk is that of the error. It goes in stages, image encoder first, each with a cosine of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.config import ConfigError, option
from egopose_ros.features.backbones import ImageEncoder
from egopose_ros.features.square import SquareConfig
from egopose_ros.geometry.kinematics import rotation_to_6d
from egopose_ros.networks import student_t
from egopose_ros.networks.body import JOINTS, BodyHead, UncertaintyHead, mlp
from egopose_ros.networks.interface import CONFIDENCE_RADIUS, NetworkInput, Prediction
from egopose_ros.skeleton import SMPL22
from egopose_ros.window.attention import KeyValueCache, TemporalAttention, Timeline, timeline


@dataclass(frozen=True)
class EgoPoseFormerV2Config(SquareConfig):
    """Size and ablations."""

    backbone: str = option(
        "mobilenetv4_s", "Image backbone.", choices=("mobilenetv4_s", "efficientnet_lite0", "resnet18", "resnet50")
    )
    views: int = option(1, "Cameras of the rig.", minimum=1, maximum=4)
    window: int = option(16, "Frames that one temporal layer attends to, the newest included.", minimum=1, maximum=256)
    width: int = option(256, "Channels of a token.", minimum=32, maximum=2048)
    heads: int = option(8, "Attention heads.", minimum=1, maximum=64)
    layers: int = option(2, "Layers of each of the two decoders.", minimum=1, maximum=8)
    dropout: float = option(0.0, "Dropout after every attention and feed-forward.", minimum=0.0, maximum=0.9)
    head_pose_dropout: float = option(
        0.5,
        "Share of training clips without head pose and gravity; a third of the rest lack the head pose alone.",
        minimum=0.0,
        maximum=1.0,
    )
    fk: bool = option(True, "Rotations, scale and root through forward kinematics; else joints directly (ablation).")
    temporal: bool = option(True, "Causal temporal attention; else every frame for itself (ablation).")
    projection: bool = option(True, "Condition the refinement on projected joints; else as the proposal (ablation).")
    auxiliary: bool = option(True, "Query from head motion and gravity; else a learned constant (ablation).")
    uncertainty: bool = option(True, "Predict a covariance; else joints alone (ablation).")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % (2 * self.heads):
            raise ConfigError(f"width: expected a multiple of twice the {self.heads} heads, got {self.width}")


@dataclass(frozen=True)
class Estimate:
    """What a decoder says: (B, T) before every shape."""

    parameters: Tensor
    """(B, T, P) before kinematics"""
    joints: Tensor
    """(B, T, J, 3) [m], reference frame"""
    rotations: Tensor | None
    """(B, T, J, 3, 3)"""
    cholesky: Tensor | None
    """(B, T, J, 3, 3), lower triangular, of the Student-t's scale matrix [m]"""
    attention: Tensor
    """(B, T, V, L * H, N) logarithms up to a constant: where the heads of all layers look, tokens row by row"""


@dataclass(frozen=True)
class State:
    """What a stream remembers: fixed shapes, whatever its age."""

    caches: tuple[KeyValueCache, ...]
    stamps_ns: Tensor
    """(B, W - 1) int64"""
    filled: Tensor
    """(B, W - 1) bool"""
    T_world_reference: Tensor
    """(B, 4, 4) float64, of the newest frame"""
    head_pose_valid: Tensor
    """(B,) bool"""
    newest_ns: Tensor
    """(B,) int64"""
    started: Tensor
    """(B,) bool, false before the first frame"""


def _fourier(x: Tensor) -> Tensor:
    """Encode coordinates (..., 2) in -1..1 as (..., 22): themselves, sines and cosines from half a turn to eight."""
    angles = x[..., None, :] * (math.pi * 2.0 ** torch.arange(-1, 4, device=x.device))[:, None]
    return torch.cat([x, angles.sin().flatten(-2), angles.cos().flatten(-2)], -1)


_FOURIER = 22


class HeadQuery(nn.Module):
    """The single global query of a frame from head motion and gravity: q_t = MLP(H_t)."""

    def __init__(self, config: EgoPoseFormerV2Config):
        super().__init__()
        self.drop = config.head_pose_dropout
        self.base = nn.Parameter(torch.randn(config.width) * 0.02)
        self.auxiliary = config.auxiliary
        if config.auxiliary:
            self.motion = mlp(7, config.width, config.width)
            self.gravity = mlp(3, config.width, config.width)
            self.no_motion = nn.Parameter(torch.randn(config.width) * 0.02)
            self.no_gravity = nn.Parameter(torch.randn(config.width) * 0.02)

    def forward(self, new: NetworkInput, state: State) -> Tensor:
        """Return (B, T, C)."""
        if not self.auxiliary:
            return self.base.expand(*new.stamps_ns.shape, -1)
        if self.training and self.drop > 0:
            # As in use: nothing, an IMU's gravity alone, or a head pose, which gives both; and a tracker that is lost.
            draw = torch.rand(len(new.stamps_ns), 1, device=new.stamps_ns.device)
            lost = _lost(*new.stamps_ns.shape, new.stamps_ns.device)
            new = replace(
                new,
                gravity_valid=new.gravity_valid & (draw >= self.drop) & ~lost,
                head_pose_valid=new.head_pose_valid & (draw >= self.drop + (1.0 - self.drop) / 3.0) & ~lost,
            )
        motion, motion_valid = head_motion(new, state)
        moving = torch.where(motion_valid[..., None], self.motion(motion), self.no_motion)
        down = self.gravity(new.gravity_reference.to(motion.dtype))
        return self.base + moving + torch.where(new.gravity_valid[..., None], down, self.no_gravity)


def _lost(clips: int, frames: int, device: torch.device) -> Tensor:
    """Return the frames (B, T) of some clips in which a tracker is lost: one stretch of a quarter of them."""
    begin, end = (torch.rand(2, clips, 1, device=device) * frames).sort(0).values
    at = torch.arange(frames, device=device) + 0.5
    return (at >= begin) & (at < end) & (torch.rand(clips, 1, device=device) < 0.25)


def head_motion(new: NetworkInput, state: State) -> tuple[Tensor, Tensor]:
    """Return velocity, angular velocity and interval (B, T, 7) in the reference frame, and where they are known.

    Differences in float64: a world's origin may be kilometres away.
    """
    T = new.T_world_reference.double()
    before = torch.cat([state.T_world_reference[:, None], T[:, :-1]], 1)
    valid_before = torch.cat([(state.head_pose_valid & state.started)[:, None], new.head_pose_valid[:, :-1]], 1)
    stamps_before = torch.cat([state.newest_ns[:, None], new.stamps_ns[:, :-1]], 1)
    seconds = (new.stamps_ns - stamps_before).double() * 1e-9
    valid = new.head_pose_valid & valid_before & (seconds > 0)
    seconds = torch.where(valid, seconds, 1.0)[..., None]
    R_now_world = T[..., :3, :3].transpose(-1, -2)
    velocity = (R_now_world @ (T[..., :3, 3:] - before[..., :3, 3:]))[..., 0] / seconds
    turn = R_now_world @ before[..., :3, :3]
    # The skew part of the turn back to the last frame is minus axis times sine, its trace one and twice the cosine.
    skew = 0.5 * torch.stack(
        [turn[..., 1, 2] - turn[..., 2, 1], turn[..., 2, 0] - turn[..., 0, 2], turn[..., 0, 1] - turn[..., 1, 0]], -1
    )
    sine = skew.norm(dim=-1, keepdim=True)
    angle = torch.atan2(sine, (turn.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True) - 1.0) / 2.0)
    turned = torch.where(sine > 1e-9, skew * (angle / sine.clamp(min=1e-9)), skew)
    motion = torch.cat([velocity, turned / seconds, seconds.clamp(max=1.0)], -1)
    return torch.where(valid[..., None], motion, 0.0).to(new.gravity_reference.dtype), valid


class ViewCrossAttention(nn.Module):
    """One query to the tokens of each view on its own, conditioned for that view, and a linear fusion."""

    def __init__(self, width: int, heads: int, views: int):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)  # a bias would shift all scores alike
        self.value = nn.Linear(width, width)
        self.fusion = nn.Linear(views * width, width)

    def forward(self, query: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, T, C) and scores (B, T, V, H, N) for conditioned queries (B, T, V, C), tokens (B, T, V, N, C)."""
        split = self.query(query).unflatten(-1, (self.heads, -1))  # (B, T, V, H, D)
        key = self.key.weight.unflatten(0, (self.heads, -1))  # (H, D, C)
        value = self.value.weight.unflatten(0, (self.heads, -1))
        seen_as = _per_head(split, key) / math.sqrt(split.shape[-1])  # (B, T, V, H, C)
        scores = seen_as @ tokens.transpose(-1, -2)  # (B, T, V, H, N)
        pooled = scores.softmax(-1) @ tokens  # (B, T, V, H, C)
        values = _per_head(pooled, value.transpose(-1, -2)).flatten(-2) + self.value.bias
        return self.fusion(values.flatten(-2)), scores


def _per_head(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply (..., H, D) by (H, D, C) head by head: (..., H, C)."""
    flat = x.flatten(0, -3).transpose(0, 1)  # (H, M, D)
    return (flat @ weight).transpose(0, 1).unflatten(0, x.shape[:-2])


class DecoderLayer(nn.Module):
    """Temporal attention, conditional multi-view cross-attention, feed-forward; normalised before each."""

    def __init__(self, config: EgoPoseFormerV2Config):
        super().__init__()
        width = config.width
        self.temporal = TemporalAttention(width, config.heads, config.window) if config.temporal else None
        self.temporal_norm = nn.LayerNorm(width) if config.temporal else None
        self.cross = ViewCrossAttention(width, config.heads, config.views)
        self.cross_norm = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(nn.LayerNorm(width), *mlp(width, 4 * width, width))
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, tokens: Tensor, condition: Tensor, cache: KeyValueCache | None, time: Timeline
    ) -> tuple[Tensor, Tensor, KeyValueCache | None]:
        """Return (B, T, C), the scores of cross-attention and the new cache; `condition` is (B, T, V, C)."""
        if self.temporal is not None:
            attended, cache = self.temporal(self.temporal_norm(x), cache, time)
            x = x + self.dropout(attended)
        seen, scores = self.cross(self.cross_norm(x)[:, :, None] + condition, tokens)
        x = x + self.dropout(seen)
        return x + self.dropout(self.feedforward(x)), scores, cache


class EgoPoseFormerV2(nn.Module):
    """See the module's docstring."""

    skeleton = SMPL22.name
    lookahead = 0

    def __init__(self, config: EgoPoseFormerV2Config = EgoPoseFormerV2Config()):
        super().__init__()
        self.config = config
        self.views = config.views
        width = config.width
        self.encoder = ImageEncoder(config.backbone, width)
        self.token_norm = nn.LayerNorm(width)
        self.token_position = nn.Linear(_FOURIER, width)
        self.query = HeadQuery(config)
        self.camera = nn.Parameter(torch.randn(config.views, width) * 0.02)
        self.extrinsics = mlp(9, width, width)
        self.proposal = nn.ModuleList(DecoderLayer(config) for _ in range(config.layers))
        self.refinement = nn.ModuleList(DecoderLayer(config) for _ in range(config.layers))
        self.proposal_head = BodyHead(width, config.fk)
        self.refinement_head = BodyHead(width, config.fk)
        self.start = nn.Parameter(self.proposal_head.initial())
        self.projected = mlp(JOINTS * (_FOURIER + 1), width, width) if config.projection else None
        self.uncertainty = UncertaintyHead(width) if config.uncertainty else None

    @property
    def attention_window(self) -> int:
        """Frames that one temporal layer attends to: with as many, every cache is full."""
        return self.config.window if self.config.temporal else 1

    @property
    def window(self) -> int:
        """Frames that a pose can depend on through all temporal layers, its own included.

        One more than attention alone reaches where a head pose is given: velocity needs the frame before.
        """
        reach = 2 * self.config.layers * (self.attention_window - 1) + 1
        return reach + 1 if self.config.auxiliary else reach

    def init_state(self, batch: int = 1) -> State:
        """Return the state before the first frame."""
        parameter = self.start
        layers = (*self.proposal, *self.refinement)
        past = self.attention_window - 1
        flag = torch.zeros(batch, dtype=torch.bool, device=parameter.device)
        stamps = torch.zeros(batch, past, dtype=torch.int64, device=parameter.device)
        return State(
            caches=tuple(layer.temporal.empty(batch) for layer in layers) if self.config.temporal else (),
            stamps_ns=stamps,
            filled=flag[:, None].expand(batch, past),
            T_world_reference=torch.eye(4, dtype=torch.float64, device=parameter.device).expand(batch, 4, 4),
            head_pose_valid=flag,
            newest_ns=torch.zeros(batch, dtype=torch.int64, device=parameter.device),
            started=flag,
        )

    def step(self, state: State, new: NetworkInput) -> tuple[State, Prediction]:
        """Take T >= 1 new frames; return the state with them and their poses."""
        state, _, refined = self.advance(state, new)
        return state, predict(refined)

    def forward(self, clip: NetworkInput) -> Prediction:
        """Return the poses of a clip, every frame by what came before it."""
        return predict(self.estimate(clip)[1])

    def estimate(self, clip: NetworkInput) -> tuple[Estimate, Estimate]:
        """Return the proposal and the refinement of a clip, for the losses."""
        _, proposal, refined = self.advance(self.init_state(len(clip.images)), clip)
        return proposal, refined

    def advance(self, state: State, new: NetworkInput) -> tuple[State, Estimate, Estimate]:
        """Decode new frames after the state's."""
        return self.decode(state, new, self.encode(new.images))

    def encode(self, images: Tensor) -> Tensor:
        """Return tokens (B, T, V, N, C) of images (B, T, V, 3, H, W)."""
        return self.tokens(self.encoder(self.seen(images)), images.shape[:3])

    def seen(self, images: Tensor) -> Tensor:
        """Return what is seen (B T V, 3, h, w) of canonical images (B, T, V, 3, H, W)."""
        return self.config.cut(images, self.views)

    def tokens(self, grid: Tensor, shape: torch.Size) -> Tensor:
        """Return the cells of maps (B T V, C, h, w) as tokens (B, T, V, h w, C) that know their place."""
        grid = grid.to(self.start.dtype)
        position = self.token_position(_fourier(self._cell_centres(grid)))
        return (self.token_norm(grid.flatten(2).transpose(1, 2)) + position).unflatten(0, shape)

    def _cell_centres(self, grid: Tensor) -> Tensor:
        """Return the centres (N, 2) of the cells of a map (M, C, h, w), x y in -1..1 across the whole image."""
        config, size = self.config, CANONICAL.size[0]
        cells = (torch.arange(grid.shape[-1], device=grid.device, dtype=grid.dtype) + 0.5) / grid.shape[-1]
        x, y = ((first + cells * config.crop_side) / size * 2.0 - 1.0 for first in (config.crop_left, config.crop_top))
        return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1)

    def decode(self, state: State, new: NetworkInput, tokens: Tensor) -> tuple[State, Estimate, Estimate]:
        """Run both decoders on the tokens of new frames."""
        time = timeline(state.stamps_ns, state.filled, new.stamps_ns, self.attention_window)
        T_reference_camera = new.T_reference_camera.to(tokens.dtype)
        cameras = (self.camera + self.extrinsics(_pose_vector(T_reference_camera)))[:, None]  # (B, 1, V, C)
        caches = list(state.caches) or [None] * (2 * self.config.layers)

        x = self.query(new, state)
        scores = []
        for index, layer in enumerate(self.proposal):
            x, seen, caches[index] = layer(x, tokens, cameras, caches[index], time)
            scores.append(seen)
        parameters = self.start + self.proposal_head(x)
        proposal = Estimate(parameters, *self.proposal_head.joints(parameters), None, torch.cat(scores, -2))

        condition = cameras
        if self.projected is not None:
            condition = cameras + self.projected(_project(proposal.joints, T_reference_camera, self.config))
        scores = []
        for index, layer in enumerate(self.refinement, self.config.layers):
            x, seen, caches[index] = layer(x, tokens, condition, caches[index], time)
            scores.append(seen)
        parameters = parameters + self.refinement_head(x)
        cholesky = None if self.uncertainty is None else self.uncertainty(x)
        refined = Estimate(parameters, *self.refinement_head.joints(parameters), cholesky, torch.cat(scores, -2))

        past = self.attention_window - 1
        state = State(
            caches=tuple(caches) if self.config.temporal else (),
            stamps_ns=time.stamps_ns[:, time.stamps_ns.shape[1] - past :].clone(),
            filled=time.filled[:, time.filled.shape[1] - past :].clone(),
            T_world_reference=new.T_world_reference[:, -1].double().clone(),
            head_pose_valid=new.head_pose_valid[:, -1].clone(),
            newest_ns=new.stamps_ns[:, -1].clone(),
            started=torch.ones_like(state.started),
        )
        return state, proposal, refined


def spread_over_views(weights: dict[str, Tensor], views: int) -> dict[str, Tensor]:
    """Return a network's weights for another number of cameras: each is treated as the mean of those that there were."""
    before = len(weights["camera"])
    spread = weights | {"camera": weights["camera"].mean(0, keepdim=True).repeat(views, 1)}
    for name in weights:
        if name.endswith("cross.fusion.weight"):  # (C, V * C), of the concatenated views
            each = weights[name].unflatten(1, (before, -1)).mean(1) * before / views
            spread[name] = each.repeat(1, views)
    return spread


def predict(estimate: Estimate) -> Prediction:
    """Return an estimate with its covariance and confidence."""
    if estimate.cholesky is None:
        return Prediction(estimate.joints, estimate.rotations, None, None)
    confidence = student_t.probability_within(estimate.cholesky, CONFIDENCE_RADIUS)
    return Prediction(estimate.joints, estimate.rotations, student_t.covariance(estimate.cholesky), confidence)


def _pose_vector(T: Tensor) -> Tensor:
    """Return translations and two columns of the rotations: (..., 9)."""
    return torch.cat([T[..., :3, 3], rotation_to_6d(T[..., :3, :3])], -1)


def _project(joints: Tensor, T_reference_camera: Tensor, square: SquareConfig) -> Tensor:
    """Return encodings (B, T, V, J * 23) of where joints (B, T, J, 3) fall in views (B, V, 4, 4), and whether in what is seen."""
    R = T_reference_camera[:, None, :, :3, :3]
    centred = joints[:, :, None] - T_reference_camera[:, None, :, None, :3, 3]
    pixels, valid = CANONICAL.project(centred @ R)  # R_camera_reference on row vectors
    seen = valid & square.holds(pixels)
    width, height = CANONICAL.size
    unit = (pixels + 0.5) / pixels.new_tensor([width, height]) * 2.0 - 1.0
    # Outside the image the direction is still worth knowing, the distance is not.
    unit = unit / (unit.abs().amax(-1, keepdim=True) / 1.5).clamp(min=1.0)
    return torch.cat([_fourier(unit), seen[..., None].to(unit.dtype)], -1).flatten(-2)
