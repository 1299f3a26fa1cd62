"""Printed numbers, tables of them, verdicts, and what happens to bad input."""

import re
from pathlib import Path

import pandas as pd
import pytest
from results import speaks

from steerlab.validation.published import auditing
from steerlab.validation.published.answers import Answer
from steerlab.validation.published.auditing import RECIPES, Audit, judge, published_audit
from steerlab.validation.published.numbers import Range, printed
from steerlab.validation.published.tables import CELL_COLUMNS, CLAIM_COLUMNS, Numbers, read_folder

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "data" / "published"
SOURCES = ROOT.parent / "shared" / "sources"

NUMBERS = pd.DataFrame(
    [
        ("paper", "Results", "accuracy", "before", "share", "32.6%"),
        ("paper", "Results", "accuracy", "after", "share", "34.9%"),
        ("paper", "Results", "accuracy", "later", "share", "19.8%"),
        ("paper", "Setup", "test_set", "all", "problems", "86"),
    ],
    columns=CELL_COLUMNS,
)
RISE = "after=accuracy/after/share; before=accuracy/before/share"


def claims(**fields: str) -> pd.DataFrame:
    standard = {"document": "paper", "heading": "Abstract", "id": "one", "claim": "accuracy rises", "claimed": "+2.3 pts", "reading": ""}
    return pd.DataFrame(
        [{**standard, "recipe": "difference", "arguments": RISE, "note": "", "repeats": "", **fields}], columns=CLAIM_COLUMNS
    )


def verdict(**fields: str) -> str:
    return judge(NUMBERS, claims(**fields)).frame["verdict"].item()


@pytest.mark.parametrize(
    ("text", "low", "high", "unit"),
    [
        ("34.9%", 34.85, 34.95, "%"),
        ("+2.3 pts", 2.25, 2.35, "pts"),
        ("−2%", -2.5, -1.5, "%"),
        ("-12.8 points", -12.85, -12.75, "points"),
        ("+0.0%", -0.05, 0.05, "%"),
        ("8.5×", 8.45, 8.55, "×"),
        ("58.65", 58.645, 58.655, ""),
        ("86", 86, 86, ""),
        ("1,319", 1319, 1319, ""),
        ("117M", 116.5e6, 117.5e6, ""),
        ("0.4B", 0.35e9, 0.45e9, ""),
        ("74K params", 73.5e3, 74.5e3, "params"),
        ("3/6", 0.5, 0.5, ""),
        ("172+172", 344, 344, ""),
        ("43+43=86", 86, 86, ""),
        ("≈ 1.3", 1.2, 1.4, ""),
        ("~15 minutes", 14, 16, "minutes"),
        ("p<0.05", float("-inf"), 0.05, ""),
        ("≥0.8", 0.8, float("inf"), ""),
    ],
)
def test_a_printed_number_stands_for_what_rounds_to_it(text, low, high, unit):
    number = printed(text)
    assert (float(number.range.low), float(number.range.high)) == pytest.approx((low, high), abs=1e-12)
    assert number.unit == unit
    assert str(number) == text


@pytest.mark.parametrize("text", ["", "many", "5-10%", "28→30", "nan", "inf", "1.2.3", "--3", "3/0"])
def test_what_is_not_one_number_is_refused(text):
    with pytest.raises(ValueError, match="give"):
        printed(text)


def test_bounds_are_strict_where_the_sign_is():
    assert not printed("<10").overlaps(Range.point(10))
    assert printed("≤10").overlaps(Range.point(10))
    assert not printed(">10").overlaps(Range.point(10))
    assert printed("≥10").overlaps(Range.point(10))


def test_the_counts_behind_a_percentage():
    assert str(printed("34.9%").counts(86)) == "30"
    assert str(printed("−2%").counts(50)) == "-1"
    assert str(printed("50%").counts(1000)) == "495 to 505"
    with pytest.raises(ValueError, match=re.escape("42.7%: no whole number of 200 problems is printed so")):
        printed("42.7%").counts(200)
    with pytest.raises(ValueError, match="a bound stands for no number of problems"):
        printed("<5%").counts(200)


def test_ranges_compute_with_every_pair_of_values():
    a, b = Range(-1, 2), Range(3, 4)
    assert a + b == Range(2, 6)
    assert a - b == Range(-5, -1)
    assert a * b == Range(-4, 8)
    assert Range(2, 4) / Range(-2, -1) == Range(-4, -1)
    with pytest.raises(ValueError, match="it may be 0"):
        b / a
    with pytest.raises(ValueError, match="from the smaller to the larger"):
        Range(2, 1)
    with pytest.raises(ValueError, match="from the smaller to the larger"):
        Range(float("nan"), 1)


def test_a_claim_follows_when_rounding_allows_it_and_not_beyond():
    assert verdict() == "follows"
    assert verdict(claimed="+2.2 pts") == "follows"  # 2.2 to 2.4 without counts
    assert verdict(claimed="+2.2 pts", arguments=f"{RISE}; n=test_set/all/problems") == "does not follow"  # 200/86 = 2.33
    assert verdict(claimed="+2.6 pts") == "does not follow"


def test_the_reading_is_judged_in_place_of_words():
    assert verdict(claimed="improves", reading=">0") == "follows"
    assert verdict(claimed="improves by far", reading=">10") == "does not follow"


def test_missing_numbers_decide_neither_for_nor_against_a_claim():
    fall = {
        "recipe": "sign_test_p_from_accuracies",
        "arguments": "after=accuracy/later/share; before=accuracy/before/share; n=test_set/all/problems",
    }
    assert verdict(claimed="p<0.05", **fall) == "cannot be checked"
    assert verdict(claimed="p<0.2", **fall) == "follows"
    assert verdict(claimed="p<0.0001", **fall) == "does not follow"
    assert verdict(claimed="p=0.03", reading="0.03", **fall) == "cannot be checked"


def test_one_fitting_reading_is_enough_and_is_the_one_shown():
    answer = Answer((Range(1, 2), Range(5, 6)), "two readings")
    assert answer.judged(printed("5.5")).low == 5
    assert answer.judged(printed("3.5")).verdict == "does not follow"
    assert (answer.judged(printed("3.5")).low, answer.judged(printed("3.5")).high) == (1, 6)


def test_a_claim_that_nothing_bears_on_needs_a_reason():
    assert verdict(recipe="not_printed", arguments="", claimed="2KB", note="no width is printed") == "cannot be checked"
    with pytest.raises(ValueError, match="claim one: no reason"):
        judge(NUMBERS, claims(recipe="not_printed", arguments=""))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"recipe": "magic"}, "recipe='magic': unknown; use add, "),
        ({"arguments": "after=accuracy/after/share"}, "difference needs before as well"),
        ({"arguments": f"{RISE}; m=test_set/all/problems"}, "'m=test_set/all/problems': difference takes after, before, n"),
        ({"arguments": f"{RISE}; {RISE}"}, "each once"),
        ({"arguments": "after"}, "'after': difference takes"),
        ({"arguments": "after=accuracy/after; before=accuracy/before/share"}, "'accuracy/after': not a place"),
        ({"arguments": "after=accuracy/never/share; before=accuracy/before/share"}, "nothing in paper is called 'never'"),
        ({"arguments": "after=other:accuracy/after/share; before=accuracy/before/share"}, "nothing in other is called 'accuracy'"),
        ({"arguments": "after=accuracy/*/share; before=accuracy/before/share"}, "after: 3 cells; name exactly one"),
        ({"arguments": f"{RISE}; n=accuracy/after/share"}, "n=34.9%: not a count"),
        ({"claimed": "a lot"}, "'a lot': not a printed number"),
        ({"document": " "}, "no document"),
        ({"recipe": "rank", "arguments": "of=accuracy/after/share; among=accuracy/*/share; order=best"}, "order='best'"),
        ({"recipe": "wrong_steps", "arguments": "of=accuracy/*/share; direction=down"}, "direction='down'"),
        ({"recipe": "minutes", "arguments": "of=accuracy/*/share"}, "32.6%: not a duration"),
        (
            {"recipe": "sign_test_p", "arguments": "became_right=accuracy/later/share; became_wrong=accuracy/before/share"},
            "became_right=19.8%: not a count of at least 0",
        ),
        (
            {
                "recipe": "controls_p_rank",
                "arguments": "observed=accuracy/later/share; controls=accuracy/*/share; alternative=below; n=test_set/all/problems",
            },
            "alternative='below'",
        ),
        ({"recipe": "controls_d", "arguments": "observed=accuracy/later/share; controls=accuracy/*/share"}, "rounded; name n"),
    ],
)
def test_a_claim_that_cannot_be_read_is_named_with_its_fault(fields, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        judge(NUMBERS, claims(**fields))


def test_numbers_that_cannot_be_read_are_named():
    twice = pd.concat([NUMBERS, NUMBERS.head(1)])
    with pytest.raises(ValueError, match="accuracy/before/share is there twice"):
        judge(twice, claims())
    with pytest.raises(ValueError, match="paper: accuracy/before/share: 'about a third': not a printed number"):
        judge(NUMBERS.replace("32.6%", "about a third"), claims())
    with pytest.raises(ValueError, match="numbers: columns document, heading"):
        judge(NUMBERS.drop(columns="printed"), claims())


def test_claims_need_an_id_of_their_own_and_there_must_be_some():
    with pytest.raises(ValueError, match="id='one' is there twice"):
        judge(NUMBERS, pd.concat([claims(), claims()]))
    with pytest.raises(ValueError, match="at least 1 needed"):
        judge(NUMBERS, claims().head(0))


def said_twice(**fields: str) -> Audit:
    return judge(NUMBERS, pd.concat([claims(), claims(**{"id": "two", "heading": "Conclusion", "repeats": "one", **fields})]))


def test_a_repetition_is_counted_once_with_its_place_beside():
    result = said_twice(claimed="+2.3 points")
    assert str(result) == "1 claims: 1 follow, 0 do not follow, 0 cannot be checked; 1 repetitions beside"
    assert result.frame["id"].tolist() == ["one", "two"]
    assert result.distinct[["id", "again"]].to_numpy().tolist() == [["one", "Conclusion"]]
    assert result.summary().iloc[-1][["follows", "claims", "repetitions"]].tolist() == [1, 1, 1]
    assert "    again: Conclusion" in result.text().splitlines()
    assert result.markdown().count("accuracy rises") == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"repeats": "three"}, "claim two: repeats='three': no claim of paper that is none itself"),
        ({"repeats": "two"}, "claim two: repeats='two': no claim of paper that is none itself"),
        ({"claimed": "+2.6 pts"}, "claim two: does not follow, but one follows; it is no repetition of it"),
    ],
)
def test_what_is_no_repetition_is_refused(fields, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        said_twice(**fields)


def test_words_with_several_readings_are_checked_only_where_all_agree():
    gain = {"recipe": "difference_beyond", "reading": ">0"}
    assert verdict(claimed="success", **gain, arguments=f"{RISE}; bars=2,0") == "follows"  # 2.2 to 2.4
    assert verdict(claimed="success", **gain, arguments=f"{RISE}; bars=3,0") == "cannot be checked"
    assert verdict(claimed="success", **gain, arguments=f"{RISE}; bars=3,4") == "does not follow"


def write(folder: Path, numbers: str | None = None, made: str | None = None) -> Path:
    (folder / "paper.csv").write_text(NUMBERS.to_csv(index=False) if numbers is None else numbers, encoding="utf-8")
    (folder / "claims.csv").write_text(claims().to_csv(index=False) if made is None else made, encoding="utf-8")
    return folder


def test_a_folder_is_read_as_frames_are(tmp_path):
    result = published_audit(write(tmp_path))
    pd.testing.assert_frame_equal(result.frame, judge(NUMBERS, claims()).frame)
    (tmp_path / "audit.csv").write_text(result.frame.to_csv(index=False))  # what was written beside the numbers is not one of them
    assert str(published_audit(tmp_path)) == "1 claims: 1 follow, 0 do not follow, 0 cannot be checked"


def test_an_installation_without_the_tables_says_what_to_give(tmp_path, monkeypatch):
    monkeypatch.setattr(auditing, "CHECKOUT", tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="give folder=, data/published of a checkout"):
        published_audit()


def test_bad_files_are_named_with_their_line(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"claims.csv is not there; give a folder"):
        published_audit(tmp_path)
    header = ",".join(CELL_COLUMNS)
    for numbers, message in [
        ("", "paper.csv: columns ; expected document, heading"),
        ("a,b\n1,2\n", "paper.csv: columns a, b; expected document"),
        (f"{header}\npaper,Results,accuracy,before,share\n", "paper.csv line 2: 5 fields under 6 columns"),
        (f"{header}\npaper,Results,accuracy,before,share,1,319\n", "paper.csv line 2: 7 fields under 6 columns"),
        (f"{header}\npaper,Results,accuracy,before,share,\n", "paper.csv line 2: no printed; fill it in"),
        (f"{header}\nother,Results,accuracy,before,share,1\n", "paper.csv line 2: document='other'; the file holds the numbers of 'paper'"),
        (f'{header}\npaper,"Results\n', "paper.csv: not a CSV table in UTF-8"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            published_audit(write(tmp_path, numbers))
    write(tmp_path)
    (tmp_path / "paper.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="not a CSV table in UTF-8"):
        published_audit(tmp_path)
    (tmp_path / "paper.csv").unlink()
    with pytest.raises(FileNotFoundError, match="no CSV of numbers"):
        published_audit(tmp_path)


def test_places_are_found_in_the_order_of_the_file():
    numbers = Numbers(NUMBERS)
    assert [str(cell) for cell in numbers.find("accuracy/later|before/share", "paper")] == ["32.6%", "19.8%"]
    assert [str(cell) for cell in numbers.find("paper:accuracy/*/share", "another")] == ["32.6%", "34.9%", "19.8%"]


@pytest.fixture(scope="module")
def published() -> Audit:
    return published_audit()


def test_an_audit_counts_its_verdicts(published):
    summary = published.summary().set_index("document")
    once = published.frame[published.frame["repeats"] == ""]
    assert summary.loc["in all", "claims"] == len(once) == summary["claims"].sum() / 2
    assert summary.loc["in all", ["follows", "does not follow", "cannot be checked"]].sum() == len(once)
    assert summary.loc["in all", "repetitions"] == len(published.frame) - len(once) > 0
    assert str(published).startswith(f"{len(once)} claims: {summary.loc['in all', 'follows']} follow, ")


def test_the_counts_that_are_told_are_those_of_the_audit(published):
    repetitions = len(published.frame) - len(published.distinct)
    assert f"judges {len(published.distinct)} claims" in (ROOT / "README.md").read_text(encoding="utf-8")
    told = f"`make audit`: {len(published.distinct)} claims of five published documents ({repetitions} repetitions beside)"
    assert told in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_an_audit_reads_in_a_terminal_and_in_a_notebook(published):
    lines = published.text(120).splitlines()
    assert max(map(len, lines)) <= 120
    assert lines[-1] == str(published)
    wide = published.text(10_000)
    assert all(claim in wide for claim in published.distinct["claim"])
    assert all(heading in wide for heading in published.frame["heading"])
    speaks(published)
    assert "<NA>" not in wide + published._repr_html_() + published.markdown()


def test_markdown_cells_hold_no_bars_and_no_tags():
    made = judge(NUMBERS, claims(claim="a|b <c>"))
    assert "a\\|b &lt;c>" in made.markdown()


def test_every_verdict_has_a_reason_and_every_checked_claim_a_value(published):
    assert published.frame["reason"].str.len().min() > 0
    checked = published.frame["verdict"] != "cannot be checked"
    assert published.frame.loc[checked, ["recomputed_low", "recomputed_high"]].notna().all(axis=None)
    assert (published.frame.loc[checked, "recomputed_low"] <= published.frame.loc[checked, "recomputed_high"]).all()


def test_every_recipe_is_used_by_a_published_claim(published):
    assert set(published.claims["recipe"]) == set(RECIPES)


def test_all_five_documents_have_numbers_and_claims():
    numbers, made = read_folder(PUBLISHED)
    documents = {"gpt2_codi_steering", "llama_codi_steering", "aft_research_program", "aft_phi2_and_baselines", "aft_v3_extensions"}
    assert set(numbers["document"]) == set(made["document"]) == documents


def sections(text: str) -> dict[str, str]:
    """The text under each heading, without emphasis; a hash in a code block is no heading."""
    found: dict[str, list[str]] = {}
    heading, fenced = "", False
    for line in text.splitlines():
        fenced ^= line.startswith("```")
        if not fenced and (match := re.match(r"#+ (.*)", line)):
            heading = match[1].strip()
        found.setdefault(heading, []).append(line)
    return {name: re.sub(r"[*`]", "", "\n".join(lines)) for name, lines in found.items()}


@pytest.mark.skipif(not SOURCES.is_dir(), reason="the documents are not here")
def test_every_number_and_every_claim_stands_under_its_heading_in_its_document():
    numbers, made = read_folder(PUBLISHED)
    texts = {document: sections((SOURCES / f"{document}.md").read_text(encoding="utf-8")) for document in set(numbers["document"])}
    for frame, column in ((numbers, "printed"), (made, "claimed")):
        for document, heading, text in frame[["document", "heading", column]].itertuples(index=False, name=None):
            assert text in texts[document].get(heading, ""), f"{document}: {heading}: {text}"
