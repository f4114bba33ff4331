from types import SimpleNamespace

import pytest

from inkfold.evaluation.scores import Metric
from inkfold.finetune.train_folds import Interpolation
from inkfold.heads.epoch_selection import EpochSelection
from inkfold.pipeline.results import Results, warn_of_accuracy, warn_of_choices

EPOCHS, SHARES = EpochSelection((2, 3), 0.75, 0.5), Interpolation((0.0, 0.5, 1.0), (0.5, 0.75, 0.625), 0.5, 0.625)


def results(selection=None, interpolation=None, **others):
    fitted = SimpleNamespace(selection=selection)
    finetuned = None if interpolation is None else SimpleNamespace(fitted=fitted, interpolation=interpolation)
    return Results(2, fitted, out_of_fold=None, test=None, without_tta=None, finetuned=finetuned, **others)


def test_choices_by_held_out_drawings_are_warned_of_with_their_optimism():
    epochs, shares = warn_of_choices(results(EPOCHS, SHARES))
    assert epochs.startswith("the epochs that are kept (keep=best) were chosen by the held-out drawings")
    assert epochs.endswith("whose accuracy is optimistic by 0.2500: on new drawings expect 0.5000")
    assert shares.startswith("the shares of the way to the trained weights (finetune.interpolate) were chosen")
    assert shares.endswith("whose accuracy is optimistic by 0.1250: on new drawings expect 0.6250")


@pytest.mark.parametrize("selection", [None, EpochSelection((2,), 0.5, 0.5), EpochSelection((2,), 0.5, 0.75)])
def test_a_choice_that_is_not_optimistic_is_not_warned_of(selection):
    assert warn_of_choices(results(selection)) == []


def test_what_accuracy_chose_is_said_where_another_metric_measures():
    metric = Metric("macro_f1")
    [warning] = warn_of_accuracy(results(EPOCHS, SHARES, reading={"compared": {"image.resize=pad": {}}}, metric=metric))
    assert warning == (
        "chosen by accuracy, not by macro F1: how pages are read (image.resize=auto, image.paper=auto); the epochs that "
        "fine-tuning keeps (finetune.keep=best); the share of fine-tuned weights (finetune.interpolate)"
    )
    assert warn_of_accuracy(results(EPOCHS, SHARES)) == []
    assert warn_of_accuracy(results(EPOCHS, reading={"compared": {}}, metric=metric)) == []
