"""A real browser, a bag drawn by hand, and a graph of their own for the viewer's tests."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")  # read when ROS is first started

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader"
)


@pytest.fixture(scope="session")
def chromium():
    """A headless browser that draws WebGL in software."""
    playwright = pytest.importorskip("playwright.sync_api", reason="drives the browser: pip install playwright")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no browser: install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium):
    page = chromium.new_page(viewport={"width": 900, "height": 640})
    page.set_default_timeout(120_000)
    yield page
    page.close()


@pytest.fixture(scope="session")
def bag(tmp_path_factory):
    """A walking body for 1.5 s at 30 Hz, with ground truth, head pose and calibration."""
    from drawn_bag import write_bag

    folder = tmp_path_factory.mktemp("bags") / "walk"
    write_bag(folder, 45)
    return folder


@pytest.fixture(scope="session")
def predictions(tmp_path_factory):
    """A bag of poses of every second frame of the drawn bag."""
    from walker import walking_pose

    from egopose_ros.ros.bag_poses import PoseBag
    from egopose_ros.ros.pose_fields import PoseStatus
    from egopose_ros.structs import TrackingState

    path = tmp_path_factory.mktemp("poses") / "poses"
    status = PoseStatus(TrackingState.TRACKING, 2, 0.03, "elsewhere", True)
    with PoseBag(path) as bag:
        for index in range(0, 40, 2):
            bag.write(walking_pose(index), "camera", "world", status)
    return path


@pytest.fixture(scope="session")
def domain():
    """A ROS domain above those that people and the other tests take."""
    return 215 + os.getpid() % 18


@pytest.fixture
def start(tmp_path, domain):
    """Start `python -m` processes on a graph of their own, and end them after the test."""
    pytest.importorskip("rclpy", reason="the live graph needs rclpy")
    pytest.importorskip("egopose_ros.msg", reason="the live graph needs the built messages: make setup")
    from egopose_ros.ros import graph, processes

    isolated = {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    running = []

    def start_module(*command):
        log = (tmp_path / f"{len(running)}.log").open("w+")
        environment = {**graph.environment(), **isolated}
        child = subprocess.Popen(
            [sys.executable, "-m", *map(str, command)], stdout=log, stderr=subprocess.STDOUT, env=environment
        )
        child.log = Path(log.name)
        running.append(child)
        return child

    yield start_module
    processes.end(running)
