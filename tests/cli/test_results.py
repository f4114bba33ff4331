import json
import shutil
from dataclasses import replace

import numpy as np
from PIL import Image

from inkfold.cli.main import main
from inkfold.errors import WeightsError
from inkfold.storage.sealed import read_sealed, write_sealed
from toy import CLASSES, RUN_FILES, files_below, read_rows
from toy_cli import words
from toy_runs import made_up, write_run


def test_train_and_predict_say_what_they_did(tmp_path, data, recipe, capsys):
    assert main(words("train", recipe, f"data={data}", f"out={tmp_path / 'run'}")) == 0
    printed = capsys.readouterr()
    assert files_below(tmp_path / "run") == RUN_FILES
    assert "out of fold" in printed.out
    assert "24 forwards, 0 from the bank" in printed.out
    assert f"submission: {tmp_path / 'run/submission.csv'}" in printed.out
    assert "fitting heads: 15/15" in printed.err
    assert main(words("predict", tmp_path / "run", data / "test", "--out", tmp_path / "p.csv")) == 0
    header, *rows = read_rows(tmp_path / "p.csv")
    assert header == ["image_path", "class_name", "target", "probability", "blank"]
    assert sorted(row[0] for row in rows) == [f"{i}.png" for i in range(6)]
    submitted = {path: target for _, path, target in read_rows(tmp_path / "run/submission.csv")[1:]}
    assert {row[0]: row[2] for row in rows} == submitted
    assert all(row[1] == CLASSES[int(row[2])] for row in rows)


def test_blank_drawings_are_marked_and_kept_emptied_or_refused(frozen_run, tmp_path, capsys):
    shutil.copytree(frozen_run / "data/test", tmp_path / "new")
    Image.new("L", (48, 48), 0).save(tmp_path / "new/3.png")
    command = words("predict", frozen_run / "run", tmp_path / "new", "--out", tmp_path / "p.csv")
    assert main(command) == 0
    printed = capsys.readouterr()
    assert "warning: 3.png: is blank: nothing is drawn on it." in printed.err
    assert printed.err.count("3.png") == 1
    assert "6 drawings predicted, 1 blank among them, 0 left empty as broken" in printed.out
    answers = {row[0]: row[1:] for row in read_rows(tmp_path / "p.csv")[1:]}
    assert [name for name, row in answers.items() if row[3] == "true"] == ["3.png"]
    assert answers["3.png"][0] in CLASSES
    assert main([*command, "--on-blank", "skip"]) == 0
    assert "5 drawings predicted, 1 blank left empty" in capsys.readouterr().out
    assert {row[0]: row[1:] for row in read_rows(tmp_path / "p.csv")[1:]} == {**answers, "3.png": ["", "", "", "true"]}
    (tmp_path / "p.csv").unlink()
    assert main([*command, "--on-blank", "error"]) == 2
    assert "error: 3.png: is blank" in capsys.readouterr().err
    assert not (tmp_path / "p.csv").exists()


def test_report_prints_how_runs_compare_with_the_best_and_which_can_not(tmp_path, capsys):
    n, runs = 60, []
    for name, accuracy, folds in (("a", 0.4, 5), ("b", 0.95, 5), ("c", 0.9, 10)):
        predictions = made_up(
            [f"{name}/{i}" for i in range(n)], np.arange(n) % 3, CLASSES, accuracy=accuracy, folds=np.arange(n) % folds
        )
        predictions = replace(predictions, digests=np.array([f"digest {i}".encode() for i in range(n)]))
        figures = [{"fold": fold, "accuracy": 0.5, "n": n // folds, "n_train": n - n // folds} for fold in range(folds)]
        recipe = {"data": {"root": "gone"}, "folds": {"k": folds}, "seed": 42}
        runs.append(write_run(tmp_path / name, "gone", predictions, recipe=recipe, metrics={"folds": figures}))
    assert main(words("report", *runs, "--out", tmp_path / "page.html")) == 0
    printed = capsys.readouterr().out
    assert f"A {runs[0]}, B {runs[1]}, C {runs[2]}" in printed
    assert "against the best single run, B" in printed
    [row] = [line for line in printed.splitlines() if "A less B" in line]
    assert "60 held out" in row
    assert "p < 1e-6: more than chance" in row
    assert "C and B, held out drawings: not comparable. C's models were trained on 90% of its drawings, B's on 80%" in printed
    assert f"  inkfold train {runs[2]}/recipe.yaml folds.k=5 out={runs[2]}-same-folds" in printed


def test_a_place_that_can_not_be_written_is_named_in_a_line_before_the_work(frozen_run, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.html").mkdir()
    monkeypatch.setattr("inkfold.ensemble.model.load_run", None)  # nothing is predicted
    run, new = frozen_run / "run", frozen_run / "data/test"
    assert main(words("predict", run, new, "--out", tmp_path / "file/p.csv")) == 2
    line = f"error: {tmp_path / 'file/p.csv'}: Not a directory. A part of that path is a file. Choose another place.\n"
    assert capsys.readouterr().err == line
    for command in (("predict", run, new), ("report", run)):
        assert main(words(*command, "--out", tmp_path / "folder.html")) == 2
        line = f"error: {tmp_path / 'folder.html'}: Is a directory. Name a file, in it or elsewhere.\n"
        assert capsys.readouterr().err == line


def test_a_link_is_written_through_and_standard_output_holds_the_answers_alone(frozen_run, tmp_path, capfd):
    (tmp_path / "link.csv").symlink_to("real.csv")
    command = words("predict", frozen_run / "run", frozen_run / "data/test", "--out")
    assert main([*command, str(tmp_path / "link.csv")]) == 0
    assert (tmp_path / "link.csv").is_symlink()
    capfd.readouterr()
    assert main([*command, "/dev/stdout"]) == 0
    printed = capfd.readouterr()
    assert printed.out == (tmp_path / "real.csv").read_text()
    assert "drawings predicted, 0 left empty as broken: /dev/stdout" in printed.err


def test_a_report_never_follows_a_link_in_the_run_and_goes_where_it_is_told(frozen_run, tmp_path, capsys):
    run = shutil.copytree(frozen_run / "run", tmp_path / "run")
    (run / "report.html").symlink_to(tmp_path / "outside")
    assert main(words("report", run)) == 2
    assert "Remove it, or write the report elsewhere: --out FILE.html." in capsys.readouterr().err
    assert not (tmp_path / "outside").exists()
    assert main(words("report", run, "--out", tmp_path / "page.html")) == 0
    assert (tmp_path / "page.html").is_file()


def test_weakness_takes_runs_not_ensembles_and_prints_a_table_or_json(runs, tmp_path, capsys):
    assert main(words("vote", *runs, "--out", tmp_path / "both")) == 0
    capsys.readouterr()
    assert main(words("weakness", tmp_path / "both")) == 2
    assert (
        "Ask its members one by one: " + ", ".join(str(tmp_path / "both/members" / name) for name in ("0-one", "1-two"))
        in capsys.readouterr().err
    )
    assert main(words("weakness", runs[0])) == 0
    assert "18 held-out drawings" in capsys.readouterr().out
    assert main(words("weakness", runs[0], "--json")) == 0
    assert json.loads(capsys.readouterr().out)["clean"]["n"] == 18


def test_a_submission_of_new_predictions_says_that_the_runs_own_was_predicted_together(frozen_run, tmp_path, capsys):
    run = shutil.copytree(frozen_run / "run", tmp_path / "run")
    command = words("predict", run, frozen_run / "data/test", "--submission", "--out", tmp_path / "s.csv")
    assert main(command) == 0
    assert "predicted one by one" not in capsys.readouterr().out
    manifest = read_sealed(run / "manifest.json", must_be_sealed=True)
    write_sealed(run / "manifest.json", {**manifest, "transductive": {"used": True}})
    assert main(command) == 0
    assert f"predicted one by one: {run / 'submission.csv'} was predicted with label propagation" in capsys.readouterr().out


def test_explain_writes_a_picture_and_says_what_speaks_for_the_answer(frozen_run, tmp_path, capsys):
    run, drawing = frozen_run / "run", frozen_run / "data/test/0.png"
    assert main(words("explain", run, drawing, "--out", tmp_path / "why.png", "--strokes", "4")) == 0
    printed = capsys.readouterr()
    assert "probability" in printed.out
    assert f"picture: {tmp_path / 'why.png'}" in printed.out
    with Image.open(tmp_path / "why.png") as picture:
        assert picture.format == "PNG"
    assert main(words("explain", run, drawing, "--out", tmp_path / "why.png", "--strokes", "4", "--json")) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["class_name"] in CLASSES
    assert 1 <= len(content["strokes"]) <= 4
    assert main(words("explain", run, drawing, "--out", tmp_path / "why.pdf")) == 2
    assert "ends in .png" in capsys.readouterr().err
    assert main(words("explain", run, drawing, "--out", tmp_path / "why.png", "--against", "fsh")) == 2
    assert "Did you mean 'fish'" in capsys.readouterr().err


def test_report_explains_mistakes_or_says_why_not(frozen_run, tmp_path, capsys, monkeypatch):
    run = shutil.copytree(frozen_run / "run", tmp_path / "run")
    assert main(words("report", run, "--explain")) == 0
    assert "mistakes: " in capsys.readouterr().err
    assert "rested on" in (run / "report.html").read_text("utf-8")

    def gone(*arguments, **settings):
        raise WeightsError("no weights")

    monkeypatch.setattr("inkfold.audit.explained.explain_mistakes", gone)
    assert main(words("report", run, "--explain")) == 0
    assert "warning: mistakes are shown without what they rest on: no weights" in capsys.readouterr().err
    assert main(words("report", run, run, "--explain", "--out", tmp_path / "both.html")) == 2
    assert "--explain is for one run" in capsys.readouterr().err
