"""What is seen of a page, in pixels."""

from io import BytesIO

import numpy as np
from PIL import Image
from playwright.sync_api import Locator

_GREY_MAX = 60
"""Saturation, of 255."""


def coloured(place: Locator) -> int:
    """How many pixels of a part of the page are neither white nor grey."""
    picture = Image.open(BytesIO(place.screenshot())).convert("HSV")
    saturation = np.asarray(picture.getchannel("S"))
    return int(np.count_nonzero(saturation > _GREY_MAX))
