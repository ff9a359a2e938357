"""What the plugins for sounds and printed pages must answer, by NumPy, SciPy, Pillow and ONNX Runtime.

usage: plugins_media.py ocr DET CLS REC PICTURE…     a list of lines for each picture
       plugins_media.py detect-speech MODEL WAV…     a list of segments for each sound
       plugins_media.py page OUT.png [DEGREES]       draws the lines that are printed as a list
       plugins_media.py speech OUT.wav CLIP.wav…     joins clips with silence; prints where they are

Prints JSON. Needs the packages in requirements.txt.
"""

import json
import sys
import wave

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

PAGE = ["Invoice No. 2024-0817", "Total: $1,284.50"]
PAPER = (245, 243, 236)
RATE = 16000
CHUNK, CONTEXT = 512, 64
PAUSE = 0.8  # seconds of silence around clips
# A clip begins and ends with its first and last 10 ms that are so loud, of the loudest.
LOUDNESS_MIN = 0.05


def main() -> None:
    task, *files = sys.argv[1:]
    if task == "page":
        answer = page(*files)
    elif task == "speech":
        answer = speech(*files)
    elif task == "ocr":
        models = [session(file) for file in files[:3]]
        answer = [read_page(Image.open(file).convert("RGB"), *models) for file in files[3:]]
    elif task == "detect-speech":
        model = session(files[0])
        answer = [segments(probabilities(samples(file), model)) for file in files[1:]]
    else:
        sys.exit(__doc__)
    json.dump(answer, sys.stdout)


def session(model: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def page(out: str, degrees: str = "0") -> list[str]:
    """Two printed lines, turned counter-clockwise."""
    picture = Image.new("RGB", (640, 220), PAPER)
    draw = ImageDraw.Draw(picture)
    for row, line in enumerate(PAGE):
        draw.text((40, 40 + 80 * row), line, (30, 30, 40), ImageFont.load_default(32))
    turned = picture.rotate(float(degrees), Image.BICUBIC, expand=True, fillcolor=PAPER)
    turned.save(out, "PNG")
    return PAGE


def read_page(picture: Image.Image, det, cls, rec) -> list[dict]:
    """The lines of a page from top to bottom: text, confidence and corners."""
    scale = 960 / max(picture.size)
    width, height = (max(1, int(side * scale + 0.5)) for side in picture.size)
    seen = picture.resize((width, height), Image.BILINEAR)
    chart = run(det, seen, -(-width // 32) * 32, -(-height // 32) * 32)[0, 0]
    names = ["", *rec.get_modelmeta().custom_metadata_map["character"].splitlines(), " "]
    lines = []
    for corners in areas(chart):
        corners = corners / scale
        line = cut(picture, corners)
        line = line.resize((max(1, line.width * 48 // line.height), 48), Image.BILINEAR)
        text, confidence = read_line(line, rec, names)
        narrow = line.resize((min(line.width, 192), 48), Image.BILINEAR)
        if run(cls, narrow, 192, 48)[0, 1] > 0.9:
            turned = read_line(line.transpose(Image.ROTATE_180), rec, names)
            if turned[1] > confidence:
                (text, confidence), corners = turned, np.roll(corners, 2, axis=0)
        if confidence >= 0.5:
            corners = corners.tolist()
            lines.append({"text": text, "confidence": float(confidence), "corners": corners})
    return sorted(lines, key=lambda line: np.mean(line["corners"], axis=0)[1])


def run(model, picture: Image.Image, width: int, height: int) -> np.ndarray:
    """The one output on a picture from -1 to 1, blue first, in the top left of a grey one."""
    frame = Image.new("RGB", (width, height), (128, 128, 128))
    frame.paste(picture)
    values = (np.asarray(frame, np.float32)[..., ::-1] - 127.5) / 127.5
    (value,) = model.get_inputs()
    return model.run(None, {value.name: np.ascontiguousarray(values.transpose(2, 0, 1)[None])})[0]


def areas(chart: np.ndarray) -> list[np.ndarray]:
    """The grown rectangles around what is marked; text of high ones runs upwards."""
    labels, _ = ndimage.label(chart >= 0.3, np.ones((3, 3)))
    found = []
    for label, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        own = labels[rows, columns] == label
        if chart[rows, columns][own].mean() <= 0.5:
            continue
        y, x = np.nonzero(own)
        points = np.stack([x + columns.start, y + rows.start], 1) + 0.5
        corners, width, height = smallest_rectangle(points)
        if min(width, height) < 3:
            continue
        middle = corners.mean(axis=0)
        growth = 2.4 * width * height / (width + height)
        size = np.array([width + growth, height + growth]) / 2
        along = (corners[1] - corners[0]) / width
        axes = np.stack([along, [-along[1], along[0]]]) * size[:, None]
        signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        found.append(np.roll(middle + signs @ axes, int(height > 1.5 * width), axis=0))
    return found


def smallest_rectangle(points: np.ndarray) -> tuple[np.ndarray, float, float]:
    """By the edges of the convex hull, of which one lies on a side of the smallest rectangle. One
    that is turned must be 2 % smaller than the straight one."""
    angles = [0.0]
    try:
        hull = points[ConvexHull(points).vertices]
        edges = np.roll(hull, -1, axis=0) - hull
        angles += list((np.arctan2(edges[:, 1], edges[:, 0]) + np.pi / 4) % (np.pi / 2) - np.pi / 4)
    except QhullError:  # all points are on one line
        pass
    best = None
    for angle in angles:
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        along = points @ turn.T
        start, end = along.min(axis=0) - 0.5, along.max(axis=0) + 0.5
        width, height = end - start
        if best is None or width * height < best[0] * (0.98 if best[4] == 0 else 1):
            box = np.array([start, [end[0], start[1]], end, [start[0], end[1]]])
            best = (width * height, box @ turn, width, height, angle)
    return best[1:4]


def cut(picture: Image.Image, corners: np.ndarray) -> Image.Image:
    """What lies between the corners, upright; linear between pixels."""
    start, right, _, down = corners
    width, height = (max(1, round(float(np.hypot(*(to - start))))) for to in (right, down))
    u, v = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    x, y = (start[i] + u * (right - start)[i] + v * (down - start)[i] - 0.5 for i in (0, 1))
    values = np.asarray(picture, np.float32)
    planes = [
        ndimage.map_coordinates(values[..., colour], [y, x], order=1, mode="nearest")
        for colour in range(3)
    ]
    return Image.fromarray(np.stack(planes, -1).round().astype(np.uint8))


def read_line(line: Image.Image, rec, names: list[str]) -> tuple[str, float]:
    """The text of one line, and the mean of the probabilities of its characters."""
    width = max(line.width, 320)
    step = (1 << (width - 1).bit_length()) // 8
    chances = run(rec, line, -(-width // step) * step, 48)[0]
    likeliest = chances.argmax(axis=1)
    new = (likeliest != 0) & (np.diff(likeliest, prepend=0) != 0)
    text = "".join(names[index] for index in likeliest[new])
    return text, chances.max(axis=1)[new].mean() if new.any() else 0.0


def samples(file: str) -> np.ndarray:
    """The samples of a WAV file of 16 bits, one channel and 16 kHz, from -1 to 1."""
    with wave.open(file) as sound:
        assert (sound.getframerate(), sound.getsampwidth(), sound.getnchannels()) == (RATE, 2, 1)
        return np.frombuffer(sound.readframes(sound.getnframes()), "<i2") / np.float32(32768)


def speech(out: str, *clips: str) -> list[list[float]]:
    """Writes the clips, without the quiet at their ends, between pauses of hardly any noise."""
    quiet = np.random.default_rng(0).normal(0, 1 / 32768, round(PAUSE * RATE))
    parts, spoken, length = [quiet], [], len(quiet)
    for clip in map(samples, clips):
        frames = clip[: len(clip) // 160 * 160].reshape(-1, 160)
        loudness = np.sqrt((frames**2).mean(axis=1))
        (loud,) = np.nonzero(loudness > LOUDNESS_MIN * loudness.max())
        clip = clip[loud[0] * 160 : (loud[-1] + 1) * 160]
        spoken.append([length / RATE, (length + len(clip)) / RATE])
        parts += [clip, quiet]
        length += len(clip) + len(quiet)
    whole = np.clip(np.concatenate(parts) * 32768, -32768, 32767).round().astype("<i2")
    with wave.open(out, "wb") as sound:
        sound.setparams((1, 2, RATE, len(whole), "NONE", ""))
        sound.writeframes(whole.tobytes())
    return spoken


def probabilities(sound: np.ndarray, model) -> list[float]:
    """That somebody speaks, for each 32 ms; the state is passed on by hand."""
    count = -(-len(sound) // CHUNK)
    padded = np.pad(sound, (CONTEXT, count * CHUNK - len(sound))).astype(np.float32)
    state = np.zeros((2, 1, 128), np.float32)
    found = []
    for at in range(0, count * CHUNK, CHUNK):
        feeds = {"input": padded[None, at : at + CONTEXT + CHUNK], "state": state}
        output, state = model.run(["output", "stateN"], feeds | {"sr": np.array(RATE, np.int64)})
        found.append(float(output[0, 0]))
    return found


def segments(chances: list[float]) -> list[list[float]]:
    """Seconds from and to: begun at 0.5 and gone on to 0.35, with 100 ms of silence between, of
    250 ms at least, and 30 ms longer on both sides."""
    chunk = CHUNK / RATE
    runs, speaks = [], False
    for at, chance in enumerate(chances):
        was, speaks = speaks, chance >= (0.35 if speaks else 0.5)
        if speaks and not was:
            runs.append([at, at + 1])
        elif speaks:
            runs[-1][1] = at + 1
    joined = []
    for start, end in runs:
        if joined and (start - joined[-1][1]) * chunk < 0.1:
            joined[-1][1] = end
        else:
            joined.append([start, end])
    long = [(start, end) for start, end in joined if (end - start) * chunk >= 0.25]
    return [[start * chunk - 0.03, end * chunk + 0.03] for start, end in long]


if __name__ == "__main__":
    main()
