"""What a look at a picture finds, and how a broken one is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests import media
from worker.errors import ItemError
from worker.media.picture import PictureFindings, check_picture, is_picture


def check(path: Path, max_pixels: int = 1_000_000) -> PictureFindings:
    assert is_picture(path)
    return check_picture(path, max_pixels=max_pixels, black_luma=20)[0]


def why(path: Path, max_pixels: int = 1_000_000) -> ItemError:
    with pytest.raises(ItemError) as caught:
        check(path, max_pixels)
    return caught.value


@pytest.mark.parametrize("ending", ["jpg", "png", "gif", "webp", "bmp", "tif", "avif"])
def test_a_good_picture_raises_no_alarm(tmp_path: Path, ending: str) -> None:
    found = check(media.picture(tmp_path / f"a.{ending}"))
    assert (found.width, found.height, found.frames, found.rotation) == (64, 48, 1, 0)
    assert (found.black, found.uniform, found.warnings) == (False, False, ())


@pytest.mark.parametrize("ending", ["jpg", "png", "gif", "webp", "bmp", "tif"])
@pytest.mark.parametrize("share", [0.6, 0.999])
def test_a_truncated_picture_is_told_even_when_only_the_end_mark_is_gone(
    tmp_path: Path, ending: str, share: float
) -> None:
    assert why(media.cut(media.picture(tmp_path / f"a.{ending}"), share)).kind == "truncated"


def test_a_picture_cut_in_its_header_is_damaged_not_unknown(tmp_path: Path) -> None:
    path = media.picture(tmp_path / "a.gif")
    path.write_bytes(path.read_bytes()[:60])
    assert why(path).kind == "damaged"


@pytest.mark.parametrize(
    ("orientation", "rotation", "mirrored", "size"),
    [
        (1, 0, False, (64, 48)),
        (3, 180, False, (64, 48)),
        (6, 90, False, (48, 64)),
        (8, 270, False, (48, 64)),
        (2, 0, True, (64, 48)),
    ],
)
def test_exif_rotation_gives_the_size_as_shown(
    tmp_path: Path, orientation: int, rotation: int, mirrored: bool, size: tuple[int, int]
) -> None:
    found = check(media.turned_jpeg(tmp_path / "a.jpg", orientation))
    assert (found.rotation, found.mirrored, (found.width, found.height)) == (rotation, mirrored, size)


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tif"])
def test_the_frames_of_an_animation_are_counted(tmp_path: Path, ending: str) -> None:
    assert check(media.animation(tmp_path / f"a.{ending}")).frames == 5


def test_an_animation_cut_between_frames_is_truncated(tmp_path: Path) -> None:
    assert why(media.cut(media.animation(tmp_path / "a.gif"), 0.5)).kind == "truncated"


def test_a_decompression_bomb_is_refused_unread(tmp_path: Path) -> None:
    path = media.bomb(tmp_path / "a.png")
    assert path.stat().st_size < 1000
    assert why(path, 100_000_000).kind == "too-large"


def test_the_limit_is_exact(tmp_path: Path) -> None:
    path = media.picture(tmp_path / "a.png", size=(100, 100))
    assert check(path, 10_000).width == 100
    assert why(path, 9_998).kind == "too-large"


@pytest.mark.parametrize(
    ("mode", "ending"),
    [("CMYK", "jpg"), ("L", "png"), ("1", "png"), ("P", "png"), ("RGBA", "png")],
)
def test_unusual_modes_are_read(tmp_path: Path, mode: str, ending: str) -> None:
    found = check(media.picture(tmp_path / f"a.{ending}", mode))
    assert found.mode.startswith(mode)
    assert not found.uniform


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    bright = check(media.deep_png(tmp_path / "bright.png", 1000, 65000))
    dim = check(media.deep_png(tmp_path / "dim.png", 300, 4000))
    assert (bright.black, bright.uniform) == (False, False)
    assert (dim.black, dim.uniform) == (True, False)


def test_black_and_one_colour_are_told_apart(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), (3, 3, 3)).save(tmp_path / "black.png")
    Image.new("RGB", (64, 48), (200, 30, 30)).save(tmp_path / "red.png")
    black, red = check(tmp_path / "black.png"), check(tmp_path / "red.png")
    assert (black.black, black.uniform, red.black, red.uniform) == (True, True, False, True)


def test_a_video_does_not_begin_like_a_picture(tmp_path: Path) -> None:
    assert not is_picture(media.film(tmp_path / "a.jpg.mp4", frames=3))
    (tmp_path / "bm.txt").write_bytes(b"BM is how this text begins")
    assert not is_picture(tmp_path / "bm.txt")


@pytest.mark.parametrize("at", [200, 500, 1000, 3000])
def test_a_png_with_damage_in_its_middle_is_no_good_picture(tmp_path: Path, at: int) -> None:
    file = tmp_path / "a.png"
    Image.effect_noise((200, 200), 60).convert("RGB").save(file)
    data = bytearray(file.read_bytes())
    data[at : at + 60] = bytes(60)
    file.write_bytes(data)
    with pytest.raises(ItemError) as raised:
        check_picture(file, max_pixels=10_000_000, black_luma=32)
    assert raised.value.kind in ("damaged", "truncated")
