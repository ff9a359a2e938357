"""What the image plugins must answer, by Pillow, NumPy and ONNX Runtime.

usage: plugins_vision.py classify-image MODEL LABELS IMAGE…
       plugins_vision.py moderate-image MODEL IMAGE…
       plugins_vision.py detect-face PNET RNET ONET IMAGE…
       plugins_vision.py sheet IMAGE OUT

Prints a JSON list with one answer per image. `sheet` writes a page instead that shows the image in
four sizes, so that there is something to tell apart. Needs the packages in requirements.txt.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

FACE_SCORE_MIN = (0.6, 0.7, 0.9)  # of P-Net, R-Net and O-Net
FACE_SIZE_MIN = 20
# The longer sides at which P-Net sees a picture, and that which they are made from at most.
PICTURE_SIDE_MAX = 1280
LEVELS = [640, 453, 321, 227, 160, 113, 80, 56, 39, 27, 19, 13]
BOXES_MAX = 1000


def main() -> None:
    plugin, *files = sys.argv[1:]
    if plugin == "sheet":
        sheet(*files)
        return
    reference, models = {
        "classify-image": (classify, 2),
        "moderate-image": (moderate, 1),
        "detect-face": (detect, 3),
    }[plugin]
    pictures = [Image.open(file).convert("RGB") for file in files[models:]]
    json.dump([reference(picture, *files[:models]) for picture in pictures], sys.stdout)


def run(model: str, values: np.ndarray) -> list[np.ndarray]:
    """The outputs of a model with one input, in the model's order."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (value,) = session.get_inputs()
    return session.run(None, {value.name: np.ascontiguousarray(values, np.float32)})


def classify(picture: Image.Image, model: str, labels: str) -> list[dict]:
    """All classes of the square in the middle, the likeliest first."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    middle = picture.resize((224, 224), Image.BILINEAR, (left, top, left + side, top + side))
    values = (np.asarray(middle, np.float32) - 127) / 128
    (scores,) = run(model, values.transpose(2, 0, 1)[None])[0]
    with open(labels, encoding="utf-8") as file:
        names = json.load(file)
    labels = [names[str(index)].split(",")[0] for index in range(len(names))]
    return [
        {"label": labels[index], "index": int(index), "score": float(scores[index])}
        for index in np.argsort(-scores, kind="stable")
    ]


def moderate(picture: Image.Image, model: str) -> dict:
    """The two scores of the middle of the image, whose sides are made equal."""
    middle = picture.resize((256, 256), Image.BILINEAR).crop((16, 16, 240, 240))
    values = np.asarray(middle, np.float32)[..., ::-1] - np.array([104, 117, 123])
    ((safe, nsfw),) = run(model, values[None])[0]
    return {"safe": float(safe), "nsfw": float(nsfw)}


def detect(picture: Image.Image, pnet: str, rnet: str, onet: str) -> list[dict]:
    """Faces, the surest first: boxes as left, top, right, bottom; five points as x, y."""
    found = [candidates(picture, side, pnet) for side in levels(picture)]
    boxes, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
    boxes = squared(boxes[suppress(boxes, scores, 0.7)])
    if not len(boxes):
        return []

    shifts, scores = run(rnet, patches(picture, boxes, 24))
    sure = scores[:, 1] >= FACE_SCORE_MIN[1]
    boxes, scores = moved(boxes, shifts)[sure], scores[sure, 1]
    boxes = squared(boxes[suppress(boxes, scores, 0.7)])
    if not len(boxes):
        return []

    shifts, points, scores = run(onet, patches(picture, boxes, 48))
    sides = (boxes[:, 2] - boxes[:, 0])[:, None]
    points = [boxes[:, :1] + points[:, :5] * sides, boxes[:, 1:2] + points[:, 5:] * sides]
    points, scores, boxes = np.stack(points, 2), scores[:, 1], moved(boxes, shifts)
    sure = np.where(scores >= FACE_SCORE_MIN[2])[0]
    kept = sure[suppress(boxes[sure], scores[sure], 0.7, of_smaller=True)]
    return [
        {
            "score": float(scores[face]),
            "box": boxes[face].tolist(),
            "landmarks": points[face].tolist(),
        }
        for face in kept
    ]


def levels(picture: Image.Image) -> list[int]:
    """The longer sides on which P-Net, which sees faces of 12 pixels, finds the wanted ones."""
    enough = 12 * max(picture.size) / FACE_SIZE_MIN
    start = max([at for at, side in enumerate(LEVELS) if side >= enough], default=0)
    flatness = min(picture.size) / max(picture.size)
    return [side for side in LEVELS[start:] if side * flatness >= 12]


def candidates(picture: Image.Image, side: int, pnet: str) -> tuple[np.ndarray, ...]:
    """Boxes and scores that P-Net sees in the picture on a black square of this side."""
    scale = side / max(picture.size)
    level = scaled(scaled(picture, min(max(picture.size), PICTURE_SIDE_MAX)), side)
    square = Image.new("RGB", (side, side))
    square.paste(level)
    shifts, scores = run(pnet, columns(square)[None])
    x, y = np.where(scores[0, :, :, 1] >= FACE_SCORE_MIN[0])
    boxes = np.stack([2 * x, 2 * y, 2 * x + 12, 2 * y + 12], 1) / scale
    boxes, scores = moved(boxes, shifts[0, x, y]), scores[0, x, y, 1]
    kept = suppress(boxes, scores, 0.5)
    return boxes[kept], scores[kept]


def scaled(picture: Image.Image, side: int) -> Image.Image:
    """The picture with this longer side."""
    scale = side / max(picture.size)
    return picture.resize([max(1, int(x * scale + 0.5)) for x in picture.size], Image.BILINEAR)


def patches(picture: Image.Image, squares: np.ndarray, side: int) -> np.ndarray:
    """The squares cut out on whole pixels, black where they leave the picture."""
    low = np.floor(squares[:, :2] + 0.5).astype(int)
    high = low + np.floor(squares[:, 2:] - squares[:, :2] + 0.5).astype(int)
    cut = [picture.crop((*corner, *other)) for corner, other in zip(low, high, strict=True)]
    return np.stack([columns(patch.resize((side, side), Image.BILINEAR)) for patch in cut])


def columns(picture: Image.Image) -> np.ndarray:
    """f32[width, height, 3]: these networks were trained on columns."""
    return ((np.asarray(picture, np.float32) - 127.5) / 128).transpose(1, 0, 2)


def moved(boxes: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Each edge moved by its part of the box's width or height."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes + shifts * np.concatenate([sides, sides], 1)


def squared(boxes: np.ndarray) -> np.ndarray:
    """Squares of the longer side around the same middle."""
    half = (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True) / 2
    middle = (boxes[:, 2:] + boxes[:, :2]) / 2
    return np.concatenate([middle - half, middle + half], 1)


def suppress(
    boxes: np.ndarray, scores: np.ndarray, overlap_max: float, of_smaller: bool = False
) -> np.ndarray:
    """Indices of the boxes that no better one covers, the best first.

    The overlap is that over the union, or over the smaller of the two.
    """
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    left = np.argsort(-scores, kind="stable")
    kept = []
    while left.size:
        best, left = left[0], left[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[left, :2])
        high = np.minimum(boxes[best, 2:], boxes[left, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        smaller = np.minimum(areas[best], areas[left])
        whole = smaller if of_smaller else areas[best] + areas[left] - shared
        left = left[shared / whole <= overlap_max]
    return np.array(kept[:BOXES_MAX], int)


def sheet(file: str, out: str) -> None:
    """A page of 700 by 500 with the image, which is a square, at four sizes."""
    picture, page = Image.open(file).convert("RGB"), Image.new("RGB", (700, 500), (90, 110, 120))
    for side, place in ((154, (0, 0)), (256, (170, 0)), (410, (290, 80)), (102, (0, 200))):
        page.paste(picture.resize((side, side), Image.BICUBIC), place)
    page.save(out)


if __name__ == "__main__":
    main()
