"""Every encoding against a picture that is known, and every field checked before the data are touched."""

from __future__ import annotations

import array
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egopose_ros.ros.images import ENCODINGS, ImageError, Reason, check, decode, size_of

HEIGHT, WIDTH = 8, 12


def message(pixels: np.ndarray, encoding: str, padding: int = 0, big: int = 0) -> SimpleNamespace:
    """Return what has the fields of a sensor_msgs/Image, with `padding` bytes behind each row."""
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    return SimpleNamespace(
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=big,
        step=rows.shape[1],
        data=array.array("B", rows.tobytes()),
    )


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", ["mono8", "8UC1", "rgb8", "bgr8", "8UC3", "rgba8", "bgra8", "mono16", "16UC1"])
def test_pictures_come_back_exactly(encoding: str, padding: int) -> None:
    random = np.random.default_rng(1)
    rgb = random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    alpha = random.integers(0, 256, (HEIGHT, WIDTH, 1), np.uint8)
    mono = rgb[..., 0]
    stored, expected = {
        "mono8": (mono, mono),
        "8UC1": (mono, mono),
        "rgb8": (rgb, rgb),
        "bgr8": (rgb[..., ::-1], rgb),
        "8UC3": (rgb[..., ::-1], rgb),
        "rgba8": (np.concatenate([rgb, alpha], -1), rgb),
        "bgra8": (np.concatenate([rgb[..., ::-1], alpha], -1), rgb),
        "mono16": (mono.astype("<u2") * 257, mono),
        "16UC1": (mono.astype("<u2") * 257, mono),
    }[encoding]
    np.testing.assert_array_equal(decode(message(stored, encoding, padding)), expected)
    if stored.dtype == np.uint16:
        np.testing.assert_array_equal(decode(message(stored.astype(">u2"), encoding, padding, big=1)), expected)


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_show_the_colour_that_was_there(pattern: str) -> None:
    colour = dict(r=200, g=120, b=40)
    tile = np.array([colour[letter] for letter in pattern], np.uint8).reshape(2, 2)
    decoded = decode(message(np.tile(tile, (HEIGHT // 2, WIDTH // 2)), f"bayer_{pattern}8"))
    np.testing.assert_array_equal(decoded, np.broadcast_to(list(colour.values()), (HEIGHT, WIDTH, 3)))


@pytest.mark.parametrize("encoding, luma", [("yuv422", 1), ("uyvy", 1), ("yuv422_yuy2", 0), ("yuyv", 0)])
def test_yuv_422_shows_the_colour_that_was_there(encoding: str, luma: int) -> None:
    chroma = 1 - luma
    y, u, v = cv2.cvtColor(np.uint8([[[200, 120, 40]]]), cv2.COLOR_RGB2YUV)[0, 0].tolist()
    pixels = np.zeros((HEIGHT, WIDTH, 2), np.uint8)
    pixels[..., luma] = y
    pixels[:, ::2, chroma], pixels[:, 1::2, chroma] = u, v
    # Video range and full range differ by up to a tenth; a swapped channel would differ by far more.
    assert np.abs(decode(message(pixels, encoding)).astype(int) - [200, 120, 40]).max() < 30


@pytest.mark.parametrize("encoding", ["mono8", "rgb8"])
def test_what_lies_right_is_not_copied(encoding: str) -> None:
    shape = (HEIGHT, WIDTH) if encoding == "mono8" else (HEIGHT, WIDTH, 3)
    source = message(np.zeros(shape, np.uint8), encoding)
    assert np.shares_memory(decode(source), np.frombuffer(source.data, np.uint8))


@settings(max_examples=300, deadline=None)
@given(
    width=st.integers(0, 40),
    height=st.integers(0, 40),
    step=st.integers(0, 200),
    length=st.integers(0, 4000),
    encoding=st.sampled_from([*ENCODINGS, "", "jpeg", "bayer_rggb16"]),
    big=st.integers(0, 255),
    exact=st.booleans(),
)
def test_whatever_the_fields_say_there_is_an_image_of_that_size_or_a_reason(
    width: int, height: int, step: int, length: int, encoding: str, big: int, exact: bool
) -> None:
    data = array.array("B", bytes(step * height if exact else length))
    fields = dict(width=width, height=height, step=step, encoding=encoding, is_bigendian=big, data=data)
    try:
        check(SimpleNamespace(**fields))
        image = decode(SimpleNamespace(**fields))
    except ImageError as error:
        assert isinstance(error.reason, Reason) and "expected" in str(error) and "got" in str(error)
        return
    assert image.dtype == np.uint8 and image.shape[:2] == (height, width) and image.shape[2:] in ((), (3,))


def compressed(content: bytes, name: str = "jpeg") -> SimpleNamespace:
    return SimpleNamespace(format=name, data=array.array("B", content))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("channels", [1, 3])
def test_compressed_pictures_and_every_way_to_cut_them_off(suffix: str, channels: int) -> None:
    smooth = cv2.resize(np.random.default_rng(2).integers(0, 256, (4, 5, 3), np.uint8), (64, 48))
    picture = smooth if channels == 3 else smooth[..., 0]
    content = cv2.imencode(suffix, picture[..., ::-1] if channels == 3 else picture)[1].tobytes()
    decoded = decode(compressed(content))
    assert decoded.shape == picture.shape
    assert np.abs(decoded.astype(int) - picture).mean() < (4 if suffix == ".jpg" else 1e-9)
    np.testing.assert_array_equal(decode(compressed(content + bytes(100))) if suffix == ".jpg" else decoded, decoded)
    for length in range(0, len(content) - 2, 7):
        with pytest.raises(ImageError) as error:
            decode(compressed(content[:length]))
        assert error.value.reason in (Reason.NO_DATA, Reason.ENCODING, Reason.TRUNCATED)


def test_16_bit_and_transparent_png() -> None:
    mono = np.arange(96, dtype=np.uint8).reshape(8, 12)
    sixteen = cv2.imencode(".png", mono.astype(np.uint16) * 257)[1].tobytes()
    np.testing.assert_array_equal(decode(compressed(sixteen, "png")), mono)
    bgra = np.dstack([mono, mono + 1, mono + 2, mono])
    np.testing.assert_array_equal(decode(compressed(cv2.imencode(".png", bgra)[1].tobytes())), bgra[..., 2::-1])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]), st.booleans())
def test_noise_is_refused_with_a_reason(noise: bytes, head: bytes, ended: bool) -> None:
    content = head + noise + (b"\xff\xd9" if ended else b"") + (b"IEND" if ended else b"")
    with pytest.raises(ImageError):
        decode(compressed(content))


@pytest.mark.parametrize("extension", [".jpg", ".png"])
@pytest.mark.parametrize("shape", [(48, 64), (33, 47, 3)])
def test_the_size_is_known_before_an_image_is_decoded(extension: str, shape: tuple[int, ...]) -> None:
    """A size that is not the calibrated one is then refused on arrival, and stays a fault of its topic."""
    data = cv2.imencode(extension, np.zeros(shape, np.uint8))[1].ravel()
    message = SimpleNamespace(format=extension[1:], data=data)
    check(message)
    assert size_of(message) == decode(message).shape[1::-1] == (shape[1], shape[0])
