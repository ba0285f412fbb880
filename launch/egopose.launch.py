"""Start the estimator, and RViz where it is asked for."""

from launch import Condition, LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, OpaqueFunction, SetEnvironmentVariable, Shutdown
from launch.conditions import IfCondition
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir
from launch_ros.actions import Node, SetParameter, SetParametersFromFile
from launch_ros.parameter_descriptions import ParameterValue

from egopose_ros.config import options
from egopose_ros.ros.graph import OVERRIDES, LaunchConfig, profile_variable, require_camera_topic, rviz_config, text


def shipped(name):
    return PathJoinSubstitution([ThisLaunchFileDir(), "..", "config", name])


def given(argument):
    return Condition(predicate=lambda context: context.launch_configurations[argument] != "")


def generate_launch_description():
    arguments = [
        DeclareLaunchArgument(
            item.name, default_value=text(item.default), description=item.description, choices=item.choices or None
        )
        for item in options(LaunchConfig)
    ]
    # Whole images need a larger shared-memory segment than the built-in one.
    profile = EnvironmentVariable(profile_variable(), default_value=shipped("fastdds_shm.xml"))
    use_sim_time = ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)
    parameters = [
        SetParametersFromFile(shipped("estimator.yaml")),
        SetParametersFromFile(LaunchConfiguration("params_file"), condition=given("params_file")),
        # After the files: what is given on the command line has the last word.
        *(
            SetParameter(leaf, ParameterValue(LaunchConfiguration(name), value_type=str), condition=given(name))
            for name, leaf in OVERRIDES.items()
        ),
        SetParameter("use_sim_time", use_sim_time, condition=given("use_sim_time")),
    ]
    view = OpaqueFunction(function=rviz, condition=IfCondition(LaunchConfiguration("rviz")))
    return LaunchDescription([
        *arguments,
        SetEnvironmentVariable(profile_variable(), profile),
        GroupAction([*parameters, OpaqueFunction(function=estimator), view]),
    ])


def common():
    return {
        "namespace": LaunchConfiguration("namespace"),
        "remappings": [("image_raw", LaunchConfiguration("camera_topic"))],
        "ros_arguments": ["--log-level", LaunchConfiguration("log_level")],
    }


def estimator(context):
    """Return the estimator; where it is strict, everything ends with it."""
    told = context.launch_configurations
    require_camera_topic(told["params_file"], told["camera_topic"])
    strict = IfCondition(LaunchConfiguration("strict")).evaluate(context)
    own = {"arguments": ["--strict"], "on_exit": ended} if strict else {}
    return [Node(package="egopose_ros", executable="estimator", output="screen", **common(), **own)]


def ended(event, context):
    """Shut down; an exception makes the failure that of the launch."""
    if event.returncode:
        raise RuntimeError(f"the estimator ended with status {event.returncode}")
    return Shutdown(reason="the estimator ended")


def rviz(context):
    """Return RViz, which shows the image of the rig's first camera."""
    given = context.launch_configurations
    config = rviz_config(given["params_file"], given["camera_topic"])
    arguments = ["-d", config, "-f", LaunchConfiguration("rviz_frame")]
    return [Node(package="rviz2", executable="rviz2", arguments=arguments, **common())]
