"""Counting without a vocabulary: too much rather than too little, and never beyond the bytes."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

import costtrace.tokens
from costtrace.tokens import count_tokens
from costtrace.tokens.pieces import estimate
from costtrace.tokens.vocabulary import FILES

# The first article of the Universal Declaration of Human Rights (United Nations), or its beginning.
LANGUAGES = {
    "English": "All human beings are born free and equal in dignity and rights. They are endowed "
    "with reason and conscience and should act towards one another in a spirit of brotherhood. ",
    "German": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit "
    "Vernunft und Gewissen begabt und sollen einander im Geist der Brüderlichkeit begegnen. ",
    "Spanish": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados "
    "como están de razón y conciencia, deben comportarse fraternalmente los unos con los otros. ",
    "Polish": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. ",
    "Turkish": "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. ",
    "Vietnamese": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm. ",
    "Russian": "Все люди рождаются свободными и равными в своем достоинстве и правах. ",
    "Greek": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια. ",
    "Arabic": "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق. ",
    "Hebrew": "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. ",
    "Hindi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है। ",
    "Thai": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ",
    "Chinese": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心。",
    "Japanese": "すべての人間は、生まれながらにして自由であり、尊厳と権利とについて平等である。",
    "Korean": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. ",
}
SOURCES = Path(costtrace.tokens.__file__).parent
NUMBERS = random.Random(4)
OTHERS = {
    "Python": "".join(path.read_text() for path in sorted(SOURCES.glob("*.py"))),
    "JSON": json.dumps(
        [{"name": f"row {n}", "value": n * 7, "tags": ["a", "b"]} for n in range(99)]
    ),
    "HTML": '<div class="row"><a href="https://example.com/a?b=c">link</a>&nbsp;</div>\n' * 50,
    "numbers": " ".join(str(NUMBERS.random()) for _ in range(500)),
    "capitals": "THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG. " * 20,
    "emoji": "😀🎉👍🏽👨‍👩‍👧‍👦🚀🔥💯✨🤖🧪" * 20,
}


@pytest.mark.parametrize("name", LANGUAGES | OTHERS)
def test_estimate_is_above_the_true_count_but_not_far(name: str) -> None:
    """In any script, and for code and data: up to 5 % under, up to three times over."""
    text = (LANGUAGES | OTHERS)[name] * 5
    true = len(tiktoken.get_encoding("o200k_base").encode_ordinary(text))
    true_of_old = len(tiktoken.get_encoding("cl100k_base").encode_ordinary(text))

    assert 0.95 * true <= estimate(text) <= 3.2 * true
    assert 0.9 * true_of_old <= estimate(text, is_old=True) <= 3.2 * true_of_old


@given(text=st.text())
def test_estimate_is_never_beyond_the_bytes(text: str) -> None:
    """A token has at least a byte, so an estimate beyond that would be foolish."""
    assert 0 <= estimate(text) <= len(text.encode("utf-8", "surrogatepass"))
    assert (estimate(text) > 0) == bool(text)


def test_model_whose_vocabulary_is_missing_is_estimated(
    vocabulary_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others being there does not help a model of the past."""
    for encoding in ("o200k_base", "cl100k_base"):  # those alone, whatever this machine has
        name = FILES[encoding].cache_name
        (tmp_path / name).symlink_to(vocabulary_folder / name)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    count = count_tokens("It was the best of times.", "text-davinci-001")

    assert (count.exact, count.method) == (False, "estimate:pieces")
    assert 6 <= count <= 12


@pytest.mark.parametrize(
    ("kind", "chars_per_token"),
    [("English", 500 / 118), ("Korean", 500 / 312), ("HTML", 500 / 217)],
)
def test_claude_estimate_is_above_published_figures(kind: str, chars_per_token: float) -> None:
    """Figures that a guide to Claude's count endpoint gives for 500 characters of each."""
    text = (LANGUAGES | OTHERS)[kind] * 5

    assert count_tokens(text, "claude-sonnet-4-5") >= len(text) / chars_per_token
