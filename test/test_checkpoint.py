"""A checkpoint comes back as it was, and whatever is wrong with one is said with its name."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from egopose_ros import checkpoint
from egopose_ros.networks.table import build, settings_of

NAME = "egoposeformer_v2"


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build(NAME, {"width": 32, "heads": 2, "layers": 1, "window": 4, "views": 2})


@pytest.fixture()
def path(network, tmp_path):
    checkpoint.save(tmp_path / "weights.safetensors", network, {"seed": 3})
    return tmp_path / "weights.safetensors"


def test_comes_back_as_it_was(network, path):
    again, card = checkpoint.load(path, expected=NAME)
    assert (card.network, card.skeleton, card.training) == (NAME, "smpl22", {"seed": 3})
    assert settings_of(again) == settings_of(network) == card.config
    assert not again.training
    for name, value in network.state_dict().items():
        expected = value.half().float() if value.is_floating_point() else value
        torch.testing.assert_close(again.state_dict()[name], expected, rtol=0, atol=0)


def test_what_half_precision_does_not_hold_stays_whole(network, tmp_path):
    name = next(name for name in network.state_dict() if name.endswith("running_var"))
    network.state_dict()[name].fill_(7e4)
    checkpoint.save(tmp_path / "large.safetensors", network, {})
    assert bool((checkpoint.load(tmp_path / "large.safetensors")[0].state_dict()[name] == 7e4).all())


def rewrite(path, change_tensors=lambda t: t, **card_changes):
    with safe_open(str(path), "pt") as file:
        card = json.loads(file.metadata()["card"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    save_file(change_tensors(tensors), str(path), {"format": "1", "card": json.dumps({**card, **card_changes})})


@pytest.mark.parametrize(
    "damage, reason",
    [
        (lambda p: p.unlink(), "expected a file or the name of one that ships .* got nothing there"),
        (lambda p: p.write_bytes(p.read_bytes()[:-100]), "not a complete safetensors file"),
        (lambda p: p.write_bytes(b"\x80\x04K\x01."), "not a complete safetensors file"),
        (lambda p: p.write_bytes(b""), "not a complete safetensors file"),
        (lambda p: save_file({"a": torch.zeros(1)}, str(p)), "expected format 1, got none"),
        (lambda p: rewrite(p, network="ag_egopose"), f"expected weights of {NAME}, got those of ag_egopose"),
        (lambda p: rewrite(p, skeleton="mpi15"), "expected skeleton smpl22, got mpi15"),
        (lambda p: rewrite(p, camera={"model": "pinhole"}), "expected weights for the canonical camera .* got .*pinhole"),
        (lambda p: rewrite(p, config={"width": 64}), "weights do not fit its own configuration"),
        (lambda p: rewrite(p, config={"breadth": 64}), "breadth: no such setting"),
        (lambda p: rewrite(p, surprise=1), "expected a card with network, config and skeleton"),
        (lambda p: rewrite(p, lambda t: {**t, "camera": t["camera"] * float("nan")}), "NaN or infinity in camera"),
        (lambda p: rewrite(p, lambda t: {k: v for k, v in t.items() if k != "camera"}), "Missing key.*camera"),
    ],
)
def test_what_is_wrong_is_said_with_the_name_of_the_file(path, damage, reason):
    damage(path)
    with pytest.raises(ValueError, match=r"(?s)weights\.safetensors: .*" + reason):
        checkpoint.load(path, expected=NAME)


def test_the_manifest_finds_and_verifies_what_ships(path):
    folder = path.parent
    assert checkpoint.shipped(NAME, 2, folder) is None
    entry = checkpoint.enter(path, NAME, 2)
    (folder / "MANIFEST.json").write_text(json.dumps({"checkpoints": [vars(entry)]}))
    assert checkpoint.shipped(NAME, 2, folder) == path
    assert checkpoint.locate("weights", folder) == checkpoint.locate(path, folder) == path
    with pytest.raises(ValueError, match=r"checkpoint weight: .* the name of one that ships \(weights\), got nothing there"):
        checkpoint.locate("weight", folder)
    other = checkpoint.Shipped("other.safetensors", NAME, 2, "", 0)
    (folder / "MANIFEST.json").write_text(json.dumps({"checkpoints": [vars(entry), vars(other)]}))
    assert checkpoint.defaults(NAME, folder) == {2: entry} and checkpoint.shipped(NAME, 2, folder) == path
    assert checkpoint.shipped(NAME, 1, folder) is None and checkpoint.shipped("ag_egopose", 2, folder) is None
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=f"expected {entry.bytes} bytes with sha256 {entry.sha256}"):
        checkpoint.shipped(NAME, 2, folder)
    path.unlink()
    with pytest.raises(ValueError, match="listed in the manifest, but no such file"):
        checkpoint.shipped(NAME, 2, folder)
    (folder / "MANIFEST.json").write_text('{"checkpoints": [{}]}')
    with pytest.raises(ValueError, match="MANIFEST.json: expected a list 'checkpoints'"):
        checkpoint.manifest(folder)


def test_the_manifest_of_this_repository_is_true():
    for entry in checkpoint.manifest():
        path = checkpoint.locate(Path(entry.file).stem)
        network, card = checkpoint.load(path, expected=entry.network)
        assert network.views == entry.views
        assert path.with_suffix(".md").is_file(), f"{path.name} has no model card"
        assert card.training["validation"]["mpjpe_mm"] > 0
