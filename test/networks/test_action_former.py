"""ActionFormer's blocks: local attention is local and exact, padding has no effect, published weights fit."""

import math

import pytest
import torch
import torch.nn.functional as F

from egopose_ros.networks.action_former import ActionFormerEncoder, ConvAttention, Span, load_action_former

WIDTH = 16


def encoder(*spans, causal=False):
    torch.manual_seed(0)
    network = ActionFormerEncoder(WIDTH, 2, spans, causal=causal, dropout=0.0, path_dropout=0.0).eval()
    with torch.no_grad():  # biases of norms and scales of branches start so small that little would show
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network


def everywhere(x):
    return torch.ones(x.shape[:2], dtype=torch.bool)


@torch.no_grad()
@pytest.mark.parametrize(
    "span, causal, reach",
    [
        (Span(3, 3), False, (4, 4)),
        (Span(6, 0), True, (8, 0)),
        (Span(None, None), False, (20, 20)),
        (Span(None, 2), True, (20, 2)),
    ],
    ids=str,
)
def test_a_block_sees_its_span_and_the_reach_of_its_convolutions(span, causal, reach):
    network = encoder(span, causal=causal)
    x = torch.randn(1, 20, WIDTH)
    before = network(x, everywhere(x))
    for frame in (0, 9, 19):
        changed = x.clone()
        changed[:, frame] = torch.randn(WIDTH)  # a shift alone would not pass the norm
        moved = (network(changed, everywhere(x)) != before).any(-1)[0]
        # Frame i sees frame j for i - back <= j <= i + ahead.
        assert moved.tolist() == [i - reach[0] <= frame <= i + reach[1] for i in range(20)], frame


@torch.no_grad()
def test_local_attention_is_attention_over_the_neighbours_alone():
    torch.manual_seed(0)
    layer = ConvAttention(WIDTH, 2, causal=False, dropout=0.0)
    x = torch.randn(2, 12, WIDTH)
    out = layer(x, Span(3, 3).allows(12, x.device).expand(2, 1, 12, 12))

    def heads(name):  # by torch's own convolutions: (B, H, D, T)
        convolution, norm, point = (getattr(layer, f"{name}{part}") for part in ("_conv", "_norm", ""))
        y = F.conv1d(x.mT, convolution.conv.weight, padding=1, groups=WIDTH)
        y = F.layer_norm(y.mT, (WIDTH,), norm.weight.flatten(), norm.bias.flatten()).mT
        return F.conv1d(y, point.weight, point.bias).unflatten(1, (2, -1))

    query, key, value = map(heads, ("query", "key", "value"))
    for frame in range(12):
        near = slice(max(0, frame - 3), frame + 4)
        scores = torch.einsum("bhd,bhdt->bht", query[..., frame], key[..., near]) / math.sqrt(WIDTH / 2)
        seen = torch.einsum("bht,bhdt->bhd", scores.softmax(-1), value[..., near])
        torch.testing.assert_close(out[:, frame], layer.proj(seen.flatten(1)), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_single_frames_are_those_of_the_whole_sequence():
    network = encoder(Span(2, 2), Span(None, None))
    x, at = torch.randn(3, 9, WIDTH), torch.tensor([8, 0, 5])
    filled = everywhere(x)
    filled[2, :3] = False
    torch.testing.assert_close(network(x, filled, at)[:, 0], network(x, filled)[[0, 1, 2], at], atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("causal", [False, True])
def test_padding_has_no_effect_and_no_value(causal):
    network = encoder(Span(2, 0 if causal else 2), Span(None, 0 if causal else None), causal=causal)
    bare = torch.randn(2, 7, WIDTH)
    padded = torch.cat([torch.full((2, 4, WIDTH), 9.0), bare, torch.full((2, 3, WIDTH), -9.0)], 1)
    filled = torch.tensor([[False] * 4 + [True] * 7 + [False] * 3]).expand(2, -1)
    out = network(padded, filled)
    torch.testing.assert_close(out[:, 4:11], network(bare, everywhere(bare)), atol=1e-5, rtol=1e-5)
    assert not bool(out[:, :4].any()) and not bool(out[:, 11:].any())


@torch.no_grad()
def test_sequences_skip_blocks_in_training_only_and_the_mean_stays():
    network = ActionFormerEncoder(WIDTH, 2, (Span(None, None),), causal=False, dropout=0.0, path_dropout=0.5)
    scale = network.branch[0].drop_path_attn
    x = torch.ones(4000, 1, WIDTH)
    torch.manual_seed(0)
    kept = network.train() and scale(x) / scale.scale.flatten()
    assert set(kept.unique().tolist()) == {0.0, 2.0} and abs(float(kept.mean()) - 1.0) < 0.1
    torch.testing.assert_close(scale.eval()(x), scale.scale.flatten().expand_as(x))


def published(blocks):
    """Return a state dict of an ActionFormer whose branch has so many blocks, by the names of its own modules."""
    shapes = {}
    for number in range(blocks):
        prefix = f"module.backbone.branch.{number}."
        norms = ["ln1", "ln2", *(f"attn.{part}_norm" for part in ("query", "key", "value"))]
        shapes |= {f"{prefix}{norm}.{kind}": (1, WIDTH, 1) for norm in norms for kind in ("weight", "bias")}
        shapes |= {f"{prefix}attn.{part}_conv.conv.weight": (WIDTH, 1, 3) for part in ("query", "key", "value")}
        for part in ("attn.query", "attn.key", "attn.value", "attn.proj"):
            shapes |= {f"{prefix}{part}.weight": (WIDTH, WIDTH, 1), f"{prefix}{part}.bias": (WIDTH,)}
        shapes |= {f"{prefix}mlp.0.weight": (4 * WIDTH, WIDTH, 1), f"{prefix}mlp.0.bias": (4 * WIDTH,)}
        shapes |= {f"{prefix}mlp.3.weight": (WIDTH, 4 * WIDTH, 1), f"{prefix}mlp.3.bias": (WIDTH,)}
        shapes |= {f"{prefix}drop_path_{part}.scale": (1, WIDTH, 1) for part in ("attn", "mlp")}
    shapes |= {"module.backbone.embd.0.conv.weight": (WIDTH, 8, 3), "module.cls_head.cls_head.conv.bias": (9,)}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def test_published_weights_load_strictly(tmp_path):
    weights = published(2)
    torch.save({"epoch": 3, "state_dict": published(2), "state_dict_ema": weights}, tmp_path / "good.pth.tar")
    network = encoder(Span(4, 4), Span(None, None))
    load_action_former(network, tmp_path / "good.pth.tar")
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, weights[f"module.backbone.{name}"], rtol=0, atol=0)
    for number, reason in ((1, "Missing key"), (3, "Unexpected key")):
        torch.save({"state_dict": published(number)}, tmp_path / "bad.pth")
        with pytest.raises(ValueError, match=rf"bad.pth: expected 2 blocks .*, got {number}: (.|\n)*{reason}"):
            load_action_former(network, tmp_path / "bad.pth")
    (tmp_path / "text.pth").write_text("no checkpoint")
    with pytest.raises(ValueError, match="text.pth: expected a checkpoint"):
        load_action_former(network, tmp_path / "text.pth")
