"""How a fine-tuning ends whose time is over: by the checkpoints that are there, which are written here by hand."""

import pytest
import torch

from inkfold.config.load import dump_recipe, validate_recipe
from inkfold.finetune.checkpoint import FoldProgress, read_progress, save_checkpoint
from inkfold.pipeline.unfinished import early_end

STEPS = 10  # of an epoch


def unfinished(directory, done, *, parts=None, **finetune):
    """Write an unfinished run whose folds have made so many steps."""
    settings = {"part": "all", "epochs": 20, **finetune}
    recipe = validate_recipe({"backbone": {"name": "none"}, "folds": {"parts": parts}, "finetune": settings})
    (directory / "recipe.yaml").write_text(dump_recipe(recipe))
    (directory / "checkpoints").mkdir()
    for fold, steps in enumerate(done):
        plain = {"epoch": steps // STEPS, "step": steps % STEPS, "steps": STEPS}
        save_checkpoint(directory / f"checkpoints/fold{fold}.last.safetensors", {"x": torch.zeros(1)}, plain)
    return directory


def ends(out, steps):
    end = early_end(out, steps)
    return end.recipe.folds.held_out_parts, end.recipe.finetune.stop_epoch, end.steps_left


def test_folds_that_are_trained_are_kept_and_one_in_training_is_left_out(tmp_path):
    out = unfinished(tmp_path, [200, 200, 150])
    assert ends(out, 0) == ends(out, 49) == (2, None, 0)
    assert ends(out, 50) == (3, None, 50), "there is time to finish the third"
    assert ends(out, 449) == (4, None, 250)
    assert ends(out, 450) == ends(out, 10_000) == (5, None, 450)


def test_the_recipe_of_a_run_that_can_be_finished_as_it_is_stays_as_it_is(tmp_path):
    out = unfinished(tmp_path, [200, 10], parts=2)
    end = early_end(out, 190)
    assert dump_recipe(end.recipe) == (out / "recipe.yaml").read_text()


def test_the_first_folds_training_stops_after_as_many_epochs_as_there_is_time_for(tmp_path):
    out = unfinished(tmp_path, [83])
    # After 11 epochs of 10 steps the cool-down takes 22, from step 88; after 10 it takes 20, from step 80, which is over.
    assert ends(out, 0) == ends(out, 27) == ends(out, 36) == (1, 11, 27)
    assert ends(out, 37) == (1, 12, 37)
    assert ends(out, 116) == (1, 19, 107)
    assert ends(out, 117) == (1, None, 117), "to the end of the schedule"


def test_a_training_that_cools_down_already_ends_as_it_was_to_end(tmp_path):
    out = unfinished(tmp_path, [85], stop_epoch=10)
    assert ends(out, 0) == ends(out, 114) == (1, 10, 15)
    assert ends(out, 115) == (2, 10, 115)


@pytest.mark.parametrize("made", ["nothing", "no checkpoint", "broken", "frozen", "finished"])
def test_where_nothing_was_trained_or_all_is_done_there_is_nothing_to_end(tmp_path, made):
    if made != "nothing":
        out = unfinished(tmp_path, [] if made == "no checkpoint" else [20], part="none" if made == "frozen" else "all")
    if made == "broken":
        (out / "checkpoints/fold0.last.safetensors").write_bytes(b"not one")
    if made == "finished":
        (out / "manifest.json").write_text("{}")
    assert early_end(tmp_path, 100) is None


def test_progress_is_read_in_the_order_of_folds(tmp_path):
    unfinished(tmp_path, [7] * 11)
    (tmp_path / "checkpoints/fold3.last.safetensors").write_bytes(b"")
    progress = read_progress(tmp_path / "checkpoints")
    assert [fold.fold for fold in progress] == [0, 1, 2, *range(4, 11)]
    assert progress[0] == FoldProgress(0, 0, 7, STEPS)
    assert FoldProgress(0, 2, 7, STEPS).done == 27
