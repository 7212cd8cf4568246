"""From rows and published tables to one frame: which rows count, types, order, what a cell holds."""

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from full_rows import row
from hypothesis import given
from hypothesis import strategies as st
from made_rows import frame_of, made_rows, write_rows
from pandas.testing import assert_frame_equal

from convtl.analysis import frame as module
from convtl.analysis.frame import (
    axes_of,
    axis_text,
    logit_accuracy,
    of_study,
    read_results,
    read_rows,
    write_results,
)
from convtl.errors import UserError
from convtl.study.measurements import FILE
from convtl.study.rows import COLUMNS, line_of
from convtl.study.store import RowStore

ROWS = [
    row("a", axes={"x.y": [1, 2], "q": 0.5}, reason="=1", test_nll=float("inf")),
    row("b", "failed", reason='no\r\nroom, "ж"', similarity=0.25, commit=None),
    row("c", lr_at_edge=True, n_train=24, moved={"fc5": [0.1, None]}, axes={"q": -1}),
    row("d", "diverged", n_train=36, source_accuracy_by_part=[0.93, 0.7]),
]


def by_trial(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values("trial").reset_index(drop=True)


# --- reading ------------------------------------------------------------------------------


def test_columns_have_one_type_whether_their_values_are_there_or_not() -> None:
    frame = frame_of(ROWS)
    assert list(frame[:0]) == [
        *COLUMNS,
        "q",
        "x.y",
        *(n for n in module._DERIVED if n not in COLUMNS),
    ]
    assert_frame_equal(
        frame[:0], frame_of(ROWS[1:2]).reindex(columns=list(frame))[:0], check_dtype=False
    )
    assert frame["n_train"].tolist()[2] == 24
    assert np.isnan(frame["n_train"][0])
    assert frame["lr_at_edge"].isna().tolist() == [True, True, False, True]
    assert frame["reason"].tolist() == ["=1", 'no\r\nroom, "ж"', "", ""]
    assert frame["moved"].tolist() == ["", "", '{"fc5": [0.1, null]}', ""]
    assert json.loads(frame["source_accuracy_by_part"][3]) == {"near": 0.93, "far": 0.7}
    assert frame["q"].tolist() == ["0.5", "", "-1", ""]
    assert frame["usable"].tolist() == [True, False, True, False]
    assert axes_of(frame) == ["q", "x.y"]


def test_frozen_weights_that_moved_make_a_row_useless() -> None:
    rows = [row("a", frozen_ok=False), row("b", frozen_ok=True)]
    assert frame_of(rows)["usable"].tolist() == [False, True]


def test_the_logit_is_finite_for_none_and_for_all() -> None:
    assert logit_accuracy([0.0, 0.5, 1.0], 9).tolist() == pytest.approx(
        [-np.log(19), 0, np.log(19)]
    )


statuses = st.sampled_from(["done", "diverged", "failed", "interrupted", "done with moved"])


@given(st.lists(st.tuples(st.sampled_from("abc"), statuses), max_size=12), st.integers(0, 12))
def test_the_row_of_a_trial_that_counts_is_that_of_the_store(tmp_path_factory, writes, cut) -> None:
    rows = [
        row(
            trial,
            status.split()[0],
            seconds=float(k),
            **({"moved": {"u": [1.0]}} if "with" in status else {}),
        )
        for k, (trial, status) in enumerate(writes)
    ]
    out = tmp_path_factory.mktemp("rows")
    write_rows(out, rows[:cut], "a.jsonl")
    write_rows(out, rows[cut:], "b.jsonl")
    expected = {trial: one["seconds"] for trial, one in RowStore(out).read().items()}
    frame = read_rows(out)
    assert dict(zip(frame["trial"], frame["seconds"], strict=True)) == expected


@pytest.mark.parametrize("at_once", [1, 10**9])
def test_damaged_and_torn_lines_are_left_out_and_said_once(
    tmp_path, capsys, monkeypatch, at_once
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    first, second, third = (line_of(row(name)) for name in "abc")
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.jsonl").write_bytes(first + second.replace(b"fc5", b"fc4") + third[:-9])
    with gzip.open(tmp_path / "rows" / "b.jsonl.gz", "wb") as file:
        file.write(third)
    assert set(read_rows(tmp_path)["trial"]) == {"a", "c"}
    assert read_rows(tmp_path)["commit"].tolist() == ["", ""]
    err = capsys.readouterr().err
    assert err == (
        f"convtl: out: damaged rows left out of '{tmp_path}/rows/a.jsonl'; convtl.run runs these trials again\n"
    )


def test_a_packed_file_that_ends_early_gives_what_it_has(tmp_path, capsys) -> None:
    (tmp_path / "rows").mkdir()
    lines = b"".join(
        line_of(row(f"{k}", reason=str(np.random.default_rng(k).random(40)))) for k in range(99)
    )
    (tmp_path / "rows" / "b.jsonl.gz").write_bytes(gzip.compress(lines)[:-2000])
    assert 0 < len(read_rows(tmp_path)) < 99
    assert "damaged rows" in capsys.readouterr().err


@pytest.mark.parametrize("line", [b'{"trial": "a", "commit": "0123ab"}\n', line_of(row("a"))])
def test_rows_of_another_version_are_refused_in_one_line(tmp_path, monkeypatch, line) -> None:
    write_rows(tmp_path, []).write_bytes(line)
    monkeypatch.setattr(module, "RESULTS_VERSION", 99)
    commit = "0123ab" if b"0123ab" in line else "189ef52"
    with pytest.raises(UserError, match=f"another version of convtl; commit {commit} reads it"):
        read_rows(tmp_path)


def test_a_folder_without_rows_has_an_empty_frame(tmp_path) -> None:
    frame = read_rows(tmp_path)
    assert frame.empty
    assert set(COLUMNS) < set(frame)


def test_measures_stand_in_the_rows_of_their_trials_whatever_expansion_wrote_them(tmp_path) -> None:
    rows = [row("a"), row("b", config="another", axes={"k": 1}), row("c"), row("d")]
    content = {
        "trials": {"a": "p", "b": "p", "d": "q", "z": "gone"},
        "measures": {"p": {"mmd2": 0.5, "logme": -1.0}, "q": {"mmd2": 0.75}},
    }
    write_rows(tmp_path, rows)
    (tmp_path / FILE).write_text(json.dumps(content))
    frame = read_rows(tmp_path)
    assert frame["mmd2"].tolist() == pytest.approx([0.5, 0.5, np.nan, 0.75], nan_ok=True)
    assert frame["logme"].tolist() == pytest.approx([-1, -1, np.nan, np.nan], nan_ok=True)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param('{"p": {"mmd2": 0.5}}', id="of earlier commits: nothing says whose it is"),
        pytest.param('{"trials": {"a": "p"}, "measures": {}}', id="nothing measured"),
        pytest.param('{"trials": {"a": "p"}, "measures": {"p": {}}}', id="not measurable"),
        pytest.param('{"measures": {"p": {"mmd2": 0.5}}}', id="no trials"),
        pytest.param('{"trials": ["a"], "measures": {"p": {"mmd2": 0.5}}}', id="a list"),
        pytest.param('{"trials": {"a": "p"}, "measures": {"p": 0.5}}', id="a number"),
        pytest.param('{"trials": {"a": ["p"]}, "measures": {"p": {"mmd2": 1}}}', id="a list place"),
        pytest.param('["a"]', id="no mapping"),
        pytest.param('{"trials": {"a"', id="torn"),
    ],
)
def test_rows_without_readable_measures_have_none(tmp_path, content: str) -> None:
    write_rows(tmp_path, [row("a")])
    (tmp_path / FILE).write_text(content)
    assert_frame_equal(read_rows(tmp_path), frame_of([row("a")]))


# --- the trials of a study ----------------------------------------------------------------


def points(*places: tuple[str, str, dict, str, float | None]) -> pd.DataFrame:
    names = ["trial", "config", "axes", "source", "similarity"]
    return pd.DataFrame([(*p[:2], json.dumps(p[2]), *p[3:]) for p in places], columns=names)


def test_only_rows_of_the_study_are_left_in_its_order_with_their_places() -> None:
    frame = frame_of([row("a", axes={"k": 1}), row("b"), row("c", "failed")])
    planned = points(
        ("c", "f00d", {"k": 1}, "scratch", None),
        ("a", "f00d", {"k": 1}, "mixture", 0.5),
        ("a", "f00d", {"k": 2}, "latin", None),
        ("z", "f00d", {"k": 2}, "latin", None),
    )
    rows, lines = of_study(frame, planned)
    assert rows[["trial", "k", "source"]].to_numpy().tolist() == [
        ["c", "1", "scratch"],
        ["a", "1", "mixture"],
        ["a", "2", "latin"],
    ]
    assert set(rows["config"]) == {"f00d"}
    assert rows["similarity"].tolist() == pytest.approx([np.nan, 0.5, np.nan], nan_ok=True)
    assert list(rows) == list(frame)
    assert lines == [
        "1 rows of other studies in this folder are left out",
        "1 planned trials have not been run (latin 1)",
    ]


def test_without_a_record_all_rows_are_of_the_study() -> None:
    frame = frame_of(ROWS)
    assert of_study(frame, None) == (frame, [])


def test_a_study_without_rows_is_empty() -> None:
    rows, lines = of_study(frame_of([row("a")]), points(("z", "c", {}, "latin", None)))
    assert rows.empty
    assert len(lines) == 2


# --- results.csv --------------------------------------------------------------------------


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_table_gives_the_frame_it_was_written_from(tmp_path) -> None:
    frame = frame_of(ROWS)
    again = read_results(write_results(tmp_path, frame))
    assert_frame_equal(by_trial(again), by_trial(frame))
    assert_frame_equal(read_results(write_results(tmp_path, again)), again)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
values = (
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False, width=32) | texts
)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"reason": texts | st.sampled_from(["'=1", "''", "NA", "nan", " -1"])},
            optional={
                "axes": st.dictionaries(st.sampled_from(["a", "b.c", "lr"]), values),
                "lr_at_edge": st.booleans(),
                "test_nll": st.floats(),
                "similarity": st.none() | st.floats(0, 1),
                "n_train": st.integers(1, 10**12),
            },
        ),
        max_size=4,
    )
)
def test_any_row_comes_back_from_a_table(tmp_path_factory, rows) -> None:
    frame = frame_of(row(f"{k}", **fields) for k, fields in enumerate(rows))
    again = read_results(write_results(tmp_path_factory.mktemp("out"), frame))
    assert_frame_equal(by_trial(again), by_trial(frame))


def test_the_table_is_sorted_by_the_axes_whatever_the_order_of_rows(tmp_path) -> None:
    rows = [
        row(f"{source}{depth}{n}", source=source, depth=depth, n_per_class=n)
        for source in ("a", "b")
        for depth in (1, 2, 10)
        for n in (5, 50)
    ]
    first = write_results(tmp_path, frame_of(rows)).read_bytes()
    assert write_results(tmp_path, frame_of(reversed(rows))).read_bytes() == first
    table = lines(tmp_path / "results.csv")
    assert [line["trial"] for line in table] == [one["trial"] for one in rows]
    assert tuple(table[0]) == COLUMNS


def test_numbers_keep_their_bits_and_missing_values_are_empty(tmp_path) -> None:
    value = 0.1 + 0.2
    frame = frame_of([row("x", test_accuracy=value, n_train=24), row("y", "failed")])
    first, second = lines(write_results(tmp_path, frame))
    assert float(first["test_accuracy"]) == value
    assert (first["n_train"], first["frozen_ok"], first["similarity"]) == ("24", "True", "")
    assert (second["n_train"], second["frozen_ok"]) == ("", "")


def test_text_that_a_spreadsheet_would_run_is_quoted(tmp_path) -> None:
    reasons = ["=HYPERLINK(1)", "+1", "-A1", "@x", "plain", "a=b", "-2", "'=1"]
    rows = [row(str(k), "failed", reason=text) for k, text in enumerate(reasons)]
    rows.append(row("z", depth=2, axes={"name": "=1", "seed": -1}, test_nll=-0.5))
    table = lines(write_results(tmp_path, frame_of(rows)))
    quoted = [f"'{text}" for text in reasons[:4]] + ["plain", "a=b", "-2", "''=1"]
    assert [line["reason"] for line in table[:-1]] == quoted
    assert [table[-1][name] for name in ("name", "seed", "test_nll")] == ["'=1", "-1", "-0.5"]


def test_additional_axes_are_columns_at_the_end(tmp_path) -> None:
    rows = [row("x", axes={"seed": 1}), row("y", axes={"optim.clip": 0.5, "lr": 0.1}), row("z")]
    table = {line["trial"]: line for line in lines(write_results(tmp_path, frame_of(rows)))}
    assert tuple(table["x"]) == (*COLUMNS, "axes.lr", "optim.clip", "seed")
    assert [table[name]["seed"] for name in "xyz"] == ["1", "", ""]
    assert [table[name]["optim.clip"] for name in "xyz"] == ["", "0.5", ""]
    assert [table[name]["lr"] for name in "xyz"] == ["0.01"] * 3


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "True"),
        (1, "1"),
        (1.0, "1"),
        (0.1, "0.1"),
        ("x", "x"),
        ([1, "ж"], '[1, "ж"]'),
    ],
)
def test_axis_values_as_text(value, text) -> None:
    assert axis_text(value) == text


def test_the_table_is_replaced_in_one_step(tmp_path, monkeypatch) -> None:
    before = write_results(tmp_path, frame_of([row("x")])).read_bytes()
    frame = frame_of([row("y"), row("z")])
    monkeypatch.setattr(pd.DataFrame, "to_csv", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_results(tmp_path, frame)
    assert (tmp_path / "results.csv").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


@pytest.mark.parametrize("content", [None, b"", b"a,b\n1,2\n", b"\xff\xfe", b'"'])
def test_a_foreign_table_is_one_line(tmp_path, content) -> None:
    path = tmp_path / "results.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"^out: ") as error:
        read_results(path)
    assert "\n" not in str(error.value)


def test_published_tables_can_be_read() -> None:
    path = Path(__file__).parents[2] / "experiments" / "finetune_depth" / "results.csv"
    frame = read_results(path)
    assert frame["usable"].sum() > 100
    assert not axes_of(frame)
    view = read_results(path.parents[1] / "principle1_similarity" / "results.csv")
    assert axes_of(view) == ["axes.validation"]


def test_a_made_up_study_comes_back_from_its_table(tmp_path) -> None:
    frame = frame_of(
        made_rows(replicates=2, sources=("latin", "mixture", "scratch"), similarities=(0.0, 1.0))
    )
    assert_frame_equal(by_trial(read_results(write_results(tmp_path, frame))), by_trial(frame))
