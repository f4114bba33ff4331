from inkfold.audit.wording import ceiling_sentence, confusions_sentence, doubts_sentence, models_sentence, premise
from toy_runs import audit


def labels(**changes):
    return {**audit(["a.png", "b.png", "c.png"], ("apple", "fish"))["labels"], **changes}


def test_the_list_says_how_sure_it_is_and_what_it_misses():
    sentence = doubts_sentence(labels())
    assert "1 of 3 labels are doubted by all of 2 models." in sentence
    assert "About 80% of these (20% to 100%) are expected to be wrong" in sentence
    assert "the list holds about 30%" in sentence


def test_an_empty_list_does_not_say_that_labels_are_right():
    sentence = doubts_sentence(labels(doubtful=[], doubts={"expected_wrong": None}))
    assert (
        "none is listed. That doesn't say that all are right: about 2.0% of all labels are estimated to be wrong." in sentence
    )


def test_inseparable_pairs_are_what_was_tried_not_what_is():
    sentence = confusions_sentence(labels())
    assert sentence.startswith("1 pair of classes is not separable by anything tried: by none of 2 models")
    assert "up to 90% can't be excluded" in sentence
    assert confusions_sentence(labels(confused=[])).startswith("Every pair of classes is separated")


def test_the_ceiling_is_a_bound_with_its_premise():
    assert ceiling_sentence(labels()) == "Accuracy is bounded by 97.0% under this premise: labels stay so."
    none = {"accuracy": 1.0, "lost_to_conflicts": 0.0, "lost_to_confused": 0.0, "premise": premise(0, 0)}
    assert ceiling_sentence(labels(ceiling=none, confused=[])).startswith("No bound on accuracy was found")
    assert "of those not tried either" in premise(0, 2)
    assert "only the most frequent label is right" in premise(1, 0)


def test_the_models_are_named_with_their_accuracies():
    sentence = models_sentence(labels(notes=["the weights of x were trained on these"]))
    assert "the run itself (0.600), ridge regression on ink-small (0.500)." in sentence
    assert "Too weak to be asked: nearest drawings on ink-small (0.100)." in sentence
    assert sentence.endswith("The weights of x were trained on these.")
