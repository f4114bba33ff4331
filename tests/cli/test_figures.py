from inkfold.cli.figures import print_table


def test_tables_are_aligned_by_their_title(capsys):
    print_table("", ("a", "b"), [("1", "2"), ("100", "200")])
    print_table("things", ("a", "b", "name"), [("1", "2", "x"), ("100", "200", "yy")])
    plain, titled = capsys.readouterr().out.split("things")
    assert "│   1 │   2 │" in plain
    assert "│ 1   │   2 │ x    │" in titled
