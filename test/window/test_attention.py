"""Temporal attention against a plain implementation in float64, and its promises about time."""

import math

import torch

from egopose_ros.window.attention import NOMINAL_RATE_HZ, TemporalAttention, timeline

WINDOW = 5


def naive(layer, x, stamps_ns):
    """Every query on its own, complex rotations, absolute positions from the first stamp."""
    batch, frames, width = x.shape
    query, key, value = layer.project(x).unflatten(-1, (3, layer.heads, -1)).unbind(2)
    half = width // layer.heads // 2
    positions = (stamps_ns - stamps_ns[:, :1]).double() * 1e-9 * NOMINAL_RATE_HZ
    phase = torch.exp(1j * positions[:, :, None, None] * layer.frequencies)
    turn = lambda v: torch.complex(v[..., :half], v[..., half:]) * phase  # noqa: E731
    query, key = turn(query), turn(key)
    out = torch.zeros_like(x).unflatten(-1, (layer.heads, -1))
    for t in range(frames):
        seen = slice(max(0, t - WINDOW + 1), t + 1)
        scores = (query[:, t, None] * key[:, seen].conj()).real.sum(-1) / math.sqrt(2 * half)
        out[:, t] = (scores.softmax(1)[..., None] * value[:, seen]).sum(1)
    return layer.output(out.flatten(2))


def setup(frames):
    torch.manual_seed(0)
    layer = TemporalAttention(32, 4, WINDOW).double()
    stamps = torch.randint(16_000_000, 100_000_000, (3, frames)).cumsum(1) + 1_700_000_000_000_000_000
    return layer, torch.randn(3, frames, 32, dtype=torch.float64), stamps


def run(layer, x, stamps, cache=None, past=None):
    cached_ns, filled = past or (stamps[:, :0].new_zeros(3, WINDOW - 1), torch.zeros(3, WINDOW - 1, dtype=torch.bool))
    time = timeline(cached_ns, filled, stamps, WINDOW)
    out, cache = layer(x, cache or layer.empty(3), time)
    return out, cache, (time.stamps_ns[:, 1 - WINDOW :], time.filled[:, 1 - WINDOW :])


@torch.no_grad()
def test_equals_the_plain_implementation_in_any_chunks():
    layer, x, stamps = setup(17)
    expected = naive(layer, x, stamps)
    for sizes in ([17], [1] * 17, [3, 1, 6, 7]):
        outputs, cache, past = [], None, None
        for chunk, new in zip(x.split(sizes, 1), stamps.split(sizes, 1)):
            out, cache, past = run(layer, chunk, new, cache, past)
            outputs.append(out)
        torch.testing.assert_close(torch.cat(outputs, 1), expected, atol=1e-7, rtol=0)


@torch.no_grad()
def test_only_differences_of_stamps_count():
    layer, x, stamps = setup(9)
    day = 86_400_000_000_000 * 365
    torch.testing.assert_close(run(layer, x, stamps)[0], run(layer, x, stamps + day)[0], atol=0, rtol=0)
    slower = stamps[:, :1] + 2 * (stamps - stamps[:, :1])
    assert bool((run(layer, x, stamps)[0] != run(layer, x, slower)[0])[:, 1:].any())


def test_masked_frames_are_masked():
    """Gradients, not values: what is masked has none."""
    layer, x, stamps = setup(12)
    x.requires_grad_(True)
    for frame in (0, 4, 11):
        (gradient,) = torch.autograd.grad(run(layer, x, stamps)[0][:, frame].square().sum(), x)
        reached = (gradient != 0).any(-1).all(0)
        assert reached.tolist() == [frame - WINDOW < t <= frame for t in range(12)]


@torch.no_grad()
def test_a_window_of_one_is_no_memory():
    layer = TemporalAttention(32, 4, 1)
    x = torch.randn(2, 3, 32)
    stamps = torch.arange(3).expand(2, 3)
    time = timeline(stamps[:, :0], torch.zeros(2, 0, dtype=torch.bool), stamps, 1)
    out, cache = layer(x, layer.empty(2), time)
    torch.testing.assert_close(out, layer.output(layer.project(x).chunk(3, -1)[2]))
    assert cache.keys.shape == (2, 0, 32)
