"""docs/quickstart.md: its blocks run, in order."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from places import ROOT

from flic.cli.show import ASSETS
from flic.dataset import manifest

PAGE = ROOT / "docs" / "quickstart.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """The folder that the page speaks of, and `flic` on the path."""
    photograph = Image.open(ASSETS / "parrot.png").convert("RGB")
    photograph.crop((200, 100, 328, 228)).save(tmp_path / "photo.jpg")
    (tmp_path / "photos").mkdir()
    photograph.crop((0, 0, 90, 70)).save(tmp_path / "photos" / "corner.png")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "flic"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m flic "$@"\n')
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


@pytest.mark.usefixtures("one_thread")
def test_blocks_run(place):
    pytest.importorskip("huggingface_hub")
    blocks = BLOCK.findall(PAGE.read_text())
    assert {language for language, _ in blocks} == {"sh", "python"}
    assert PAGE.read_text().count("```") == 2 * len(blocks)
    names = {}
    for language, text in blocks:
        if language == "python":
            exec(compile(text, str(PAGE), "exec"), names)
        else:
            done = subprocess.run(["sh", "-euc", text], capture_output=True, text=True)
            assert done.returncode == 0, text + done.stderr
    assert Image.open("photo.png").size == (128, 128)
    assert names["image"].size == (128, 128) and names["y"].shape == (1, 192, 8, 8)
    assert names["out"]["x_hat"].shape == (1, 3, 128, 128)
    (record,) = manifest.read(place / "coded" / "manifest.jsonl")
    assert (record.path, record.status, record.width) == ("corner.png", "ok", 90)
