"""Play a bag through the graph of egopose.launch.py, on the time of the bag; ends when the bag ends.

Without params_file and camera_topic the bag says which cameras, calibration and head pose there are; topics chooses the
cameras where it has several rigs. Fails where the estimator cannot start or publishes no pose.
With evaluate:=true the poses are compared with the ground truth of the bag.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction, SetLaunchConfiguration
from launch.actions import Shutdown
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir
from launch_ros.actions import Node

from egopose_ros.config import EvaluatorConfig, PlayerConfig, options
from egopose_ros.ros.graph import REPLAY_WAIT_S, bag_parameters, text


def generate_launch_description():
    playing = {item.name: item for item in options(PlayerConfig)}
    arguments = [
        DeclareLaunchArgument("bag", description="Bag folder, or a .mcap, .db3 or ROS 1 .bag file."),
        DeclareLaunchArgument(
            "topics",
            default_value="",
            description="Image topics of the rig, with spaces between, where the bag has several.",
        ),
        DeclareLaunchArgument("evaluate", default_value="false", description="Compare the poses with ground truth."),
        *(
            DeclareLaunchArgument(item.name, default_value=text(item.default), description=item.description)
            for item in options(EvaluatorConfig)
            if item.name in ("json", "truth")
        ),
        *(
            DeclareLaunchArgument(
                name, default_value=text(playing[name].default), description=playing[name].description
            )
            for name in ("rate", "loop")
        ),
    ]
    graph = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(PathJoinSubstitution([ThisLaunchFileDir(), "egopose.launch.py"])),
        launch_arguments={"use_sim_time": "true", "strict": "true"}.items(),
    )
    evaluator = Node(
        package="egopose_ros",
        executable="evaluator",
        namespace=LaunchConfiguration("namespace"),
        parameters=[{"json": LaunchConfiguration("json"), "truth": LaunchConfiguration("truth")}],
        output="screen",
        condition=IfCondition(LaunchConfiguration("evaluate")),
        # It scores when it is told to end: a minute of an hour's poses.
        sigterm_timeout="600",
        sigkill_timeout="600",
    )
    return LaunchDescription([
        *arguments, OpaqueFunction(function=settings), graph, OpaqueFunction(function=player), evaluator
    ])


def settings(context):
    """Return the bag's own settings, where no argument names a camera."""
    given = context.launch_configurations
    if given.get("params_file") or "camera_topic" in given:
        return []
    rig = (given.get("topics", "").split(), given.get("calibration", ""))
    return [SetLaunchConfiguration("params_file", bag_parameters(given["bag"], *rig))]


def player(context):
    """Return the player; it plays once the ground truth has a subscriber, too, where that is evaluated."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ("bag", "rate", "truth")}
    flags = ["--no-estimates", "--rate", given["rate"], "--wait-s", text(REPLAY_WAIT_S)]
    if IfCondition(LaunchConfiguration("loop")).evaluate(context):
        flags.append("--loop")
    if IfCondition(LaunchConfiguration("evaluate")).evaluate(context):
        flags += ["--await-topics", given["truth"]]
    arguments = [given["bag"], *flags]
    return [
        Node(package="egopose_ros", executable="player", arguments=arguments, output="screen", on_exit=Shutdown())
    ]
