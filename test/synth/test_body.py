"""The wearer's body: rest, T-pose, skinning, clothes."""

import torch

from egopose_ros.skeleton import SMPL22
from egopose_ros.synth.body import bone_motion, draw_body, load_asset, pose_body, vertex_normals
from egopose_ros.synth.splits import SPLITS

INDEX = {name: i for i, name in enumerate(SMPL22.joints)}


def people(count: int = 6):
    generator = torch.Generator().manual_seed(3)
    return [draw_body(generator, 0.0, 1.0) for _ in range(count)]


def test_the_t_pose_is_as_agreed():
    for body in people():
        joints = body.joints_tpose
        for side, sign in (("left", 1.0), ("right", -1.0)):
            shoulder, elbow, wrist = (joints[INDEX[f"{side}_{j}"]] for j in ("shoulder", "elbow", "wrist"))
            hip, knee, ankle, foot = (joints[INDEX[f"{side}_{j}"]] for j in ("hip", "knee", "ankle", "foot"))
            out, down = torch.tensor([0.0, sign, 0.0]), torch.tensor([0.0, 0.0, -1.0])
            limbs = ((shoulder, elbow, out), (elbow, wrist, out), (hip, knee, down), (knee, ankle, down))
            for start, end, along in limbs:
                torch.testing.assert_close((end - start) / (end - start).norm(), along, atol=1e-4, rtol=0)
            assert foot[0] - ankle[0] > 0.08 and abs(float(foot[1] - ankle[1])) < 1e-4
        assert 1.4 < body.stature < 2.05 and 0.04 < body.sole_height < 0.12
        assert body.eyes_from_head[0] > 0.03 and body.eyes_from_head[2] > 0.02


def test_resting_rotations_give_the_resting_mesh():
    body = people(1)[0]
    normals = vertex_normals(body.vertices, body.asset.faces)
    # Rotations that undo the way from rest to the T-pose put every bone back where it rests.
    back = torch.stack([body.R_tpose_rest[body.asset.bone(joint)].T for joint in SMPL22.joints])[None]
    heads = torch.stack([body.heads[body.asset.bone(joint)] for joint in SMPL22.joints])[None]
    turns, positions = bone_motion(body, back, heads, torch.zeros(1, 2))
    spine = [body.asset.bone(name) for name in ("pelvis", "spine3", "head", "left_hip", "right_elbow", "left_wrist")]
    torch.testing.assert_close(turns[0, spine], torch.eye(3).expand(len(spine), 3, 3), atol=1e-4, rtol=0)
    posed = pose_body(body, body.vertices, normals, body.asset.weights, back, heads, torch.zeros(1, 2))
    assert (posed.vertices[0] - body.vertices).norm(dim=1).median() < 1e-3


def test_skinning_moves_with_the_world():
    body = people(1)[0]
    normals = vertex_normals(body.vertices, body.asset.faces)
    generator = torch.Generator().manual_seed(0)
    rotations = torch.linalg.qr(torch.randn(2, 22, 3, 3, generator=generator) * 0.2 + torch.eye(3))[0]
    rotations = rotations * torch.linalg.det(rotations)[..., None, None]
    joints = torch.randn(2, 22, 3, generator=generator)
    R = torch.linalg.qr(torch.randn(3, 3, generator=generator))[0]
    R, t = R * torch.linalg.det(R), torch.tensor([1.0, -2.0, 0.5])
    curl = torch.full((2, 2), 0.5)
    one = pose_body(body, body.vertices, normals, body.asset.weights, rotations, joints, curl)
    other = pose_body(body, body.vertices, normals, body.asset.weights, R @ rotations, joints @ R.T + t, curl)
    torch.testing.assert_close(other.vertices, one.vertices @ R.T + t, atol=2e-5, rtol=0)
    torch.testing.assert_close(other.normals, one.normals @ R.T, atol=2e-5, rtol=0)


def test_the_surface_is_closed_and_faces_out():
    asset = load_asset()
    body = people(1)[0]
    edges = torch.cat([asset.faces[:, [0, 1]], asset.faces[:, [1, 2]], asset.faces[:, [2, 0]]])
    _, count = edges.sort(1).values.unique(dim=0, return_counts=True)
    assert (count == 2).float().mean() > 0.99 and count.max() == 2
    a, b, c = (body.vertices[asset.faces[:, k]] for k in range(3))
    volume = (a * torch.linalg.cross(b, c)).sum() / 6
    assert 0.03 < volume < 0.2  # [m^3], positive: triangles run counter-clockwise from outside


def test_splits_share_no_people():
    stretches = sorted(split.people for split in SPLITS.values())
    assert all(one[1] <= other[0] for one, other in zip(stretches, stretches[1:]))
    bands = [set(split.rig_bands) for split in SPLITS.values()]
    assert not (bands[0] & bands[1] or bands[0] & bands[2] or bands[1] & bands[2])
    assert len({split.texture_seed for split in SPLITS.values()}) == len(SPLITS)
