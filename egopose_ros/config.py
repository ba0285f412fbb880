"""The one configuration tree of the running system: the only home of defaults.

Every leaf is a bool, int, float, str or a tuple of str, so that each maps one to one to a ROS parameter (nesting
becomes dots) and to a command-line flag. YAML and launch files hold overrides only. Training and the synthetic world
keep their own trees beside their code, made with the same `option` and checks.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any, Iterator, TypeVar

Leaf = bool | int | float | str | tuple[str, ...]
T = TypeVar("T")
_POINTLESS = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+")
"""numbers like 1e-3, which YAML takes for text because they have no point"""


class ConfigError(ValueError):
    """A setting that does not fit: says what was expected, what came, and why it matters."""


def option(
    default: Any,
    description: str,
    *,
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    live: bool = False,
    fixed: bool = False,
    unit: str = "",
) -> Any:
    """Declare a leaf: its default, what it does, what it admits, and whether it may change while running, or never."""
    metadata = dict(
        description=description, choices=choices, minimum=minimum, maximum=maximum, live=live, fixed=fixed, unit=unit
    )
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Option:
    """A leaf of a configuration tree, seen from outside."""

    name: str
    """dotted path"""
    default: Leaf
    description: str
    choices: tuple[str, ...]
    minimum: float | None
    maximum: float | None
    live: bool
    fixed: bool
    """of the node's start, whatever state it comes to"""
    unit: str

    @property
    def named_choices(self) -> tuple[str, ...]:
        """Choices but for the empty one, which means that none was made."""
        return tuple(filter(None, self.choices))

    def check(self, value: Any) -> Leaf:
        """Return the value in the type of the default; ConfigError says what was expected and what came."""
        kind = type(self.default)
        if kind is float and (type(value) is int or (isinstance(value, str) and _POINTLESS.fullmatch(value))):
            value = float(value)
        if kind is tuple and isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
            value = tuple(value)
        if type(value) is not kind:
            expected = "list of strings" if kind is tuple else kind.__name__
            raise ConfigError(f"{self.name}: expected {expected}, got {type(value).__name__} {value!r}")
        if self.choices and value not in self.choices:
            raise ConfigError(f"{self.name}: expected one of {', '.join(self.named_choices)}, got '{value}'")
        low, high = self.minimum, self.maximum
        if (low is not None and not value >= low) or (high is not None and not value <= high):
            bounds = f"{'' if low is None else f'{low:g} <= '}value{'' if high is None else f' <= {high:g}'}"
            raise ConfigError(f"{self.name}: expected {bounds} {self.unit}".rstrip() + f", got {value!r}")
        return value


def options(tree: Any, prefix: str = "") -> Iterator[Option]:
    """Yield every leaf of a configuration (class or instance) in order; defaults are those of the instance."""
    instance = tree() if isinstance(tree, type) else tree
    for item in dataclasses.fields(instance):
        value = getattr(instance, item.name)
        name = prefix + item.name
        if dataclasses.is_dataclass(value):
            yield from options(value, name + ".")
        else:
            yield Option(name, value, **item.metadata)


def replace(tree: T, overrides: dict[str, Any]) -> T:
    """Return the tree with dotted overrides applied and every check run; ConfigError for an unknown name."""
    known = {item.name: item for item in options(tree)}
    for name, value in overrides.items():
        if name not in known:
            raise ConfigError(f"{name}: no such setting; there are {', '.join(known)}")
        tree = _replace_leaf(tree, name.split("."), known[name].check(value))
    return _rebuild(tree)


def _replace_leaf(tree: T, path: list[str], value: Leaf) -> T:
    head, *rest = path
    if rest:
        value = _replace_leaf(getattr(tree, head), rest, value)
    # Cross-field checks wait until every override is in: see _rebuild.
    copy = object.__new__(type(tree))
    for item in dataclasses.fields(tree):
        object.__setattr__(copy, item.name, value if item.name == head else getattr(tree, item.name))
    return copy


def _rebuild(tree: T) -> T:
    """Construct the tree anew, so that every __post_init__ sees its final neighbours."""
    values = {item.name: getattr(tree, item.name) for item in dataclasses.fields(tree)}
    return type(tree)(**{k: _rebuild(v) if dataclasses.is_dataclass(v) else v for k, v in values.items()})


def flatten(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested dictionaries, as YAML gives them, into dotted names."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + str(key)] = value
    return flat


@dataclass(frozen=True)
class CameraConfig:
    topics: tuple[str, ...] = option(
        ("image_raw",), "Image topics, one for each camera of the rig, in its order. Names may be relative."
    )
    transport: str = option(
        "auto",
        "raw: sensor_msgs/Image. compressed: sensor_msgs/CompressedImage. auto: by the type found on the topic.",
        choices=("auto", "raw", "compressed"),
    )
    calibration: str = option(
        "", "Calibration file of the rig. Empty: sensor_msgs/CameraInfo beside each image topic (camera_info)."
    )
    frame_id: str = option(
        "", "Optical frame of the first camera. Empty: the frame_id of its images, 'camera' where they have none."
    )
    sync_tolerance_s: float = option(
        0.005, "Images of different cameras this close in time form one frame.", minimum=0.0, maximum=1.0, unit="s"
    )

    def __post_init__(self) -> None:
        if not self.topics or not all(self.topics):
            raise ConfigError(f"camera.topics: expected one topic for each camera, got {list(self.topics)}")
        if len(set(self.topics)) != len(self.topics):
            raise ConfigError(f"camera.topics: expected a topic of its own for each camera, got {list(self.topics)}")


DEFAULT_NETWORK = "egoposeformer_v2"


@dataclass(frozen=True)
class NetworkConfig:
    name: str = option(
        "", f"Network that estimates the pose. Empty: that of the checkpoint, {DEFAULT_NETWORK} without one.",
        choices=("", "egoposeformer_v2", "ag_egopose"),
    )
    checkpoint: str = option("", "Checkpoint: a file, or the name of one that ships. Empty: the network's own.")
    allow_untrained: bool = option(False, "Run with random weights when no checkpoint is given: for testing only.")


MAX_THREADS = 256


@dataclass(frozen=True)
class RuntimeConfig:
    device: str = option(
        "auto", "auto, cpu, cuda or cuda:N. auto takes CUDA where there is one; without one the CPU runs, with a warning."
    )
    require_gpu: bool = option(False, "Refuse to run on the CPU.")
    precision: str = option(
        "auto", "auto: bf16 on CUDA from compute capability 8.0, fp32 elsewhere.", choices=("auto", "fp32", "bf16", "fp16")
    )
    threads: int = option(
        0, "CPU threads of the network; 0: every core offline, all but one in a live node.", minimum=0, maximum=MAX_THREADS
    )

    def __post_init__(self) -> None:
        kind, _, number = self.device.partition(":")
        if kind not in ("auto", "cpu", "cuda") or (number and (kind != "cuda" or not number.isdigit())):
            raise ConfigError(f"runtime.device: expected auto, cpu, cuda or cuda:N, got '{self.device}'")
        if self.require_gpu and self.device == "cpu":
            raise ConfigError("runtime.require_gpu: expected runtime.device auto or cuda with it, got 'cpu'")


@dataclass(frozen=True)
class WindowConfig:
    max_gap_s: float = option(
        0.5, "A longer gap between frames empties the window.", minimum=0.01, maximum=60.0, live=True, unit="s"
    )
    max_pending: int = option(
        8,
        "Frames that arrived during an inference and are encoded together with the next; older ones are dropped.",
        minimum=1,
        maximum=64,
        live=True,
    )
    thin_out: bool = option(
        True,
        "Leave frames out while encoding every one would make poses later by half; off, all are encoded.",
        live=True,
    )


@dataclass(frozen=True)
class SmoothingConfig:
    enabled: bool = option(True, "Smooth joints and rotations over the newest eight poses (One Euro filter).", live=True)
    cutoff_hz: float = option(
        1.0, "Cutoff frequency of a joint that keeps still: lower is calmer.", minimum=0.01, maximum=1000.0, live=True,
        unit="Hz",
    )
    cutoff_slope: float = option(
        10.0, "What each m/s of a joint adds to the cutoff [Hz]: higher lags less.", minimum=0.0, maximum=1000.0, live=True
    )


@dataclass(frozen=True)
class WearerConfig:
    height_m: float = option(
        0.0, "Height of the wearer without shoes, to which poses are scaled. 0: not known.", live=True, unit="m"
    )

    def __post_init__(self) -> None:
        if self.height_m and not 1.0 <= self.height_m <= 2.5:
            raise ConfigError(f"wearer.height_m: expected 1 <= value <= 2.5 m, or 0 if unknown, got {self.height_m}")


@dataclass(frozen=True)
class HeadPoseConfig:
    source: str = option(
        "none",
        "Where the head pose comes from: a nav_msgs/Odometry, geometry_msgs/PoseStamped or "
        "geometry_msgs/PoseWithCovarianceStamped topic, or TF.",
        choices=("none", "odometry", "pose", "pose_with_covariance", "tf"),
    )
    topic: str = option("head_pose", "Topic of the head pose, unless the source is tf.")
    global_frame: str = option(
        "", "Global frame, to which TF brings a head pose in another one. Empty: frame_id of the head pose; with tf, 'map'."
    )
    head_frame: str = option("head", "Frame whose pose TF is asked for, and the parent of the cameras' extrinsics.")
    max_age_s: float = option(
        0.1, "Neighbouring head poses further apart than this are not interpolated.", minimum=0.0, maximum=10.0,
        live=True, unit="s",
    )
    wait_s: float = option(
        0.05, "A frame waits at most this long for the head pose and IMU at its stamp, then goes without.",
        minimum=0.0, maximum=1.0, live=True, unit="s",
    )


@dataclass(frozen=True)
class ImuConfig:
    enabled: bool = option(False, "Subscribe to an IMU.")
    topic: str = option("imu", "sensor_msgs/Imu topic.")
    max_age_s: float = option(
        0.05, "Neighbouring readings further apart than this are not interpolated.", minimum=0.0, maximum=10.0,
        live=True, unit="s",
    )


@dataclass(frozen=True)
class TfConfig:
    enabled: bool = option(True, "Publish every joint as a TF frame below the first camera's optical frame.", live=True)
    prefix: str = option(
        "wearer/", "Prefix of the joints' frames: bare names such as head belong to the SLAM system."
    )
    rate_hz: float = option(30.0, "Upper limit of the TF rate.", minimum=0.1, maximum=1000.0, live=True, unit="Hz")
    head_pose: str = option(
        "none",
        "What to publish below the global frame where TF does not know the head pose: head_pose.head_frame, if TF knows "
        "the way from there to the camera, or the camera itself. Nothing with head_pose.source tf.",
        choices=("none", "head", "camera"),
    )

    def __post_init__(self) -> None:
        if not self.prefix.strip("/"):
            raise ConfigError(f"tf.prefix: expected a prefix that keeps the joints' frames apart, got '{self.prefix}'")


@dataclass(frozen=True)
class MarkerConfig:
    enabled: bool = option(True, "Publish RViz markers.", live=True)
    lifetime_s: float = option(0.5, "Lifetime of a marker.", minimum=0.0, maximum=60.0, live=True, unit="s")
    ellipsoid_sigma: float = option(
        2.0, "Half axes of the uncertainty ellipsoids, in standard deviations.", minimum=0.1, maximum=10.0, live=True
    )
    trail_s: float = option(
        30.0, "Length of the pelvis' trail in the global frame.", minimum=0.0, maximum=600.0, live=True, unit="s"
    )


@dataclass(frozen=True)
class Config:
    """Everything a running estimator can be told."""

    camera: CameraConfig = CameraConfig()
    network: NetworkConfig = NetworkConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    window: WindowConfig = WindowConfig()
    smoothing: SmoothingConfig = SmoothingConfig()
    wearer: WearerConfig = WearerConfig()
    head_pose: HeadPoseConfig = HeadPoseConfig()
    imu: ImuConfig = ImuConfig()
    tf: TfConfig = TfConfig()
    markers: MarkerConfig = MarkerConfig()
    degraded_confidence: float = option(
        0.2, "A mean confidence of the joints below this makes the tracking state DEGRADED.", minimum=0.0, maximum=1.0,
        live=True,
    )
    diagnostics_period_s: float = option(
        1.0, "Period of the diagnostics.", minimum=0.1, maximum=60.0, fixed=True, unit="s"
    )
    autostart: bool = option(True, "Configure and activate at start, without a lifecycle manager.", fixed=True)


@dataclass(frozen=True)
class PlayerConfig:
    """Everything the bag player can be told."""

    rate: float = option(1.0, "Speed: 2 plays twice as fast.", minimum=0.01, maximum=100.0)
    loop: bool = option(False, "Start again at the end, until stopped.")
    start_s: float = option(0.0, "Skip this much of the bag; latched messages are kept.", minimum=0.0, unit="s")
    topics: tuple[str, ...] = option((), "Topics to play. Empty: all.")
    remap: tuple[str, ...] = option((), "Topics to rename, each as from:=to.")
    estimates: bool = option(
        True, "Play what an estimator said while the bag was recorded, too. Off, it does not mix with what one says now."
    )
    clock_hz: float = option(
        100.0, "Rate of /clock, 0 for none; with it a /clock in the bag is left out.", minimum=0.0, maximum=1000.0,
        unit="Hz",
    )
    wait_s: float = option(
        10.0, "Wait at most this long for subscribers of the images before the first message.", minimum=0.0,
        maximum=3600.0, unit="s",
    )
    subscribers: int = option(1, "Subscribers of an image topic to wait for.", minimum=1, maximum=100)
    await_topics: tuple[str, ...] = option(
        (), "More topics to wait for, each until it is subscribed to; one that is not in the bag is left out."
    )


@dataclass(frozen=True)
class ViewerConfig:
    """Everything the browser page can be told."""

    host: str = option("127.0.0.1", "Interface that the page is served on. 0.0.0.0: every one, for all to see.")
    port: int = option(8080, "Port of the page, 0 for any free one.", minimum=0, maximum=65535)
    topics: tuple[str, ...] = option(
        CameraConfig().topics, "Image topics, one for each camera of the rig, in its order, as of the estimator."
    )
    calibration: str = option(CameraConfig().calibration, "Calibration file of the rig. Empty: CameraInfo.")
    pose: str = option("estimator/pose", "Pose topic of the estimator; the one in the global frame lies beside it.")
    truth: str = option(
        "/ground_truth/pose", "Topic of ground truth in the first camera's frame, with the stamps of the images."
    )


@dataclass(frozen=True)
class EvaluatorConfig:
    """Everything the evaluator node can be told."""

    json: str = option("evaluation.json", "File of the numbers, written when the node ends.")
    pose: str = option("estimator/pose", "Pose topic to evaluate.")
    truth: str = option("/ground_truth/pose", "Topic of ground truth, in the same frame as the poses.")
    protocol: str = option("egopose", "Protocol: which joints are compared.")
    truth_offset_s: float = option(0.0, "How far the clock of the ground truth is ahead.", unit="s")
