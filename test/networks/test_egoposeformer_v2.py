"""What is EgoPoseFormer v2's own: ablations, the absorbed cross-attention, kinematics."""

import dataclasses
import math

import pytest
import torch

from egopose_ros.networks.body import BodyHead
from egopose_ros.networks.egoposeformer_v2 import ViewCrossAttention, spread_over_views
from egopose_ros.networks.table import build
from egopose_ros.skeleton import SMPL22

NAME = "egoposeformer_v2"


@torch.no_grad()
def test_absorbed_cross_attention_is_standard_attention():
    torch.manual_seed(0)
    layer = ViewCrossAttention(32, 4, 2)
    query, tokens = torch.randn(3, 5, 2, 32), torch.randn(3, 5, 2, 20, 32)
    q, k, v = (f(x).unflatten(-1, (4, 8)).transpose(-2, -3) for f, x in ((layer.query, query[..., None, :]), (layer.key, tokens), (layer.value, tokens)))
    attention = (q @ k.mT / math.sqrt(8)).softmax(-1)
    expected = layer.fusion((attention @ v).transpose(-2, -3).flatten(-2).flatten(-3))
    torch.testing.assert_close(layer(query, tokens)[0], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("option", ["temporal", "projection", "auxiliary"])
def test_ablations_take_away_what_they_say(option, clip, make):
    whole = clip()
    full, ablated = make(NAME), make(NAME, **{option: False})
    assert sum(p.numel() for p in ablated.parameters()) < sum(p.numel() for p in full.parameters())
    before = dataclasses.replace(whole, images=whole.images.clone())
    before.images[:, 0] = 0
    remembers = lambda n: bool((n(whole).joints[:, 1:3] != n(before).joints[:, 1:3]).any())  # noqa: E731
    assert remembers(full) and remembers(ablated) == (option != "temporal")
    turned = dataclasses.replace(whole, gravity_reference=-whole.gravity_reference)
    feels = lambda n: bool((n(whole).joints != n(turned).joints).any())  # noqa: E731
    assert feels(full) and feels(ablated) == (option != "auxiliary")


@torch.no_grad()
def test_ablation_of_kinematics_and_uncertainty(clip, make):
    whole = clip()
    direct = make(NAME, fk=False)(whole)
    assert direct.rotations is None and direct.joints.shape == make(NAME)(whole).joints.shape
    plain = make(NAME, uncertainty=False)(whole)
    assert plain.covariance is None and plain.confidence is None and plain.rotations is not None


def test_the_refinement_looks_where_the_proposal_points(clip, make):
    """Gradients of the refinement reach the proposal's head through the projection only where there is one."""
    for projection in (True, False):
        network = make(NAME, projection=projection)
        with torch.no_grad():  # cut the way that adds parameters: only the projection is left
            network.refinement_head.mlp[-1].weight.mul_(100.0)
        _, refined = network.estimate(clip(frames=2))
        gradient = torch.autograd.grad(refined.cholesky.square().sum(), network.proposal_head.mlp[-1].weight, allow_unused=True)[0]
        assert (gradient is not None and bool((gradient != 0).any())) == projection


@torch.no_grad()
def test_weights_of_one_camera_say_the_same_of_several_that_are_one(clip, make):
    """Two cameras at one place with one image are one camera, to weights that were spread over them."""
    one, two = make(NAME), make(NAME, views=2)
    two.load_state_dict(spread_over_views(one.state_dict(), 2))
    twice = clip()
    doubled = {name: getattr(twice, name).repeat_interleave(2, dim) for name, dim in (("images", 2), ("T_reference_camera", 1))}
    torch.testing.assert_close(
        two(dataclasses.replace(twice, **doubled)).joints, one(twice).joints, atol=1e-5, rtol=1e-5
    )
    back = spread_over_views(two.state_dict(), 1)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(back[name], value)


@torch.no_grad()
def test_two_views_on_one_place_see_what_the_network_was_told(clip, make):
    network = make(NAME, views=2)
    whole = clip(2)
    moved = dataclasses.replace(whole, T_reference_camera=whole.T_reference_camera.clone())
    moved.T_reference_camera[:, 1, 0, 3] += 0.1
    assert bool((network(whole).joints != network(moved).joints).any())


@torch.no_grad()
def test_kinematics_keep_bones_whatever_the_rotations():
    torch.manual_seed(0)
    head = BodyHead(32)
    parameters = head.initial().repeat(50, 1)
    parameters[:, 3:135] += torch.randn(50, 132)
    parameters[:, 135] = 0.2
    joints, rotations = head.joints(parameters)
    torch.testing.assert_close(joints[:, SMPL22.index("head")], head.initial()[:3].expand(50, 3))
    for parent, child in SMPL22.bones:
        torch.testing.assert_close(
            (rotations[:, parent].mT @ (joints[:, child] - joints[:, parent])[..., None])[..., 0],
            (head.rest[child] * math.exp(0.2)).expand(50, 3), atol=1e-5, rtol=0,
        )  # fmt: skip
    mirrored = head.rest[list(SMPL22.mirror)] * torch.tensor([1.0, -1.0, 1.0])
    torch.testing.assert_close(mirrored, head.rest)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="width: expected a multiple of twice the 3 heads, got 32"):
        build(NAME, {"width": 32, "heads": 3})
    with pytest.raises(ValueError, match="views: expected 1 <= value <= 4"):
        build(NAME, {"views": 5})


