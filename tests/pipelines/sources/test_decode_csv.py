"""CSV: every record keeps its number, whatever stands between."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from decoding import mapped, read, until_error, write
from hypothesis import given
from hypothesis import strategies as st

from reclake.pipelines.sources.quotes import MARK, Quotes
from reclake.pipelines.sources.stray import Stray, restored
from reclake.schemas.errors import SourceError


def test_ragged_rows_are_set_aside_and_the_others_keep_their_numbers(tmp_path: Path) -> None:
    data = b'a,b\n0,0\n1\n\n2,"x\ny"\n3,3,3\n4,"say ""hi"""\n'
    batches = read(write(tmp_path / "a.csv", data), batch_rows=2)
    assert [(b.first_row, b.end_row, b.rows.tolist()) for b in batches] == [(0, 2, [0]), (2, 4, [2]), (4, 5, [4])]
    assert pl.concat([b.frame for b in batches]).rows() == [("0", "0"), ("2", "x\ny"), ("4", 'say "hi"')]
    bad = [bad for b in batches for bad in b.undecodable]
    assert [(one.row, one.raw, one.format) for one in bad] == [(1, b"1", "csv"), (3, b"3,3,3", "csv")]
    assert (bad[1].reason["expected"], bad[1].reason["got"]) == ("2 fields", "3 fields")


def test_row_numbers_are_exact_across_read_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reclake.pipelines.sources.decode_csv._BLOCK_BYTES", 64)
    lines = [b"%d" % n if n % 7 == 0 else b"%d,%d" % (n, n) for n in range(200)]
    path = write(tmp_path / "a.csv", b"a,b\n" + b"\n".join(lines))
    for batch_rows in (3, 50, 1000):
        batches = read(path, batch_rows=batch_rows)
        frame = pl.concat([b.frame for b in batches])
        assert frame["a"].cast(pl.Int64).to_list() == np.concatenate([b.rows for b in batches]).tolist()
        assert [bad.row for b in batches for bad in b.undecodable] == list(range(0, 200, 7))
        assert batches[-1].end_row == 200


def test_an_empty_field_is_null_unless_the_field_is_text(tmp_path: Path) -> None:
    (batch,) = read(write(tmp_path / "a.csv", b'user_id,request_id,surface\n1,,\n2,"",""\n'))
    assert batch.frame.rows() == [("1", "", None), ("2", "", None)]


@pytest.mark.parametrize("data", [b"a,b\n", b"a,b", b"\xef\xbb\xbfa,b\r\n"])
def test_a_file_of_nothing_but_a_header_has_no_rows(tmp_path: Path, data: bytes) -> None:
    assert read(write(tmp_path / "a.csv", data)) == []


def test_a_row_that_is_not_utf8_is_set_aside_with_its_bytes(tmp_path: Path) -> None:
    (batch,) = read(write(tmp_path / "a.csv", b'a,b\n1,2\ncaf\xe9,"x,y"\n3,4\n'))
    assert batch.rows.tolist() == [0, 2]
    (bad,) = batch.undecodable
    assert (bad.row, bad.raw, bad.reason["expected"], bad.reason["column"]) == (1, b'caf\xe9,"x,y"', "UTF-8 text", "a")


@pytest.mark.parametrize("stray", [b"caf\xe9", b"\xff\xfe", b"\xe2\x82", b'"\xf0\x9f"x\x80'])
def test_a_ragged_row_that_is_not_utf8_either_costs_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stray: bytes
) -> None:
    data = b"a,b\n1,\xe2\x82\xac\n" + stray + b",2,3\n3," + stray + "\n4,\U0001f600\n".encode()
    for block_bytes in (64, 1 << 20):  # the smaller cuts within characters
        monkeypatch.setattr("reclake.pipelines.sources.decode_csv._BLOCK_BYTES", block_bytes)
        batches = read(write(tmp_path / "a.csv", data))
        assert [row for batch in batches for row in batch.frame.rows()] == [("1", "\u20ac"), ("4", "\U0001f600")]
        bad = [(bad.row, bad.raw) for batch in batches for bad in batch.undecodable]
        assert bad == [(1, stray + b",2,3"), (2, b"3," + stray)]


@given(
    st.lists(st.sampled_from([b"a", b"\n", b"\xe9", b"\xe2\x82\xac", b"\xe2\x82", b"\xf0\x9f"]), max_size=20),
    st.integers(1, 5),
)
def test_stray_bytes_become_text_and_come_back_wherever_pieces_end(parts: list[bytes], size: int) -> None:
    data, stray = b"".join(parts), Stray()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    text = b"".join(stray.text(piece, final=False) for piece in pieces) + stray.text(b"", final=True)
    assert text == Stray().text(data, final=True)
    assert restored(text.decode().encode()) == data
    assert stray.found == (text != data)


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_quote_that_is_never_closed_is_named_after_the_rows_before_it(tmp_path: Path, end: bytes) -> None:
    rows, error = until_error(write(tmp_path / "a.csv", b'a,b\n1,2\n3,"4\n5,6' + end), batch_rows=10)
    assert rows == [0]
    assert "row 1" in error.parts()["where"]
    (batch,) = read(write(tmp_path / "b.csv", b'a,b\n1,"2\n"\n'))
    assert batch.frame.rows() == [("1", "2\n")]


def test_text_behind_a_closing_quote_is_set_aside_and_every_other_use_of_quotes_is_not(tmp_path: Path) -> None:
    rows = [b'"c5"x,1', b'"a ""b"" c","2"', b'5" screen,3', b'"",4', b'x,"5,\n""6"" "y', b'"7" ,7', b"8,8"]
    (batch,) = read(write(tmp_path / "a.csv", b"a,b\r\n" + b"\r\n".join(rows)))
    assert batch.rows.tolist() == [1, 2, 3, 6]
    assert batch.frame.rows() == [('a "b" c', "2"), ('5" screen', "3"), ("", "4"), ("8", "8")]
    assert [(bad.row, bad.raw) for bad in batch.undecodable] == [(n, rows[n]) for n in (0, 4, 5)]
    assert [bad.reason["column"] for bad in batch.undecodable] == ["a", "b", "a"]
    assert batch.undecodable[0].reason["got"] == '"c5"x'
    (ragged,) = read(write(tmp_path / "b.csv", b'a,b\n"1"x,2,3\n4,5\n'))
    assert [(bad.row, bad.raw) for bad in ragged.undecodable] == [(0, b'"1"x,2,3')]


@given(
    st.lists(st.sampled_from([b'"', b",", b"\n", b"\r\n", b"a", b'"a"', b'""', b'"b"x']), max_size=30),
    st.integers(1, 9),
)
def test_what_is_marked_does_not_depend_on_where_pieces_end(parts: list[bytes], size: int) -> None:
    data = b"".join(parts) + b"\n"
    whole, pieces = Quotes(), Quotes()
    expected = whole.mark(data)
    assert b"".join(pieces.mark(data[at : at + size]) for at in range(0, len(data), size)) == expected
    assert expected.replace(MARK, b"") == data
    assert (MARK in expected) == _slowly_marked(data)


def _slowly_marked(data: bytes) -> bool:
    """Whether a closing quote is followed by text, found a byte at a time."""
    state = "start"
    for byte in data.decode():
        if state == "quoted":
            state = "quote" if byte == '"' else "quoted"
        elif state == "quote" and byte == '"':
            state = "quoted"
        elif byte in ",\r\n":
            state = "start"
        elif state == "quote":
            return True
        elif state == "start":
            state = "quoted" if byte == '"' else "unquoted"
    return False


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"a;b\n1;2\n", "commas"),
        (b"a,b,a\n1,2,3\n", "twice: 'a'"),
        (b"caf\xe9,b\n1,2\n", "UTF-8"),
        (b'"a"x,b\n1,2\n', "expected after"),
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        (gzip.compress(b"a\n1\n", mtime=0), ".gz"),
    ],
)
def test_a_csv_file_that_is_something_else_is_refused(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(SourceError) as caught:
        read(write(tmp_path / "a.csv", data))
    assert says in str(caught.value)


def test_csv_columns_of_a_mapping_get_declared_types_or_those_of_the_first_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"u,t,kind,flag,part\n1,5,a,true,0.5\n2,,b,False,\nx,7,c,true,1\n")
    (batch,) = read(path, contract=mapped({"u": "long"}))
    assert batch.frame.rows() == [(1, 5, "a", True, 0.5), (2, None, "b", False, None)]
    assert [(bad.row, bad.raw) for bad in batch.undecodable] == [(2, b"x,7,c,true,1")]
