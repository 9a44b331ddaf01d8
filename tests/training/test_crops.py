"""Pictures and crops for training: functions of seed and step, damaged files left out."""

import numpy as np
import pytest
import torch
from training_runs import crops_of, recipe, write_pictures

from flic.training.crops import batches, to_tensor
from flic.training.pictures import Pictures, digest, hold_out, scan, subfolders


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("training") / "data", 5)


def refuse(message):
    raise AssertionError(message)


def test_crops_follow_from_the_step(data):
    crops, again = (crops_of(data, recipe(seed=1, batch=4), refuse) for _ in range(2))
    assert np.array_equal(crops.batch(7, range(4)), again.batch(7, range(4)))
    assert not np.array_equal(crops.batch(7, range(4)), crops.batch(8, range(4)))
    halves = [crops.batch(7, part) for part in (range(2), range(2, 4))]
    assert np.array_equal(np.concatenate(halves), crops.batch(7, range(4)))
    x = to_tensor(crops.batch(0, range(4)), torch.device("cpu"))
    assert x.shape == (4, 3, 128, 128) and x.dtype == torch.float32
    assert 0 <= x.min() < x.max() <= 1


@pytest.mark.parametrize("first", [0, 3])
def test_batches_do_not_depend_on_the_workers(data, first):
    crops = crops_of(data, recipe(batch=3, flip=True), refuse)
    expected = [crops.batch(step, range(3)) for step in range(first, first + 4)]
    for workers in (0, 1, 3):
        stream = batches(crops, first, range(3), workers)
        for batch in expected:
            assert np.array_equal(next(stream), batch)
        stream.close()


def test_an_epoch_takes_every_picture(data, monkeypatch):
    crops = crops_of(data, recipe(batch=2), refuse)
    seen = []
    read = crops.pictures.read
    monkeypatch.setattr(crops.pictures, "read", lambda i: seen.append(i) or read(i))
    assert crops.steps_per_epoch == 3
    for step in range(3):
        crops.batch(step, range(2))
    assert sorted(seen[:5]) == [0, 1, 2, 3, 4] and seen[5] == seen[0]
    first, seen[:] = list(seen), []
    for step in range(3, 6):
        crops.batch(step, range(2))
    assert sorted(seen[:5]) == [0, 1, 2, 3, 4] and seen != first


def test_large_pictures_come_more_often_by_area(data, tmp_path):
    (tmp_path / "both").mkdir()
    write_pictures(tmp_path / "both" / "small", 1, 130, 130)
    write_pictures(tmp_path / "both" / "large", 1, 512, 256)
    assert crops_of(tmp_path / "both", recipe(batch=1), refuse).steps_per_epoch == 2
    assert crops_of(tmp_path / "both", recipe(batch=1, by_area=True), refuse).steps_per_epoch == 4


def test_mirrored_crops(tmp_path):
    folder = write_pictures(tmp_path / "one", 1, 128, 128)
    crops = crops_of(folder, recipe(flip=True, batch=16), refuse)
    picture = crops.pictures.read(0)
    batch = crops.batch(0, range(16))
    mirrored = [np.array_equal(crop, picture[:, ::-1]) for crop in batch]
    straight = [np.array_equal(crop, picture) for crop in batch]
    assert 0 < sum(mirrored) < 16 and sum(mirrored) + sum(straight) == 16
    assert all(
        np.array_equal(c, picture) for c in crops_of(folder, recipe(), refuse).batch(0, range(2))
    )


def test_unreadable_files_are_reported_once_and_left_out(tmp_path):
    folder = write_pictures(tmp_path / "data", 2)
    (folder / "a.png").write_bytes(b"no picture")
    whole = (folder / "0.png").read_bytes()
    (folder / "b.png").write_bytes(whole[: len(whole) // 2])  # a right header
    write_pictures(folder / "deeper", 1, 100, 200)
    reports = []
    crops = crops_of(folder, recipe(batch=3), reports.append)
    assert [file.path.name for file in crops.pictures.files] == ["0.png", "1.png", "b.png"]
    assert len(reports) == 2 and "a.png" in reports[0] and "1 pictures under 128" in reports[1]
    for step in range(3):
        crops.batch(step, range(3))
    assert len(reports) == 3 and "b.png" in reports[2]
    with pytest.raises(ValueError, match="no picture in .* at least 500 x 500"):
        scan(folder, 500, reports.append)
    with pytest.raises(FileNotFoundError, match="no pictures in"):
        scan(tmp_path / "nothing", 1, reports.append)
    for name in ("0.png", "1.png"):
        (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="every picture is damaged"):
        crops_of(folder, recipe(), reports.append).batch(0, range(1))


def test_the_cache_is_bounded(data):
    files = scan(data, 1, refuse)
    pictures = Pictures(files, 128 * 150 * 3 * 2, refuse)
    kept = [pictures.read(i) for i in range(5)]
    assert [pictures.read(i) is kept[i] for i in range(5)] == [True, True, False, False, False]
    assert np.array_equal(pictures.read(4), kept[4])


def test_held_out_pictures(data):
    files = scan(data, 1, refuse)
    rest, held = hold_out(files, 2, seed=3)
    assert len(held) == 2 and sorted(rest + held, key=lambda f: f.path) == files
    assert hold_out(files, 2, seed=3) == (rest, held)
    assert any(hold_out(files, 2, seed)[1] != held for seed in range(4, 9))
    with pytest.raises(ValueError, match="cannot hold out 5 of 5"):
        hold_out(files, 5, seed=3)
    assert digest(data, rest) != digest(data, files)


def test_folders_with_parts(tmp_path):
    assert subfolders(tmp_path) == (tmp_path, None)
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    assert subfolders(tmp_path) == (tmp_path / "train", tmp_path / "test")
