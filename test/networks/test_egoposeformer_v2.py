"""What is EgoPoseFormer v2's own: ablations, the absorbed cross-attention, kinematics."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.features.square import SquareConfig
from egopose_ros.networks import egoposeformer_v2
from egopose_ros.networks.body import BodyHead
from egopose_ros.networks.egoposeformer_v2 import ViewCrossAttention, _lost, _project, head_motion, spread_over_views
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


@pytest.mark.parametrize("angle", [0.0, 1e-7, 0.3, 2.5, 3.1])
def test_a_turn_of_the_head_is_its_angle_however_large(angle, clip, make):
    axis = np.array([0.6, -0.48, 0.64])
    T = torch.eye(4, dtype=torch.float64).repeat(1, 2, 1, 1)
    T[0, 0, :3, :3] = torch.from_numpy(Rotation.from_rotvec([0.2, 1.0, -0.7]).as_matrix())
    T[0, 1, :3, :3] = T[0, 0, :3, :3] @ torch.from_numpy(Rotation.from_rotvec(angle * axis).as_matrix())
    new = clip(frames=2)
    count = len(new.images)
    stamps_ns = torch.tensor([[0, 400_000_000]]).repeat(count, 1)
    known = torch.ones(count, 2, dtype=torch.bool)
    T = T.repeat(count, 1, 1, 1)
    new = dataclasses.replace(new, T_world_reference=T, stamps_ns=stamps_ns, head_pose_valid=known)
    motion, valid = head_motion(new, make(NAME).init_state(count))
    assert valid.tolist() == [[False, True]] * count
    np.testing.assert_allclose(motion[0, 1, 3:6], angle * axis / 0.4, atol=1e-5)


@torch.no_grad()
def test_a_tracker_that_training_loses_is_as_lost_as_one_in_use(clip, make, monkeypatch):
    """The frame after the stretch has no velocity either: that would take the lost pose before it."""
    query = make(NAME, head_pose_dropout=0.1).query
    whole, frames = clip(batch=1), torch.arange(11)[None]
    lost = (frames >= 3) & (frames < 6)
    everywhere = torch.ones_like(lost)
    state = make(NAME).init_state(1)
    tracked = dataclasses.replace(whole, head_pose_valid=everywhere, gravity_valid=everywhere)
    in_use = dataclasses.replace(whole, head_pose_valid=~lost, gravity_valid=~lost)
    expected = query.eval()(in_use, state)
    monkeypatch.setattr(egoposeformer_v2, "_lost", lambda *_: lost)
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.ones(size))
    torch.testing.assert_close(query.train()(tracked, state), expected)
    assert bool((query.eval()(tracked, state) != expected).any())


def test_a_lost_tracker_is_lost_for_one_stretch_of_some_clips():
    torch.manual_seed(0)
    lost = _lost(4000, 12, torch.device("cpu"))
    hit = lost.any(-1)
    assert 0.15 < float(hit.float().mean()) < 0.26  # a stretch may fall between two frames
    assert int(lost.int().diff(dim=-1).abs().sum(-1).max()) <= 2 and not bool(lost.all(-1).all())
    assert bool((lost.float().mean(0) > 0.01).all())  # the first and the last frame, too


def test_a_joint_counts_as_seen_only_in_the_square_that_is_seen():
    square = SquareConfig(crop_left=32, crop_top=48, crop_side=192)
    at = torch.tensor([[128.0, 128.0], [20.0, 128.0], [32.0, 48.0], [128.0, 245.0], [250.0, 128.0]])
    rays, _ = CANONICAL.unproject(at)
    encoded = _project(rays[None, None], torch.eye(4)[None, None], square).unflatten(-1, (len(at), -1))
    assert encoded[0, 0, 0, :, -1].tolist() == [1.0, 0.0, 1.0, 0.0, 0.0]
    np.testing.assert_allclose(encoded[0, 0, 0, :, :2], (at + 0.5) / 128.0 - 1.0, atol=1e-4)
