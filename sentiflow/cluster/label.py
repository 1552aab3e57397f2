"""Number and key of a part -> the names of its files. Ray is not imported."""

import secrets
from typing import NamedTuple


class Label(NamedTuple):
    """What a block knows of its part."""

    number: int
    key: str = ""
    """Hash of the part's settings and input."""

    def name_file(self, *, first: int = 0) -> str:
        """Name a file of the part; no two writes share a name.

        Args:
            first: Number of the first part, where earlier ones are files already.
        """
        return f"part-{first + self.number:05d}-{self.key}-{secrets.token_hex(4)}.parquet"
