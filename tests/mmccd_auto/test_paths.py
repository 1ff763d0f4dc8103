"""Folders: flag, then environment, then default, each on its own."""

from __future__ import annotations

from pathlib import Path

from mmccd_auto.datasets.folders import Folders


def test_flag_wins_over_environment_and_environment_over_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environment = {"mmccd_raw": "/from/environment/raw", "mmccd_preprocessed": "/from/environment/preprocessed"}
    folders = Folders.resolve(raw="/from/flag", environment=environment)
    assert folders.raw == Path("/from/flag")
    assert folders.preprocessed == Path("/from/environment/preprocessed")
    assert folders.results == tmp_path / "mmccd" / "results"


def test_reads_the_real_environment_when_called(monkeypatch, tmp_path):
    monkeypatch.setenv("mmccd_results", str(tmp_path / "first"))
    assert Folders.resolve().results == tmp_path / "first"
    monkeypatch.setenv("mmccd_results", str(tmp_path / "second"))
    assert Folders.resolve().results == tmp_path / "second"


def test_empty_variable_counts_as_unset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Folders.resolve(environment={"mmccd_raw": " "}).raw == tmp_path / "mmccd" / "raw"


def test_relative_and_home_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    folders = Folders.resolve(raw="scans/../data", preprocessed=Path("~/preprocessed"), environment={})
    assert folders.raw == tmp_path / "data"
    assert folders.preprocessed == tmp_path / "home" / "preprocessed"


def test_describe_says_which_folder_and_why(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = Folders.resolve(raw="/a", environment={"mmccd_preprocessed": "/b"}).describe().splitlines()
    assert "/a" in lines[0]
    assert "option" in lines[0]
    assert "/b" in lines[1]
    assert "environment variable mmccd_preprocessed" in lines[1]
    assert str(tmp_path / "mmccd" / "results") in lines[2]
    assert "default" in lines[2]


def test_resolving_makes_no_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Folders.resolve(environment={}).describe()
    assert list(tmp_path.iterdir()) == []
