"""Pictures of every kind become the same upright RGB; sizes, crops and frames are where they should be."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest

from headstart.core.errors import DataError, UsageError
from headstart.modalities import _pixels

Image = pytest.importorskip("PIL.Image")

RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def saved(image, kind: str, **options) -> bytes:
    to = io.BytesIO()
    image.save(to, kind, **options)
    return to.getvalue()


def halves(size=(40, 20), mode: str = "RGB"):
    """Return a picture whose left half is red and whose right half is green."""
    image = Image.new("RGB", size, GREEN)
    image.paste(RED, (0, 0, size[0] // 2, size[1]))
    return image.convert(mode)


def near(pixel, wanted, by: int = 12) -> bool:
    return all(abs(a - b) <= by for a, b in zip(pixel, wanted, strict=True))


def test_exif_turns_the_picture_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    found = _pixels.decode(saved(halves(), "JPEG", exif=exif, quality=95), "turned.jpg")
    assert (found.size, found.mode) == ((20, 40), "RGB")
    assert near(found.getpixel((10, 5)), RED)
    assert near(found.getpixel((10, 35)), GREEN)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("RGB", "PNG"),
        ("CMYK", "JPEG"),
        ("CMYK", "TIFF"),
        ("P", "PNG"),
        ("P", "GIF"),
        ("RGBA", "WEBP"),
    ],
)
def test_colours_come_through_every_mode(mode, kind):
    found = _pixels.decode(saved(halves(mode=mode), kind, **({"quality": 95} if kind == "JPEG" else {})), "x")
    assert found.mode == "RGB"
    assert near(found.getpixel((5, 10)), RED)
    assert near(found.getpixel((35, 10)), GREEN)


def test_grey_and_one_bit_become_rgb():
    assert _pixels.decode(saved(Image.new("L", (4, 4), 77), "PNG"), "x").getpixel((1, 1)) == (77, 77, 77)
    assert _pixels.decode(saved(Image.new("1", (4, 4), 1), "PNG"), "x").getpixel((1, 1)) == WHITE


def test_sixteen_bits_keep_their_shade():
    values = np.full((4, 4), 32896, np.uint16)
    assert _pixels.decode(saved(Image.fromarray(values), "PNG"), "x").getpixel((0, 0)) == (128, 128, 128)
    floats = np.array([[0, 0.5], [0.5, 1]], np.float32)
    assert _pixels.decode(saved(Image.fromarray(floats), "TIFF"), "x").getpixel((1, 1)) == WHITE


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_what_is_transparent_stands_on_white(kind):
    clear = Image.new("RGBA", (6, 6), (0, 0, 0, 0))
    clear.paste((255, 0, 0, 255), (0, 0, 3, 6))
    found = _pixels.decode(saved(clear, kind, **({"lossless": True} if kind == "WEBP" else {})), "x")
    assert (found.getpixel((1, 1)), found.getpixel((5, 5))) == (RED, WHITE)


def test_a_transparent_colour_of_a_palette_stands_on_white():
    image = halves(mode="RGB").quantize(4)
    content = saved(image, "PNG", transparency=image.getpixel((0, 0)))
    found = _pixels.decode(content, "x")
    assert found.getpixel((1, 1)) == WHITE
    assert near(found.getpixel((35, 1)), GREEN)


def test_the_first_frame_of_an_animation_counts():
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN)]
    content = saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)
    assert near(_pixels.decode(content, "x").getpixel((4, 4)), RED)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_what_is_no_picture_is_named(content):
    with pytest.raises(DataError, match=r"'shop/12\.jpg'"):
        _pixels.decode(content, "shop/12.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_what_is_cut_short_is_refused(kind):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8))
    content = saved(noise, kind)
    with pytest.raises(DataError, match="'x'"):
        _pixels.decode(content[: len(content) // 2], "x")


def test_a_small_file_that_claims_to_be_huge_is_refused():
    content = bytearray(saved(Image.new("L", (8, 8)), "PNG"))
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    with pytest.raises(DataError, match="too large"):
        _pixels.decode(bytes(content), "bomb.png")


def test_a_large_jpeg_is_decoded_at_a_fraction_where_that_is_enough():
    content = saved(halves((800, 400)), "JPEG", quality=95)
    assert _pixels.decode(content, "x", least=100).size == (200, 100)
    assert _pixels.decode(content, "x", least=101).size == (400, 200)
    assert _pixels.decode(content, "x").size == (800, 400)


def test_arrays_are_pictures_too():
    array = np.zeros((4, 6, 3), np.uint8)
    array[..., 0] = 255
    assert _pixels.from_array(array).size == (6, 4)
    assert _pixels.from_array(array / 255).getpixel((0, 0)) == RED
    assert _pixels.from_array(array[..., 0]).getpixel((0, 0)) == WHITE
    with pytest.raises(DataError, match=r"\[4, 6, 2\]"):
        _pixels.from_array(array[..., :2])


@pytest.mark.parametrize(
    ("size", "settings", "wanted"),
    [
        ((640, 480), {"size": 256}, (341, 256, 0, 0, (256, 341))),
        ((640, 480), {"size": 256, "crop": [224, 224]}, (341, 256, -58, -16, (224, 224))),
        ((640, 480), {"size": 256, "crop": [224, 224], "centre": "floor"}, (341, 256, -58, -16, (224, 224))),
        ((643, 480), {"size": 256, "crop": [224, 225], "centre": "floor"}, (342, 256, -58, -16, (224, 225))),
        ((100, 50), {"size": [30, 40]}, (40, 30, 0, 0, (30, 40))),
        ((100, 50), {"size": 800, "longest": 1333}, (1333, 666, 0, 0, (666, 1333))),
        ((768, 576), {"size": [416, 416], "pad": 114}, (416, 312, 0, 0, (416, 416))),
        ((768, 576), {"size": [640, 640], "pad": 114, "align": "centre"}, (640, 480, 0, 80, (640, 640))),
        ((10, 10), {"crop": [13, 12]}, (10, 10, 1, 1, (13, 12))),
    ],
)
def test_where_a_picture_stands(size, settings, wanted):
    found = _pixels.placement(size, settings)
    assert (found.width, found.height, found.left, found.top, found.canvas) == wanted
    assert _pixels.fitted(Image.new("RGB", size), settings).size == wanted[4][::-1]


def test_frames_are_filled_and_channels_ordered():
    settings = {"size": [8, 8], "pad": 114, "scale": 1, "channels": "bgr", "layout": "nhwc"}
    found = _pixels.pixels([Image.new("RGB", (8, 4), RED)], settings)
    assert (found.shape, found.dtype) == ((1, 8, 8, 3), np.float32)
    assert found[0, 0, 0].tolist() == [0, 0, 255]
    assert found[0, 7, 0].tolist() == [114, 114, 114]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_fourth_band_comes_as_it_is_and_weighs_no_colours(kind):
    values = np.zeros((8, 8, 4), np.uint8)
    values[..., 0], values[:4, :, 3] = 200, 100
    content = saved(Image.fromarray(values), kind)
    settings = {"size": [4, 4], "channels": "rgbx", "scale": 1, "mean": [0, 0, 0, 50], "std": [1, 1, 1, 2]}
    found = _pixels.pixels([_pixels.decode(content, "x", bands=4)], settings)
    assert found.shape == (1, 4, 4, 4)
    assert (found[0, 0] == 200).all() and found[0, 3, 0, 0] == 25 and found[0, 3, 3, 3] == -25
    plain = _pixels.decode(saved(halves((8, 8)), "PNG"), "x", bands=4)
    assert (np.asarray(plain)[..., 3] == 255).all()
    padded = _pixels.fitted(plain, {"size": [8, 12], "pad": 7})
    assert padded.size == (12, 8) and padded.getpixel((11, 0)) == (7, 7, 7, 7)


def test_channels_that_do_not_exist_are_told():
    with pytest.raises(UsageError, match="no channels 'RGB'"):
        _pixels.pixels([Image.new("RGB", (2, 2))], {"channels": "RGB"})


def test_mean_and_std_follow_the_channels():
    image = Image.new("RGB", (2, 2), (255, 51, 0))
    found = _pixels.pixels([image], {"mean": [1, 0.2, 0.5], "std": [1, 1, 0.5], "scale": 1 / 255})
    assert np.allclose(found[0, :, 0, 0], [0, 0, -1], atol=1e-6)


def test_pictures_of_one_batch_have_one_size():
    pair = [Image.new("RGB", (4, 4)), Image.new("RGB", (8, 4))]
    with pytest.raises(DataError, match="2 different sizes"):
        _pixels.pixels(pair, {"size": 4})
    assert _pixels.pixels(pair, {"size": 4, "crop": [4, 4]}).shape == (2, 3, 4, 4)
    assert _pixels.pixels([], {"size": [4, 4]}).shape[:2] == (0, 3)


def test_a_thin_strip_is_not_blown_up():
    strip = Image.new("RGB", (20_000, 2), RED)
    assert _pixels.fitted(strip, _pixels.defaults()).size == (224, 224)


def test_an_unknown_interpolation_is_named():
    with pytest.raises(UsageError, match="'cubic'"):
        _pixels.fitted(Image.new("RGB", (4, 4)), {"size": [2, 2], "interpolation": "cubic"})


def test_without_averaging_shrinking_takes_points():
    # Of four rows, the middle lies between the two dark ones.
    rows = np.tile(np.uint8([255, 0, 0, 255]), 4)[:, None, None].repeat(16, 1).repeat(3, 2)
    settings = {"size": [4, 4], "interpolation": "bilinear"}
    averaged = np.asarray(_pixels.fitted(Image.fromarray(rows), settings))
    points = np.asarray(_pixels.fitted(Image.fromarray(rows), settings | {"antialias": False}))
    assert averaged.min() > 50
    assert points.max() == 0


def test_how_much_of_a_jpeg_is_needed():
    assert _pixels.smallest(_pixels.defaults()) == 512
    assert _pixels.smallest({"size": [299, 299]}) == 598
    assert _pixels.smallest({"size": 800, "longest": 1333}) == 0
    assert _pixels.smallest({"size": None}) == 0
