"""Play a bag through the graph of egopose.launch.py, on the time of the bag; ends when the bag ends.

With evaluate:=true the poses are compared with the ground truth of the bag.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction, Shutdown
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir
from launch_ros.actions import Node

from egopose_ros.config import EvaluatorConfig, PlayerConfig, options
from egopose_ros.ros.graph import REPLAY_WAIT_S, text


def generate_launch_description():
    settings = {item.name: item for item in options(PlayerConfig)}
    arguments = [
        DeclareLaunchArgument("bag", description="Bag folder, or a .mcap, .db3 or ROS 1 .bag file."),
        DeclareLaunchArgument("evaluate", default_value="false", description="Compare the poses with ground truth."),
        *(
            DeclareLaunchArgument(item.name, default_value=text(item.default), description=item.description)
            for item in options(EvaluatorConfig)
            if item.name in ("json", "truth")
        ),
        *(
            DeclareLaunchArgument(
                name, default_value=text(settings[name].default), description=settings[name].description
            )
            for name in ("rate", "loop")
        ),
    ]
    graph = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(PathJoinSubstitution([ThisLaunchFileDir(), "egopose.launch.py"])),
        launch_arguments={"use_sim_time": "true"}.items(),
    )
    evaluator = Node(
        package="egopose_ros",
        executable="evaluator",
        namespace=LaunchConfiguration("namespace"),
        parameters=[{"json": LaunchConfiguration("json"), "truth": LaunchConfiguration("truth")}],
        output="screen",
        condition=IfCondition(LaunchConfiguration("evaluate")),
    )
    return LaunchDescription([*arguments, graph, OpaqueFunction(function=player), evaluator])


def player(context):
    """Return the player; it plays once the ground truth has a subscriber, too, where that is evaluated."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ("bag", "rate", "truth")}
    flags = ["--rate", given["rate"], "--wait-s", text(REPLAY_WAIT_S)]
    if IfCondition(LaunchConfiguration("loop")).evaluate(context):
        flags.append("--loop")
    if IfCondition(LaunchConfiguration("evaluate")).evaluate(context):
        flags += ["--await-topics", given["truth"]]
    arguments = [given["bag"], *flags]
    return [
        Node(package="egopose_ros", executable="player", arguments=arguments, output="screen", on_exit=Shutdown())
    ]
