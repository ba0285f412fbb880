"""What the README says is what the code does."""

import importlib.util
import re
from pathlib import Path

import pytest

from egopose_ros.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_table_of_parameters_is_that_of_the_configuration():
    location = importlib.util.spec_from_file_location("parameter_table", ROOT / "tools/parameter_table.py")
    tool = importlib.util.module_from_spec(location)
    location.loader.exec_module(tool)
    text = (ROOT / "README.md").read_text()
    assert tool.replaced(text) == text, "run tools/parameter_table.py"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_exist(document):
    for name in re.findall(r"\begopose ([a-z]+)\b", "\n".join(re.findall(r"`[^`]+`", document.read_text()))):
        assert name in COMMANDS, name


def test_the_sample_bag_is_where_the_readme_says(monkeypatch, tmp_path):
    from egopose_ros.synth.sample import sample_bag

    (named,) = set(re.findall(r"~/.cache/(egopose_ros/sample_\w+)", (ROOT / "README.md").read_text()))
    monkeypatch.delenv("EGOPOSE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / named).mkdir(parents=True)
    assert sample_bag() == tmp_path / named


def test_the_subscriber_of_the_readme_hears_a_pose(capsys, monkeypatch):
    pytest.importorskip("rclpy", reason="the snippet is a node")
    messages = pytest.importorskip("egopose_ros.msg", reason="needs the built messages: make setup")
    import rclpy

    pose = messages.BodyPose(joint_names=["pelvis", "left_wrist"], positions=[0.0, 0.0, 0.0, 1.0, 2.0, 3.0])
    subscriptions = []

    class Listener:
        def create_subscription(self, kind, topic, callback, depth):
            subscriptions.append((kind, topic))
            callback(pose)

    for name in ("init", "spin"):
        monkeypatch.setattr(rclpy, name, lambda *_: None)
    monkeypatch.setattr(rclpy, "create_node", lambda _: Listener())
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    exec(snippet, {})
    assert subscriptions == [(messages.BodyPose, "/estimator/pose")]
    assert "[1.0, 2.0, 3.0]" in capsys.readouterr().out
