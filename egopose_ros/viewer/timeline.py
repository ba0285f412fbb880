"""The controls of a recording on the page: slider, buttons, speed and the choice of poses."""

from __future__ import annotations

import html
from typing import Callable

import viser

from egopose_ros.viewer import report
from egopose_ros.viewer.playback import Playback, Position

BACK, PLAY, ON = "step back", "play / pause", "step on"
SPEEDS = ("0.1", "0.25", "0.5", "1", "2", "4")


class Timeline:
    """Hands what people do to a playback, and shows where it is."""

    def __init__(self, playback: Playback) -> None:
        self._playback = playback

    def lay_out(self, gui: viser.GuiApi) -> None:
        """Add the controls to a page."""
        playback, recording = self._playback, self._playback.recording
        self._slider = gui.add_slider("frame", min=1, max=max(2, recording.size), step=1, initial_value=1)
        self._buttons = gui.add_button_group("", (BACK, PLAY, ON))
        self._place = gui.add_html("")
        actions = {BACK: lambda: playback.step(-1), PLAY: playback.toggle, ON: lambda: playback.step(1)}
        self._slider.on_update(_by_people(lambda: playback.seek(int(self._slider.value) - 1)))
        self._buttons.on_click(lambda event: actions[event.target.value]())
        speed = gui.add_dropdown("speed", SPEEDS, initial_value="1")
        speed.on_update(lambda event: playback.set_speed(float(event.target.value)))
        labels = [track.label for track in recording.tracks]
        choice = gui.add_dropdown("poses", labels, initial_value=labels[0], visible=len(labels) > 1)
        choice.on_update(lambda event: playback.choose(event.target.value))
        self.moved(playback.position)

    def moved(self, position: Position) -> None:
        """Show where the playhead is."""
        recording = self._playback.recording
        if self._slider.value != position.index + 1:
            self._slider.value = position.index + 1
        length_s = (int(recording.stamps_ns[-1]) - int(recording.stamps_ns[0])) / 1e9
        state = "playing" if position.playing else "paused"
        text = f"{position.seconds:.2f} of {length_s:.2f} s, frame {position.index + 1} of {recording.size}, {state}"
        if not position.settled:
            text += ", computing"
        warning = report.problem(position.track.problem) if position.track.problem else ""
        self._place.content = f"<div style='padding:2px 12px;font-size:13px'>{html.escape(text)}</div>{warning}"


def _by_people(action: Callable[[], None]) -> Callable[[viser.GuiEvent], None]:
    """Return a callback that leaves out what the program itself set."""

    def react(event: viser.GuiEvent) -> None:
        if event.client_id is not None:
            action()

    return react
