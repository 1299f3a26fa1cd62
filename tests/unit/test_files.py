"""Writing files so that none is ever half there."""

import os
import stat

import pytest

from steerlab import files


@pytest.fixture
def unwritable(tmp_path):
    """A folder that cannot be made, whoever runs the tests: its parent is a file."""
    (tmp_path / "file").write_text("mine")
    return tmp_path / "file" / "folder"


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_a_file_appears_when_it_is_complete(tmp_path):
    with files.replacing(tmp_path / "new" / "a.txt") as temporary:
        temporary.write_text("whole")
        assert not (tmp_path / "new" / "a.txt").exists()
    assert (tmp_path / "new" / "a.txt").read_text() == "whole"
    assert names(tmp_path) == ["a.txt", "new"]


def test_an_error_leaves_the_older_file_and_nothing_else(tmp_path):
    (tmp_path / "a.txt").write_text("old")

    def interrupted() -> None:
        with files.replacing(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_files_and_folders_get_the_usual_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_text(tmp_path / "a.txt", "x")
        with files.new_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o750


def test_a_folder_appears_when_it_is_complete(tmp_path):
    with files.new_folder(tmp_path / "deep" / "run") as inside:
        (inside / "a.txt").write_text("x")
        assert not (tmp_path / "deep" / "run").exists()
    assert names(tmp_path) == ["a.txt", "deep", "run"]


def test_an_error_leaves_no_folder(tmp_path):
    def interrupted() -> None:
        with files.new_folder(tmp_path / "run") as inside:
            (inside / "a.txt").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(tmp_path) == []


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "run").mkdir()
    with files.new_folder(tmp_path / "run") as inside:
        (inside / "a.txt").write_text("x")
    assert names(tmp_path) == ["a.txt", "run"]


def test_a_folder_is_replaced_only_if_it_holds_the_file_that_marks_it(tmp_path):
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.txt").write_text("x")
    with files.new_folder(tmp_path / "ours", replace_if="ours.txt") as inside:
        (inside / "new.txt").write_text("x")
    for marker, expected in (("ours.txt", "a run of ours"), (None, "an empty folder")):
        with (
            pytest.raises(FileExistsError, match=f"theirs exists and is not {expected}"),
            files.new_folder(tmp_path / "theirs", replace_if=marker),
        ):
            pytest.fail("the block was entered")
    assert names(tmp_path) == ["new.txt", "ours", "theirs", "theirs.txt"]


def test_a_trial_leaves_everything_as_it_was(tmp_path):
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "ours.txt").write_text("x")
    for name in ("ours", "new"):
        with files.new_folder(tmp_path / name, replace_if="ours.txt", keep=False) as inside:
            (inside / "a.txt").write_text("x")
    assert names(tmp_path) == ["ours", "ours.txt"]


def test_a_folder_that_cannot_be_written_is_named_before_the_work(unwritable):
    for attempt in (
        lambda: files.writable_folder(unwritable),
        lambda: files.write_text(unwritable / "a.txt", "x"),
        lambda: files.new_folder(unwritable / "run").__enter__(),
    ):
        with pytest.raises(OSError, match=r"cannot write to folder .*file/folder \(.+\); choose another output folder"):
            attempt()


def test_json_is_sorted_readable_and_the_same_every_time(tmp_path):
    files.write_json(tmp_path / "a.json", {"b": [1, 2.5], "a": "Ä"})
    assert (tmp_path / "a.json").read_bytes() == '{\n  "a": "Ä",\n  "b": [\n    1,\n    2.5\n  ]\n}\n'.encode()


def test_json_knows_no_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(tmp_path / "a.json", {"p": float("nan")})
    assert names(tmp_path) == []


def test_lines_end_alike_everywhere(tmp_path):
    assert files.write_text(tmp_path / "a.txt", "a\nb\n").read_bytes() == b"a\nb\n"
