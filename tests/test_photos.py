"""People's own pictures: what goes in comes out as the same kind of file, restored."""

import itertools
import os
import resource
import struct
import sys
import time
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import OpenImageIO as oiio
import pytest
import tensorflow as tf
import tifffile
from conftest import call_script, one_error_line, run_script, write_like, write_png16
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin

from model import build_unet
from noise2noise import images, networks, plots
from noise2noise.deadleaves import dead_leaves
from noise2noise.errors import InputError
from noise2noise.files import PART, remove_parts
from noise2noise.runs import save_model
from noise2noise.tiles import HALO, FewSizes, _spans, restore_image

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RGB = dead_leaves(np.random.default_rng(0), size=96)[:80]
ALPHA = np.tile(np.arange(96, dtype=np.uint8), (80, 1))
DEEP = RGB.astype(np.uint16) * 257 + np.arange(96, dtype=np.uint16)[None, :, None]  # all 16 bits
RGBA, RGBA16 = np.dstack([RGB, ALPHA]), np.dstack([DEEP, ALPHA.astype(np.uint16) * 250])


def pillow(array, **options):
    return lambda path: Image.fromarray(array).save(path, **options)


def png16(array):
    return lambda path: write_png16(path, array)


def write_lzw_tiff(path):
    import OpenImageIO as oiio

    image = oiio.ImageBuf(DEEP)
    image.specmod().attribute("compression", "lzw")
    assert image.write(str(path))


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    tags[0x010F] = "a camera"
    return tags


KINDS = {
    "rgb8.png": (pillow(RGB, icc_profile=ICC, exif=exif(6)), RGB),
    "grey8.png": (pillow(RGB[..., 0]), RGB[..., :1]),
    "greyalpha8.png": (pillow(np.dstack([RGB[..., 0], ALPHA])), None),
    "rgba8.png": (pillow(RGBA), RGBA),
    "palette.png": (lambda path: Image.fromarray(RGB).quantize(64).save(path), None),
    "grey16.png": (pillow(DEEP[..., 0]), DEEP[..., :1]),
    "rgb16.png": (png16(DEEP), DEEP),
    "rgba16.png": (png16(RGBA16), RGBA16),
    "greyalpha16.png": (png16(RGBA16[..., [0, 3]]), RGBA16[..., [0, 3]]),
    "rgb8.tif": (pillow(RGB, icc_profile=ICC, compression="tiff_lzw"), RGB),
    "grey8.tif": (pillow(RGB[..., 0]), RGB[..., :1]),
    "grey16.tif": (pillow(DEEP[..., 0]), DEEP[..., :1]),
    "rgb16.tif": (lambda path: tifffile.imwrite(path, DEEP, iccprofile=ICC), DEEP),
    "rgb16lzw.tif": (write_lzw_tiff, DEEP),
    "turned16.tif": (
        lambda path: tifffile.imwrite(path, DEEP, extratags=[(274, 3, 1, 6, True)]),
        DEEP,
    ),
    "white16.tif": (
        lambda path: tifffile.imwrite(path, ~DEEP[..., 0], photometric="miniswhite"),
        DEEP[..., :1],
    ),
    "rgba16.tif": (
        lambda path: tifffile.imwrite(path, RGBA16, photometric="rgb", extrasamples=["unassalpha"]),
        RGBA16,
    ),
    "lossless.webp": (pillow(RGB, lossless=True, icc_profile=ICC), RGB),
    "lossy.webp": (pillow(RGB, quality=90), None),
    "rgb.bmp": (pillow(RGB), RGB),
    "grey.jpg": (pillow(RGB[..., 0], quality=95), None),
} | {
    f"turned{n}.jpg": (pillow(RGB, quality=95, icc_profile=ICC, exif=exif(n)), None)
    for n in range(1, 9)
}


@pytest.fixture(scope="module")
def round_trip(project, tmp_path_factory):
    """A folder of every kind, and what `infer.py --restore` made of it."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("out") / "new"
    for name, (write, _) in KINDS.items():
        write(source / name)
    before = {path: path.read_bytes() for path in source.iterdir()}
    done = call_script(
        *(project / "infer.py", "gaussian", "small", "--restore", source),
        *("--output", target),
    )
    assert f"restored {len(KINDS)} of {len(KINDS)}" in done.stdout
    assert {path: path.read_bytes() for path in source.iterdir()} == before
    return source, target


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_comes_back_as_it_was_but_restored(round_trip, name):
    source, target = (folder / name for folder in round_trip)
    before, after = images.read_picture(source), images.read_picture(target)
    assert after.pixels.shape == before.pixels.shape
    assert after.pixels.dtype == before.pixels.dtype
    if before.pixels.shape[2] in (2, 4):
        np.testing.assert_array_equal(after.pixels[..., -1], before.pixels[..., -1])
    assert not np.array_equal(after.color, before.color)
    with Image.open(source) as a, Image.open(target) as b:
        assert b.size == a.size
        assert b.info.get("icc_profile") == a.info.get("icc_profile")
        assert dict(b.getexif()).get(0x0112) == dict(a.getexif()).get(0x0112)
        if a.format != "TIFF":
            assert dict(b.getexif()) == dict(a.getexif())
        assert b.mode == a.mode or name == "palette.png"  # which may need more colours


@pytest.mark.parametrize("names", [["turned6.jpg"], pytest.param(KINDS, marks=pytest.mark.slow)])
def test_every_kind_is_shown_before_and_after(project, tmp_path, names):
    (tmp_path / "in").mkdir()
    for name in names:
        KINDS[name][0](tmp_path / "in" / name)
    paths = ("--restore", tmp_path / "in", "--output", tmp_path / "out")
    call_script(project / "infer.py", "gaussian", "small", *paths, "--compare")
    for name in names:
        with Image.open(tmp_path / "out/compare" / f"{name}.png") as comparison:
            assert min(comparison.size) > 500


@pytest.mark.parametrize(
    "name", [name for name, (_, pixels) in KINDS.items() if pixels is not None]
)
def test_all_bits_are_read_and_written(tmp_path, name):
    write, pixels = KINDS[name]
    write(tmp_path / name)
    photo = images.read_picture(tmp_path / name)
    np.testing.assert_array_equal(photo.pixels, pixels)
    write_like(photo.path, tmp_path / f"again.{name}", photo.pixels)
    np.testing.assert_array_equal(images.read_picture(tmp_path / f"again.{name}").pixels, pixels)
    if name.endswith("16.png"):  # by another library than it was written with
        decoded = tf.io.decode_png((tmp_path / f"again.{name}").read_bytes(), dtype=tf.uint16)
        np.testing.assert_array_equal(decoded, pixels)


@pytest.mark.parametrize("profile", [ICC, None], ids=["profile", "sRGB chunk"])
@pytest.mark.parametrize("pixels", [RGB, RGBA, DEEP, RGBA16])
def test_a_png_keeps_all_that_it_says(tmp_path, pixels, profile):
    said = PngImagePlugin.PngInfo()
    said.add(b"sRGB", b"\1")
    said.add(b"gAMA", (45_455).to_bytes(4))
    said.add(b"cHRM", np.array([31_270, 32_900, 64_000, 33_000] * 2, ">u4").tobytes())
    said.add_text("Title", "caf\u00e9")
    said.add_text("Comment", "long " * 100, zip=True)
    said.add_itxt("Description", "5 \u00b5m, \u8272", lang="en", tkey="of what")
    said.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta>\u00b5</x:xmpmeta>")
    tags = exif(6)
    tags.get_ifd(0x8769).update({0x927C: b"a maker's note\0", 0x829A: 0.005, 0xA434: "a lens"})
    tags.get_ifd(0x8825).update({1: "N", 2: (10.0, 20.0, 30.5)})
    options = {"pnginfo": said, "icc_profile": profile, "exif": tags, "dpi": (300, 240)}
    Image.fromarray(RGB).save(tmp_path / "a.png", **options)
    for source, target in ("ab", "bc"):  # first of the file with 8 bits, then of one of its kind
        photo = images.read_picture(tmp_path / f"{source}.png")
        write_like(photo.path, tmp_path / f"{target}.png", pixels)
        written = tmp_path / f"{target}.png"
        np.testing.assert_array_equal(images.read_picture(written).pixels, pixels)
        with Image.open(tmp_path / "a.png") as a, Image.open(written) as b:
            assert b.info == a.info
            assert b.text == a.text
            assert {"exif", "dpi", "gamma", "chromaticity", "xmp", "Title"} < set(b.info)
            assert ("icc_profile" if profile else "srgb") in b.info
            assert b.getexif()[0x0112] == 6


def test_a_tiff_of_16_bits_keeps_all_that_it_says(tmp_path):
    texts = [(270, "5 \u00b5m"), (271, "a camera"), (305, "a scanner"), (306, "2020")]
    tags = [(tag, 2, 0, text.encode(), True) for tag, text in texts] + [(274, 3, 1, 8, True)]
    options = {"iccprofile": ICC, "resolution": (118.11, 94.5), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(
        tmp_path / "a.tif", DEEP, **options, extratags=tags, metadata=None, software=False
    )
    photo = images.read_picture(tmp_path / "a.tif")
    write_like(photo.path, tmp_path / "b.tif", photo.pixels)
    with tifffile.TiffFile(tmp_path / "a.tif") as a, tifffile.TiffFile(tmp_path / "b.tif") as b:
        before, after = ({tag.code: tag.value for tag in file.pages[0].tags} for file in (a, b))
    assert after == before | {273: after[273]}  # where its pixels are
    assert {270, 271, 274, 282, 283, 296, 305, 306, 34675} <= set(after)


@pytest.mark.parametrize(("mode", "space"), [("CMYK", None), ("LAB", "LAB"), ("P", "sRGB")])
def test_a_tiff_that_becomes_rgb_says_nothing_of_what_it_was(tmp_path, mode, space):
    """An ink's profile, a palette; nor a resolution that it did not have."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes() if space else ICC
    image = Image.new("LAB", (40, 40), (128, 0, 0)) if mode == "LAB" else None
    image = image or Image.fromarray(RGB).convert(mode)
    image.save(tmp_path / "a.tif", icc_profile=profile)
    write_like(
        tmp_path / "a.tif", tmp_path / "b.tif", images.read_picture(tmp_path / "a.tif").pixels
    )
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        tags = {tag.code for tag in file.pages.first.tags}
    assert (34675 in tags) == (mode == "P")
    assert not {320, 332, 282} & tags


@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_colours_keep_their_resolution(tmp_path, sampling):
    """An AVIF's, and those of a JPEG of four inks, whose sampling Pillow does not tell."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8))
    image.save(tmp_path / "a.avif", quality=95, subsampling=sampling)
    image.convert("CMYK").save(tmp_path / "a.jpg", quality=95, subsampling=sampling)
    for name in ("a.avif", "a.jpg"):
        before = images.read_picture(tmp_path / name).pixels
        write_like(tmp_path / name, tmp_path / f"again-{name}", before)
        after = images.read_picture(tmp_path / f"again-{name}").pixels
        assert np.abs(after - before.astype(float)).mean() < 8  # 20 where colours were halved


def test_a_phones_heic_keeps_what_it_says(project, tmp_path):
    """Its profile, EXIF, XMP, what its colours mean and their resolution."""
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    (tmp_path / "in").mkdir()
    first, turned = Image.fromarray(RGB), exif(6)
    meant = {"color_primaries": 12, "transfer_characteristics": 13}  # Display P3
    more = {"matrix_coefficients": 6, "full_range_flag": 1}
    first.save(tmp_path / "in/a.HEIC", exif=turned, xmp=b"<x/>", icc_profile=ICC, chroma=420)
    first.save(tmp_path / "in/p3.heif", chroma=444, **meant, **more)
    Image.fromarray(RGBA).save(tmp_path / "in/alpha.hif", quality=95)
    Image.fromarray(RGB[..., 0]).save(tmp_path / "in/grey.heic", quality=95)
    deep = pillow_heif.from_bytes("RGB;16", first.size, DEEP.tobytes())
    deep.save(tmp_path / "in/deep.heic", quality=95)
    first.save(tmp_path / "in/two.heic", save_all=True, append_images=[first])
    done = call_script(
        *(project / "infer.py", "gaussian", "small", "--restore", tmp_path / "in"),
        *("--output", tmp_path / "out"),
    )
    assert "restored 6 of 6" in done.stdout
    assert "deep.heic: 10 bits became 8" in done.stdout
    assert "two.heic: what follows the first picture left out" in done.stdout
    said = ("icc_profile", "xmp", "chroma")
    for path in (tmp_path / "in").iterdir():
        with Image.open(path) as before, Image.open(tmp_path / "out" / path.name) as after:
            assert (after.format, after.mode, after.size) == ("HEIF", before.mode, before.size)
            assert {k: before.info.get(k) for k in said} == {k: after.info.get(k) for k in said}
            assert dict(after.getexif()) == dict(before.getexif())
            nclx = after.info.get("nclx_profile", {})
            assert path.name != "p3.heif" or {k: nclx[k] for k in meant} == meant
    assert images.read_rgb(tmp_path / "out/a.HEIC").shape == RGB.shape


@pytest.mark.parametrize("brand", [b"heic", b"hevc", b"mif1", b"msf1"], ids=bytes.decode)
def test_heic_names_what_reads_it(tmp_path, monkeypatch, brand):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x1cftyp" + brand + bytes(100))
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(InputError, match=r"a\.heic is HEIC, .*pip install pillow-heif"):
        images.open_file(tmp_path / "a.heic")
    (tmp_path / "b.heic").write_bytes(bytes(100))
    with pytest.raises(InputError, match=r"b\.heic cannot be read as a picture"):
        images.open_file(tmp_path / "b.heic")


def test_a_photo_keeps_what_else_it_says_or_it_is_said(project, tmp_path):
    """IPTC of a JPEG, the colours of an HDR PNG; what cannot be kept is named."""
    (tmp_path / "in").mkdir()
    first, other = Image.fromarray(RGB), Image.fromarray(RGB[::-1])
    iptc = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x08\x1c\x02\x78\0\x03cat"
    segment = b"\xff\xed" + (len(iptc) + 2).to_bytes(2) + iptc
    first.save(tmp_path / "in/iptc.jpg", extra=segment)
    first.save(tmp_path / "in/two.mpo.jpg", "MPO", save_all=True, append_images=[other])
    masks = b"".join((255 << n).to_bytes(4, "little") for n in (16, 8, 0, 24))
    header = struct.pack("<IiiHHIIiiII", 108, 96, 80, 1, 32, 3, 96 * 80 * 4, 0, 0, 0, 0) + masks
    file = struct.pack("<2sIHHI", b"BM", 122 + 96 * 80 * 4, 0, 0, 122)
    bgra = RGBA[::-1, :, [2, 1, 0, 3]].tobytes()
    (tmp_path / "in/alpha.bmp").write_bytes(file + header.ljust(108, b"\0") + bgra)
    write_png16(tmp_path / "in/hdr.png", DEEP)
    contents = (tmp_path / "in/hdr.png").read_bytes()
    chunk = b"cICP" + bytes([9, 16, 0, 1])
    chunk = b"\0\0\0\x04" + chunk + zlib.crc32(chunk).to_bytes(4)
    (tmp_path / "in/hdr.png").write_bytes(contents[:33] + chunk + contents[33:])
    first.save(tmp_path / "in/long.jpg")
    long = b"Exif\0\0" + first.getexif().tobytes()[6:] + bytes(40_000)
    contents = (tmp_path / "in/long.jpg").read_bytes()
    segments = b"".join(b"\xff\xe1" + (len(s) + 2).to_bytes(2) + s for s in (long, long))
    (tmp_path / "in/long.jpg").write_bytes(contents[:2] + segments + contents[2:])
    texts = PngImagePlugin.PngInfo()
    texts.add_text("dpi", "300")
    texts.add_text("icc_profile", "none")
    texts.add_text("protocol", "x" * 2_000_000, zip=True)
    first.save(tmp_path / "in/texts.png", pnginfo=texts)
    (tmp_path / "in/deep.avif").write_bytes(
        imagecodecs.avif_encode(DEEP >> 4, bitspersample=12, level=90)
    )
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, kind, value in ((33550, 12, (0.5, 0.5, 0.0)), (42112, 2, "a map"), (700, 1, b"<x/>")):
        tags[tag], tags.tagtype[tag] = value, kind
    first.save(tmp_path / "in/geo.tif", compression="jpeg", tiffinfo=tags)
    name = "x" * 250 + ".png"
    first.save(tmp_path / "in" / name)
    done = call_script(
        *(project / "infer.py", "gaussian", "small", "--restore", tmp_path / "in"),
        *("--output", tmp_path / "out"),
    )
    assert segment in (tmp_path / "out/iptc.jpg").read_bytes()
    assert chunk in (tmp_path / "out/hdr.png").read_bytes()
    assert "two.mpo.jpg: what follows the first picture left out" in done.stdout
    assert "alpha.bmp: alpha left out" in done.stdout
    assert "long.jpg: EXIF left out" in done.stdout
    assert "deep.avif: 12 bits became 8" in done.stdout
    with Image.open(tmp_path / "out/texts.png") as after:
        assert after.text == texts_of(tmp_path / "in/texts.png")
    with tifffile.TiffFile(tmp_path / "out/geo.tif") as file:
        after = file.pages.first.tags
        assert after.valueof(33550) == (0.5, 0.5, 0.0)
        assert after.valueof(42112) == "a map"
        assert after.valueof(700) == b"<x/>"
    assert (tmp_path / "out" / name).exists()


def texts_of(path) -> dict[str, str]:
    with Image.open(path) as image:
        return dict(image.text)


@pytest.mark.parametrize("orientation", [3, 6, 8])
@pytest.mark.parametrize("mode", ["CMYK", "L", "RGBA"])
def test_a_turned_tiff_is_read_as_it_is_shown(tmp_path, mode, orientation):
    options = {"tiffinfo": {274: orientation}}
    Image.fromarray(RGB).convert(mode).save(tmp_path / "a.tif", **options)
    turns = {3: 2, 6: 3, 8: 1}[orientation]
    shown = Image.fromarray(np.ascontiguousarray(np.rot90(RGB, turns))).convert(mode)
    expected = np.asarray(shown.convert("RGB"))
    if mode == "RGBA":
        expected = np.rot90(RGB, turns)
    np.testing.assert_array_equal(images.read_rgb(tmp_path / "a.tif"), expected)
    picture = images.read_picture(tmp_path / "a.tif")
    np.testing.assert_array_equal(images.upright(picture, picture.color), expected)


def test_a_kind_that_is_not_written_is_refused_and_odd_names_are_not(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(psd())
    Image.fromarray(RGB).save(tmp_path / "in/b.png", "GIF")
    Image.fromarray(RGB).save(tmp_path / "in/c.png", "ICO")  # of other sizes than the picture's
    Image.fromarray(RGB).save(tmp_path / "in" / os.fsdecode(b"caf\xe9 $_^{$.png"))
    done = run_script(
        *("infer.py", "gaussian", "bsds300", "--restore", tmp_path / "in"),
        *("--output", tmp_path / "out", "--compare"),
        check=2,
        PYTHONIOENCODING="utf-8:strict",
    )
    first, second, third = done.stderr.splitlines()
    assert "a.png is PSD, which is not written" in first
    assert "b.png is GIF, which is not written: save it as PNG" in second
    assert "c.png is ICO, which is not written" in third
    assert "restored 1 of 4" in done.stdout


def test_what_is_not_written_is_not_restored_first(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.gif")
    with images.open_file(tmp_path / "a.gif") as file, pytest.raises(InputError, match="is GIF"):
        file.write(tmp_path / "b.gif", (pytest.fail("restored") for _ in range(1)))


def test_a_folder_named_like_a_picture_is_none(tmp_path):
    (tmp_path / "old.tif").mkdir()
    Image.fromarray(RGB).save(tmp_path / "a.png")
    assert images.find_pictures(tmp_path) == [tmp_path / "a.png"]


def test_a_tiff_with_its_bytes_swapped_in_the_header_is_what_pillow_makes_of_it(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", RGB)
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "b.tif").write_bytes(whole[:2] + b"\0*" + whole[4:])
    np.testing.assert_array_equal(images.read_rgb(tmp_path / "b.tif"), RGB)


def psd() -> bytes:
    """A flat Photoshop file of 8-bit RGB, not compressed."""
    header = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, *RGB.shape[:2], 8, 3)
    return header + bytes(14) + np.moveaxis(RGB, 2, 0).tobytes()


def test_an_input_is_never_overwritten(project, tmp_path):
    KINDS["rgb8.png"][0](tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    done = call_script(
        *(project / "infer.py", "gaussian", "small", "--restore", tmp_path / "a.png"),
        *("--output", tmp_path),
        check=2,
    )
    assert "a.png would be overwritten" in one_error_line(done)
    assert (tmp_path / "a.png").read_bytes() == before
    (tmp_path / "compare").mkdir()
    KINDS["rgb8.png"][0](tmp_path / "compare/a.png")  # what an earlier --compare made
    done = call_script(
        *(project / "infer.py", "gaussian", "small", "--restore", tmp_path),
        *("--output", tmp_path.with_name("other"), "--compare"),
        check=2,
    )
    assert "compare/a.png would be among the figures of --compare" in one_error_line(done)


def test_no_other_input_is_overwritten_either(project, tmp_path):
    for name in ("one/sub/x.png", "two/sub/x.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        KINDS["rgb8.png"][0](tmp_path / name)
    done = call_script(
        *(project / "infer.py", "gaussian", "small", "--restore", tmp_path / "one"),
        *(tmp_path / "two/sub", "--output", tmp_path / "two", "--overwrite"),
        check=2,
    )
    assert "two/sub/x.png would be overwritten" in one_error_line(done)


def test_linked_folders_are_searched_once(project, tmp_path):
    (tmp_path / "in/sub").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    KINDS["rgb8.png"][0](tmp_path / "other/a.png")
    for name in ("linked", *(f".hidden{n}" for n in range(5))):
        (tmp_path / "in" / name).symlink_to(tmp_path / "other")
    (tmp_path / "in/sub/round").symlink_to(tmp_path / "in")
    done = call_script(
        *(project / "infer.py", "gaussian", "small", "--restore", tmp_path / "in"),
        *("--output", tmp_path / "out", "--range", "-1e2", "3e2"),
    )
    assert "restored 1 of 1" in done.stdout
    assert (tmp_path / "out/linked/a.png").exists()


def test_a_link_to_itself_is_named_and_the_others_are_restored(project, tmp_path):
    KINDS["rgb8.png"][0](tmp_path / "a.png")
    for name, there in (("gone.png", "nowhere.png"), ("loop.png", "loop.png")):
        (tmp_path / name).symlink_to(there)
    command = (project / "infer.py", "gaussian", "small", "--restore", tmp_path)
    done = call_script(*command, "--output", tmp_path / "out", check=2)
    assert "restored 1 of 3" in done.stdout
    assert f"{tmp_path / 'gone.png'} does not exist" in done.stderr
    assert f"{tmp_path / 'loop.png'} cannot be read as a picture" in done.stderr


@pytest.mark.parametrize("short", [1, 300, 0.5])
@pytest.mark.parametrize("name", ["rgb8.png", "rgb16.png", "grey.jpg", "rgb.bmp", "a.exr", "a.hdr"])
def test_a_full_disk_leaves_no_cut_off_file_without_a_word(tmp_path, name, short):
    import OpenImageIO as oiio

    if name in KINDS:
        KINDS[name][0](tmp_path / name)
    else:
        noise = np.random.default_rng(0).random((64, 64, 3), np.float32)
        assert oiio.ImageBuf(noise).write(str(tmp_path / name))
    pixels = images.read_picture(tmp_path / name).pixels
    write_like(tmp_path / name, tmp_path / f"whole-{name}", pixels)
    size = (tmp_path / f"whole-{name}").stat().st_size
    left = int(size - short if short >= 1 else size * short)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (left, before[1]))
    try:
        with pytest.raises(OSError, match=r"No space left|File too large|[Ww]rite"):
            write_like(tmp_path / name, tmp_path / f"cut-{name}", pixels)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_is_there_is_kept_and_folders_are_searched_to_the_bottom(project, tmp_path):
    (tmp_path / "in/day 2").mkdir(parents=True)
    KINDS["rgb8.png"][0](tmp_path / "in/a.png")
    KINDS["rgb8.png"][0](tmp_path / "in/day 2/a.png")
    (tmp_path / "in/notes.txt").write_text("")
    command = ("gaussian", "small", "--restore", tmp_path / "in", "--output")
    done = call_script(project / "infer.py", *command, tmp_path / "in/a.png/out", check=2)
    assert "a.png is a file: name a folder with --output" in one_error_line(done)
    command += (tmp_path / "in/out",)
    done = call_script(project / "infer.py", *command)
    assert "left out what is not read as a picture (1 in all)" in done.stdout
    assert "restored 2 of 2" in done.stdout
    made = [tmp_path / "in/out/a.png", tmp_path / "in/out/day 2/a.png"]
    made[0].write_text("someone's work")
    done = call_script(project / "infer.py", *command)
    assert "is there already and kept (2 in all)" in done.stdout
    assert done.stdout.endswith("nothing is left to restore\n")
    assert made[0].read_text() == "someone's work"
    call_script(project / "infer.py", *command, "--overwrite")
    assert made[0].read_bytes() == made[1].read_bytes()
    done = call_script(project / "infer.py", *command[:-1], tmp_path / "other", check=None)
    assert "day 2/a.png is called as one above it, and restored as well (3 such)" in done.stdout


def test_texts_of_a_microscopes_tiff_and_a_scanners_compression_are_no_obstacle(tmp_path):
    text = "<OME>5 \u00b5m</OME>".encode()
    tifffile.imwrite(
        tmp_path / "a.tif", DEEP[..., 0], extratags=[(270, 2, 0, text, True)], metadata=None
    )
    photo = images.read_picture(tmp_path / "a.tif")
    write_like(photo.path, tmp_path / "b.tif", photo.pixels)
    assert text in (tmp_path / "b.tif").read_bytes()
    Image.fromarray(RGB[..., 0] > 128).save(tmp_path / "fax.tif", compression="group4")
    fax = images.read_picture(tmp_path / "fax.tif")
    write_like(fax.path, tmp_path / "c.tif", fax.pixels)
    np.testing.assert_array_equal(images.read_picture(tmp_path / "c.tif").pixels, fax.pixels)


@pytest.mark.parametrize("size", [(1, 1), (20, 200), (3000, 40)])
def test_pictures_of_any_shape_are_compared(size):
    picture = np.zeros((*size, 3), np.uint8)
    plots.plt.close(plots.compare(picture, picture))


def test_one_bad_picture_is_named_and_the_others_are_restored(project, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    KINDS["rgb8.png"][0](source / "good.png")
    (source / "bad.png").write_text("no picture")
    done = call_script(
        *(project / "infer.py", "gaussian", "small", "--restore", source),
        *("--output", tmp_path / "out"),
        check=2,
    )
    assert "bad.png cannot be read" in one_error_line(done)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.png"]


@pytest.mark.parametrize(
    "size",
    [
        pytest.param((500, 700), marks=pytest.mark.slow),
        pytest.param((1000, 420), marks=pytest.mark.slow),
        pytest.param((333, 512), marks=pytest.mark.slow),
        (416, 388),
    ],
)
def test_tiles_are_the_whole_to_within_1_255th(size):
    model = build_unet()
    image = read_like(size)
    whole = restore_image(model, image, max_tile=4096)
    done = []
    tiled = restore_image(model, image, max_tile=384, advance=done.append)
    assert len(done) > 1
    assert sum(done) == size[0] * size[1]
    assert np.abs(tiled - whole).max() < 1e-4 * np.abs(whole).max()


def test_what_is_compiled_for_each_size_is_shown_few():
    shown = set()

    class Identity:
        output_shape = (None, None, None, 3)

        def predict_on_batch(self, x):
            shown.add(x.shape)
            return x

    for size in itertools.product((32, 96, 160, 320, 960), repeat=2):
        x = read_like(size)[None]
        np.testing.assert_array_equal(FewSizes(Identity()).predict_on_batch(x), x)
    assert len(shown) == 16
    assert max(shown) == (1, 960, 960, 3)


def test_what_a_killed_process_left_is_removed_in_an_hour(tmp_path):
    old, new, mine = (f"{PART}{name}" for name in ("0123abcd-a.png", "0123abce-a.png", "1.png"))
    for name, age in ((old, 4000), (new, 0), (mine, 4000), ("other", 4000)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    remove_parts(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {new, mine, "other"}


def read_like(size) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.random((*size, 3), dtype=np.float32)


def test_the_halo_is_the_receptive_field():
    """No pixel further away than HALO changes an output pixel; some nearly so far do."""
    model = build_unet()
    image = read_like((416, 416))
    changed = image.copy()
    changed[:32] += 10
    reached = np.abs(restore_image(model, changed) - restore_image(model, image)).max((1, 2)) > 0
    furthest = np.flatnonzero(reached).max() - 31
    assert 96 < furthest <= HALO


@pytest.mark.parametrize("length", [1, 31, 32, 384, 385, 1000, 4321, 12000])
@pytest.mark.parametrize("max_tile", [384, 1280])
def test_tiles_cover_an_axis_once_with_a_halo_on_each_side(length, max_tile):
    spans = list(_spans(length, max_tile))
    kept = [i for _, keep in spans for i in keep]
    assert kept == list(range(length))
    assert len({len(tile) for tile, _ in spans}) == 1  # one shape, compiled once
    for tile, keep in spans:
        assert tile.start % 32 == 0
        assert len(tile) % 32 == 0
        assert len(tile) <= max_tile
        assert keep.start == 0 or keep.start - tile.start >= HALO
        assert keep.stop == length or tile.stop - keep.stop >= HALO


@pytest.fixture
def camera_networks(tmp_path, monkeypatch) -> Path:
    """A folder of networks: gaussian-small, and two for cameras, that give a value back each."""
    monkeypatch.setattr(networks.Trained, "zero_mean", False)  # else it would be the local mean
    folder = tmp_path / "networks"
    folder.mkdir()
    for name, channels, value in (("", 3, 0.2), ("-grey", 1, 0.6), (None, 3, 0.4)):
        model = build_unet(channels, channels)
        *_, kernel, bias = model.weights
        kernel.assign(np.zeros(kernel.shape))
        bias.assign(np.full(bias.shape, value))
        kind = "gaussian-small" if name is None else f"camera-bsds300{name}"
        training = {"filter": kind.split("-")[0], "grey": name is not None}
        save_model(model, folder / f"{kind}.keras", training)
    return folder


def test_pictures_in_colour_and_grey_ones_get_the_network_for_them(camera_networks, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for name in ("rgb8.png", "rgba16.png", "grey8.png", "grey16.png"):
        KINDS[name][0](source / name)
    Image.fromarray(np.repeat(RGB[..., :1], 3, axis=2)).save(source / "equal.png")
    command = ("infer.py", "--models", camera_networks, "--restore", source)
    done = call_script(*command, "--output", tmp_path / "out")
    assert "equal.png is grey, and no network is named: camera-bsds300-grey" in done.stdout
    assert "rgb8.png is in colour, and no network is named: camera-bsds300 r" in done.stdout
    assert done.stdout.count("no network is named") == 2
    hiding = camera_networks / "camera-bsds300.keras"
    shipped = f"--models {networks.PRETRAINED} takes the shipped one"
    assert f"camera-bsds300 is {hiding}; {shipped}" in done.stdout
    assert "restored 5 of 5 pictures with camera-bsds300 and camera-bsds300-grey" in done.stdout
    for path in (tmp_path / "out").iterdir():
        pixels = images.read_picture(path).pixels
        before = images.read_picture(source / path.name)
        assert pixels.shape == before.pixels.shape
        value = 0.2 if "rgb" in path.name else 0.6
        seen = pixels[..., : before.colors]
        if "rgba" in path.name:
            np.testing.assert_array_equal(pixels[before.hidden], before.pixels[before.hidden])
            seen = seen[~before.hidden]
            assert 0 < len(seen) < before.hidden.size
        np.testing.assert_allclose(seen / np.iinfo(pixels.dtype).max, value, atol=0.004)
    done = call_script(*command[:1], "gaussian", *command[1:], "--output", tmp_path / "named")
    assert "grey, and gaussian-small, trained on colour only, does little" in done.stdout
    assert "pictures with gaussian-small, into" in done.stdout
    assert "shipped" not in done.stdout


def test_grey_pictures_do_without_a_network_of_their_own(camera_networks, tmp_path):
    (camera_networks / "camera-bsds300-grey.keras").unlink()
    KINDS["grey8.png"][0](tmp_path / "a.png")
    command = ("infer.py", "--models", camera_networks, "--restore", tmp_path / "a.png")
    done = call_script(*command, "--output", tmp_path / "out")
    assert "restored 1 of 1 pictures with camera-bsds300," in done.stdout
    (camera_networks / "camera-bsds300.keras").rename(camera_networks / "poisson-a.keras")
    done = call_script(*command, "--output", tmp_path / "out2", check=2)
    line = one_error_line(done)
    assert "name one model to restore with, of: " in line
    assert "gaussian small" in line


@pytest.mark.parametrize(("name", "top"), [("rgb8.png", 255), ("grey16.png", 65535)])
def test_an_amount_blends_the_restored_picture_with_the_original(
    camera_networks, tmp_path, name, top
):
    KINDS[name][0](tmp_path / name)
    command = ("infer.py", "--models", camera_networks, "--restore", tmp_path / name)
    call_script(*command, "--output", tmp_path / "out", "--amount", "0.7")
    before = images.read_picture(tmp_path / name).pixels.astype(float)
    after = images.read_picture(tmp_path / "out" / name).pixels
    value = top * (0.2 if "rgb" in name else 0.6)
    np.testing.assert_allclose(after, 0.3 * before + 0.7 * value, atol=top / 400)
    done = call_script(*command, "--output", tmp_path / "out", "--amount", "1.5", check=2)
    assert "1.5 is not between 0 and 1" in done.stderr


def test_a_jpeg_for_a_network_of_white_noise_gets_a_word(camera_networks, tmp_path):
    KINDS["turned1.jpg"][0](tmp_path / "a.jpg")
    command = ("infer.py", "gaussian", "--models", camera_networks, "--restore", tmp_path / "a.jpg")
    done = call_script(*command, "--output", tmp_path / "out")
    assert "a.jpg is compressed with losses (JPEG)" in done.stdout


def test_what_is_compressed_with_losses_is_told_whatever_it_is_in(tmp_path):
    pixels = dead_leaves(np.random.default_rng(0), 64)
    half = np.float16(pixels / 255)
    image, made = Image.fromarray(pixels), {}
    for name, options in {
        "a.jpg": {},
        "a.avif": {},
        "lossy.webp": {},
        "pillow.tif": {"compression": "jpeg"},
        "whole.webp": {"lossless": True},
        "whole.tif": {"compression": "tiff_lzw"},
        "whole.png": {},
    }.items():
        image.save(tmp_path / name, **options)
        made[tmp_path / name] = not name.startswith("whole")
    for name, kind in {"jpeg": "jpeg", "aperio": "aperio_jp2000_rgb", "whole": "deflate"}.items():
        path = tmp_path / f"grey-{name}.tif"
        tifffile.imwrite(path, pixels[..., 0], compression=kind)
        made[path] = name != "whole"
    for kind in ("zip", "dwaa", "b44"):
        spec = oiio.ImageSpec(64, 64, 3, oiio.HALF)
        spec.attribute("compression", kind)
        file = oiio.ImageOutput.create("openexr")
        path = tmp_path / f"{kind}.exr"
        assert file.open(str(path), spec) and file.write_image(half) and file.close()
        made[path] = kind != "zip"
    for path, lossy in made.items():
        with images.open_file(path) as file:
            assert file.lossy == lossy, path


def test_the_output_may_be_the_folder_above_and_hidden_files_are_left(camera_networks, tmp_path):
    source = tmp_path / "scans/noisy"
    source.mkdir(parents=True)
    KINDS["rgb8.png"][0](source / "a.png")
    (source / "._a.png").write_bytes(b"what macOS leaves beside it")
    (source / ".thumbnails").mkdir()
    KINDS["rgb8.png"][0](source / ".thumbnails/a.png")
    command = ("infer.py", "--models", camera_networks, "--restore", source)
    done = call_script(*command, "--output", source.parent)
    assert "restored 1 of 1 pictures" in done.stdout
    assert (source.parent / "a.png").exists()
    done = call_script(*command, "--output", source, check=2)
    assert "a.png would be overwritten: give another --output" in one_error_line(done)


def test_what_a_phones_jpeg_loses_is_said(project, tmp_path):
    xmp = b'<x GCamera:MotionPhoto="1" GCamera:MicroVideo="1" xmpNote:HasExtendedXMP="12"/>'
    Image.fromarray(RGB).save(tmp_path / "a.jpg", xmp=xmp)
    command = (project / "infer.py", "gaussian", "small", "--restore", tmp_path / "a.jpg")
    done = call_script(*command, "--output", tmp_path / "out")
    assert "a.jpg: a motion photo's video left out, extended XMP left out\n" in done.stdout


def test_four_bits_and_hidden_colours(project, tmp_path):
    ramp = np.arange(16, dtype=np.uint8).repeat(8)[None].repeat(64, 0)
    packed = b"".join(b"\0" + (row[::2] << 4 | row[1::2]).tobytes() for row in ramp)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 128, 64, 4, 0, 0, 0, 0))]
    chunks += [(b"tRNS", b"\0\5"), (b"IDAT", zlib.compress(packed)), (b"IEND", b"")]
    written = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + written)
    hidden = np.dstack([RGB, np.zeros_like(ALPHA)])
    Image.fromarray(hidden).save(tmp_path / "b.webp", lossless=True, exact=True)
    command = (project / "infer.py", "gaussian", "small", "--restore", tmp_path)
    done = call_script(*command, "--output", tmp_path / "out")
    assert "a.png: the transparent colour became alpha, 4 bits became 8" in done.stdout
    clear = images.read_picture(tmp_path / "out/a.png").pixels[..., 1] == 0
    np.testing.assert_array_equal(clear, ramp == 5)
    after = images.read_picture(tmp_path / "out/b.webp").pixels
    assert np.abs(after[..., :3].astype(int) - RGB).mean() < 60
    assert after[..., :3].mean() == pytest.approx(RGB.mean(), abs=20)


def test_other_kinds_and_long_names_are_answered(project, tmp_path):
    (tmp_path / "a.jxl").write_bytes(b"\xff\x0a" + bytes(99))
    long = tmp_path / ("b" * 250 + ".png")
    Image.fromarray(RGB).save(long)
    command = (project / "infer.py", "gaussian", "small", "--restore", tmp_path / "a.jxl", long)
    done = call_script(*command, "--output", tmp_path / "out", "--compare", check=2)
    assert "a.jxl is of no kind that is read here (" in one_error_line(done)
    assert (tmp_path / "out" / long.name).exists()
    assert len(list((tmp_path / "out/compare").glob("b*.png"))) == 1


def test_an_output_folder_within_the_input_is_pointed_out(project, tmp_path):
    for name in ("a.png", "sub/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(RGB).save(tmp_path / name)
    command = (project / "infer.py", "gaussian", "small", "--restore", tmp_path)
    done = call_script(*command, "--output", tmp_path / "sub")
    assert f"{tmp_path / 'sub'} is in {tmp_path}: what is there is taken for" in done.stdout
