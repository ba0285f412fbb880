"""The browser page: the camera's image with the projected joints, the body in 3D, numbers and graphs.

Callers hand over poses at any rate and are never held up: threads of the page draw the newest ones.
"""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time
from collections import deque
from typing import Any, Callable, Protocol, Sequence

import numpy as np
import viser
from viser import uplot

from egopose_ros.viewer import overlay, report
from egopose_ros.viewer.monitor import CURVE_S, Curves, Status
from egopose_ros.viewer.overlay import Shot, View
from egopose_ros.viewer.scene import Layers, Scene

SCENE_HZ, IMAGE_HZ, NUMBERS_HZ = 30.0, 12.0, 2.0
"""Upper limits: an image costs some milliseconds to decode, draw and encode, numbers need not flicker."""
_CLOSE_NS = round(0.6e9 / SCENE_HZ)
"""Of waiting poses with stamps closer than this, as a stream above the limit brings them, only the last is drawn."""
LATE_S = 0.25
"""Poses that have waited longer are left out: a machine that cannot keep up shows what is, not what was."""
JPEG_QUALITY = 80
PANEL_PX = 430
HEAD_HEIGHT_M = 1.6
"""Where a head without a pose is drawn."""
WORLD_KEPT_S = 1.0
"""A pose without a head pose this soon after one with it is drawn where the head was."""
BACKGROUND = (28, 31, 38)


class Numbers(Protocol):
    """Where the page's numbers come from, at a time of the steady clock."""

    def status(self, now_s: float) -> Status: ...

    def curves(self, now_s: float) -> Curves: ...


class Page:
    """The server of one page, on a thread of its own until `close`."""

    def __init__(
        self,
        monitor: Numbers,
        *,
        host: str,
        port: int,
        title: str = "egopose",
        controls: Callable[[viser.GuiApi], None] | None = None,
    ) -> None:
        """Serve at once. OSError where the port is taken; port 0 takes any free one.

        `controls` adds what belongs below the image.
        """
        self.monitor = monitor
        self._controls = controls
        self._server = _Server(host, _free_port(host, port), title)
        self.url = f"http://{'localhost' if host in ('0.0.0.0', '127.0.0.1', '::') else host}:{self._server.get_port()}"
        self._views: tuple[View, ...] = ()
        self._newest: Shot | None = None
        self._waiting: deque[tuple[float, Shot]] = deque(maxlen=32)  # since when, oldest first
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._number = 0  # of what is to be drawn: grows with every pose, and with every change of what is shown of it
        self.scenes_drawn = self.images_drawn = 0
        self._problem = ""  # of the newest image, as HTML
        self._world: tuple[np.ndarray, float] | None = None
        self._scene = Scene(self._server)
        self._lay_out()
        self._threads = [threading.Thread(target=run, name="viewer", daemon=True) for run in (self._run, self._paint)]
        for thread in self._threads:
            thread.start()

    def set_views(self, views: Sequence[View]) -> None:
        """Take the cameras of the rig; until then there is no overlay, and poses are drawn below a nominal camera."""
        self._views = tuple(views)

    def show(self, shot: Shot) -> None:
        """Draw this as soon as there is time, unless that comes late or one of nearly the same stamp comes first."""
        now = time.monotonic()
        with self._lock:
            if self._waiting and abs(shot.pose.stamp_ns - self._waiting[-1][1].pose.stamp_ns) < _CLOSE_NS:
                self._waiting.pop()
            self._waiting.append((now, shot))
            while now - self._waiting[0][0] > LATE_S:
                self._waiting.popleft()
            self._newest = shot
            self._number += 1
        self._wake.set()

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        for thread in self._threads:
            thread.join(5.0)
        with contextlib.redirect_stdout(io.StringIO()):
            self._server.stop()

    @property
    def clients(self) -> int:
        """Browsers that look at the page."""
        return len(self._server.get_clients())

    def _lay_out(self) -> None:
        server, gui = self._server, self._server.gui
        gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False, brand_color=(38, 164, 196))
        gui.main_panel.dock_right()
        gui.main_panel.set_width(PANEL_PX)
        server.scene.set_background_image(np.full((2, 2, 3), BACKGROUND, np.uint8), format="png")
        server.scene.configure_environment_map("studio", environment_intensity=0.2)
        server.initial_camera.position = (2.4, -1.9, 1.7)
        server.initial_camera.look_at = (0.0, 0.0, 0.85)
        server.initial_camera.fov = np.radians(45.0)
        blank = np.full((overlay.TILE_PX, overlay.TILE_PX, 3), BACKGROUND, np.uint8)
        self._image = gui.add_image(blank, format="jpeg", jpeg_quality=JPEG_QUALITY)
        if self._controls is not None:
            self._controls(gui)
        self._numbers = gui.add_html(report.table(self.monitor.status(time.monotonic())))
        self._latency = gui.add_uplot(**_chart("latency [ms]", "#26a4c4"))
        self._dropped = gui.add_uplot(**_chart("frames dropped", "#f27b38"))
        self._error = gui.add_uplot(**_chart("MPJPE [mm]", "#60be6c"), visible=False)
        with gui.add_folder("Show", expand_by_default=False):
            labels = {
                "ellipsoids": "uncertainty (2 sigma)", "truth": "ground truth", "path": "head path",
                "camera": "camera", "follow": "follow the wearer",
            }
            self._layers = {name: gui.add_checkbox(label, True) for name, label in labels.items()}
        for box in self._layers.values():
            box.on_update(self._draw_again)

    def _draw_again(self, _: object) -> None:
        """Draw what is there once more: another pose may be long in coming."""
        with self._lock:
            self._number += 1
        self._wake.set()

    def _run(self) -> None:
        """Draw scenes and numbers."""
        scene_due = numbers_due = 0.0
        drawn = 0
        while not self._closed:
            if not self._waiting:
                self._wake.wait(1.0 / NUMBERS_HZ)
            self._wake.clear()
            # Poses come unevenly: the slack keeps a stream at just this rate from losing every second pose.
            self._sleep_until(scene_due - 0.5 / SCENE_HZ)
            with self._lock:
                number, now = self._number, time.monotonic()
                again = self._newest if number != drawn else None
                shot = self._waiting.popleft()[1] if self._waiting else again
            if shot is not None:
                # Twice as fast while others wait, or one delay would leave no room for the next.
                begun = now if self._waiting else max(scene_due, now - 1.0 / SCENE_HZ)
                scene_due = begun + 1.0 / SCENE_HZ
                drawn = number
                self._draw_scene(shot, now)
            if now >= numbers_due + (1.0 / NUMBERS_HZ if self._waiting else 0.0):  # after the scenes, but not for ever
                numbers_due = now + 1.0 / NUMBERS_HZ
                self._draw_numbers(now)

    def _paint(self) -> None:
        """Draw images: a thread of its own, or a scene that comes while one is encoded would be lost."""
        drawn = 0
        while not self._closed:
            began = time.monotonic()
            number, shot = self._number, self._newest
            if number != drawn and shot is not None and self.clients:
                drawn = number
                self._draw_image(shot)
            self._sleep_until(began + 1.0 / IMAGE_HZ)

    def _sleep_until(self, due_s: float) -> None:
        delay = due_s - time.monotonic()
        if delay > 0.0:
            time.sleep(delay)

    def _draw_scene(self, shot: Shot, now_s: float) -> None:
        moving = shot.pose.T_world_camera is not None
        if moving:
            if self._world is None or (shot.path is None and now_s - self._world[1] > WORLD_KEPT_S):
                self._scene.restart()
            self._world = (shot.pose.T_world_camera, now_s)
        T_world_camera = self._world[0] if self._world and now_s - self._world[1] <= WORLD_KEPT_S else self._at_rest()
        layers = Layers(**{name: box.value for name, box in self._layers.items()})
        self._scene.update(shot.pose, shot.truth, T_world_camera, moving, layers, shot.path)
        self._server.flush()  # or the next scene of those that waited would take its place on the way
        self.scenes_drawn += 1

    def _at_rest(self) -> np.ndarray:
        """Return where the first camera is drawn without a head pose: on a level head at the origin."""
        if self._world is not None:
            self._world = None
            self._scene.restart()
        T = self._views[0].T_head_camera if self._views else overlay.DOWNWARD
        T = T.copy()
        T[2, 3] += HEAD_HEIGHT_M
        return T

    def _draw_image(self, shot: Shot) -> None:
        if shot.images is None:
            return
        truth = shot.truth if self._layers["truth"].value else None
        views = self._views or (View("camera", overlay.DOWNWARD),)
        try:
            self._image.image = overlay.draw(shot.images(), views, shot.pose, truth)
            self.images_drawn += 1
            self._problem = ""
        except (ValueError, OSError) as error:  # a bag may be gone, too
            self._problem = report.problem(f"the image cannot be drawn: {error}")

    def _draw_numbers(self, now_s: float) -> None:
        status = self.monitor.status(now_s)
        self._numbers.content = report.table(status) + self._problem
        curves = self.monitor.curves(now_s)
        for chart, x, y in (
            (self._latency, curves.pose_s, curves.latency_ms),
            (self._dropped, curves.pose_s, curves.dropped),
            (self._error, curves.error_s, curves.error_mm),
        ):
            if len(x):
                chart.data = (x, y)
        self._error.visible = bool(len(curves.error_s))


class _Server(viser.ViserServer):
    """A server without its greeting, and without the tunnel that any browser could ask it to open."""

    def __init__(self, host: str, port: int, title: str) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            super().__init__(host=host, port=port, label=title, verbose=False)

    def request_share_url(self, verbose: bool = True) -> None:
        """Refuse: a page that shows what a head-mounted camera sees is not sent through somebody else's server."""
        return None


def _free_port(host: str, port: int) -> int:
    """Return a port that can be bound: viser would silently take the next one. OSError where it is taken."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            text = f"{host}:{port}: expected a free port, got: {error.strerror}; choose another with --port"
            raise OSError(text) from error
        return probe.getsockname()[1]


def _chart(title: str, colour: str) -> dict[str, Any]:
    """Return the arguments of an empty graph of the last seconds."""
    quiet = {"stroke": "#9aa2b1", "grid": {"stroke": "#3a404c", "width": 1}, "ticks": {"show": False}}
    return dict(
        data=(np.array([-CURVE_S, 0.0]), np.zeros(2)),
        series=(uplot.Series(label="s"), uplot.Series(label=title, stroke=colour, width=2)),
        scales={"x": uplot.Scale(time=False, range=(-CURVE_S, 0.0)), "y": uplot.Scale(range=(0.0, None))},
        axes=(uplot.Axis(size=24, **quiet), uplot.Axis(size=44, **quiet)),
        legend=uplot.Legend(show=False),
        title=title,
        height=104,
    )
