"""Tags of a registered version: who made it the champion, when, and in place of which version."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sentiflow.errors import printable
from sentiflow.tracking import model_registry
from sentiflow.tracking.model_registry import Version

_BY = "sentiflow.promoted_by"
"""Tag of a version: the person who made it the champion last."""
_AT = "sentiflow.promoted_at"
"""Tag of a version: when that was, in ISO 8601 and UTC."""
_REASON = "sentiflow.promoted_because"
"""Tag of a version: why that was, and in place of which version."""
_EARLIER = "sentiflow.promoted_earlier"
"""Tag of a version that has become the champion several times: the earlier promotions, the last one
first."""
_MAX_LENGTH = 5000
"""Maximum number of characters in a tag of a version."""
JUDGED_BY = "sentiflow.judged_by"
"""Tag of a version: the person who compared it with the champion last."""


@dataclass(frozen=True)
class PromotionRecord:
    """Who made a version the champion, and when."""

    by: str
    """The person; see ``config.submitter``."""
    at: str
    """Time in ISO 8601 and UTC, in seconds."""
    reason: str
    """Why, and in place of which version."""

    def __str__(self) -> str:
        day, _, time = self.at.partition("T")
        return f"promoted by {self.by}, {day} {time[:5]} UTC"


def read(version: Version, *, tracking_uri: str) -> PromotionRecord | None:
    """Read the last promotion of a version; None if its alias was set in another way.

    Raises:
        UserError: There is no such version.
        JobError: The store cannot be reached.
    """
    tags = model_registry.read_tags(version, tracking_uri=tracking_uri)
    if _BY not in tags or _AT not in tags:
        return None
    return PromotionRecord(
        by=printable(tags[_BY]), at=printable(tags[_AT]), reason=printable(tags.get(_REASON, ""))
    )


def write(version: Version, *, by: str, reason: str, tracking_uri: str) -> PromotionRecord:
    """Tag a version as promoted now, and return the record; earlier promotions are kept in a tag.

    Raises:
        UserError: MLflow's user lacks the permission.
        JobError: The store cannot be reached, or refuses.
    """
    known = model_registry.read_tags(version, tracking_uri=tracking_uri)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record = PromotionRecord(by=by, at=now, reason=reason)
    tags = {_BY: record.by, _AT: record.at, _REASON: record.reason}
    if _BY in known:
        earlier = f"{known.get(_AT, '')} {known[_BY]}: {known.get(_REASON, '')}"
        lines = [earlier, *known.get(_EARLIER, "").splitlines()]
        tags[_EARLIER] = "\n".join(lines)[:_MAX_LENGTH]
    model_registry.describe(version, tags=tags, tracking_uri=tracking_uri)
    return record
