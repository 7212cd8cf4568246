"""Files below a folder."""

import os
from pathlib import Path

import pytest

from convtl.data import listing
from convtl.errors import UserError


def test_unreadable_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cats" / "more").mkdir(parents=True)
    (tmp_path / "cats" / "one.png").touch()
    scandir = os.scandir

    def refused(path: Path):
        if Path(path).name == "more":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(listing.os, "scandir", refused)
    with pytest.raises(UserError, match=r"path: cannot read .*more.*no permission"):
        listing.files_below(tmp_path)
