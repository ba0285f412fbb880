"""AG-EgoPose (arXiv 2603.25175): heatmaps of the joints, the motion of the whole view, and a decoder that joins them.

    images ─┬─► HeatmapNetwork ─► heatmaps H ─► HeatmapEmbedding ─► e_j (eq. 1, 2) ─────────────┐
            └─► backbone ─► s_t (eq. 3) ─► ActionFormerEncoder over a window ─► F_m ─► repeat ──┴─► memory M (eq. 4)
                                    joint tokens Q ─► decoder over the frame's memory (eq. 5) ─► joints (eq. 6)

Spatial stream: ResNet-18, 15 heatmaps at a quarter of the image. Temporal stream: ResNet-50, eight blocks over T = 64
frames, four of them local. 15 joints in the camera's frame [m].

`forward` and `step` say what a live stream says: every pose from a window of the frames up to then. `window_of` is the
paper's own use: a clip as one window, every frame by all that its attention reaches, as in training. For the newest
frame of a window both are the same. A stream keeps s_t, what goes *into* the temporal encoder: each token that comes
out of a bidirectional one changes with every new frame, so those cannot be kept.

Where the paper is silent, or says two things:

- Image 256x256 in the canonical camera; or the square of it that holds the wearer, at its own resolution (an option).
- "Local, window 8" is read as in ActionFormer, whose window of 8 reaches 4 frames either way, not as the equation's
  t - w..t + w; `local_window: 16` is the other reading.
- The equation's sum of attention and feed-forward is taken for ActionFormer's block, norms and residuals included.
- Heads of the temporal encoder: 4, ActionFormer's own. Motion features have no positional encoding but the blocks'
  convolutions.
- "FPN decoder with unified skips": see `features.heatmaps`. Heatmaps pass a sigmoid before the embedding; those that
  are trained by squared error (an ablation) are clamped to 0..1.
- Embedding (one for all joints): 3x3 convolutions to 16, 32, 64 channels, the last two of stride 2, pooled to 4x4, one
  linear map, a norm. phi in eq. 4: ReLU and a linear map.
- A frame's queries attend to that frame's 15 memory tokens, which hold its motion. Embedding and motion are made
  alike for every joint, so that the tokens would be a set, in which a query could not tell its joint's heatmap from
  another's; the paper calls them joint-conditioned. A learned vector of its joint is added to each (`joint_identity`).
  It starts as fifty times the joint's query, whose noise is small, and queries and keys are projected alike at first,
  so that a query begins with 0.4 of its attention on the token of its own joint (0.5 in the first layer, 0.3 in the
  last). What a token says beside it starts at the same scale (`_MEMORY_GAIN`), or would drown in the norm.
- Without cross-attention (ablation) every joint's token starts from its own memory token and the decoder keeps its
  self-attention.
- Causal variant: a local block sees as many frames as before, all of them past; convolutions look back. `lookahead`
  frames of future enter through the first global block alone, so the whole stack sees just as many. A bidirectional
  network with a lookahead answers for the frame so many before the newest.
- A bidirectional network is trained on full windows. Those of a stream's first T - 1 frames are shorter, which only
  the causal variant has met in training.
- Training: images of single frames or windows from every frame are augmented, in batches of 32 for the heatmaps; a
  warm-up, gradients clipped in every stage, averaged weights are what ships.
- Uncertainty (the paper has none): a small head on a joint's decoded token and on the shape of its heatmap. Its
  gradient stops there, so poses are trained by the paper's losses alone. Student-t, as EgoPoseFormer v2's.

Where the published code differs from the paper, the paper is built: the code has seven blocks, five of them at strides
of two, whose scales are upsampled and joined by a random frozen convolution; it runs at T = 32 only; it weights the
position loss by 5 and the positives of the heatmap loss by 12, which the small variant that ships was trained with, too
(`loss.positive_weight`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from egopose_ros.config import ConfigError, option
from egopose_ros.features.backbones import BACKBONES, Trunk
from egopose_ros.features.heatmaps import HeatmapNetwork, shape_of_peaks
from egopose_ros.features.square import SquareConfig
from egopose_ros.networks import student_t
from egopose_ros.networks.action_former import ActionFormerEncoder, Span
from egopose_ros.networks.interface import CONFIDENCE_RADIUS, NetworkInput, Prediction
from egopose_ros.skeleton import MPI15

JOINTS = MPI15.size
PEAK_NUMBERS = 3
"""numbers that say how sure a heatmap is"""


@dataclass(frozen=True)
class AgEgoPoseConfig(SquareConfig):
    """Size, variants and ablations; defaults are the paper's."""

    views: int = option(1, "Cameras of the rig: a monocular network.", minimum=1, maximum=1)
    spatial_backbone: str = option("resnet18", "Backbone of the heatmaps.", choices=tuple(BACKBONES))
    temporal_backbone: str = option(
        "resnet50", "Backbone of the motion features; shared: that of the heatmaps.", choices=(*BACKBONES, "shared")
    )
    window: int = option(64, "Frames T of the temporal window.", minimum=2, maximum=1024)
    attention: str = option(
        "bidirectional",
        "bidirectional: every frame of the window sees every other, as published. causal: only what was before it.",
        choices=("bidirectional", "causal"),
    )
    lookahead: int = option(
        0, "Frames that a pose waits for, and so frames of latency.", minimum=0, maximum=1023, unit="frames"
    )
    local_blocks: int = option(4, "Blocks of local attention.", minimum=0, maximum=32)
    global_blocks: int = option(4, "Blocks of attention over the whole window, after those.", minimum=0, maximum=32)
    local_window: int = option(8, "Frames of local attention: half of them on either side.", minimum=2, maximum=1024)
    temporal_width: int = option(384, "Channels of the temporal encoder.", minimum=16, maximum=2048)
    temporal_heads: int = option(4, "Attention heads of the temporal encoder.", minimum=1, maximum=64)
    width: int = option(128, "Channels of a joint's token.", minimum=16, maximum=1024)
    heads: int = option(4, "Attention heads of the decoder.", minimum=1, maximum=64)
    layers: int = option(3, "Layers of the decoder.", minimum=1, maximum=16)
    dropout: float = option(0.1, "Dropout.", minimum=0.0, maximum=0.9)
    path_dropout: float = option(0.1, "Share of sequences that skip a temporal block.", minimum=0.0, maximum=0.9)
    heatmap_loss: str = option(
        "bce", "What heatmaps are trained by: cross-entropy, or squared error (ablation).", choices=("bce", "mse")
    )
    spatial: bool = option(True, "Use the heatmaps; else motion alone (ablation).")
    motion: bool = option(True, "Use the motion features; else every frame for itself (ablation).")
    cross_attention: bool = option(True, "Joint tokens attend to the memory; else start from it (ablation).")
    joint_identity: bool = option(True, "Memory tokens say which joint they are of; else they are a set (ablation).")
    uncertainty: bool = option(True, "Predict a covariance; else joints alone (ablation).")

    def __post_init__(self) -> None:
        super().__post_init__()
        for width, heads in (("width", self.heads), ("temporal_width", self.temporal_heads)):
            if getattr(self, width) % heads:
                raise ConfigError(f"{width}: expected a multiple of the {heads} heads, got {getattr(self, width)}")
        if not (self.spatial or self.motion):
            raise ConfigError("spatial, motion: expected one of the two streams, got neither")
        if self.temporal_backbone == "shared" and not self.spatial:
            raise ConfigError("temporal_backbone: expected one of its own without the spatial stream, got shared")
        if self.motion and self.local_blocks + self.global_blocks == 0:
            raise ConfigError("local_blocks, global_blocks: expected a temporal block, got none")
        if self.lookahead and not (self.motion and self.lookahead < self.window):
            frames = self.window if self.motion else 1
            raise ConfigError(f"lookahead: expected fewer than the window's {frames} frames, got {self.lookahead}")
        if self.lookahead and self.attention == "causal" and not self.global_blocks:
            raise ConfigError("lookahead: expected a global block, through which it enters, got none")

    @property
    def own_temporal_backbone(self) -> bool:
        """Whether the motion stream has an image backbone beside that of the heatmaps."""
        return self.motion and self.temporal_backbone != "shared"


@dataclass(frozen=True)
class Evidence:
    """What single frames show; (B, T) before every shape, each None without its stream."""

    embeddings: Tensor | None
    """(B, T, J, C) of the heatmaps"""
    shapes: Tensor | None
    """(B, T, J, 3) of the heatmaps: how sure they are"""
    features: Tensor | None
    """(B, T, C_t), what the temporal encoder takes"""


@dataclass(frozen=True)
class Estimate:
    """What the decoder says."""

    joints: Tensor
    """(B, T, J, 3) [m], reference frame"""
    cholesky: Tensor | None
    """(B, T, J, 3, 3), lower triangular, of the Student-t's scale matrix [m]"""
    motion: Tensor | None
    """(B, T, C_t), the motion features F_m"""


@dataclass(frozen=True)
class State:
    """What a stream remembers: fixed shapes, whatever its age. N is the lookahead."""

    features: Tensor
    """(B, T - 1, C_t) of the frames before the newest"""
    filled: Tensor
    """(B, T - 1) bool"""
    embeddings: Tensor
    """(B, N, J, C)"""
    shapes: Tensor
    """(B, N, J, 3)"""


class ImageStreams(nn.Module):
    """All that is done to images: heatmaps, and one feature a frame."""

    def __init__(self, config: AgEgoPoseConfig):
        super().__init__()
        self.spatial = HeatmapNetwork(config.spatial_backbone, JOINTS) if config.spatial else None
        self.temporal = Trunk(config.temporal_backbone) if config.own_temporal_backbone else None
        self.motion = config.motion

    @property
    def channels(self) -> int:
        """Channels of a frame's feature."""
        return (self.temporal or self.spatial).backbone.channels[-1]

    def forward(self, images: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return heatmaps (N, J, H / 4, W / 4) before any sigmoid and features (N, C) of images (N, 3, H, W)."""
        heatmaps = coarse = None
        if self.spatial is not None:
            heatmaps, coarse = self.spatial(images)
        return heatmaps, self._pool(images, coarse) if self.motion else None

    def features(self, images: Tensor) -> Tensor:
        """Return the features (N, C) alone."""
        coarse = None if self.temporal else self.spatial.backbone.features(self.spatial.normalise(images))[1]
        return self._pool(images, coarse)

    def _pool(self, images: Tensor, coarse: Tensor | None) -> Tensor:
        if self.temporal is not None:
            coarse = self.temporal.backbone.features(self.temporal.normalise(images))[1]
        return coarse.mean((2, 3))


class HeatmapEmbedding(nn.Module):
    """A heatmap to a token, the same way for every joint: eq. 2."""

    def __init__(self, width: int):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 32, 3, 2, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 64, 3, 2, 1),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(4),
        )
        self.linear = nn.Linear(64 * 16, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, heatmaps: Tensor) -> Tensor:
        """Return (N, J, C) of heatmaps (N, J, h, w) in 0..1."""
        pooled = self.convolutions(heatmaps.flatten(0, 1)[:, None]).flatten(1)
        return self.norm(self.linear(pooled)).unflatten(0, heatmaps.shape[:2])


class MotionProjection(nn.Module):
    """A frame's feature to the temporal encoder's width: eq. 3."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Return (N, C_t) of (N, C)."""
        return self.norm(self.linear(features))


_MEMORY_GAIN = 8.0
"""brings what a memory token says at first to the scale of what says whose it is"""


class JointDecoder(nn.Module):
    """Joint tokens, their memory and the layers between: eq. 4 and 5."""

    def __init__(self, config: AgEgoPoseConfig):
        super().__init__()
        width, sources = config.width, config.spatial + config.motion
        self.motion = nn.Linear(config.temporal_width, width) if config.motion else None
        self.memory = nn.Sequential(nn.Linear(sources * width, width), nn.ReLU(), nn.Linear(width, width))
        joints = torch.randn(JOINTS, width)
        self.queries = nn.Parameter(joints * 0.02)
        self.cross_attention = config.cross_attention
        named = config.cross_attention and config.joint_identity  # a token that starts from its own memory has its query
        self.identity = nn.Parameter(joints) if named else None
        settings = dict(d_model=width, nhead=config.heads, dim_feedforward=4 * width, dropout=config.dropout)
        kind = nn.TransformerDecoderLayer if config.cross_attention else nn.TransformerEncoderLayer
        self.layers = nn.ModuleList(kind(**settings, batch_first=True) for _ in range(config.layers))
        if named:  # queries and keys projected alike: at first each query looks at the token of its own joint
            self.memory[-1].weight.detach().mul_(_MEMORY_GAIN)
            for layer in self.layers:
                weight = layer.multihead_attn.in_proj_weight.detach()
                weight[width : 2 * width] = weight[:width]

    def forward(self, embeddings: Tensor | None, motion: Tensor | None) -> Tensor:
        """Return (N, J, C) of heatmap embeddings (N, J, C) and motion features (N, C_t) of N frames."""
        sources = [] if embeddings is None else [embeddings]
        if motion is not None:
            sources.append(self.motion(motion)[:, None].expand(-1, JOINTS, -1))
        memory = self.memory(torch.cat(sources, -1))
        if self.identity is not None:
            memory = memory + self.identity
        x = self.queries.expand(len(memory), -1, -1)
        if not self.cross_attention:
            x = x + memory
        for layer in self.layers:
            x = layer(x, memory) if self.cross_attention else layer(x)
        return x


class JointUncertainty(nn.Module):
    """A joint's decoded token and the shape of its heatmap to the Cholesky factor of its scale matrix."""

    def __init__(self, inputs: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(inputs, 64), nn.GELU(), nn.Linear(64, 6))
        nn.init.normal_(self.mlp[-1].weight, std=1e-3)
        nn.init.zeros_(self.mlp[-1].bias)
        self.register_buffer("spread", torch.ones(JOINTS))
        """(J,) measured on validation data after training, so that regions hold the share they claim"""

    def forward(self, tokens: Tensor, shapes: Tensor | None) -> Tensor:
        """Return (N, J, 3, 3) [m] of tokens (N, J, C) and shapes (N, J, 3)."""
        x = tokens if shapes is None else torch.cat([tokens, shapes], -1)
        return student_t.scale_factor(self.mlp(x.detach())) * self.spread[:, None, None]


def _spans(config: AgEgoPoseConfig) -> tuple[Span, ...]:
    """Return what each block of the temporal encoder sees."""
    half = config.local_window // 2
    if config.attention == "bidirectional":
        return (Span(half, half),) * config.local_blocks + (Span(None, None),) * config.global_blocks
    ahead = [config.lookahead] + [0] * (config.global_blocks - 1)
    return (Span(2 * half, 0),) * config.local_blocks + tuple(Span(None, n) for n in ahead[: config.global_blocks])


class AgEgoPose(nn.Module):
    """See the module's docstring."""

    skeleton = MPI15.name

    def __init__(self, config: AgEgoPoseConfig = AgEgoPoseConfig()):
        super().__init__()
        self.config = config
        self.views, self.lookahead = config.views, config.lookahead
        self.encoder = ImageStreams(config)
        self.embedding = HeatmapEmbedding(config.width) if config.spatial else None
        self.projection = self.temporal = None
        if config.motion:
            self.projection = MotionProjection(self.encoder.channels, config.temporal_width)
            self.temporal = ActionFormerEncoder(
                config.temporal_width,
                config.temporal_heads,
                _spans(config),
                causal=config.attention == "causal",
                dropout=config.dropout,
                path_dropout=config.path_dropout,
            )
        self.decoder = JointDecoder(config)
        self.head = nn.Sequential(
            nn.Linear(config.width, 128),
            nn.LeakyReLU(0.1),
            nn.Dropout(config.dropout),
            nn.Linear(128, 64),
            nn.LeakyReLU(0.1),
            nn.Dropout(config.dropout),
            nn.Linear(64, 3),
        )
        self.uncertainty = None
        if config.uncertainty:
            self.uncertainty = JointUncertainty(config.width + PEAK_NUMBERS * config.spatial)

    @property
    def window(self) -> int:
        """Frames that a pose can depend on, its own included."""
        return self.config.window if self.config.motion else 1

    @property
    def attention_window(self) -> int:
        """Frames with which the temporal window is full."""
        return self.window

    def init_state(self, batch: int = 1) -> State:
        """Return the state before the first frame."""
        like = self.decoder.queries
        past, waiting = self.window - 1, self.lookahead
        return State(
            features=like.new_zeros(batch, past, self.config.temporal_width),
            filled=torch.zeros(batch, past, dtype=torch.bool, device=like.device),
            embeddings=like.new_zeros(batch, waiting, JOINTS, self.config.width),
            shapes=like.new_zeros(batch, waiting, JOINTS, PEAK_NUMBERS),
        )

    def step(self, state: State, new: NetworkInput) -> tuple[State, Prediction]:
        """Take T >= 1 new frames; return the state with them and a pose for each.

        With a lookahead of N the pose is that of the frame N before, or of the window's first while it is shorter.
        """
        state, estimate = self.advance(state, self.look(new.images))
        return state, predict(estimate)

    def finish(self, state: State) -> Prediction:
        """Return the poses (B, N, ...) of the N frames that still wait: in a window of T - 1 that nothing follows."""
        waiting, past = self.lookahead, self.window - 1
        features = nn.functional.pad(state.features, (0, 0, 1, 0))
        filled = nn.functional.pad(state.filled, (1, 0))
        at = torch.arange(past + 1 - waiting, past + 1, device=filled.device)
        motion = self.temporal(
            features.repeat_interleave(waiting, 0), filled.repeat_interleave(waiting, 0), at.repeat(len(features))
        )
        embeddings, shapes = (state.embeddings, state.shapes) if self.embedding is not None else (None, None)
        return predict(self._decode(embeddings, shapes, motion[:, 0].unflatten(0, (-1, waiting))))

    def forward(self, clip: NetworkInput) -> Prediction:
        """Return what a stream says after every frame of a clip."""
        return self.step(self.init_state(len(clip.images)), clip)[1]

    def look(self, images: Tensor) -> Evidence:
        """Return what each of the images (B, T, V, 3, H, W) shows."""
        return self.evidence(*self.encoder(self.seen(images)), images.shape[:2])

    def seen(self, images: Tensor) -> Tensor:
        """Return what is seen (B T V, 3, h, w) of canonical images (B, T, V, 3, H, W)."""
        return self.config.cut(images, self.views)

    def evidence(self, heatmaps: Tensor | None, features: Tensor | None, shape: torch.Size) -> Evidence:
        """Return the evidence of the encoder's outputs for B T = N images; `shape` is (B, T)."""
        embeddings = shapes = None
        dtype = self.decoder.queries.dtype
        if heatmaps is not None:
            heatmaps = self.probabilities(heatmaps.to(dtype))
            embeddings = self.embedding(heatmaps).unflatten(0, shape)
            shapes = shape_of_peaks(heatmaps).unflatten(0, shape)
        if features is not None:
            features = self.projection(features.to(dtype)).unflatten(0, shape)
        return Evidence(embeddings, shapes, features)

    def probabilities(self, heatmaps: Tensor) -> Tensor:
        """Return heatmaps in 0..1 of those that the encoder gives."""
        return heatmaps.sigmoid() if self.config.heatmap_loss == "bce" else heatmaps.clamp(0.0, 1.0)

    def advance(self, state: State, new: Evidence) -> tuple[State, Estimate]:
        """Let new frames into the state and decode for each the window that ends with it."""
        if self.temporal is None:
            return state, self._decode(new.embeddings, new.shapes, None)
        waiting, past = self.lookahead, self.window - 1
        features = torch.cat([state.features, new.features], 1)
        filled = torch.cat([state.filled, torch.ones_like(new.features[..., 0], dtype=torch.bool)], 1)
        windows = features.unfold(1, self.window, 1).transpose(2, 3)  # (B, T_new, T, C_t)
        there = filled.unfold(1, self.window, 1)  # (B, T_new, T)
        lag = (there.sum(-1) - 1).clamp(max=waiting)  # (B, T_new)
        motion = self.temporal(windows.flatten(0, 1), there.flatten(0, 1), (past - lag).flatten())
        motion = motion[:, 0].unflatten(0, windows.shape[:2])

        embeddings = shapes = None
        kept = [state.embeddings, state.shapes]
        if new.embeddings is not None:
            joined = [torch.cat(pair, 1) for pair in zip(kept, (new.embeddings, new.shapes))]
            at = waiting - lag
            embeddings, shapes = (_take(x.unfold(1, waiting + 1, 1).movedim(-1, 2), at) for x in joined)
            kept = [_tail(x, waiting) for x in joined]
        return State(_tail(features, past), _tail(filled, past), *kept), self._decode(embeddings, shapes, motion)

    def window_of(self, clip: Evidence) -> Estimate:
        """Return the poses of a clip as one window, every frame by all that its attention reaches."""
        motion = None
        if self.temporal is not None:
            motion = self.encode_motion(clip.features)
        return self._decode(clip.embeddings, clip.shapes, motion)

    def encode_motion(self, features: Tensor) -> Tensor:
        """Return the motion features (B, T, C_t) of a clip as one window."""
        if features.shape[1] > self.window:
            raise ValueError(f"expected a clip of at most {self.window} frames, got {features.shape[1]}")
        return self.temporal(features, torch.ones_like(features[..., 0], dtype=torch.bool))

    def _decode(self, embeddings: Tensor | None, shapes: Tensor | None, motion: Tensor | None) -> Estimate:
        given = embeddings if embeddings is not None else motion
        flat = [None if x is None else x.flatten(0, 1) for x in (embeddings, motion, shapes)]
        tokens = self.decoder(*flat[:2])  # (B T, J, C)
        joints = self.head(tokens).unflatten(0, given.shape[:2])
        cholesky = None
        if self.uncertainty is not None:
            cholesky = self.uncertainty(tokens, flat[2]).unflatten(0, given.shape[:2])
        return Estimate(joints, cholesky, motion)


def predict(estimate: Estimate) -> Prediction:
    """Return an estimate with its covariance and confidence."""
    if estimate.cholesky is None:
        return Prediction(estimate.joints, None, None, None)
    confidence = student_t.probability_within(estimate.cholesky, CONFIDENCE_RADIUS)
    return Prediction(estimate.joints, None, student_t.covariance(estimate.cholesky), confidence)


def _take(x: Tensor, index: Tensor) -> Tensor:
    """Return (B, T, ...) of x (B, T, W, ...) at indices (B, T)."""
    index = index.reshape(*index.shape, *[1] * (x.ndim - 2)).expand(*index.shape, 1, *x.shape[3:])
    return x.gather(2, index)[:, :, 0]


def _tail(x: Tensor, count: int) -> Tensor:
    """Return a copy of the last frames: a state neither aliases nor keeps alive more than its window."""
    return x[:, x.shape[1] - count :].clone()
