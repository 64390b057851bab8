"""The official forms of CIFAR-10 and CIFAR-100: names, sizes, checksums, classes.

An archive is known by its SHA-256, a folder by the digest of each file (SHA-1 as pinned by MXNet's first reader, MD5 by
torchvision's).
"""

from __future__ import annotations

from dataclasses import dataclass

PIXELS = 3072

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_FINE = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""
FINE_CLASSES = tuple(_FINE.split())
BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")


@dataclass(frozen=True)
class Layout:
    """One official form of a data set: its archive, its folder, and what identifies each."""

    dataset: str
    classes: tuple[str, ...]
    archive: str
    archive_bytes: int
    archive_sha256: str
    folder: str
    batches: tuple[str, ...]
    """Of the training split, and the test split last."""
    suffix: str
    algorithm: str
    digests: tuple[str, ...]
    batch_bytes: tuple[int, ...] | None = None
    """Exact size of each official file, where that is known."""
    labels: str = "labels"
    """The key of the labels in the Python form."""
    label_bytes: int = 1
    """Labels before each image of the binary form; the last of them counts."""

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(f"{batch}{self.suffix}" for batch in self.batches)

    @property
    def record(self) -> int:
        """Bytes of one image of the binary form."""
        return self.label_bytes + PIXELS


BINARY = Layout(
    dataset="cifar10",
    classes=CLASSES,
    archive="cifar-10-binary.tar.gz",
    archive_bytes=170_052_171,
    archive_sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    folder="cifar-10-batches-bin",
    batches=BATCHES,
    suffix=".bin",
    algorithm="sha1",
    digests=(
        "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
        "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
        "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
        "aab85764eb3584312d3c7f65fd2fd016e36a258e",
        "26e2849e66a845b7f1e4614ae70f4889ae604628",
        "67eb016db431130d61cd03c7ad570b013799c88c",
    ),
    batch_bytes=(10_000 * (1 + PIXELS),) * 6,
)
PYTHON = Layout(
    dataset="cifar10",
    classes=CLASSES,
    archive="cifar-10-python.tar.gz",
    archive_bytes=170_498_071,
    archive_sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    folder="cifar-10-batches-py",
    batches=BATCHES,
    suffix="",
    algorithm="md5",
    digests=(
        "c99cafc152244af753f735de768cd75f",
        "d4bba439e000b95fd0a9bffe97cbabec",
        "54ebc095f3ab1f0389bbae665268c751",
        "634d18415352ddfa80567beed471001a",
        "482c414d41f54cd18b22e5b47cb7c3cb",
        "40351d587109b95175f43aff81a1287e",
    ),
)
BINARY_100 = Layout(
    dataset="cifar100",
    classes=FINE_CLASSES,
    archive="cifar-100-binary.tar.gz",
    archive_bytes=168_513_733,
    archive_sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    folder="cifar-100-binary",
    batches=("train", "test"),
    suffix=".bin",
    algorithm="sha1",
    digests=("e207cd2e05b73b1393c74c7f5e7bea451d63e08e", "8fb6623e830365ff53cf14adec797474f5478006"),
    batch_bytes=(50_000 * (2 + PIXELS), 10_000 * (2 + PIXELS)),
    label_bytes=2,
)
PYTHON_100 = Layout(
    dataset="cifar100",
    classes=FINE_CLASSES,
    archive="cifar-100-python.tar.gz",
    archive_bytes=169_001_437,
    archive_sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    folder="cifar-100-python",
    batches=("train", "test"),
    suffix="",
    algorithm="md5",
    digests=("16019d7e3df5f24257cddd939b257f8d", "f0ef6b0ae62326f3e7ffdfab6717acfc"),
    labels="fine_labels",
)
LAYOUTS = (BINARY, PYTHON, BINARY_100, PYTHON_100)
