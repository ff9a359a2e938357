"""Inputs of the image models: crops of two photographs, and pages with printed lines.

The photographs are those that scikit-learn ships; each model gets them in its own layout and scale.
"""

from collections.abc import Callable, Iterator
from importlib.resources import files
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

LINES = [
    "Invoice No. 2024-0817",
    "Total: $1,284.50",
    "The lighthouse keeper",
    "wrote down every ship.",
    "40 bolts, 12 nuts",
    "Pay by 30 September",
]
NSFW_MEAN = [104, 117, 123]  # of blue, green and red, as its ResNet-50 was trained


def photo(name: str) -> Image.Image:
    """china.jpg or flower.jpg, 640 by 427."""
    data = files("sklearn.datasets").joinpath("images", name).read_bytes()
    return Image.open(BytesIO(data)).convert("RGB")


def crops(batch: int, height: int, width: int, seed: int) -> np.ndarray:
    """Seeded crops of both photographs: f32[batch, height, width, 3], RGB from 0 to 255."""
    random = np.random.default_rng(seed)
    pictures = []
    for row in range(batch):
        picture = photo(("china.jpg", "flower.jpg")[row % 2])
        side = int(random.integers(120, 420))
        x, y = (int(random.integers(0, limit - side)) for limit in picture.size)
        box = (x, y, x + side, y + side)
        pictures.append(np.asarray(picture.resize((width, height), Image.BILINEAR, box)))
    return np.stack(pictures).astype(np.float32)


def pages(batch: int, height: int, width: int, size: int, first: int) -> np.ndarray:
    """Printed lines, dark on light, `size` pixels high: f32[batch, height, width, 3]."""
    pictures = []
    for row in range(batch):
        page = Image.new("RGB", (width, height), (245, 243, 236))
        draw = ImageDraw.Draw(page)
        for at, top in enumerate(range(size // 5, height - size, size * 2)):
            line = LINES[(first + row + at) % len(LINES)]
            draw.text((size // 3, top), line, (30, 30, 40), ImageFont.load_default(size))
        pictures.append(np.asarray(page))
    return np.stack(pictures).astype(np.float32)


def channels_first(pictures: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))


def _each(shapes: list[tuple], make: Callable[..., np.ndarray]) -> Callable:
    """The cases of a model with one input: `make(*shape, seed)` for each shape."""

    def cases(session, packages) -> Iterator[dict]:
        (value,) = session.get_inputs()
        for seed, shape in enumerate(shapes):
            yield {value.name: np.ascontiguousarray(make(*shape, seed), np.float32)}

    return cases


def _ocr(batch: int, height: int, width: int, size: int, first: int) -> np.ndarray:
    return channels_first(pages(batch, height, width, size, first) / 127.5 - 1)


def _ocr_line(batch: int, width: int, first: int) -> np.ndarray:
    return _ocr(batch, 48, width, 32, first)


def _face(batch: int, height: int, width: int, seed: int) -> np.ndarray:
    return (crops(batch, height, width, seed) - 127.5) / 128


def _nsfw(batch: int, seed: int) -> np.ndarray:
    return crops(batch, 224, 224, seed)[..., ::-1] - np.array(NSFW_MEAN)


def _lite0(batch: int, seed: int) -> np.ndarray:
    return channels_first((crops(batch, 224, 224, seed) - 127) / 128)


def _super_resolution(batch: int, height: int, width: int, seed: int) -> np.ndarray:
    return channels_first(crops(batch, height, width, seed))


def _light(kind: str, seed: int) -> np.ndarray:
    """The input of the wheel's own expected output (a ramp), or a photograph."""
    if kind == "ramp":
        count = 3 * 224 * 224
        return (np.arange(count).reshape(1, 3, 224, 224) / count).astype(np.float32)
    return channels_first(crops(1, 224, 224, seed) / 255)


ocr_det = _each([(1, 320, 320, 20), (1, 640, 480, 28), (3, 160, 160, 16)], _ocr)
ocr_rec = _each([(1, 160), (1, 320), (1, 480), (3, 320), (8, 160)], _ocr_line)
ocr_cls = _each([(1, 192), (3, 192), (8, 192)], _ocr_line)
pnet = _each([(1, 12, 12), (1, 96, 64), (3, 41, 30), (8, 24, 24)], _face)
rnet = _each([(batch, 24, 24) for batch in (1, 3, 8)], _face)
onet = _each([(batch, 48, 48) for batch in (1, 3, 8)], _face)
open_nsfw = _each([(1,), (3,), (8,)], _nsfw)
lite0 = _each([(1,), (3,), (8,)], _lite0)
esrgan = _each([(1, 24, 24), (1, 33, 47), (3, 16, 20), (8, 12, 12)], _super_resolution)
light = _each([("ramp",), ("photo",)], _light)
