"""What is AG-EgoPose's own: its window, what may see the future, ablations, where gradients stop."""

import dataclasses

import pytest
import torch

from egopose_ros.config import NetworkConfig, options
from egopose_ros.networks.ag_egopose import AgEgoPose
from egopose_ros.networks.table import NETWORKS, build
from egopose_ros.skeleton import MPI15

NAME = "ag_egopose"
WINDOW = 5
VARIANTS = [{"attention": kind, "lookahead": ahead} for kind in ("bidirectional", "causal") for ahead in (0, 2)]


def of(variant):
    return f"{variant['attention']}-{variant['lookahead']}"


def covariance_of(estimate):
    return estimate.cholesky @ estimate.cholesky.mT * 2.0


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS, ids=of)
def test_a_stream_says_what_its_window_says_of_the_newest_frame(variant, clip, make):
    network = make(NAME, **variant)
    whole = clip(frames=2 * WINDOW)
    said = network(whole)
    for newest in range(2 * WINDOW):  # the first ones while the window is still filling
        window = network.window_of(network.look(whole.images[:, max(0, newest + 1 - WINDOW) : newest + 1]))
        at = -1 - min(variant["lookahead"], newest)
        torch.testing.assert_close(said.joints[:, newest], window.joints[:, at], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(said.covariance[:, newest], covariance_of(window)[:, at], atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("attention", ["bidirectional", "causal"])
@pytest.mark.parametrize("seen", [3, WINDOW - 1, 2 * WINDOW])
def test_a_stream_that_ends_says_what_its_window_says_of_the_last_frames(attention, seen, clip, make):
    """The state holds one frame less than the window."""
    network = make(NAME, attention=attention, lookahead=2)
    whole = clip(frames=2 * WINDOW).images[:, :seen]
    state, _ = network.advance(network.init_state(len(whole)), network.look(whole))
    said = network.finish(state)
    window = network.window_of(network.look(whole[:, max(0, seen + 1 - WINDOW) :]))
    torch.testing.assert_close(said.joints, window.joints[:, -2:], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(said.covariance, covariance_of(window)[:, -2:], atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("lookahead", [0, 2])
def test_a_causal_network_says_live_what_it_says_of_a_whole_window(lookahead, clip, make):
    """So what it is trained on, all frames of a window, is what it meets in use."""
    network = make(NAME, attention="causal", lookahead=lookahead)
    whole = clip(frames=WINDOW)
    window, live = network.window_of(network.look(whole.images)), network(whole)
    torch.testing.assert_close(live.joints[:, lookahead:], window.joints[:, : WINDOW - lookahead], atol=1e-5, rtol=1e-5)
    two_way = make(NAME)
    window, live = two_way.window_of(two_way.look(whole.images)), two_way(whole)
    assert not torch.allclose(live.joints[:, :-1], window.joints[:, :-1], atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS, ids=of)
def test_a_frame_sees_just_as_much_future_as_its_variant_says(variant, clip, make):
    network = make(NAME, **variant, window=8, local_blocks=2, global_blocks=2)
    features = network.look(clip(frames=8).images).features
    changed = features.clone()
    changed[:, 5:] = torch.randn_like(changed[:, 5:])
    moved = (network.encode_motion(features) != network.encode_motion(changed)).any(-1).all(0)
    first = {"bidirectional": 0, "causal": 5 - variant["lookahead"]}[variant["attention"]]
    assert moved.tolist() == [frame >= first for frame in range(8)]


@torch.no_grad()
def test_a_lookahead_answers_for_an_earlier_frame(clip, make):
    now, later = (make(NAME, lookahead=lookahead, motion=True) for lookahead in (0, 2))
    whole = clip(frames=4)
    black = dataclasses.replace(whole, images=whole.images.clone())
    black.images[:, 1] = 0
    for network, affected in ((now, 1), (later, 3)):
        for block in network.temporal.branch:  # without them only a frame's own heatmaps and feature are left
            block.drop_path_attn.scale.zero_()
            block.drop_path_mlp.scale.zero_()
        differs = (network(whole).joints != network(black).joints).flatten(2).any(-1).all(0)
        assert differs.tolist() == [frame == affected for frame in range(4)]


@torch.no_grad()
@pytest.mark.parametrize("option", ["spatial", "motion", "cross_attention"])
def test_ablations_take_away_what_they_say(option, clip, make):
    full, ablated = make(NAME), make(NAME, **{option: False, "temporal_backbone": "mobilenetv4_s"})
    assert full.window == WINDOW and ablated.window == (1 if option == "motion" else WINDOW)
    assert (ablated.encoder.spatial is None) == (option == "spatial")
    assert (ablated.temporal is None) == (option == "motion")
    whole = clip(frames=3)
    before = dataclasses.replace(whole, images=whole.images.clone())
    before.images[:, 0] = 0
    remembers = bool((ablated(whole).joints[:, 1:] != ablated(before).joints[:, 1:]).any())
    assert remembers == (option != "motion")
    assert ablated(whole).joints.shape == (2, 3, MPI15.size, 3)


@torch.no_grad()
def test_cross_attention_lets_a_joint_read_another_ones_heatmap_in_one_layer(make):
    """Without it a layer's self-attention does, but the query then starts from its own heatmap."""
    embeddings = torch.randn(1, MPI15.size, 32)
    for attends in (True, False):
        decoder = make(NAME, cross_attention=attends, motion=False).decoder
        decoder.layers = torch.nn.ModuleList(list(decoder.layers) * attends)
        other = embeddings.clone()
        other[:, 3] += 1.0
        moved = (decoder(embeddings, None) != decoder(other, None)).any(-1)[0]
        assert moved.tolist() == [attends or joint == 3 for joint in range(MPI15.size)]


@torch.no_grad()
def test_a_query_can_tell_its_joints_heatmap_from_anothers(make):
    """Without their identity the memory's tokens are a set: in another order they say the same."""
    embeddings = torch.randn(1, MPI15.size, 32)
    swapped = embeddings[:, [1, 0, *range(2, MPI15.size)]]
    for named in (True, False):
        decoder = make(NAME, joint_identity=named, motion=False).decoder
        assert (decoder.identity is not None) == named
        if named:
            decoder.identity.normal_()
        same = torch.allclose(decoder(embeddings, None), decoder(swapped, None), atol=1e-5)
        assert same != named


@torch.no_grad()
def test_heatmaps_are_read_as_they_were_trained(make):
    raw = torch.tensor([[[[-2.0, 0.3], [0.9, 2.0]]]])
    torch.testing.assert_close(make(NAME).probabilities(raw), raw.sigmoid())
    squared = make(NAME, heatmap_loss="mse").probabilities(raw)
    torch.testing.assert_close(squared, torch.tensor([[[[0.0, 0.3], [0.9, 1.0]]]]))


def test_uncertainty_does_not_steer_the_pose(clip, make):
    network = make(NAME)
    estimate = network.window_of(network.look(clip(frames=2).images))
    estimate.cholesky.square().sum().backward()
    moved = {name.partition(".")[0] for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert moved == {"uncertainty"}
    assert make(NAME, uncertainty=False)(clip(frames=2)).covariance is None


def test_a_shared_backbone_serves_both_streams(clip, make):
    shared, own = make(NAME, temporal_backbone="shared"), make(NAME, temporal_backbone="mobilenetv4_s")
    assert shared.encoder.temporal is None and own.encoder.temporal is not None
    images = clip(frames=2).images.flatten(0, 2)
    with torch.no_grad():
        torch.testing.assert_close(shared.encoder(images)[1], shared.encoder.features(images))
    for network, serves in ((shared, True), (own, False)):
        network.encoder.features(images).sum().backward()
        assert (next(network.encoder.spatial.backbone.parameters()).grad is not None) == serves


@torch.no_grad()
def test_a_window_is_not_longer_than_the_network(clip, make):
    network = make(NAME)
    with pytest.raises(ValueError, match="expected a clip of at most 5 frames, got 6"):
        network.window_of(network.look(clip(frames=6).images))


def test_defaults_are_the_papers_sizes():
    with torch.device("meta"):
        network = AgEgoPose()
    assert len(network.temporal.branch) == 8 and network.window == 64
    spans = [block.span for block in network.temporal.branch]
    assert [(span.back, span.ahead) for span in spans] == [(4, 4)] * 4 + [(None, None)] * 4
    assert network.projection.linear.weight.shape == (384, 2048)
    assert len(network.decoder.layers) == 3 and network.decoder.queries.shape == (15, 128)
    with torch.device("meta"):
        heatmaps, features = network.encoder(torch.zeros(1, 3, 256, 256))
    assert heatmaps.shape == (1, 15, 64, 64) and features.shape == (1, 2048)


@pytest.mark.parametrize(
    "settings, reason",
    [
        ({"views": 2}, "views: expected 1 <= value <= 1"),
        ({"width": 30, "heads": 4}, "width: expected a multiple of the 4 heads, got 30"),
        ({"spatial": False, "motion": False}, "expected one of the two streams, got neither"),
        ({"spatial": False, "temporal_backbone": "shared"}, "expected one of its own without the spatial stream"),
        ({"lookahead": 5, "window": 5}, "lookahead: expected fewer than the window's 5 frames, got 5"),
        ({"lookahead": 1, "motion": False}, "lookahead: expected fewer than the window's 1 frames, got 1"),
        ({"lookahead": 1, "attention": "causal", "global_blocks": 0}, "expected a global block"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, reason):
    with pytest.raises(ValueError, match=reason):
        build(NAME, settings)


def test_every_network_can_be_chosen_by_name():
    assert next(item for item in options(NetworkConfig) if item.name == "name").named_choices == tuple(NETWORKS)


@torch.no_grad()
@pytest.mark.parametrize("named", [True, False])
def test_an_untrained_query_looks_at_its_own_joint_where_tokens_say_whose_they_are(named):
    torch.manual_seed(0)
    decoder = build(NAME, {"joint_identity": named}).eval().decoder
    own = []
    for layer in decoder.layers:
        layer.multihead_attn.register_forward_pre_hook(
            lambda attention, arguments: own.append(attention.forward(*arguments)[1].diagonal(dim1=-2, dim2=-1).mean())
        )
    decoder(torch.randn(2, MPI15.size, 128), torch.randn(2, decoder.motion.in_features))
    assert len(own) == len(decoder.layers)
    assert all(share > 4 / MPI15.size for share in own) == named
