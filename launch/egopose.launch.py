"""Start the estimator, and RViz where it is asked for."""

from launch import Condition, LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir
from launch_ros.actions import Node, SetParameter, SetParametersFromFile
from launch_ros.parameter_descriptions import ParameterValue

from egopose_ros.config import options
from egopose_ros.ros.graph import OVERRIDES, LaunchConfig, profile_variable, text


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
    camera = ("image_raw", LaunchConfiguration("camera_topic"))
    use_sim_time = ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)
    log_level = ["--log-level", LaunchConfiguration("log_level")]
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
    estimator = Node(
        package="egopose_ros",
        executable="estimator",
        namespace=LaunchConfiguration("namespace"),
        remappings=[camera],
        ros_arguments=log_level,
        output="screen",
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        namespace=LaunchConfiguration("namespace"),
        arguments=["-d", shipped("egopose.rviz"), "-f", LaunchConfiguration("rviz_frame")],
        remappings=[camera],
        ros_arguments=log_level,
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    return LaunchDescription([
        *arguments,
        SetEnvironmentVariable(profile_variable(), profile),
        GroupAction([*parameters, estimator, rviz]),
    ])
