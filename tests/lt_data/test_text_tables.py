"""Tables and sentences for a terminal of 80 columns."""

from lt_data.text_tables import WIDTH, fitted, table, wrapped


def test_columns_that_do_not_fit_follow_below():
    rows = [["", *(f"column {i}" for i in range(20))], ["row", *map(str, range(20))]]
    parts = table(rows).split("\n\n")
    assert len(parts) > 1
    assert max(map(len, table(rows).splitlines())) <= WIDTH
    assert [word for part in parts for word in part.splitlines()[1].split()[1:]] == rows[1][1:]
    assert all(part.splitlines()[1].startswith("row") for part in parts)


def test_a_table_that_fits_is_one():
    assert table([["a", "bb"], ["ccc", "d"]]) == "a    bb\nccc   d"
    assert table([["a", "b"], ["c", "x" * 100]]).count("\n") == 1


def test_sentences_break_at_words_and_long_words_stay():
    text = "one two-three " * 10 + "/a/long/path" * 12
    lines = wrapped(text, "  ").splitlines()
    assert " ".join(lines).split() == text.split()
    assert all(line.startswith("  ") for line in lines[1:])
    assert [len(line) <= WIDTH for line in lines] == [True] * (len(lines) - 1) + [False]


def test_only_lines_that_are_too_long_break():
    table_row, sentence = f"{'name':<40}{'7':>40}", "    " + "word " * 30 + "x" * 90
    first, *others = fitted(f"{table_row}\n{sentence}\n").split("\n")
    assert first == table_row
    assert others[-1] == ""
    assert others[0].startswith("    word")
    assert all(line.startswith(" " * 6) and line[6] != " " for line in others[1:-1])
    assert others[-2] == " " * 6 + "x" * 90
    assert "\n".join(others).split() == sentence.split()
