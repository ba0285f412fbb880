"""From linear light to the bytes of a camera: exposure, white balance, blur, vignette, noise, tone, JPEG."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from egopose_ros.synth.materials import Draw

_LUMINANCE = (0.2126, 0.7152, 0.0722)
_LUMA_STEPS = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
_CHROMA_STEPS = (
    (17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99),
)  # fmt: skip
"""Tables K.1 and K.2 of the JPEG standard (ITU-T T.81); the rest of K.2 is 99"""


@dataclass(frozen=True)
class Sensor:
    """How one camera makes bytes of light."""

    brightness: float
    """display value that the middle of the picture is exposed to, 0 for no automatic exposure"""
    adapts_s: float
    """time constant of the automatic exposure"""
    gains: tuple[float, float, float]
    """white balance"""
    mono: bool
    saturation: float
    contrast: float
    sigma_px: float
    """blur of lens and resampling, at 256 px"""
    shutter: float
    """exposure time, in frames; 0 for no motion blur"""
    vignette: float
    glare: float
    """share of the mean light that veils everything"""
    read_noise: float
    shot_noise: float
    black: float
    jpeg_quality: int
    """0 for none"""
    dirt: tuple[tuple[float, float, float, float], ...]
    """smudges on the lens: x, y, radius (of the picture's width), strength"""


IDEAL = Sensor(
    brightness=0.0, adapts_s=1.0, gains=(1.0, 1.0, 1.0), mono=False, saturation=1.0, contrast=1.0, sigma_px=0.0,
    shutter=0.0, vignette=0.0, glare=0.0, read_noise=0.0, shot_noise=0.0, black=0.0, jpeg_quality=0, dirt=(),
)  # fmt: skip
"""Encodes light for display and does nothing else."""


def draw_sensor(draw: Draw) -> Sensor:
    warm, tint = draw.normal(0, 0.08), draw.normal(0, 0.03)
    noise = draw.uniform(0.0, 1.0) ** 2
    return Sensor(
        brightness=draw.uniform(0.34, 0.62),
        adapts_s=draw.uniform(0.3, 3.0),
        gains=(1 + warm, 1 + tint, 1 - warm),
        mono=draw.chance(0.22),
        saturation=draw.uniform(0.55, 1.2),
        contrast=draw.uniform(0.85, 1.25),
        sigma_px=draw.uniform(0.35, 0.75) if draw.chance(0.8) else draw.uniform(0.75, 1.4),
        shutter=draw.uniform(0.05, 0.6) if draw.chance(0.6) else 0.0,
        vignette=draw.uniform(0.0, 0.7),
        glare=draw.uniform(0.0, 0.06),
        read_noise=0.0005 + 0.006 * noise,
        shot_noise=0.003 + 0.03 * noise,
        black=draw.uniform(0.0, 0.03),
        jpeg_quality=draw.integer(35, 95) if draw.chance(0.6) else 0,
        dirt=tuple(
            (draw.uniform(0.1, 0.9), draw.uniform(0.1, 0.9), draw.uniform(0.01, 0.06), draw.uniform(0.1, 0.5))
            for _ in range(draw.integer(1, 5) if draw.chance(0.2) else 0)
        ),
    )


def expose(
    sensor: Sensor,
    radiance: Tensor,
    flow: Tensor | None,
    seen: Tensor,
    size: tuple[int, int],
    exposure: float | None,
    fps: float,
    generator: torch.Generator,
) -> tuple[Tensor, float]:
    """Turn N pictures (N, P, 3) into (N, H, W, 3) uint8; returns the exposure to go on with.

    flow (N, P, 2) moves motion blur; seen (P,) is the lens circle; `exposure` is that of the frame before, or None.
    """
    width, height = size
    count = len(radiance)
    if flow is not None and sensor.shutter > 0:
        radiance = motion_blur(radiance, flow * sensor.shutter, size)
    image = radiance.view(count, height, width, 3)
    image, exposure = _automatic_exposure(sensor, image, seen, exposure, fps)
    image = image * torch.tensor(sensor.gains, device=image.device)
    grey = image @ torch.tensor(_LUMINANCE, device=image.device)
    image = grey[..., None] + (0.0 if sensor.mono else sensor.saturation) * (image - grey[..., None])
    image = image * _falloff(sensor, size, image.device) * seen.view(height, width, 1)
    image = image + sensor.glare * image.mean((1, 2), keepdim=True)
    if sensor.sigma_px:
        image = _blur(image, sensor.sigma_px * width / 256.0)
    image = image.permute(0, 3, 1, 2)
    if sensor.read_noise or sensor.shot_noise:
        shape = (count, 1 if sensor.mono else 3, height, width)
        noise = torch.randn(shape, generator=generator, device=image.device)
        image = image + noise * (sensor.read_noise**2 + sensor.shot_noise**2 * image.clamp(min=0)).sqrt()
    image = _tone(sensor, image)
    if sensor.jpeg_quality:
        image = jpeg(image, sensor.jpeg_quality)
    return (image * 255.0).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous(), exposure


def _automatic_exposure(sensor: Sensor, image: Tensor, seen: Tensor, exposure: float | None, fps: float):
    """Scale each frame so that its middle tends to the sensor's brightness."""
    if not sensor.brightness:
        return image, exposure
    height, width = image.shape[1:3]
    inner = image[:, height // 6 : -height // 6 : 3, width // 6 : -width // 6 : 3, 1].flatten(1)
    mean = inner.clamp(max=4.0).sqrt().mean(1).square()
    bright = inner.quantile(0.85, dim=1)
    # Highlights hold it back: a white table in a dark room must not be lost.
    wanted = torch.minimum(sensor.brightness**2.2 / mean.clamp(min=1e-4), 1.1 / bright.clamp(min=1e-4)).cpu()
    keep = math.exp(-1.0 / (fps * sensor.adapts_s))
    scales = []
    for value in wanted.tolist():
        exposure = value if exposure is None else keep * exposure + (1 - keep) * value
        scales.append(exposure)
    return image * torch.tensor(scales, device=image.device).view(-1, 1, 1, 1), exposure


def _falloff(sensor: Sensor, size: tuple[int, int], device) -> Tensor:
    """Return (H, W, 1): vignette and dirt."""
    width, height = size
    y, x = torch.meshgrid(
        torch.arange(height, device=device) / width, torch.arange(width, device=device) / width, indexing="ij"
    )
    radius = ((x - 0.5).square() + (y - 0.5 * height / width).square()) * 4.0
    gain = 1.0 - sensor.vignette * radius.clamp(max=1.0).square()
    for cx, cy, r, strength in sensor.dirt:
        gain = gain * (1.0 - strength * torch.exp(-((x - cx).square() + (y - cy).square()) / (r * r)))
    return gain[..., None]


def _tone(sensor: Sensor, image: Tensor) -> Tensor:
    """Roll highlights off and encode for display, with contrast."""
    image = image.clamp_(min=1e-6)
    over = (image - 0.8).clamp_(min=0.0)
    image = image.clamp_(max=0.8).add_(over.div_(over + 0.4), alpha=0.199)
    # The curve as a table over the square root: several times as fast as a power of every value.
    curve = torch.linspace(0, 1, 2048, device=image.device) ** (2 * max(sensor.contrast, 1.0) / 2.2)
    if sensor.contrast < 1:
        curve = sensor.contrast * curve + 0.5 * (1 - sensor.contrast)
    curve = (sensor.black + (1 - sensor.black) * curve).clamp_(0, 1)
    index = image.sqrt_().mul_(2047.0).add_(0.5).int().flatten()
    return curve.index_select(0, index).view(image.shape)


def _blur(image: Tensor, sigma: float) -> Tensor:
    """Blur (N, H, W, C) by a Gaussian, the border repeated."""
    radius = max(1, math.ceil(2.2 * sigma))
    weights = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(radius + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    # Shifted sums: for so few taps and channels several times as fast as a convolution on a CPU.
    for axis in (1, 2):
        size = image.shape[axis]
        ends = [image.narrow(axis, 0, 1)] * radius, [image.narrow(axis, size - 1, 1)] * radius
        padded = torch.cat([*ends[0], image, *ends[1]], axis)
        image = padded.narrow(axis, radius, size) * (weights[0] / total)
        for k in range(1, radius + 1):
            pair = padded.narrow(axis, radius - k, size) + padded.narrow(axis, radius + k, size)
            image = image.add_(pair, alpha=weights[k] / total)
    return image


def motion_blur(radiance: Tensor, streak: Tensor, size: tuple[int, int], taps: int = 4) -> Tensor:
    """Average each pixel of (N, P, 3) along its streak (N, P, 2) [px], centred on it."""
    width, height = size
    count, pixels, _ = radiance.shape
    longest = streak.abs().amax(-1) > 0.75
    where = longest.flatten().nonzero()[:, 0]
    if not len(where):
        return radiance
    image = torch.div(where, pixels, rounding_mode="floor")
    index = where - image * pixels
    x, y = index % width, torch.div(index, width, rounding_mode="floor")
    move = streak.reshape(-1, 2).index_select(0, where)
    flat = radiance.reshape(-1, 3)
    total = torch.zeros(len(where), 3, device=radiance.device)
    for tap in range(taps):
        share = (tap + 0.5) / taps - 0.5
        tx = (x + share * move[:, 0]).round().long().clamp(0, width - 1)
        ty = (y + share * move[:, 1]).round().long().clamp(0, height - 1)
        total += flat.index_select(0, image * pixels + ty * width + tx)
    out = flat.clone()
    out[where] = total / taps
    return out.view(count, pixels, 3)


def jpeg(image: Tensor, quality: int) -> Tensor:
    """Quantise (N, 3, H, W) or (N, 1, H, W) in 0..1 as JPEG does: 8x8 cosine transform, chroma at half size."""
    scale = 5000.0 / quality if quality < 50 else 200.0 - 2.0 * quality
    chroma_steps = torch.full((8, 8), 99, device=image.device)
    chroma_steps[:4, :4] = torch.tensor(_CHROMA_STEPS)
    table, chroma_table = (
        ((steps * scale + 50) / 100).floor().clamp(1, 255)
        for steps in (torch.tensor(_LUMA_STEPS, device=image.device), chroma_steps)
    )
    if image.shape[1] == 1:
        return (_quantise(image * 255.0 - 128.0, table) + 128.0) / 255.0
    r, g, b = (image * 255.0).unbind(1)
    luma = 0.299 * r + 0.587 * g + 0.114 * b
    chroma = torch.stack([0.564 * (b - luma), 0.713 * (r - luma)], 1)
    half = torch.nn.functional.avg_pool2d(chroma, 2, ceil_mode=True)
    luma = _quantise(luma[:, None] - 128.0, table)[:, 0] + 128.0
    half = _quantise(half, chroma_table)
    cb, cr = torch.nn.functional.interpolate(half, size=luma.shape[1:], mode="bilinear").unbind(1)
    return torch.stack([luma + 1.402 * cr, luma - 0.344 * cb - 0.714 * cr, luma + 1.773 * cb], 1) / 255.0


def _quantise(planes: Tensor, table: Tensor) -> Tensor:
    """Round the 8x8 cosine coefficients of (N, C, H, W) to a table (8, 8)."""
    height, width = planes.shape[2:]
    padded = torch.nn.functional.pad(planes, (0, -width % 8, 0, -height % 8), mode="replicate")
    k = torch.arange(8, device=planes.device)
    basis = torch.cos((2 * k[None] + 1) * k[:, None] * math.pi / 16) * 0.5
    basis[0] = basis[0] / math.sqrt(2.0)
    blocks = padded.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)  # (N, C, rows, columns, 8, 8)
    coefficients = basis @ blocks @ basis.T
    blocks = basis.T @ ((coefficients / table).round() * table) @ basis
    return blocks.transpose(3, 4).flatten(4, 5).flatten(2, 3)[:, :, :height, :width]
