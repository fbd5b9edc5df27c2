import pytest
from tests.report.conftest import HOSTILE, Outline

from sfumato.report.page import (
    Card,
    Cell,
    Picture,
    Report,
    Section,
    Table,
    readable_facts,
    render_page,
)

PIXEL = b"\x89PNG\r\n\x1a\n"


def full_report(text: str) -> Report:
    """A report that says the same text in every place."""
    picture = Picture(content=PIXEL, alt=text, caption=text, title=text)
    table = Table(
        columns=[text, text],
        rows=[[text, Cell(text=text, detail=text, is_number=True, sort_key=0.5)]],
        caption=text,
        is_sortable=True,
        summary=text,
    )
    section = Section(title=text, text=text, table=table, pictures=[picture], facts={text: text})
    return Report(
        title=text,
        headline=text,
        subtitle=text,
        cards=[Card(label=text, value=text, detail=text, meaning=text)],
        notes=[text],
        sections=[section] * 3,
        provenance={text: {text: text}},
        glossary={text: text},
    )


@pytest.mark.parametrize("text", ["plain", HOSTILE, "日本 🫀", ""])
def test_every_element_of_a_page_is_closed(text: str) -> None:
    outline = Outline(render_page(full_report(text)))
    assert outline.open == []
    assert outline.tags[0] == "html"


def test_a_page_fetches_nothing() -> None:
    page = render_page(full_report("plain"))
    outline = Outline(page)
    assert all(address.startswith("data:") for address in outline.values("src"))
    assert all(address.startswith("#") for address in outline.values("href"))
    assert not {"link", "iframe", "object", "embed", "base"} & set(outline.tags)
    assert "http://" not in page
    assert "https://" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_what_hostile_names_say_is_shown_and_not_done() -> None:
    page = render_page(full_report(HOSTILE))
    harmless = Outline(render_page(full_report("plain")))
    outline = Outline(page)
    assert outline.tags == harmless.tags
    assert "onerror" not in {name for _, name, _ in outline.attributes}
    assert "{{ 7 * 7 }}" in page


def test_every_picture_says_what_it_shows() -> None:
    outline = Outline(render_page(full_report("a picture")))
    assert outline.values("alt") == ["a picture"] * 3


def test_links_on_a_page_lead_to_its_sections() -> None:
    outline = Outline(render_page(full_report("Same & title")))
    targets = [address.removeprefix("#") for address in outline.values("href")]
    assert len(set(targets)) == 3
    assert set(targets) <= set(outline.values("id"))


def test_a_page_begins_with_its_document_type_and_follows_light_and_dark() -> None:
    page = render_page(Report(title="t", headline="h"))
    assert page.startswith("<!DOCTYPE html>")
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_a_picture_knows_its_kind() -> None:
    assert Picture(content=PIXEL, alt="").uri.startswith("data:image/png;base64,")
    assert Picture(content=b"<svg/>", alt="").uri.startswith("data:image/svg+xml;base64,")


def test_paragraphs_are_separated_by_empty_lines() -> None:
    page = render_page(
        Report(title="t", headline="h", sections=[Section(title="s", text="a\n\nb")])
    )
    assert "<p>a</p>" in page
    assert "<p>b</p>" in page


def test_facts_are_written_for_people() -> None:
    facts = {
        "patch_shape": [40, 56, 40],
        "channels": [1, 2, 4, 8],
        "elapsed_seconds": 75.2,
        "deep_supervision": True,
        "weights": None,
        "learning_rate": 0.01,
        "empty": [],
        "nothing": {},
    }
    assert readable_facts(facts) == [
        ("patch shape", "40 × 56 × 40"),
        ("channels", "1, 2, 4, 8"),
        ("elapsed", "1 min 15 s"),
        ("deep supervision", "yes"),
        ("weights", "–"),
        ("learning rate", "0.01"),
        ("empty", "none"),
        ("nothing", "none"),
    ]
