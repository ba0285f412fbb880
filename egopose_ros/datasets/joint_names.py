"""What the data sets' files call our joints."""

from __future__ import annotations

_UNREAL = {
    "shoulder": "upperarm",
    "elbow": "lowerarm",
    "wrist": "hand",
    "hip": "thigh",
    "knee": "calf",
    "ankle": "foot",
    "foot": "ball",
}
_MIXAMO = {
    "shoulder": "Arm",
    "elbow": "ForeArm",
    "wrist": "Hand",
    "hip": "UpLeg",
    "knee": "Leg",
    "ankle": "Foot",
    "foot": "ToeBase",
}


def unreal_names(joint: str) -> tuple[str, ...]:
    """Return the Unreal mannequin's names of a joint, the usual one first."""
    side, _, limb = joint.partition("_")
    return (f"{_UNREAL[limb]}_{side[0]}",) if limb else (joint, f"{joint}_01")


def mixamo_names(joint: str) -> tuple[str, ...]:
    """Return the Mixamo rig's names of a joint, without its prefix."""
    side, _, limb = joint.partition("_")
    return (side.capitalize() + _MIXAMO[limb],) if limb else (joint.capitalize(), joint)
