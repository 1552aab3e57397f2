"""A setting that a later version adds, at its default, changes nothing by which results differ."""

from typing import Annotated

import pytest

from sentiflow.config import decisive
from sentiflow.config.prepare_sections import PrepareSettings, SplitSettings
from sentiflow.config.train_sections import TrainSettings
from sentiflow.config.types import ADDED


class LaterSplit(SplitSettings):
    """The split of a later version."""

    added: Annotated[int, ADDED] = 3
    """A setting of a later version."""


class LaterPrepare(PrepareSettings):
    """The preparation of a later version."""

    split: LaterSplit = LaterSplit()
    also: Annotated[str | None, ADDED] = None
    """Another one."""


def test_an_added_setting_at_its_default_is_left_out():
    assert decisive.dump(LaterPrepare()) == decisive.dump(PrepareSettings())


def test_added_settings_of_this_version():
    """A result of a version without these settings stays complete."""
    assert not {"unit", "cut"} & decisive.dump(PrepareSettings()).keys()
    assert decisive.dump(PrepareSettings(unit="characters"))["unit"] == "characters"
    assert decisive.dump(PrepareSettings(cut="middle"))["cut"] == "middle"


@pytest.mark.parametrize("mode", ["python", "json"])
def test_an_added_setting_with_another_value_decides(mode):
    changed = LaterPrepare(split=LaterSplit(added=4), also="x")
    dumped = decisive.dump(changed, mode=mode)
    assert dumped["split"]["added"] == 4
    assert dumped["also"] == "x"


def test_other_settings_are_as_pydantic_dumps_them():
    settings = TrainSettings(num_epochs=3)
    others = settings.model_dump(mode="json", exclude={"neighbor_weight"})
    assert decisive.dump(settings, mode="json") == others
    assert decisive.dump(settings, only_given=True) == {"num_epochs": 3}
    assert "seed" not in decisive.dump(settings, exclude={"seed"})
