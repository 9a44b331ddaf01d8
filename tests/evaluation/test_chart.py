"""The chart of `flic eval` says what it shows."""

from types import SimpleNamespace

from flic.evaluation import chart
from flic.evaluation.select import PictureFile


def test_title_has_the_data_set_and_the_number_of_pictures(tmp_path):
    names = ("a.png", "deeper/b.png")
    pictures = [PictureFile(name, tmp_path / "kodak" / name, 9, 9) for name in names]
    for order in (pictures, pictures[::-1]):
        title = chart.title(SimpleNamespace(pictures=order))
        assert title == "Rate and distortion, kodak, 2 pictures"
    title = chart.title(SimpleNamespace(pictures=[PictureFile("a.png", tmp_path / "a.png", 9, 9)]))
    assert title == "Rate and distortion, a.png, 1 picture"
