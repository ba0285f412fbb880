"""The readers by the name of their data set."""

from __future__ import annotations

from collections.abc import Callable

from egopose_ros.datasets.egobody3m import read_egobody3m
from egopose_ros.datasets.egocap import read_egocap, read_egocap_validation
from egopose_ros.datasets.interface import Reading
from egopose_ros.datasets.mpi import read_egopw, read_mo2cap2, read_mo2cap2_test, read_sceneego
from egopose_ros.datasets.unrealego import read_unrealego, read_unrealego2
from egopose_ros.datasets.xr_egopose import read_xr_egopose

READERS: dict[str, Callable[..., Reading]] = {
    "egopw": read_egopw,
    "sceneego": read_sceneego,
    "mo2cap2": read_mo2cap2,
    "mo2cap2_test": read_mo2cap2_test,
    "unrealego": read_unrealego,
    "unrealego2": read_unrealego2,
    "egocap": read_egocap,
    "egocap_validation": read_egocap_validation,
    "xr_egopose": read_xr_egopose,
    "egobody3m": read_egobody3m,
}
