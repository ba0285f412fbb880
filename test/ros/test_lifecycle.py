"""The managed node on the live graph: transitions, failed configurations and their reasons, parameters."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip("rclpy", reason="the live graph needs rclpy")

from graph_probe import Feed, Probe, spinning, wait
from rcl_interfaces.msg import ParameterType
from rclpy.parameter import Parameter

from egopose_ros import checkpoint
from egopose_ros.config import Config, ConfigError, PlayerConfig, options
from egopose_ros.ros.estimator import Estimator
from egopose_ros.ros.params import Parameters

TYPES = {
    bool: ParameterType.PARAMETER_BOOL,
    int: ParameterType.PARAMETER_INTEGER,
    float: ParameterType.PARAMETER_DOUBLE,
    str: ParameterType.PARAMETER_STRING,
    tuple: ParameterType.PARAMETER_STRING_ARRAY,
}


def test_transitions_and_what_flows_in_each_state(feed: Feed) -> None:
    probe = feed.probe
    feed.start()
    assert probe.state() == "active"
    feed.pose()
    images = probe.advertise(feed.topic)
    feed.deactivate()
    assert probe.state() == "inactive"
    wait(lambda: images.get_subscription_count() == 0, "the subscription to go")
    feed.activate()
    assert feed.pose().window_length == 1, "activation begins a new window"
    feed.deactivate()
    assert probe.change_state("cleanup") and probe.state() == "unconfigured"
    assert probe.set_parameters(window__thin_out=False).successful
    for name, value in (("autostart", True), ("diagnostics_period_s", 0.7)):
        refused = probe.set_parameters(**{name: value})
        assert not refused.successful and f"{name}: is read at the node's start alone" in refused.reason
    assert not probe.change_state("activate"), "an unconfigured node cannot be activated"
    assert probe.change_state("configure")
    feed.activate()
    assert feed.pose().window_length == 1


def test_a_failed_configure_says_why_and_can_be_mended(feed: Feed, tmp_path) -> None:
    from egopose_ros.networks.table import build

    good = tmp_path / "good.safetensors"
    checkpoint.save(good, build("egoposeformer_v2", {"views": 1}), {})
    truncated = tmp_path / "truncated.safetensors"
    truncated.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    other = tmp_path / "other.safetensors"
    # The length of the header stays right: only the name in the card changes.
    other.write_bytes(good.read_bytes().replace(b"egoposeformer_v2", b"egoposeformer_v9"))
    stereo = tmp_path / "stereo.safetensors"
    checkpoint.save(stereo, build("egoposeformer_v2", {"views": 2}), {})
    broken = tmp_path / "rig.yaml"
    broken.write_text("egopose_rig: 1\ncameras: [{name: left, model: ocam}]\n")
    nonsense = tmp_path / "nonsense.yaml"
    nonsense.write_text("width: [")
    failures = {
        "got nothing there": dict(network__checkpoint=str(tmp_path / "absent.safetensors")),
        str(truncated): dict(network__checkpoint=str(truncated)),
        "egoposeformer_v9": dict(network__checkpoint=str(other)),
        "2 cameras": dict(network__checkpoint=str(stereo)),
        "left": dict(camera__calibration=str(broken)),
        str(nonsense): dict(camera__calibration=str(nonsense)),
        "absent.yaml": dict(camera__calibration=str(tmp_path / "absent.yaml")),
        "CUDA device": dict(runtime__device="cuda", runtime__require_gpu=True),
    }
    import torch

    if torch.cuda.is_available():
        failures.pop("CUDA device")
    for reason, parameters in failures.items():
        feed.reset(**parameters)
        assert not feed.probe.change_state("configure")
        assert feed.probe.state() == "unconfigured"
        wait(lambda: reason in feed.probe.message, f"'{reason}' in the diagnostics, not '{feed.probe.message}'")
        assert feed.probe.message.startswith("configure failed: ")
    feed.start(network__checkpoint=str(good), runtime__require_gpu=False)
    assert feed.pose().weights_trained
    assert "failure" not in feed.probe.status


def test_every_leaf_of_the_configuration_is_described(probe: Probe) -> None:
    leaves = list(options(Config))
    assert {leaf.name for leaf in leaves} <= set(probe.names())
    for leaf, descriptor in zip(leaves, probe.describe(*(leaf.name for leaf in leaves))):
        assert descriptor.type == TYPES[type(leaf.default)], leaf.name
        assert descriptor.description.startswith(leaf.description)
        assert ("while running" in descriptor.additional_constraints) is leaf.live
        assert all(choice in descriptor.additional_constraints for choice in leaf.choices)
        ranges = list(descriptor.integer_range) + list(descriptor.floating_point_range)
        assert len(ranges) == (leaf.minimum is not None or leaf.maximum is not None), leaf.name
        for bounds in ranges:
            assert leaf.minimum is None or bounds.from_value == leaf.minimum
            assert leaf.maximum is None or bounds.to_value == leaf.maximum


def test_bad_values_are_refused_with_the_reason_and_live_ones_take_effect(feed: Feed) -> None:
    feed.start()
    feed.pose()
    refusals = {
        "tf.rate_hz": (-1.0, "tf.rate_hz"),
        "head_pose.source": ("magic", "expected one of none, odometry"),
        "runtime.device": ("tpu", "expected auto, cpu, cuda"),
        "tf.prefix": ("", "expected a prefix"),
        "camera.topics": (["/a", "/a"], "topic of its own"),
        "network.name": ("resnet", "egoposeformer_v2"),
        "window.max_pending": (0, "window.max_pending"),
        "imu.enabled": (True, "only while the node is unconfigured"),
    }
    for name, (value, reason) in refusals.items():
        before = feed.probe.get(name)
        result = feed.probe.set_parameters(**{name.replace(".", "__"): value})
        assert not result.successful and reason in result.reason, (name, result.reason)
        assert feed.probe.get(name) == before
    wrong_type = feed.probe.set_parameters(window__max_gap_s="long")
    assert not wrong_type.successful and "type" in wrong_type.reason
    # All or nothing: one refusal keeps the others out.
    assert not feed.probe.set_parameters(window__max_gap_s=5.0, head_pose__source="magic").successful
    assert feed.probe.get("window.max_gap_s")[0].double_value == 0.5
    assert feed.pose(2 * 10**9).window_length == 1, "a gap of 2 s empties the window"
    assert feed.probe.set_parameters(window__max_gap_s=5.0).successful
    assert feed.pose(2 * 10**9).window_length == 2, "now it is bridged"


def test_values_given_at_start_are_checked_in_our_words() -> None:
    def make(**values):
        overrides = [Parameter(name.replace("__", "."), value=value) for name, value in values.items()]
        return lambda context: Estimator(context=context, parameter_overrides=overrides)

    with spinning(make(autostart=False, tf__rate_hz=20)) as node:
        assert node.get_parameter("tf.rate_hz").value == 20.0, "a whole number stands for a float"
    for values, reason in (
        (dict(tf__rate_hz=-20.0), "tf.rate_hz: expected 0.1 <= value <= 1000 Hz, got -20.0"),
        (dict(camera__topics=[]), "camera.topics: expected one topic for each camera"),
        (dict(camera__topics=[1, 2]), "camera.topics: expected list of strings"),
        (dict(autostart="yes"), "autostart: expected bool, got str 'yes'"),
    ):
        with pytest.raises(ConfigError) as error, spinning(make(**values)):
            pass
        assert reason in str(error.value)


def test_lists_of_strings_may_be_empty() -> None:
    import rclpy

    with spinning(lambda context: rclpy.create_node("lists", context=context)) as node:
        parameters = Parameters(node, lambda: True, PlayerConfig())
        assert parameters.config.topics == () and list(node.get_parameter("topics").value) == []
        assert node.describe_parameter("topics").type == ParameterType.PARAMETER_STRING_ARRAY
        assert node.set_parameters([Parameter("topics", value=["/a"])])[0].successful
        assert parameters.config.topics == ("/a",)


def test_autostart_and_many_lifecycles_leave_nothing_behind() -> None:
    from egopose_ros.ros.estimator import load_pipeline

    overrides = [Parameter("network.allow_untrained", value=True), Parameter("camera.topics", value=["/nobody/image"])]
    pipelines = []

    def load(config):
        pipelines.append(load_pipeline(config) if not pipelines else pipelines[0])
        return pipelines[0]

    arguments = dict(namespace="/many", parameter_overrides=overrides)
    with spinning(lambda context: Estimator(load, context=context, **arguments)) as node:
        probe = Probe("/many/estimator")
        try:
            wait(lambda: probe.state() == "active", "autostart")

            def cycle() -> tuple[int, ...]:
                for transition in ("deactivate", "cleanup", "configure", "activate"):
                    assert probe.change_state(transition)
                entities = [*node.subscriptions, *node.publishers, *node.timers]
                return threading.active_count(), len(entities), len(node.default_callback_group.entities)

            first = cycle()
            assert all(cycle() == first for _ in range(10))
        finally:
            probe.close()


def test_an_activation_that_fails_leaves_nothing_behind() -> None:
    values = {
        "network.allow_untrained": True, "autostart": False, "camera.topics": ["/nobody/image"],
        "head_pose.source": "odometry", "head_pose.topic": "not a topic",
    }  # fmt: skip
    overrides = [Parameter(name, value=value) for name, value in values.items()]
    with spinning(lambda context: Estimator(context=context, namespace="/half", parameter_overrides=overrides)) as node:
        probe = Probe("/half/estimator")
        try:
            assert probe.change_state("configure")
            entities = {*node.subscriptions, *node.timers}
            for _ in range(2):
                assert not probe.change_state("activate") and probe.state() == "inactive"
                assert {*node.subscriptions, *node.timers} == entities
            assert "estimator worker" not in {thread.name for thread in threading.enumerate()}
        finally:
            probe.close()


def test_a_machine_of_many_cores_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from egopose_ros import pipeline
    from egopose_ros.ros import estimator

    monkeypatch.setattr(estimator.resources.os, "sched_getaffinity", lambda _: set(range(384)))
    monkeypatch.setattr(pipeline, "load", lambda config, rig: config)
    assert estimator.load_pipeline(Config()).runtime.threads == 256
