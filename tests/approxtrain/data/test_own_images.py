"""Images of a user's own, as real files: a folder by class, NumPy's files, a Hugging Face data set."""

from __future__ import annotations

import hashlib
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from approxtrain import data
from approxtrain.config import DataConfig
from approxtrain.data import image_folder, store
from approxtrain.errors import ConfigError, DataError

CLASSES = ("bird", "cat", "dog")


def picture(number: int, side: int = 96) -> Image.Image:
    """An image that carries its number."""
    pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
    pixels[0, 0] = number
    return Image.fromarray(pixels)


def fill(folder: Path, count: int, first: int = 0) -> None:
    """`count` PNGs of each of three classes."""
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            picture(first + count * label + number).save(folder / name / f"{number}.png")


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """12 images to train on and 6 to validate on, 96×96 in 3 classes."""
    fill(tmp_path / "pets/train", 4)
    fill(tmp_path / "pets/val", 2, first=100)
    return tmp_path / "pets"


def load(folder: Path, **more: object) -> data.ImageSet:
    return data.load(DataConfig.model_validate({"dir": str(folder), **more}))


def test_a_folder_of_images_needs_neither_import_nor_name(pets: Path) -> None:
    found = load(pets)
    assert (found.name, found.class_names, found.validated_on) == ("pets", CLASSES, "validation")
    assert (found.image_shape, found.streamed) == ((96, 96, 3), False)
    train, validation = found.arrays
    assert train.images[:, 0, 0, 0].tolist() == list(range(12))
    assert train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert validation.images[:, 0, 0, 0].tolist() == list(range(100, 106))
    assert np.array_equal(train.images[7], np.asarray(picture(7)))
    assert data.train_size(DataConfig.model_validate({"dir": str(pets)})) == 12


def test_what_a_file_browser_hides_is_no_class_and_no_image(pets: Path) -> None:
    fill(pets / "train/.thumbnails", 1)
    picture(0).save(pets / "train" / CLASSES[0] / "._0.png")
    found = load(pets)
    assert (found.class_names, len(found.train)) == (CLASSES, 12)


def test_images_come_in_the_order_of_their_paths_and_are_known_by_names_and_sizes(tmp_path: Path) -> None:
    for name in ("a/x.png", "a/b/y.PNG", "a/b.c/z.png", "a/b-d/w.png", "c/v.jpg", "c/.hidden.png", "c/notes.txt"):
        for split in ("train", "val"):
            (file := tmp_path / "pets" / split / name).parent.mkdir(parents=True, exist_ok=True)
            picture(len(name)).save(file, "JPEG" if name == "c/v.jpg" else "PNG")
    for root, splits in ((tmp_path / "pets", ("train", "val")), (tmp_path / "pets/val", (".",))):
        found = image_folder.open_folder(root)
        digest = hashlib.sha256()
        for split, files in zip(splits, (found.train, found.validation), strict=False):
            right = [root / split / name for name in ("a/b/y.PNG", "a/b-d/w.png", "a/b.c/z.png", "a/x.png", "c/v.jpg")]
            assert [files.path(index) for index in range(len(files))] == right == sorted(right)
            for file in right:
                digest.update(f"{file.relative_to(root).as_posix()}\0{file.stat().st_size}\0".encode())
        assert found.listing_sha256() == digest.hexdigest()


@pytest.mark.parametrize(("split", "kind"), [("valid", "validation"), ("validation", "validation"), ("test", "test")])
def test_the_folder_to_validate_on_may_have_other_names(pets: Path, split: str, kind: str) -> None:
    (pets / "val").rename(pets / split)
    assert load(pets).validated_on == kind


def test_a_folder_that_does_not_exist_is_called_so(tmp_path: Path) -> None:
    for more in ({}, {"name": "cifar10"}):
        with pytest.raises(
            DataError, match=r"in `.*nowhere`, because it does not exist: correct data\.dir=PATH"
        ) as error:
            load(tmp_path / "nowhere", **more)
        assert "import" not in str(error.value)


def test_the_test_images_are_those_of_test_whatever_is_validated_on(pets: Path) -> None:
    fill(pets / "test", 1, first=200)
    for more in ({}, {"holdout": 3}, {"stream": True}):
        config = DataConfig.model_validate({"dir": str(pets), **more})
        found = data.load(config)
        assert found.validated_on == ("holdout" if "holdout" in more else "validation")
        tested = data.tested(found, config)
        assert [tested.validation[number][0][0, 0, 0] for number in range(3)] == [200, 201, 202]
        assert (tested.validated_on, tested.sha256, len(tested.validation)) == ("test", found.sha256, 3)
    (pets / "val").rename(pets / "elsewhere")
    found = load(pets)
    assert data.tested(found, DataConfig.model_validate({"dir": str(pets)})) is found


def test_without_test_images_there_are_none_to_evaluate(pets: Path) -> None:
    config = DataConfig.model_validate({"dir": str(pets)})
    with pytest.raises(DataError, match=r"`pets` has no test images .*test/ beside train/.*--split validation"):
        data.tested(data.load(config), config)
    (pets / "test/fish").mkdir(parents=True)
    with pytest.raises(DataError, match=r"pets/test` has the class 'fish'"):
        data.tested(data.load(config), config)


def test_arrays_may_have_images_to_validate_on_and_to_test_on(tmp_path: Path) -> None:
    pixels, labels = np.zeros((4, 8, 8), np.uint8), np.arange(4)
    splits = {"x_train": pixels, "y_train": labels, "x_val": pixels[:2], "y_val": labels[:2]}
    np.savez(tmp_path / "both.npz", **splits, x_test=pixels[:3] + 7, y_test=labels[:3])
    config = DataConfig.model_validate({"dir": str(tmp_path / "both.npz")})
    found = data.tested(data.load(config), config)
    assert (len(found.validation), int(found.validation[0][0].max())) == (3, 7)


def test_without_such_a_folder_a_holdout_is_asked_for(pets: Path) -> None:
    fill(pets / "train", 4)
    with pytest.raises(ConfigError, match=r"no images to validate on .*data\.holdout=N"):
        load(pets / "train")
    found = load(pets / "train", holdout=3)
    assert (len(found.train), len(found.validation), found.validated_on) == (9, 3, "holdout")
    whole = data.undivided(DataConfig.model_validate({"dir": str(pets / "train")}))
    assert whole
    assert (len(whole.train), len(whole.validation)) == (1, 12)
    assert sorted(found.validation.labels) == [0, 1, 2]


def test_a_class_that_is_empty_or_never_trained_on_is_named(pets: Path) -> None:
    (pets / "val/fish").mkdir()
    with pytest.raises(DataError, match="has the class 'fish'"):
        load(pets)
    (pets / "train/fish").mkdir()
    with pytest.raises(DataError, match="train/fish` holds no image"):
        load(pets)


def test_images_of_several_sizes_need_a_size(pets: Path) -> None:
    Image.new("RGB", (200, 100), "red").save(pets / "train/cat/1.png")
    with pytest.raises(
        DataError, match=r"differ in size: .*0\.png` is 96×96×3, .*1\.png` is 100×200×3.*data\.image_size"
    ):
        load(pets)
    found = load(pets, image_size=48)
    assert found.image_shape == (48, 48, 3)
    assert (found.arrays[0].images[5] == (255, 0, 0)).all()


def test_a_resized_image_is_the_middle_of_one_whose_shorter_side_fits(tmp_path: Path) -> None:
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:, 40:80] = 200
    (tmp_path / "train/a").mkdir(parents=True)
    for number in range(2):
        Image.fromarray(wide).save(tmp_path / f"train/a/{number}.png")
    found = load(tmp_path / "train", image_size=20, holdout=1)
    assert (found.arrays[0].images[:, :, 1:-1] == 200).all()  # at the edge the neighbours shine through


def cut_off(path: Path) -> Path:
    picture(3).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def test_a_broken_image_is_named_or_skipped_and_counted(pets: Path) -> None:
    broken = cut_off(pets / "train/dog/9.jpg")
    (pets / "val/dog/8.png").write_bytes(b"no image at all")
    with pytest.raises(DataError, match=rf"`{broken}` cannot be read: .*data\.broken=skip"):
        load(pets)
    found = load(pets, broken="skip")
    assert (len(found.train), len(found.validation)) == (12, 6)
    assert found.skipped == (f"`{broken}`", f"`{pets / 'val/dog/8.png'}`")


def test_pillows_limit_on_the_pixels_of_a_file_is_kept(pets: Path) -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    (pets / "train/cat/bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IEND", b""))
    with pytest.raises(DataError, match=r"bomb\.png` cannot be read: .*decompression bomb"):
        load(pets, image_size=8)


def test_gray_images_have_one_channel_where_all_are_gray(pets: Path) -> None:
    for file in pets.rglob("*.png"):
        Image.open(file).convert("L").save(file)
    assert load(pets).image_shape == (96, 96, 1)
    assert load(pets, channels=3).image_shape == (96, 96, 3)


def test_a_gray_image_among_colours_gets_three_channels(pets: Path) -> None:
    Image.new("L", (96, 96), 7).save(pets / "train/cat/0.png")
    found = load(pets)
    assert found.image_shape == (96, 96, 3)
    assert (found.arrays[0].images[4] == 7).all()


def test_a_mode_of_more_than_eight_bits_is_an_error_that_names_the_file(pets: Path) -> None:
    Image.fromarray(np.full((96, 96), 40_000, np.uint16)).save(pets / "train/cat/0.png")
    with pytest.raises(DataError, match=r"cat/0\.png` has pixels of Pillow's mode 'I;16'"):
        load(pets)


def arrays(**more: np.ndarray) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    held = {"x_train": draw.integers(0, 256, (9, 28, 20), dtype=np.uint8), "y_train": np.arange(9)[:, None] % 3}
    return held | {"x_test": held["x_train"][:3], "y_test": np.arange(3)} | more


def test_npz_and_npy_are_read(tmp_path: Path) -> None:
    held = arrays()
    np.savez(tmp_path / "digits.npz", **held)
    (tmp_path / "digits").mkdir()
    names = {"x_train": "train_images", "y_train": "train_labels", "x_test": "test_images", "y_test": "test_labels"}
    for name, array in held.items():
        np.save(tmp_path / "digits" / names[name], array)
    one, other = load(tmp_path / "digits.npz"), load(tmp_path / "digits")
    assert (one.name, one.image_shape, one.validated_on) == ("digits", (28, 20, 1), "test")
    assert one.class_names == ("0", "1", "2")
    assert one.sha256 == other.sha256
    assert np.array_equal(one.arrays[0].images[..., 0], held["x_train"])


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"a": np.zeros(3)}, r"no training images: it wants x_train, y_train or .*holds a float64 \[3\]"),
        (arrays(x_train=np.zeros((9, 28, 20))), r"`x_train` in .* is float64 \[9, 28, 20\]; images are uint8"),
        (arrays(y_train=np.zeros((9, 3), int)), r"`y_train` in .* is int64 \[9, 3\]; labels are whole numbers \[9\]"),
        (arrays(y_train=np.zeros(4, int)), r"labels are whole numbers \[9\]"),
        (arrays(class_names=np.array(["a"])), "those of 1 classes"),
    ],
)
def test_other_arrays_are_an_error_that_says_what_there_is(tmp_path: Path, held, message: str) -> None:
    np.savez(tmp_path / "digits.npz", **held)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "digits.npz")


def test_pickled_objects_in_a_npz_are_not_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "digits.npz", **arrays(y_train=np.array([{}] * 9)))
    with pytest.raises(DataError, match="Python objects, which would be a program"):
        load(tmp_path / "digits.npz")


def test_a_hugging_face_data_set_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    rows = {"image": [picture(number, 32) for number in range(6)], "label": [0, 1, 2] * 2}
    splits = {name: datasets.Dataset.from_dict(rows, features) for name in ("train", "validation")}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "pets"))
    found = load(tmp_path / "pets", holdout=3)
    assert (found.class_names, found.image_shape, found.validated_on) == (CLASSES, (32, 32, 3), "holdout")
    assert len(found.train) == len(found.validation) == 3
    assert np.array_equal(load(tmp_path / "pets").arrays[1].images[4], np.asarray(picture(4, 32)))


def test_without_the_package_the_error_names_it(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "dataset_dict.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="pip install datasets"):
        load(tmp_path)


def test_cifar_and_a_reserved_name_are_told_apart_from_images_of_ones_own(pets: Path) -> None:
    for name in ("cifar10", "cifar100"):
        with pytest.raises(DataError, match=r"is a folder of images by class.*data\.name=NAME"):
            load(pets, name=name)
    with pytest.raises(DataError, match=r"needs no import.*approxtrain train data\.dir=.*pets data\.name=mypets"):
        store.add(pets, "mypets")


def test_a_set_above_the_memory_is_streamed_and_a_limit_brings_it_back(pets: Path) -> None:
    small = 12 * 96 * 96 * 3 / 2**30
    found = load(pets, memory=small)
    assert found.streamed
    assert found.image_shape == (96, 96, 3)
    assert found.sha256 == load(pets, stream=True).sha256 != load(pets).sha256
    assert not load(pets, memory=small, limit=4).streamed
    assert not load(pets, memory=small, stream=False).streamed
    (pets / "train/cat/0.png").write_bytes(b"other")
    assert load(pets, stream=True, broken="skip").sha256 != found.sha256
