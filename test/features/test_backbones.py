"""Backbones hold the published parameter names, shapes and counts, so that published state dicts load strictly."""

import pytest
import torch
from torch import nn

from egopose_ros.features.backbones import BACKBONES, ImageEncoder, fold_batch_norms, load_published
from egopose_ros.features.convolution import normed


def published_keys(name):
    """Return the state dict keys as timm 1.0 and torchvision 0.20 write them, from the architecture's own counts."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    if name == "mobilenetv4_s":
        keys = ["conv_stem.weight", *(f"bn1.{n}" for n in norm), "conv_head.weight", *(f"norm_head.{n}" for n in norm)]
        keys += ["classifier.weight", "classifier.bias"]
        # stage -> blocks: ConvBnAct has conv and bn1; UniversalInvertedResidual its used parts with conv and bn.
        inverted, start_only, middle_only = ("dw_start", "dw_mid"), ("dw_start",), ("dw_mid",)
        stages = [[None] * 2, [None] * 2, [inverted, *[middle_only] * 4, start_only], [inverted] * 2 + [middle_only] * 4, [None]]
        for stage, blocks in enumerate(stages):
            for number, parts in enumerate(blocks):
                prefix = f"blocks.{stage}.{number}"
                if parts is None:
                    keys += [f"{prefix}.conv.weight", *(f"{prefix}.bn1.{n}" for n in norm)]
                for part in () if parts is None else (*parts, "pw_exp", "pw_proj"):
                    keys += [f"{prefix}.{part}.conv.weight", *(f"{prefix}.{part}.bn.{n}" for n in norm)]
        return set(keys)
    if name == "efficientnet_lite0":
        keys = ["_conv_stem.weight", "_conv_head.weight", "_fc.weight", "_fc.bias"]
        keys += [f"_bn{number}.{n}" for number in (0, 1) for n in norm]
        for block in range(16):
            parts = (*(("expand_conv", 0),) * (block > 0), ("depthwise_conv", 1), ("project_conv", 2))
            for part, number in parts:
                keys += [f"_blocks.{block}._{part}.weight", *(f"_blocks.{block}._bn{number}.{n}" for n in norm)]
        return set(keys)
    convolutions, counts = {"resnet18": (2, (2, 2, 2, 2)), "resnet50": (3, (3, 4, 6, 3))}[name]
    keys = ["conv1.weight", *(f"bn1.{n}" for n in norm), "fc.weight", "fc.bias"]
    for layer, count in enumerate(counts, 1):
        for block in range(count):
            prefix = f"layer{layer}.{block}"
            for number in range(1, convolutions + 1):
                keys += [f"{prefix}.conv{number}.weight", *(f"{prefix}.bn{number}.{n}" for n in norm)]
            if block == 0 and (layer > 1 or convolutions == 3):
                keys += [f"{prefix}.downsample.0.weight", *(f"{prefix}.downsample.1.{n}" for n in norm)]
    return set(keys)


@pytest.mark.parametrize(
    "name, count",
    [("mobilenetv4_s", 3_774_024), ("efficientnet_lite0", 4_652_008), ("resnet18", 11_689_512), ("resnet50", 25_557_032)],
)
def test_published_state_dicts_fit(name, count):
    network = BACKBONES[name](classes=1000)
    assert sum(p.numel() for p in network.parameters()) == count
    assert set(network.state_dict()) == published_keys(name)


@pytest.mark.parametrize("name", BACKBONES)
def test_maps_have_the_stated_strides_and_channels(name):
    backbone = BACKBONES[name]().eval()
    with torch.no_grad():
        fine, coarse = backbone.features(torch.rand(1, 3, 96, 64))
    assert fine.shape == (1, backbone.channels[0], 6, 4) and coarse.shape == (1, backbone.channels[1], 3, 2)


@pytest.mark.parametrize("name", BACKBONES)
def test_folding_batch_norms_changes_no_output(name):
    torch.manual_seed(0)
    encoder = ImageEncoder(name, 32)
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    for _ in range(3):  # statistics other than the initial ones
        encoder(images)
    encoder.eval()
    with torch.no_grad():
        before = encoder(images)
        fold_batch_norms(encoder.backbone)
        assert not any(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())
        torch.testing.assert_close(encoder(images), before, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 8])
def test_a_convolution_with_its_norm_has_the_gradients_of_the_two(training, stride, groups):
    torch.manual_seed(0)
    convolution, norm = nn.Conv2d(8, 8, 3, stride, 1, groups=groups, bias=False), nn.BatchNorm2d(8)
    for value in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(value)
    nn.init.uniform_(norm.running_var, 0.5, 2.0)
    x, toward = torch.randn(4, 8, 6, 6, requires_grad=True), torch.randn(4, 8, 6 // stride, 6 // stride)
    found = []
    for way in (lambda: normed(convolution, norm, x), lambda: norm(convolution(x))):
        own = [x, *convolution.parameters(), *norm.train(training).parameters()]
        y = way()
        found.append([y.detach(), *torch.autograd.grad((y * toward).sum(), own)])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_training_in_bf16_has_the_gradients_of_fp32():
    torch.manual_seed(0)
    gradients = {}
    encoder = ImageEncoder("mobilenetv4_s", 32)
    images = torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8)
    for bf16 in (False, True):
        encoder.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            maps = encoder(images)
        maps.float().sum().backward()
        gradients[bf16] = torch.cat([p.grad.flatten() for p in encoder.fine.parameters()])
        assert all(p.grad is not None for p in encoder.parameters())
    torch.testing.assert_close(gradients[True], gradients[False], rtol=0.05, atol=0.05 * gradients[False].abs().max().item())


@pytest.mark.parametrize("name", BACKBONES)
def test_published_weights_load_without_their_classifier_and_strictly(name, tmp_path):
    published = BACKBONES[name](classes=10)
    torch.save(published.state_dict(), tmp_path / "published.pth")
    backbone = BACKBONES[name]()
    load_published(backbone, tmp_path / "published.pth")
    assert all(torch.equal(value, published.state_dict()[key]) for key, value in backbone.state_dict().items())
    other = "resnet18" if name != "resnet18" else "resnet50"
    with pytest.raises(ValueError, match="published.pth: expected those of"):
        load_published(BACKBONES[other](), tmp_path / "published.pth")
    (tmp_path / "published.pth").write_bytes(b"none")
    with pytest.raises(ValueError, match="published.pth: expected a state dict"):
        load_published(backbone, tmp_path / "published.pth")


@pytest.mark.parametrize("name", BACKBONES)
def test_early_layers_are_those_up_to_stride_eight(name):
    backbone = BACKBONES[name]().eval()
    for layer in backbone.early():
        layer.requires_grad_(False)
    names = {key.partition(".")[0] for key, value in backbone.named_parameters() if not value.requires_grad}
    assert names and any(value.requires_grad for value in backbone.parameters())
    sizes = []
    hooks = [module.register_forward_hook(lambda m, i, o: sizes.append((o.shape[-1], m.weight.requires_grad)))
             for module in backbone.modules() if isinstance(module, nn.Conv2d)]  # fmt: skip
    with torch.no_grad():
        backbone.features(torch.rand(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    assert min(side for side, trained in sizes if not trained) == 8
    # Expansions before the first layer of stride 16 still run at stride 8.
    assert max(side for side, trained in sizes if trained) <= 8
