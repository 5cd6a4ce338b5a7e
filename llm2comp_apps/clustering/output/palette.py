"""Colours for any number of topics: evenly lit (OKLCH, Ottosson 2020), neighbours in rank far apart in hue."""

from __future__ import annotations

import math

__all__ = ["OUTLIER_COLOR", "topic_color"]

OUTLIER_COLOR = "#bec3cb"
_GOLDEN_ANGLE = 137.508  # each new hue falls into the widest gap between the hues so far
_FIRST_HUE = 255.0
# Lightness and chroma by theme; three rings, so that hues that come close again differ in lightness.
_RINGS = {"light": ((0.60, 0.16), (0.48, 0.13), (0.71, 0.13)), "dark": ((0.74, 0.14), (0.64, 0.14), (0.83, 0.11))}


def topic_color(rank: int, theme: str = "light") -> str:
    """The colour of the topic of a rank, as ``#rrggbb``; ``theme`` is ``light`` or ``dark``."""
    lightness, chroma = _RINGS[theme][rank % 3]
    return _hex(lightness, chroma, math.radians(_FIRST_HUE + _GOLDEN_ANGLE * rank))


def _hex(lightness: float, chroma: float, hue: float) -> str:
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    # OKLab to linear sRGB, https://bottosson.github.io/posts/oklab/
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    channels = (min(max(value, 0.0), 1.0) for value in linear)
    encoded = (12.92 * v if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055 for v in channels)
    return "#" + "".join(f"{round(255 * v):02x}" for v in encoded)
