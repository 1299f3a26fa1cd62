"""Writing files so that none is ever half there, and reading back only what is as it was written."""

import errno
import json
import os
import re
import resource
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from steerlab import _files
from steerlab._checks import InputError


@pytest.fixture
def unwritable(tmp_path):
    """A folder that cannot be made, whoever runs the tests: its parent is a file."""
    (tmp_path / "file").write_text("mine")
    return tmp_path / "file" / "folder"


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_a_file_appears_when_it_is_complete(tmp_path):
    with _files.replacing(tmp_path / "new" / "a.txt") as temporary:
        temporary.write_text("whole")
        assert not (tmp_path / "new" / "a.txt").exists()
    assert (tmp_path / "new" / "a.txt").read_text() == "whole"
    assert names(tmp_path) == ["a.txt", "new"]


def test_an_error_leaves_the_older_file_and_nothing_else(tmp_path):
    (tmp_path / "a.txt").write_text("old")

    def interrupted() -> None:
        with _files.replacing(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_files_and_folders_get_the_usual_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        _files.write_text(tmp_path / "a.txt", "x")
        with _files.new_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o750


def test_the_umask_is_never_changed_since_other_threads_would_write_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask was changed"))
    _files.write_text(tmp_path / "a.txt", "x")
    with _files.new_folder(tmp_path / "folder") as inside:
        _files.write_text(inside / "a.txt", "x")
    assert names(tmp_path) == ["a.txt", "a.txt", "folder"]


def test_a_folder_appears_when_it_is_complete(tmp_path):
    with _files.new_folder(tmp_path / "deep" / "run") as inside:
        (inside / "a.txt").write_text("x")
        assert not (tmp_path / "deep" / "run").exists()
    assert names(tmp_path) == ["a.txt", "deep", "run"]


def test_an_error_leaves_no_folder(tmp_path):
    def interrupted() -> None:
        with _files.new_folder(tmp_path / "run") as inside:
            (inside / "a.txt").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(tmp_path) == []


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "run").mkdir()
    with _files.new_folder(tmp_path / "run") as inside:
        (inside / "a.txt").write_text("x")
    assert names(tmp_path) == ["a.txt", "run"]


def test_only_the_files_of_an_earlier_version_are_replaced_and_all_others_stay(tmp_path):
    folder = tmp_path / "run"
    for name in ("old.txt", "both.txt", "parts/old.txt", "parts/diary.txt", "diary.txt"):
        _files.write_text(folder / name, name)
    with _files.new_folder(folder, own=["old.txt", "both.txt", "parts/old.txt", "gone/never.txt"], last="both.txt") as inside:
        for name in ("both.txt", "new/new.txt"):
            _files.write_text(inside / name, "new")
    held = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert held == {"both.txt": "new", "new/new.txt": "new", "parts/diary.txt": "parts/diary.txt", "diary.txt": "diary.txt"}
    with _files.new_folder(folder, own=["both.txt", "new/new.txt"]) as inside:
        _files.write_text(inside / "other.txt", "x")
    assert names(folder) == ["diary.txt", "diary.txt", "other.txt", "parts"]


@pytest.mark.parametrize("last", ["seal.txt", None])
def test_a_file_that_both_versions_have_is_the_new_one(tmp_path, last):
    folder = tmp_path / "run"
    for name in ("a.txt", "z.txt", "seal.txt", "old.txt"):
        _files.write_text(folder / name, "old")
    with _files.new_folder(folder, own=["a.txt", "z.txt", "seal.txt", "old.txt"], last=last) as inside:
        for name in ("a.txt", "z.txt", "seal.txt"):
            _files.write_text(inside / name, "new")
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"a.txt": "new", "z.txt": "new", "seal.txt": "new"}


@pytest.mark.parametrize("name", ["diary.txt", "diary.txt/a.txt", "folder"])
def test_a_file_that_is_not_ours_is_never_lost_to_a_new_one_of_its_name(tmp_path, name):
    _files.write_text(tmp_path / "run" / "diary.txt", "mine")
    _files.write_text(tmp_path / "run" / "folder" / "mine.txt", "mine")
    with (
        pytest.raises(
            FileExistsError, match=r"is not a file of the earlier run and would be lost; the new run was written to .*run-1 instead"
        ),
        _files.new_folder(tmp_path / "run", own=["old.txt", "folder"]) as inside,
    ):
        _files.write_text(inside / name, "new")
    assert (tmp_path / "run" / "diary.txt").read_text() == (tmp_path / "run" / "folder" / "mine.txt").read_text() == "mine"
    assert (tmp_path / "run-1" / name).read_text() == "new"


def test_nothing_is_put_where_something_is(tmp_path):
    _files.write_text(tmp_path / "theirs" / "theirs.txt", "x")
    with pytest.raises(FileExistsError, match="theirs exists and is not an empty folder"), _files.new_folder(tmp_path / "theirs"):
        pytest.fail("the block was entered")
    assert names(tmp_path) == ["theirs", "theirs.txt"]


# Locks and what killed processes leave

HOLD = """
import sys, time, types
sys.modules["steerlab"] = types.ModuleType("steerlab")  # the package without what it imports, which takes seconds
sys.modules["steerlab"].__path__ = [sys.argv[2]]
from steerlab import _files
with _files.locked(sys.argv[1]) as place, _files.new_folder(sys.argv[1]) as inside, _files.replacing(place.with_name("file.txt")) as temporary:
    _files.write_text(inside / "half.txt", "half")
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that writes to the folder `run` and the file `file.txt` for as long as it lives."""
    package = os.path.dirname(_files.__file__)
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "run", package], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_kept_away_and_told_who_writes_there(tmp_path, holder):
    before = names(tmp_path)
    for attempt in (lambda: _files.locked(tmp_path / "run").__enter__(), lambda: _files.new_folder(tmp_path / "run").__enter__()):
        with pytest.raises(
            FileExistsError, match=rf"run is being written by process {holder.pid} on \S+; wait until it is done, or choose"
        ):
            attempt()
    _files.write_text(tmp_path / "file.txt", "mine")  # does not sweep the other process's temporary file
    assert names(tmp_path) == sorted([*before, "file.txt"])


def test_what_a_killed_process_left_is_swept_and_its_lock_does_not_count(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    similar = [".run.notes", ".run.swp", ".file.txt.swp", ".run.abc.tmp", ".other.0123abcd.tmp"]
    for name in similar:
        (tmp_path / name).write_text("mine")
    left = set(names(tmp_path)) - set(similar)
    assert ".run.lock" in left
    assert sorted(re.sub("[0-9a-f]{8}", "*", name) for name in left) == [".file.txt.*.tmp", ".run.*.tmp", ".run.lock", "half.txt"]
    with _files.new_folder(tmp_path / "run") as inside:
        _files.write_text(inside / "whole.txt", "x")
    _files.write_text(tmp_path / "file.txt", "x")
    assert names(tmp_path) == sorted([*similar, "file.txt", "run", "whole.txt"])


def test_another_thread_is_kept_away_and_the_same_one_may_go_on(tmp_path):
    with ThreadPoolExecutor(1) as other, _files.locked(tmp_path / "deep" / "run"):
        with _files.locked(tmp_path / "deep" / "run"), _files.new_folder(tmp_path / "deep" / "run") as inside:
            _files.write_text(inside / "a.txt", "x")
        with pytest.raises(FileExistsError, match=f"is being written by process {os.getpid()} on "):
            other.submit(lambda: _files.locked(tmp_path / "deep" / ".." / "deep" / "run").__enter__()).result()
    assert names(tmp_path) == ["a.txt", "deep", "run"]


def test_of_many_that_come_at_once_one_at_a_time_writes(tmp_path):
    inside, most, refused = [], [], []

    def write(number: int) -> None:
        try:
            with _files.locked(tmp_path / "run"):
                inside.append(number)
                most.append(len(inside))
                time.sleep(0.001)
                inside.remove(number)
        except FileExistsError:
            refused.append(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(200)))
    assert max(most) == 1
    assert len(most) + len(refused) == 200
    assert names(tmp_path) == []


def test_where_the_system_has_no_such_locks_the_lock_file_itself_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(_files, "_try_lock", lambda handle: None)
    gone = r"\(if there is no such process any more, remove .*\.run\.lock\)"
    with _files.locked(tmp_path / "run"), ThreadPoolExecutor(1) as other, pytest.raises(FileExistsError, match=gone):
        other.submit(lambda: _files.locked(tmp_path / "run").__enter__()).result()
    with _files.new_folder(tmp_path / "run") as inside:
        _files.write_text(inside / "a.txt", "x")
    assert names(tmp_path) == ["a.txt", "run"]


def test_a_lock_leaves_no_trace(tmp_path):
    with _files.locked(tmp_path / "deep" / "deeper" / "run"):
        pass
    assert names(tmp_path) == []


# What the system refuses


def test_a_folder_that_cannot_be_written_is_named_before_the_work(unwritable):
    for attempt in (
        lambda: _files.writable_folder(unwritable),
        lambda: _files.write_text(unwritable / "a.txt", "x"),
        lambda: _files.new_folder(unwritable / "run").__enter__(),
    ):
        with pytest.raises(OSError, match=r"cannot write to folder .*file/folder \(.+\); choose another output folder"):
            attempt()


def test_json_is_sorted_readable_and_the_same_every_time(tmp_path):
    _files.write_json(tmp_path / "a.json", {"b": [1, 2.5], "a": "Ä"})
    assert (tmp_path / "a.json").read_bytes() == '{\n  "a": "Ä",\n  "b": [\n    1,\n    2.5\n  ]\n}\n'.encode()


def test_json_knows_no_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        _files.write_json(tmp_path / "a.json", {"p": float("nan")})
    assert names(tmp_path) == []


def test_lines_end_alike_everywhere(tmp_path):
    assert _files.write_text(tmp_path / "a.txt", "a\nb\n").read_bytes() == b"a\nb\n"


@pytest.fixture
def small_files():
    """The system lets no file grow beyond some bytes: a write fails as on a full disk, with another reason."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_files")
def test_a_write_that_fails_names_the_path_and_leaves_nothing_half_written(tmp_path):
    def fill() -> None:
        with _files.new_folder(tmp_path / "run") as inside:
            _files.write_text(inside / "deep" / "a.txt", "x" * 21)

    for path, attempt in {
        "a.txt": lambda: _files.write_text(tmp_path / "a.txt", "x" * 21),
        "b": lambda: _files.write_bytes(tmp_path / "b", b"x" * 21),
        "c.json": lambda: _files.write_json(tmp_path / "c.json", {"text": "x" * 21}),
        "run/deep/a.txt": fill,
    }.items():
        with pytest.raises(InputError, match=rf"cannot write {tmp_path / path} \(File too large\); choose another place"):
            attempt()
    assert names(tmp_path) == []


def test_a_full_disk_is_named_with_what_to_do(tmp_path):
    with (
        pytest.raises(InputError, match=r"cannot write runs/a \(No space left on device\); free some space there, or choose") as caught,
        _files.writing("runs/a"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == errno.ENOSPC


# Seals

AGAIN = "run it again"


def test_a_sealed_table_comes_back_as_it_is_read(tmp_path):
    record = {"a": [1, (2, 0.1)], "ä": {10: 1, 9: None}, "b": 1e-300}
    _files.write_sealed(tmp_path / "a.json", "mine-1", record)
    assert _files.read_sealed(tmp_path / "a.json", "mine-1", AGAIN) == json.loads(json.dumps(record))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"a": NaN}', "not JSON .NaN is not a number of JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "holds a list, not a table"),
        (b"{}", "format None; this version reads mine-1"),
        (b'{"format": "mine-2"}', "format 'mine-2'; this version reads mine-1"),
        (b'{"format": "mine-1"}', "does not match its own sha256; the file was changed or damaged"),
        (b'{"format": "mine-1", "sha256": 3}', "does not match its own sha256"),
    ],
)
def test_a_table_that_cannot_be_trusted_is_named_with_what_to_do(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.json: {message}.*; run it again"):
        _files.read_sealed(tmp_path / "a.json", "mine-1", AGAIN)


@pytest.mark.parametrize("name", ["../a", "/etc/a", "", ".", "a/../../b", "a\\b"])
def test_a_list_of_files_names_none_outside_its_folder(tmp_path, name):
    with pytest.raises(InputError, match="its list of files is not one"):
        _files.own_files(tmp_path, {name: "digest"})
