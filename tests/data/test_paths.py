import os
import unicodedata

import numpy as np
import pytest

from inkfold.data.paths import FileFinder, choose_base, find_files, list_images
from inkfold.data.tables import STRING


def put(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def texts(*values):
    return np.array(values, dtype=STRING)


def kinds(problems):
    return [problem.kind for problem in problems]


def test_images_are_listed_in_code_point_order_with_any_case_of_suffix(tmp_path):
    put(tmp_path, "b/x.png", "B/y.JPEG", "가/z.JPG", "a.webp", "b/a/deep.TIF", "b-c/1.png")
    files, problems = list_images(tmp_path)
    assert files.tolist() == ["B/y.JPEG", "a.webp", "b-c/1.png", "b/a/deep.TIF", "b/x.png", "가/z.JPG"]
    assert not problems


def test_junk_is_left_out_silently(tmp_path):
    put(tmp_path, "a/1.png", "a/._1.png", "a/.DS_Store", "a/Thumbs.db", "desktop.ini")
    put(tmp_path, "__MACOSX/a/1.png", ".ipynb_checkpoints/1.png", "a/.hidden.png")
    files, problems = list_images(tmp_path)
    assert files.tolist() == ["a/1.png"]
    assert not problems


def test_other_files_are_counted_in_one_warning(tmp_path):
    put(tmp_path, "a/1.png", "a/notes.txt", "b.zip")
    _, (problem,) = list_images(tmp_path)
    assert (problem.kind, problem.severity) == ("not_an_image", "warning")
    assert "2 file(s)" in problem.message


def test_pictures_that_may_need_another_decoder_or_a_conversion_are_not_left_out(tmp_path):
    names = ["a.HEIC", "b.heif", "c.avif", "d.svg", "e.svgz", "f.jfif", "g.jpe", "h.tif", "i.webp", "j.apng", "k.dib"]
    put(tmp_path, *names)
    files, problems = list_images(tmp_path)
    assert files.tolist() == names
    assert not problems


def test_a_folder_that_is_named_like_an_image_is_a_folder(tmp_path):
    put(tmp_path, "a.png/1.png")
    assert list_images(tmp_path)[0].tolist() == ["a.png/1.png"]


def test_links_out_of_the_folder_are_refused_and_links_inside_read(tmp_path):
    put(tmp_path, "out/1.png", "in/a/1.png")
    (tmp_path / "in/file.png").symlink_to(tmp_path / "out/1.png")
    (tmp_path / "in/folder").symlink_to(tmp_path / "out")
    (tmp_path / "in/own.png").symlink_to(tmp_path / "in/a/1.png")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/gone.png").symlink_to(tmp_path / "in/nothing.png")
    files, problems = list_images(tmp_path / "in")
    assert files.tolist() == ["a/1.png", "own.png"]
    assert [(p.kind, p.where) for p in problems] == [
        ("outside_root", "in/file.png"),
        ("outside_root", "in/folder"),
        ("missing_file", "in/gone.png"),
        ("linked_folder", "in/loop"),
    ]


def test_a_part_that_is_itself_a_link_out_of_the_root_is_refused(tmp_path):
    put(tmp_path, "out/1.png", "in/x.txt")
    (tmp_path / "in/train").symlink_to(tmp_path / "out")
    files, problems = list_images(tmp_path / "in/train", tmp_path / "in")
    assert (len(files), kinds(problems)) == (0, ["outside_root"])


def test_a_name_that_is_not_utf_8_is_an_error(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"\xb0\xed.png")).write_bytes(b"")
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    files, problems = list_images(tmp_path)
    assert (len(files), kinds(problems)) == (0, ["undecodable_name"])
    str(problems[0]).encode()


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ("a/1.png", ""),
        ("./a/../a/1.png", ""),
        ("a\\1.png", ""),
        ("back\\slash.png", ""),
        ("a/2.png", "missing_file"),
        ("a", "missing_file"),
        ("a/", "missing_file"),
        ("a/\0.png", "missing_file"),
        ("a/" + "x" * 300 + ".png", "missing_file"),
        ("../out/1.png", "outside_root"),
        ("..\\out\\1.png", "outside_root"),
        ("/etc/passwd", "outside_root"),
        ("C:\\data\\1.png", "outside_root"),
        ("link.png", "outside_root"),
        ("linked/1.png", "outside_root"),
        ("../in-too/1.png", "outside_root"),
    ],
)
def test_paths_of_tables_are_found_inside_the_root_only(tmp_path, given, fault):
    put(tmp_path, "in/a/1.png", "out/1.png", "in-too/1.png", "in/back\\slash.png")
    (tmp_path / "in/link.png").symlink_to(tmp_path / "out/1.png")
    (tmp_path / "in/linked").symlink_to(tmp_path / "out")
    finder = FileFinder(tmp_path / "in")
    path, got = finder.find(str(tmp_path / "in"), given)
    assert got == fault
    assert bool(path) == (not fault)


def test_an_absolute_path_inside_the_root_is_found(tmp_path):
    put(tmp_path, "a/1.png")
    given = str(tmp_path / "a/1.png")
    assert FileFinder(tmp_path).find(str(tmp_path), given) == (os.path.realpath(given), "")


def test_a_root_that_is_a_link_is_followed(tmp_path):
    put(tmp_path, "real/1.png")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert FileFinder(tmp_path / "link").find(str(tmp_path / "link"), "1.png")[1] == ""


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("in_table", ["NFC", "NFD"])
def test_unicode_forms_of_table_and_disk_may_differ(tmp_path, on_disk, in_table):
    name = "고양이/스케치é.png"
    put(tmp_path, unicodedata.normalize(on_disk, name))
    assert FileFinder(tmp_path).find(str(tmp_path), unicodedata.normalize(in_table, name))[1] == ""


def test_folder_and_file_may_each_have_their_own_unicode_form(tmp_path):
    nfc, nfd = unicodedata.normalize("NFC", "고양이"), unicodedata.normalize("NFD", "고양이")
    put(tmp_path, f"{nfc}/{nfd}.png")
    assert FileFinder(tmp_path).find(str(tmp_path), f"{nfc}/{nfc}.png")[1] == ""
    assert FileFinder(tmp_path).find(str(tmp_path), f"{nfd}\\{nfd}.png")[1] == ""


def test_the_base_with_more_of_the_first_rows_is_chosen(tmp_path):
    put(tmp_path, "train/a/1.png", "train/a/2.png", "a/1.png")
    finder = FileFinder(tmp_path)
    bases = [tmp_path, tmp_path / "train"]
    assert choose_base(finder, bases, texts("a/1.png", "a/2.png")) == tmp_path / "train"
    assert choose_base(finder, bases, texts("a/1.png")) == tmp_path


def test_faults_are_told_by_row_and_many_alike_in_one(tmp_path):
    put(tmp_path, "1.png")
    finder = FileFinder(tmp_path)
    files, problems = find_files(texts("1.png", "2.png", "../x.png", ""), finder, tmp_path, "t.csv row {}".format, "warning")
    assert [bool(file) for file in files] == [True, False, False, False]
    assert [(p.kind, p.where, p.severity) for p in problems] == [
        ("missing_file", "t.csv row 1", "warning"),
        ("outside_root", "t.csv row 2", "error"),
    ]
    none = find_files(texts(*["x.png"] * 50), finder, tmp_path, "t.csv row {}".format, "error")[1]
    assert [(p.kind, p.where) for p in none] == [("missing_file", "t.csv")]


def test_an_svg_beside_a_picture_of_its_name_is_its_source_and_left_out(tmp_path):
    for name in ("cat/1.png", "cat/1.svg", "cat/2.SVG", "dog/3.svgz"):
        put(tmp_path, name)
    found, problems = list_images(tmp_path, tmp_path)
    assert found.tolist() == ["cat/1.png", "cat/2.SVG", "dog/3.svgz"]
    assert any("cat/1.svg" in problem.message for problem in problems)
