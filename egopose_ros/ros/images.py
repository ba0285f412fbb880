"""Image messages to NumPy: every field is checked before the data are touched, and nothing is copied without need.

16-bit images are scaled from their full range to 8 bits; a camera that uses 10 or 12 of the 16 bits must shift them
itself. `8UC1` and `8UC3` are taken as mono8 and bgr8, `16UC1` as mono16.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

MAX_PIXELS = 2**26
"""A compressed image may claim any size: above this it is not unpacked."""


class Reason(enum.Enum):
    """Why an image was not used; the values appear in the diagnostics."""

    NO_DATA = "no_data"
    NO_SIZE = "no_size"
    ENCODING = "unknown_encoding"
    BYTE_ORDER = "byte_order"
    STEP = "step_too_small"
    LENGTH = "wrong_data_length"
    TRUNCATED = "truncated"
    UNDECODABLE = "undecodable"
    SIZE = "size_not_calibrated"
    CAMERA = "other_camera"
    STAMP_ZERO = "stamp_zero"
    STAMP_REPEATED = "stamp_repeated"
    STAMP_BACK = "stamp_back"


class ImageError(ValueError):
    """An image that cannot be used."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True)
class Encoding:
    """How the pixels of an encoding lie in memory."""

    channels: int
    depth: int = 1
    """bytes a channel"""
    to_rgb: int | None = None
    """OpenCV's conversion to RGB; None: mono or RGB already"""


ENCODINGS = {
    "mono8": Encoding(1),
    "8UC1": Encoding(1),
    "rgb8": Encoding(3),
    "bgr8": Encoding(3, to_rgb=cv2.COLOR_BGR2RGB),
    "8UC3": Encoding(3, to_rgb=cv2.COLOR_BGR2RGB),
    "rgba8": Encoding(4, to_rgb=cv2.COLOR_RGBA2RGB),
    "bgra8": Encoding(4, to_rgb=cv2.COLOR_BGRA2RGB),
    "mono16": Encoding(1, depth=2),
    "16UC1": Encoding(1, depth=2),
    # OpenCV names a Bayer pattern by its second row and column, ROS by the first.
    "bayer_rggb8": Encoding(1, to_rgb=cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": Encoding(1, to_rgb=cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": Encoding(1, to_rgb=cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": Encoding(1, to_rgb=cv2.COLOR_BayerGB2RGB),
    "yuv422": Encoding(2, to_rgb=cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": Encoding(2, to_rgb=cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": Encoding(2, to_rgb=cv2.COLOR_YUV2RGB_YUYV),
    "yuyv": Encoding(2, to_rgb=cv2.COLOR_YUV2RGB_YUYV),
}


def check(message: Any) -> None:
    """Raise ImageError unless a sensor_msgs/Image or CompressedImage can be decoded, as far as its fields tell."""
    if not hasattr(message, "encoding"):
        _check_compressed(message)
        return
    width, height, step = message.width, message.height, message.step
    if width == 0 or height == 0:
        raise ImageError(Reason.NO_SIZE, f"expected width and height above 0, got {width}x{height}")
    if len(message.data) == 0:
        raise ImageError(Reason.NO_DATA, f"expected data of a {width}x{height} image, got none")
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        known = ", ".join(ENCODINGS)
        raise ImageError(Reason.ENCODING, f"expected an encoding of {known}, got '{message.encoding}'")
    if encoding.depth > 1 and message.is_bigendian > 1:
        raise ImageError(Reason.BYTE_ORDER, f"expected is_bigendian 0 or 1, got {message.is_bigendian}")
    row = width * encoding.channels * encoding.depth
    if step < row:
        raise ImageError(Reason.STEP, f"expected step >= {row} for {width} pixels {message.encoding}, got {step}")
    if len(message.data) != step * height:
        raise ImageError(Reason.LENGTH, f"expected step x height = {step * height} bytes, got {len(message.data)}")


def decode(message: Any) -> np.ndarray:
    """Return the image as (H, W) mono or (H, W, 3) RGB uint8, a view of the message where its layout allows."""
    check(message)
    if not hasattr(message, "encoding"):
        return _decode_compressed(message)
    encoding = ENCODINGS[message.encoding]
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    pixels = rows[:, : message.width * encoding.channels * encoding.depth]
    if encoding.depth == 2:
        order = ">u2" if message.is_bigendian else "<u2"
        return _to_8_bit(np.ascontiguousarray(pixels).view(order).astype(np.uint16, copy=False))
    if encoding.channels > 1:
        pixels = pixels.reshape(message.height, message.width, encoding.channels)
    if encoding.to_rgb is None:
        return pixels
    try:
        return cv2.cvtColor(pixels, encoding.to_rgb)
    except cv2.error as error:  # an odd width of YUV 4:2:2, a Bayer pattern too small for its filter
        text = f"expected a {message.encoding} image, got {message.width}x{message.height}: {error.err}"
        raise ImageError(Reason.UNDECODABLE, text) from error


def _to_8_bit(image: np.ndarray) -> np.ndarray:
    return cv2.convertScaleAbs(image, alpha=1.0 / 257.0)


def _check_compressed(message: Any) -> None:
    data = message.data
    if len(data) == 0:
        raise ImageError(Reason.NO_DATA, f"expected {message.format or 'compressed'} data, got none")
    head = bytes(data[:4])
    # A decoder paints what a cut-off file lacks in grey and says nothing: the end marker must be there. Motion JPEG
    # cameras pad behind it.
    if head[:3] == b"\xff\xd8\xff":
        whole = b"\xff\xd9" in bytes(data[-64:]) or bytes(data).rstrip(b"\0").endswith(b"\xff\xd9")
    elif head == b"\x89PNG":
        whole = b"IEND" in bytes(data[-64:])
    else:
        raise ImageError(Reason.ENCODING, f"expected JPEG or PNG data, got '{message.format}' beginning {head.hex()}")
    if not whole:
        raise ImageError(Reason.TRUNCATED, f"expected a whole file, got {len(data)} bytes without its end marker")
    width, height = size_of(message)
    if not 0 < width * height <= MAX_PIXELS:
        raise ImageError(Reason.UNDECODABLE, f"expected up to {MAX_PIXELS} pixels, got a header of {width}x{height}")


def size_of(message: Any) -> tuple[int, int]:
    """Return (width, height) that a raw image, or the header of a compressed one, says; zeros where it says none."""
    if hasattr(message, "encoding"):
        return message.width, message.height
    return _png_size(message.data) if bytes(message.data[:4]) == b"\x89PNG" else _jpeg_size(message.data)


def _png_size(data: Any) -> tuple[int, int]:
    """Return (width, height) of the header chunk, which is the first; zeros without one."""
    return struct.unpack_from(">II", data, 16) if len(data) >= 24 else (0, 0)


def _jpeg_size(data: Any) -> tuple[int, int]:
    """Return (width, height) of the first start-of-frame segment; zeros without one."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(bytes(data[at + 2 : at + 4]), "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 1 if marker == 0xFF else 2 + length
    return 0, 0


def _decode_compressed(message: Any) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError(Reason.UNDECODABLE, f"expected JPEG or PNG data, got an error: {error.err}") from error
    if image is None or image.size == 0:
        raise ImageError(Reason.UNDECODABLE, f"expected JPEG or PNG data, got {len(message.data)} bytes of neither")
    if image.dtype == np.uint16:
        image = _to_8_bit(image)
    if image.dtype != np.uint8:
        raise ImageError(Reason.ENCODING, f"expected 8 or 16 bits a channel, got {image.dtype}")
    if image.ndim == 2 or image.shape[2] == 1:
        return image.reshape(image.shape[:2])
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGB if image.shape[2] == 4 else cv2.COLOR_BGR2RGB)
