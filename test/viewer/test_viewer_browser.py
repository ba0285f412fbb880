"""The page in a real browser: it draws, follows the pose, and outlives a restarted estimator and a lost connection."""

import dataclasses
import re
import signal
import socket
import threading
import time

import cv2
import numpy as np
import pytest
from walker import VIEW, drawn_image, walking_pose

from egopose_ros.checkpoint import shipped
from egopose_ros.skeleton import SMPL22
from egopose_ros.structs import TrackingState
from egopose_ros.viewer.monitor import GraphMonitor, PoseReport
from egopose_ros.viewer.overlay import Shot

pytestmark = pytest.mark.timeout(600)  # a browser that draws in software, on a machine that may have much else to do

SCENE = {"x": 0, "y": 160, "width": 460, "height": 480}
"""Of the tab: left of the panel, below the browser's warning about software rendering."""

FRAMES_DRAWN = "new Promise(done => { let n = 5; (function next() { n-- ? requestAnimationFrame(next) : done() })() })"


@pytest.fixture
def page():
    pytest.importorskip("viser", reason="the page is served by viser")
    from egopose_ros.viewer.page import Page

    page = Page(GraphMonitor(), host="127.0.0.1", port=0)
    page.set_views([VIEW])
    yield page
    page.close()


def says_whether_trained(tab):
    return ("untrained" in tab.inner_text("table")) == (shipped("egoposeformer_v2", 1) is None)


def show(page, raised_m=0.0, stamp_s=0.0):
    """Hand over a pose with the hands raised so far: nothing else moves."""
    pose = dataclasses.replace(walking_pose(0, noise=0.0), stamp_ns=round(stamp_s * 1e9))
    joints = pose.joints_camera.copy()
    joints[[SMPL22.index("left_wrist"), SMPL22.index("right_wrist")], 2] -= raised_m
    pose, now = dataclasses.replace(pose, joints_camera=joints), time.monotonic()
    page.monitor.observe_pose(PoseReport(pose, 0.02, 0, "drawn", True, TrackingState.TRACKING), now)
    page.show(Shot(pose, None, lambda: (drawn_image(pose),)))


def pixels(tab):
    """Return the scene at a quarter of its size: a slow page draws it coarser, with other edges."""
    picture = cv2.imdecode(np.frombuffer(tab.screenshot(clip=SCENE), np.uint8), cv2.IMREAD_COLOR)
    picture = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 2.0)
    return cv2.resize(picture, (SCENE["width"] // 4, SCENE["height"] // 4), interpolation=cv2.INTER_AREA)


def differing(picture, other):
    """Return the share of the pixels that differ."""
    return np.mean(np.abs(picture - other).max(-1) > 25)


def changed(tab, before):
    """Return the share of the scene's pixels that differ."""
    return differing(pixels(tab), before)


def until(condition, timeout_s=120.0):
    """Return the first true value; the test fails where none comes."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.2)
    raise AssertionError(f"did not come within {timeout_s:g} s")


def address(view):
    """Return the page's address once `egopose view` has printed it."""
    until(lambda: view.poll() is not None or "http" in view.log.read_text(), timeout_s=120.0)
    assert view.poll() is None, view.log.read_text()
    return re.search(r"http://\S+", view.log.read_text()).group()


def open_page(tab, url):
    tab.goto(url)
    tab.wait_for_selector("canvas")
    tab.wait_for_selector("td:text('network')")


def still(tab):
    """Return the scene once it no longer changes: loading and easing are over."""
    before, alike = pixels(tab), 0
    for _ in range(60):
        time.sleep(0.5)
        # A slow browser draws less than a picture a second: between two looks it has drawn some.
        tab.evaluate(FRAMES_DRAWN)
        after = pixels(tab)
        alike = alike + 1 if np.abs(after - before).max() < 12 else 0
        if alike == 2:
            return after
        before = after
    raise AssertionError("the scene never came to rest")


def drawn(tab, page, raised_m=0.0):
    """Show a pose and return its scene. The panel's image comes after the scene, and changes with every pose."""
    image = image_source(tab)
    show(page, raised_m)
    until(lambda: image_source(tab) not in ("", image))
    return still(tab)


def image_source(tab):
    """Return the address of the image in the panel, which changes with its content, once it has loaded."""
    return tab.evaluate("[...document.images].filter(i => i.naturalWidth >= 300).map(i => i.src).join()")


def test_the_page_follows_the_pose_and_a_lost_connection_comes_back_by_itself(tab, page):
    """One page for both: to load it is what takes long."""
    with Relay(int(page.url.rpartition(":")[2])) as relay:
        show(page)
        open_page(tab, f"http://127.0.0.1:{relay.port}")
        until(lambda: image_source(tab))
        raised = drawn(tab, page, raised_m=0.5)
        assert raised.std((0, 1)).min() > 10, "the scene is blank"
        lowered = drawn(tab, page)
        assert differing(raised, lowered) > 0.004
        assert "drawn" in tab.inner_text("table")
        relay.cut()
        show(page, raised_m=0.5)
        until(lambda: changed(tab, raised) < 0.001)
        show(page)
        until(lambda: changed(tab, lowered) < 0.001)
        assert page.clients == 1


def test_scenes_that_are_late_are_drawn_and_of_a_burst_only_the_last(page):
    """The table of numbers is made by the thread that draws scenes: it is held up there."""
    held, release, status = threading.Event(), threading.Event(), page.monitor.status

    def slow_status(now_s):
        held.set()
        assert release.wait(60.0)
        return status(now_s)

    page.monitor.status = slow_status
    assert held.wait(60.0)
    for index in range(3):
        show(page, stamp_s=index / 30.0)
    release.set()
    until(lambda: page.scenes_drawn == 3)
    held.clear()
    release.clear()
    assert held.wait(60.0)
    for index in range(20):
        show(page, stamp_s=1.0 + index / 200.0)
    release.set()
    until(lambda: page.scenes_drawn > 3)
    time.sleep(0.3)
    assert page.scenes_drawn < 10


class Relay:
    """TCP between browser and page, to be cut at will."""

    def __init__(self, target):
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.close()
        self.cut()

    def cut(self):
        """End every connection; new ones may be made."""
        connections, self._open = self._open, []
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            connection.close()

    def _accept(self):
        while True:
            try:
                ends = (self._server.accept()[0], socket.create_connection(("127.0.0.1", self._target)))
            except OSError:
                return
            self._open += ends
            for source, sink in (ends, ends[::-1]):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def test_a_bag_is_scrubbed_stepped_and_played(tab, bag, predictions, start):
    view = start("egopose_ros.cli", "view", bag, "--port", "0", "--predictions", predictions,
                 "--network", "egoposeformer_v2", "--set", "network.allow_untrained=true")  # fmt: skip
    open_page(tab, address(view))

    def place():
        return tab.inner_text("div:text-matches('frame [0-9]+ of 45'):not(:has(div))")

    def press(key):
        tab.locator("[role=slider]").first.press(key)

    until(lambda: "frame 1 of 45, paused" in place())
    first = until(lambda: image_source(tab))
    assert says_whether_trained(tab)
    tab.click("input[value='computed: egoposeformer_v2']")
    tab.get_by_role("option", name="poses").click()
    until(lambda: "elsewhere" in tab.inner_text("table"))
    assert "MPJPE" in tab.inner_text("table")
    before = still(tab)
    press("End")
    until(lambda: "frame 45 of 45" in place())
    until(lambda: image_source(tab) not in ("", first) and changed(tab, before) > 0.004)
    last = image_source(tab)
    tab.get_by_text("step back", exact=True).click()
    until(lambda: "frame 44 of 45" in place())
    until(lambda: image_source(tab) not in ("", last))
    press("Home")
    until(lambda: "frame 1 of 45" in place())
    tab.get_by_text("play / pause", exact=True).click()
    until(lambda: "frame 45 of 45, paused" in place())
    view.send_signal(signal.SIGINT)
    assert view.wait(90) == 0, view.log.read_text()


def test_live_topics_with_an_estimator_that_is_restarted(tab, bag, start):
    calibration = bag / "calibration.yaml"
    topic = "/camera/image_raw"
    estimator = ("egopose_ros.ros.estimator", "--ros-args", "-p", "network.allow_untrained:=true",
                 "-p", f"camera.calibration:={calibration}", "-p", f"camera.topics:=[{topic}]",
                 "-p", "head_pose.source:=pose", "-p", "head_pose.topic:=/head_pose")  # fmt: skip
    start("egopose_ros.ros.bag_player", bag, "--loop")
    first = start(*estimator)
    view = start("egopose_ros.cli", "view", "--port", "0", "--topics", topic, "--calibration", calibration)
    open_page(tab, address(view))

    def state():
        return tab.inner_text("tr:has(td:text-is('state')) td:nth-child(2)")

    def poses_come():
        return state() in [each.name.lower() for each in TrackingState]

    until(poses_come)
    assert says_whether_trained(tab)
    until(lambda: "MPJPE" in tab.inner_text("table"))
    first.send_signal(signal.SIGINT)
    assert first.wait(90) == 0, first.log.read_text()
    until(lambda: "no pose" in state())
    shown = image_source(tab)
    start(*estimator)
    until(poses_come)
    until(lambda: image_source(tab) not in ("", shown))
    view.send_signal(signal.SIGINT)
    assert view.wait(90) == 0, view.log.read_text()
