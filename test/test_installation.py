"""What `egopose doctor` says about an installation without ROS."""

import dataclasses
import importlib
import importlib.machinery
import importlib.metadata
import json
import sys

import pytest

from egopose_ros import checkpoint, installation
from egopose_ros.config import DEFAULT_NETWORK
from egopose_ros.installation import Status


@pytest.fixture
def weights(tmp_path):
    """A folder with one checkpoint and its manifest."""
    file = tmp_path / "one.safetensors"
    file.write_bytes(b"weights")
    entry = checkpoint.enter(file, DEFAULT_NETWORK, 1)
    (tmp_path / "MANIFEST.json").write_text(json.dumps({"checkpoints": [dataclasses.asdict(entry)]}))
    return tmp_path


def test_whole_weights_are_well(weights):
    (finding,) = installation.weights(weights)
    assert finding.status is Status.OK and DEFAULT_NETWORK in finding.found


@pytest.mark.parametrize(
    "harm, said",
    [
        (lambda folder: (folder / "one.safetensors").unlink(), "no such file"),
        (lambda folder: (folder / "one.safetensors").write_bytes(b"weight"), "got 6 bytes"),
        (lambda folder: (folder / "MANIFEST.json").write_text("{"), "MANIFEST.json"),
        (lambda folder: (folder / "MANIFEST.json").unlink(), "the default network"),
    ],
    ids=["missing", "truncated", "damaged manifest", "no manifest"],
)
def test_damaged_weights_are_wrong_with_a_mend(weights, harm, said):
    harm(weights)
    (finding,) = installation.weights(weights)
    assert finding.status is Status.WRONG and said in finding.found and finding.mend


def test_missing_and_old_packages_are_named(monkeypatch):
    def version(name):
        if name == "scipy":
            raise importlib.metadata.PackageNotFoundError(name)
        return "2.3.9" if name == "torch" else "99.1"

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setitem(sys.modules, "scipy", None)  # which no import finds then
    finding = installation.packages()
    assert finding.status is Status.WRONG
    assert finding.found == "missing: scipy; too old: torch 2.3.9 (expected 2.4 or newer)"


def test_a_module_without_metadata_is_there(monkeypatch, tmp_path):
    """A ROS distribution's OpenCV is a compiled module alone."""

    def version(name):
        if "opencv" in name:
            raise importlib.metadata.PackageNotFoundError(name)
        return "99.1"

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    (tmp_path / "cv2").mkdir()  # what an uninstalled package may leave
    assert installation.packages().found == "missing: opencv-python-headless"
    (tmp_path / f"cv2{importlib.machinery.EXTENSION_SUFFIXES[0]}").touch()
    importlib.invalidate_caches()
    finding = installation.packages()
    assert finding.status is Status.OK and "opencv-python-headless, pyyaml 99.1" in finding.found
    assert "cv2" not in sys.modules


def test_calibration_is_read(tmp_path):
    assert installation.check_calibration("").status is Status.NOTE
    bad = tmp_path / "bad.yaml"
    bad.write_text("cameras: 3\n")
    for path in (bad, tmp_path / "missing.yaml"):
        finding = installation.check_calibration(str(path))
        assert finding.status is Status.WRONG and finding.mend
