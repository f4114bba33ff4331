import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkfold.config.operations import KINDS, Operation, parse_operation, parse_operations
from toy_operations import PAIRS, bounds, operations, probabilities

NUMBERS = [name for name, kind in KINDS.items() if kind.range != "none"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hflip", Operation("hflip")),
        ("invert@0.25", Operation("invert", (), 0.25)),
        ("rotate(15)@0.5", Operation("rotate", (-15, 15), 0.5)),
        ("rotate(-5,10)", Operation("rotate", (-5, 10))),
        ("rotate(5,5)", Operation("rotate", (5, 5))),
        ("translate(0.1)", Operation("translate", (-0.1, 0.1))),
        ("scale(0.2)", Operation("scale", (0.8, 1.2))),
        ("contrast(0.5,0.75)", Operation("contrast", (0.5, 0.75))),
        ("thin(2)", Operation("thin", (0, 2))),
        ("thin(1,2)", Operation("thin", (1, 2))),
        ("perspective(0.05)@0.5", Operation("perspective", (0, 0.05), 0.5)),
        ("jpeg(50)", Operation("jpeg", (50, 50))),
        ("jpeg(30,80)", Operation("jpeg", (30, 80))),
        ("elastic(30,4)@0.5", Operation("elastic", (30, 4), 0.5)),
        ("grid(4,0.2)@0.5", Operation("grid", (4, 0.2), 0.5)),
        ("noise(1e-07)", Operation("noise", (0, 1e-7))),
    ],
)
def test_a_form_is_read_and_written_to_the_letter(text, expected):
    assert parse_operation(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("hflip()", "hflip"),
        ("hflip@1", "hflip"),
        ("  rotate ( -15 , 15.0 ) @ .5 ", "rotate(15)@0.5"),
        ("rotate(1e1)", "rotate(10)"),
        ("scale(0.9,1.1)", "scale(0.1)"),
        ("blur(0,3)", "blur(3)"),
        ("jpeg(50,50)@1.0", "jpeg(50)"),
    ],
)
def test_what_means_the_same_is_written_alike(text, written):
    assert str(parse_operation(text)) == written
    assert parse_operation(text) == parse_operation(written)


@given(operations())
def test_what_is_written_is_read_as_the_same_operation(operation):
    assert parse_operation(str(operation)) == operation


@given(st.sampled_from([name for name in NUMBERS if name not in PAIRS]), st.data(), probabilities)
def test_one_number_means_the_range_that_its_kind_says(name, data, p):
    (low, high), _ = bounds(name)
    forms = {
        "symmetric": (st.floats(0, high), lambda limit: (-limit, limit)),
        "around_one": (st.floats(0, 0.99 * min(1 - low, high - 1)), lambda limit: (1 - limit, 1 + limit)),
        "amount": (st.floats(0, high), lambda most: (0, most)),
        "exact": (st.floats(low, high), lambda value: (value, value)),
    }
    numbers, meant = forms[KINDS[name].range]
    number = data.draw(numbers)
    operation = parse_operation(f"{name}({number!r})@{p!r}")
    assert operation == Operation(name, meant(number), p)
    assert parse_operation(str(operation)) == operation


@given(st.lists(operations(), min_size=1, max_size=4))
def test_several_are_read_from_one_text_or_from_a_list(several):
    assert parse_operations(" + ".join(map(str, several))) == tuple(several)
    assert parse_operations([str(operation) for operation in several]) == tuple(several)


@pytest.mark.parametrize("text", ["identity", " identity ", ["identity"], []])
def test_identity_is_no_operation(text):
    assert parse_operations(text) == ()


@given(st.text("rotaeflipgdj(),.@+- 0159\n²", max_size=14) | st.text(max_size=8))
def test_any_text_is_read_or_refused(text):
    try:
        operation = parse_operation(text)
    except ValueError:
        return
    assert parse_operation(str(operation)) == operation


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rotatee(5)", "'rotatee(5)': no operation 'rotatee'; did you mean 'rotate'?"),
        ("Rotate(5)@0.5", "'Rotate(5)@0.5': no operation 'Rotate'; did you mean 'rotate'?"),
        ("zzz", f"'zzz': no operation 'zzz'; expected one of {', '.join(KINDS)}"),
        ("identity@0.5", "no operation 'identity'"),
        ("rotate(400)", "400, expected 0 to 360 (degrees, counter-clockwise)"),
        ("rotate(-5,361)", "'rotate(-5,361)': 361, expected -360 to 360"),
        ("scale(0.95)", "'scale(0.95)': 0.95, expected 0 to 0.9 (factor about the centre)"),
        ("erase(0.91)", "'erase(0.91)': 0.91, expected 0 to 0.9"),
        ("thin(-1,2)", "'thin(-1,2)': -1, expected 0 to 16"),
        ("jpeg(0)", "'jpeg(0)': 0, expected 1 to 100 (quality)"),
        ("elastic(30,0.5)", "'elastic(30,0.5)': 0.5, expected 1 to 256"),
        ("grid(0,0.2)", "'grid(0,0.2)': 0, expected 1 to 64"),
        ("grid(2.5,0.2)", "'grid(2.5,0.2)': 2.5 steps, expected a whole number"),
        (" grid( 2.5 , 0.2 )", "2.5 steps, expected a whole number"),
        ("hflip(1)", "'hflip(1)': got 1 numbers, expected no number (mirror left and right)"),
        ("rotate", "'rotate': got 0 numbers, expected a limit, or low and high (degrees, counter-clockwise)"),
        ("rotate()", "'rotate()': got 0 numbers"),
        ("rotate(1,2,3)", "'rotate(1,2,3)': got 3 numbers, expected a limit, or low and high"),
        ("scale(1,2,3)", "got 3 numbers, expected a limit around 1, or low and high"),
        ("blur(1,2,3)", "got 3 numbers, expected a maximum, or low and high (px, standard deviation)"),
        ("jpeg(1,2,3)", "got 3 numbers, expected one number, or low and high (quality)"),
        ("grid(4)", "'grid(4)': got 1 numbers, expected two numbers (steps and limit, as albumentations' GridDistortion)"),
        ("rotate(20,10)", "'rotate(20,10)': low 20 is above high 10"),
        ("hflip@0", "'hflip@0': probability 0, expected above 0 and at most 1"),
        ("hflip@-0.5", "'hflip@-0.5': probability -0.5, expected above 0 and at most 1"),
        ("rotate(5)@1.5", "'rotate(5)@1.5': probability 1.5, expected above 0 and at most 1"),
        ("hflip@nan", "'hflip@nan': nan is not finite"),
        ("hflip@half", "'hflip@half': 'half' is no number"),
        ("rotate(nan)", "'rotate(nan)': nan is not finite"),
        ("rotate(-inf,5)", "'rotate(-inf,5)': -inf is not finite"),
        ("rotate(1e999)", "'rotate(1e999)': inf is not finite"),
        ("rotate(five)", "'rotate(five)': 'five' is no number"),
        ("rotate(1,)", "'rotate(1,)': '' is no number"),
        ("", "'' is no operation; expected a form such as rotate(15)@0.5"),
        ("rotate(15", "'rotate(15' is no operation; expected a form such as rotate(15)@0.5"),
        ("rotate 15", "'rotate 15' is no operation"),
        ("rotate((15))", "'rotate((15))' is no operation"),
        ("hflip@", "'hflip@' is no operation"),
        ("hflip@0.5@0.5", "'hflip@0.5@0.5' is no operation"),
        ("hflip, vflip", "'hflip, vflip' is no operation"),
    ],
)
def test_what_can_not_be_read_is_reported_with_what_is_expected(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_operation(text)


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_has_its_own_bounds(name):
    (first_low, first_high), (second_low, second_high) = bounds(name)
    message = r"expected -?[0-9.]+ to [0-9.]+ \("
    assert parse_operation(f"{name}({first_low},{second_high})").args == (first_low, second_high)
    for first, second in ((first_low - 0.5, second_high), (first_low, second_high + 0.5)):
        with pytest.raises(ValueError, match=message):
            parse_operation(f"{name}({first},{second})")
    if name in PAIRS:
        for first, second in ((first_high + 1, second_low), (first_high, second_low - 0.5)):
            with pytest.raises(ValueError, match=message):
                parse_operation(f"{name}({first},{second})")


def test_all_forms_that_can_not_be_read_are_reported_together():
    for several in (["hflp", "vflip", "rotate(500)", "hflip@2"], "hflp + vflip + rotate(500) + hflip@2"):
        with pytest.raises(ValueError, match="hflp") as caught:
            parse_operations(several)
        messages = str(caught.value).split("; ")
        assert [text.split(":")[0] for text in messages if ":" in text] == ["'hflp'", "'rotate(500)'", "'hflip@2'"]
        assert "vflip" not in str(caught.value)


def test_identity_among_others_is_refused():
    with pytest.raises(ValueError, match="no operation 'identity'"):
        parse_operations("hflip + identity")


@pytest.mark.parametrize("text", ["hflip", "invert@0.5", "rotate(5,5)", "scale(2,2)", "jpeg(50)", "blur(1,1)", "thin(0)"])
def test_an_operation_of_one_value_is_fixed(text):
    assert parse_operation(text).is_fixed


@pytest.mark.parametrize("text", ["rotate(5)", "jpeg(40,50)", "shear(3,3)", "elastic(30,4)", "grid(4,0.2)", "noise(3,3)"])
def test_an_operation_that_draws_is_not_fixed(text):
    assert not parse_operation(text).is_fixed


def test_a_plus_inside_parentheses_parts_nothing():
    assert parse_operations("hflip+rotate(1e+1) + vflip") == parse_operations(["hflip", "rotate(10)", "vflip"])


def test_the_largest_limit_around_one_is_read():
    assert str(parse_operation("scale(0.9)")) == "scale(0.9)"


def test_the_near_name_is_found_in_any_case():
    with pytest.raises(ValueError, match="did you mean 'hflip'"):
        parse_operation("Hflip")


def test_a_form_cut_at_its_comma_hints_at_quotation_marks():
    with pytest.raises(ValueError, match="in quotation marks in a YAML list"):
        parse_operation("elastic(30")
