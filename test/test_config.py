"""The configuration tree: every leaf is declared, every check speaks."""

import pytest
import yaml

from egopose_ros.config import Config, ConfigError, flatten, options, replace
from egopose_ros.flags import assignment, settings

LEAVES = list(options(Config))


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.name)
def test_every_default_passes_its_own_check_and_is_described(leaf):
    assert leaf.check(leaf.default) == leaf.default
    assert leaf.description.endswith(".")


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.name)
def test_a_value_of_another_type_is_refused_by_name(leaf):
    wrong = object()
    with pytest.raises(ConfigError, match=leaf.name.replace(".", r"\.")):
        replace(Config(), {leaf.name: wrong})


def test_overrides_reach_their_leaf_and_no_other():
    changed = replace(Config(), flatten({"tf": {"rate_hz": 5}, "camera": {"topics": ["left", "right"]}}))
    differences = {
        new.name: new.default for new, old in zip(options(changed), LEAVES) if new.default != old.default
    }
    assert differences == {"tf.rate_hz": 5.0, "camera.topics": ("left", "right")}
    assert replace(Config(), yaml.safe_load("tf.rate_hz: 2e1")).tf.rate_hz == 20.0  # YAML takes it for text


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"tf.rate_hz": 0.0}, "0.1 <= value <= 1000 Hz, got 0.0"),
        ({"tf.rate_hz": float("nan")}, "expected"),
        ({"head_pose.source": "gps"}, "expected one of none, odometry"),
        ({"runtime.device": "cuda:x"}, "cuda:N, got 'cuda:x'"),
        ({"runtime.require_gpu": True, "runtime.device": "cpu"}, "require_gpu"),
        ({"wearer.height_m": 175.0}, "<= 2.5 m, or 0 if unknown, got 175.0"),
        ({"windows.size": 3}, "no such setting"),
    ],
)
def test_bad_values_say_what_was_expected_and_what_came(overrides, complaint):
    with pytest.raises(ConfigError, match=complaint):
        replace(Config(), overrides)


def test_cross_field_checks_see_the_final_tree_whatever_the_order():
    both = {"runtime.device": "cuda", "runtime.require_gpu": True}
    assert replace(Config(), both) == replace(Config(), dict(reversed(both.items())))


def test_an_assignment_is_yaml_or_empties_a_text():
    given = [assignment("network.checkpoint="), assignment("window.max_gap_s=0.2"), assignment("tf.enabled=false")]
    config = replace(replace(Config(), {"network.checkpoint": "some.safetensors"}), dict(given))
    assert config.network.checkpoint == "" and config.window.max_gap_s == 0.2 and not config.tf.enabled
    with pytest.raises(ConfigError, match="window.max_gap_s: expected"):
        replace(config, dict([assignment("window.max_gap_s=")]))
    with pytest.raises(ConfigError, match="expected name=value, got 'tf.enabled'"):
        assignment("tf.enabled")
    with pytest.raises(ConfigError, match=r"--set tf.rate_hz: expected a value in YAML, got '\['"):
        assignment("tf.rate_hz=[")


def test_a_flag_that_was_given_wins_over_an_assignment_and_all_are_checked():
    flags = {"network.name": "", "runtime.precision": "bf16"}
    given = settings(["network.name=ag_egopose", "runtime.precision=fp32"], flags)
    assert given == {"network.name": "ag_egopose", "runtime.precision": "bf16"}
    with pytest.raises(ConfigError, match="network.name: expected one of"):
        settings(["network.name=nothing"], flags)
