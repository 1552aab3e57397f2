"""Archives that sentiflow can download: address, size and checksum."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Archive:
    """A published zip archive."""

    url: str
    size: int
    sha256: str
    members: Mapping[str, int]
    """The files to unpack, and about how many bytes each has."""

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.url.rpartition("/")[2]


SENTIMENT140 = Archive(
    url="https://cs.stanford.edu/people/alecmgo/trainingandtestdata.zip",
    size=81_363_704,
    sha256="004a3772c8a7ff9bbfeb875880f47f0679d93fc63e5cf9cff72d54a8a6162e57",
    members={
        "training.1600000.processed.noemoticon.csv": 239_000_000,
        "testdata.manual.2009.06.14.csv": 74_000,
    },
)
"""Size and checksum are those of TensorFlow Datasets."""

GLOVE = {
    "6B": Archive(
        url="https://nlp.stanford.edu/data/glove.6B.zip",
        size=862_182_613,
        sha256="617afb2fe6cbd085c235baf7a465b96f4112bd7f7ccb2b2cbd649fed9cbcf2fb",
        members={
            "glove.6B.50d.txt": 171_000_000,
            "glove.6B.100d.txt": 347_000_000,
            "glove.6B.200d.txt": 693_000_000,
            "glove.6B.300d.txt": 1_038_000_000,
        },
    ),
    "twitter.27B": Archive(
        url="https://nlp.stanford.edu/data/glove.twitter.27B.zip",
        size=1_520_408_563,
        sha256="792af52f795d1a32c9842a3240f5f3fe5e941a8ff6df5eb0f9d668092ebc019c",
        members={
            "glove.twitter.27B.25d.txt": 258_000_000,
            "glove.twitter.27B.50d.txt": 511_000_000,
            "glove.twitter.27B.100d.txt": 1_022_000_000,
            "glove.twitter.27B.200d.txt": 2_058_000_000,
        },
    ),
    "42B": Archive(
        url="https://nlp.stanford.edu/data/glove.42B.300d.zip",
        size=1_877_800_501,
        sha256="03d5d7fa28e58762ace4b85fb71fe86a345ef0b5ff39f5390c14869da0fc1970",
        members={"glove.42B.300d.txt": 5_025_000_000},
    ),
    "840B": Archive(
        url="https://nlp.stanford.edu/data/glove.840B.300d.zip",
        size=2_176_768_927,
        sha256="c06db255e65095393609f19a4cfca20bf3a71e20cc53e892aafa490347e3849f",
        members={"glove.840B.300d.txt": 5_646_000_000},
    ),
}
"""By NAME of ``torchtext:NAME.DIMd``. The checksums are those of torchtext 0.8."""
