"""Writes the files beside it: small pictures and sounds, and what Pillow and SciPy make of them.

    python make.py      # with numpy, pillow and scipy
"""

import wave
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.signal import resample_poly

HERE = Path(__file__).parent


def picture() -> Image.Image:
    """Gradients, an edge, a disc and some noise, 61 x 47."""
    y, x = np.mgrid[0:47, 0:61]
    pixels = np.stack([x * 4, y * 5, (x + y) * 2], axis=2).astype(float)
    pixels[(x - 40) ** 2 + (y - 20) ** 2 < 90] = [250, 20, 30]
    pixels[30:, :20] = [10, 240, 90]
    pixels[:12, :8] = [255, 255, 255]
    pixels += np.random.default_rng(7).normal(0, 4, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def pictures() -> None:
    image = picture()
    image.save(HERE / "picture.png", optimize=True)
    filters = Image.Resampling
    for name, filter in [
        ("bilinear", filters.BILINEAR),
        ("bicubic", filters.BICUBIC),
        ("lanczos", filters.LANCZOS),
        ("box", filters.BOX),
    ]:
        image.resize((23, 19), filter).save(HERE / f"{name}-23x19.png", optimize=True)
    image.resize((90, 60), filters.BILINEAR).save(HERE / "bilinear-90x60.png", optimize=True)

    image.save(HERE / "picture.jpg", quality=90)
    image.save(HERE / "progressive.jpg", quality=90, progressive=True)
    Image.open(HERE / "picture.jpg").save(HERE / "picture-jpg.png", optimize=True)
    image.convert("L").save(HERE / "grey.jpg", quality=90)
    image.convert("CMYK").save(HERE / "cmyk.jpg", quality=95)

    # A camera that was held upright: the rows of the file are columns of the picture.
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(
        HERE / "turned.jpg", quality=95, subsampling=0, exif=exif
    )

    grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(HERE / "grey16.png", optimize=True)
    see_through = image.convert("RGBA")
    see_through.putalpha(100)
    see_through.save(HERE / "see-through.png", optimize=True)


def sounds() -> None:
    """A chirp of 1,000 samples at 44,100 Hz, as 16 bits; and at 16,000 and 48,000 Hz."""
    time = np.arange(1000) / 44100
    chirp = 0.8 * np.sin(2 * np.pi * (300 + 60000 * time) * time)
    samples = np.round(chirp * 32767).astype("<i2")
    with wave.open(str(HERE / "chirp.wav"), "wb") as file:
        file.setparams((1, 2, 44100, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    exact = samples.astype(np.float64) / 32768
    resample_poly(exact, 160, 441).astype("<f4").tofile(HERE / "chirp-16000.f32")
    resample_poly(exact, 160, 147).astype("<f4").tofile(HERE / "chirp-48000.f32")


pictures()
sounds()
