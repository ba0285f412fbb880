"""ROS parameters made from the configuration tree, never beside it."""

from __future__ import annotations

import sys
from typing import Callable, Sequence

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, ParameterType, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from egopose_ros.config import Config, ConfigError, Leaf, Option, options, replace

_TYPES = {
    bool: ParameterType.PARAMETER_BOOL,
    int: ParameterType.PARAMETER_INTEGER,
    float: ParameterType.PARAMETER_DOUBLE,
    str: ParameterType.PARAMETER_STRING,
    tuple: ParameterType.PARAMETER_STRING_ARRAY,
}


class Parameters:
    """The node's parameters as one configuration, replaced as a whole at every accepted change."""

    def __init__(self, node: Node, may_reconfigure: Callable[[], bool], tree: Config = Config()) -> None:
        """Declare every leaf with the values given at start; ConfigError names the first that does not fit.

        Leaves that are not live change only while `may_reconfigure` says so.
        """
        self._may_reconfigure = may_reconfigure
        self._options = {item.name: item for item in options(tree)}
        self.config = replace(tree, {item.name: _given(node, item) for item in self._options.values()})
        for item in options(self.config):
            _declare(node, item)
        node.add_on_set_parameters_callback(self._on_set)

    def _on_set(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        changes = {p.name: p.value for p in parameters if p.name in self._options}
        try:
            config = replace(self.config, changes)
            for old, new in zip(options(self.config), options(config)):
                if old.default == new.default:
                    continue
                if old.fixed:
                    raise ConfigError(f"{old.name}: is read at the node's start alone; start it anew")
                if not old.live and not self._may_reconfigure():
                    raise ConfigError(f"{old.name}: changes only while the node is unconfigured; clean it up first")
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self.config = config
        return SetParametersResult(successful=True)


def _given(node: Node, option: Option) -> Leaf:
    """Return the value given at start or the default, checked by the option.

    A first declaration without a type lets a whole number in YAML stand for a float, and leaves the wording of a
    refusal to us. An empty list has no type in ROS and comes as bytes or unset.
    """
    default = list(option.default) if isinstance(option.default, tuple) else option.default
    value = node.declare_parameter(option.name, default, ParameterDescriptor(dynamic_typing=True)).value
    node.undeclare_parameter(option.name)
    if type(option.default) is tuple and not value:
        value = ()
    return option.check(value)


def _declare(node: Node, option: Option) -> None:
    if option.default == ():
        node.declare_parameter(option.name, Parameter.Type.STRING_ARRAY, describe(option), ignore_override=True)
        node.set_parameters([Parameter(option.name, Parameter.Type.STRING_ARRAY, [])])
        return
    value = list(option.default) if isinstance(option.default, tuple) else option.default
    node.declare_parameter(option.name, value, describe(option), ignore_override=True)


def describe(option: Option) -> ParameterDescriptor:
    """Return what `ros2 param describe` shows of a leaf."""
    kind = type(option.default)
    unconfigured = "Only at start." if option.fixed else "Changes while the node is unconfigured."
    constraints = ["Changes while running." if option.live else unconfigured]
    if option.choices:
        constraints.insert(0, f"One of {', '.join(option.named_choices)}.")
    descriptor = ParameterDescriptor(
        name=option.name,
        type=_TYPES[kind],
        description=f"{option.description} [{option.unit}]" if option.unit else option.description,
        additional_constraints=" ".join(constraints),
    )
    low, high = option.minimum, option.maximum
    if kind is float and (low is not None or high is not None):
        limit = sys.float_info.max
        bounds = FloatingPointRange(from_value=-limit if low is None else low, to_value=limit if high is None else high)
        descriptor.floating_point_range = [bounds]
    if kind is int and (low is not None or high is not None):
        lowest, highest = -(2**63) if low is None else int(low), 2**63 - 1 if high is None else int(high)
        descriptor.integer_range = [IntegerRange(from_value=lowest, to_value=highest)]
    return descriptor
