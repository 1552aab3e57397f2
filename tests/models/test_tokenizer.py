"""Tokens are those of the plain rule, and no row's depend on its neighbors."""

# ruff: noqa: RUF001  letters of other scripts look like Latin ones

import re
import sys
import unicodedata

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiflow.models.character_runs import squeeze_runs
from sentiflow.models.spellings import unify
from sentiflow.models.tokenizer import TOKENIZERS, tokenize

SETTINGS = settings(max_examples=50, deadline=None)

CHARACTERS = st.characters(exclude_categories=["Cs", "Cn"], exclude_characters="\u0130\u03a3")
"""Characters that Arrow and Python convert to the same lower case: without ``\u0130`` (Python makes
two characters of it), the sigma that ends a word in Python, and letters that are newer than the
Unicode tables of Python."""

PIECES = [
    "@ann", "@Bob_1", "http://t.co/x", "www.x.com/?a=1", "#tag", "<url>", "@", "https://",
    "&lt;3", "&amp;amp;", "&quot;", "&#39;", ":)", ";-D", "=P", ":/", ":'(", "<3", "</3",
    "^_^", "-_-", "T_T", "can't", "it's", "don\u2019t", "I'M", "sooooo", "!!!", "?!?", "....",
    "--", "$5", "50%", "1000", "\\", '"a"', "a.b,c;d?", "caf\u00e9", "\u2665", "\U0001f600",
    "&nbsp;", "&apos;", "3.5", "1,000", "10:30am", "1/2", "a.m.", "o'clock", "y'all", "'em",
    "hahaha", "ahahah", "alllll", "gooood", ":o)", ">.<", "don\u00b4t", "\U0001f44d\U0001f3fd",
    "a@b.com", "x.y@z-w.co.uk.", ".@ann", "@m\u00fcller", "#AbcDe1F", "#a\u00e9B", "schifffahrt",
    "\u201cq\u201d", " ", " ", " ", "\n", "\t", "\u00a0", "\u2003", "\x0b", "\x1c", ".",
]  # fmt: skip
LETTERS = st.characters(max_codepoint=0x0DFF, exclude_categories=["Cs", "Cn"])
"""Letters of scripts that separate words by blanks."""
NEAR_MISSES = st.text("aehlopstwy'`.,:;=-_^<>()/@&0137 \n\u00a0\u200d", max_size=14)
TWEETS = st.lists(
    st.sampled_from(PIECES) | NEAR_MISSES | st.text(LETTERS, max_size=4), max_size=8
).map("".join)

RUNS = st.lists(
    st.tuples(st.sampled_from("aelostz0!?.,;*~-_^' :)\u00e9\u2665"), st.integers(1, 5)), max_size=8
).map(lambda runs: "".join(character * length for character, length in runs))

EVERY_CHARACTER = [
    character
    for character in map(chr, range(sys.maxunicode + 1))
    if unicodedata.category(character) not in ("Cs", "Cn")
]
SIGNS = re.escape("".join(c for c in EVERY_CHARACTER if unicodedata.category(c)[0] in "PS"))
LATIN = "a-z0-9_\u00c0-\u024f\u0300-\u036f\u1e00-\u1eff"
ADDRESS = f"[{LATIN}]+(?:[.+-][{LATIN}]+)*"
TOKEN = re.compile(
    r"""<url>|<email>|<user>|<emoji>
    |[:;=][()\[\]/\\|*]+|(?<!\S)[:;=][dpo]\b|</?3+
    |\^[-_.]?\^|-[_.]-|>[_.]<|\bt_t\b
    |\b\d+(?:[.,:/-]\d+)+|\b(?:[a-z]\.){2,}
    |n't\b|'(?:[smd]|re|ve|ll|em|cause|til|till|twas)\b|\bo'clock\b|\bma'am\b|\by'
    |\.{3}|--|[!-/:-@\[-`{-~]|["""
    + SIGNS
    + "]",
    re.ASCII | re.VERBOSE,
)


def tokens_of(texts, name):
    """Tokenize texts together."""
    return tokenize(pa.array(texts, pa.string()), name=name).to_lists().to_pylist()


def tutorial_reference(text):
    """Split as the tutorial's ``split_tweet`` does."""
    for mark in ".,;?":
        text = text.replace(mark, f" {mark} ")
    return text.lower().split()


def squeeze_reference(text):
    """Shorten runs as ``squeeze_runs`` says; upper case stands for what stays."""
    text = text.encode().decode("latin-1")
    for run in re.finditer(r"([flmnprst])\1\1(?!\1)", text):
        before = text[max(0, run.start() - 2) : run.start()]
        after = text[run.end() :][:3]
        letters = "[a-z\xc3][a-z\x80-\xbf\xc3]{4}"
        is_inside = re.fullmatch(letters, before + after) and before[1] != run[1]
        if is_inside and len(set(before)) == 2 and len(set(after)) > 1:
            text = text[: run.start()] + run[0].upper() + text[run.end() :]
    text = re.sub(r"([elost])\1{2,}(?!\1)(?=[a-z])|l{3,}", lambda run: run[0][:2], text)
    text = re.sub(r"([a-z])\1{2,}", r"\1", text)
    text = re.sub(r"([!-,/:-@\[-\]_`{-~])\1+", r"\1", text)
    text = re.sub("[A-Z]", lambda c: c[0].lower(), text)
    text = re.sub(r"-{3,}", "--", text)
    return text.encode("latin-1").decode()


def part_hashtag(chunk):
    """Separate the words of a hashtag."""
    if not chunk.startswith("#"):
        return chunk
    chunk = unicodedata.normalize("NFC", chunk)

    def is_capital(character):
        return character.isupper() and character < "\u0588"

    def ends_word(character):
        return character.isalnum() and not character.isdecimal() and not is_capital(character)

    def part(found):
        character, following = found.groups()
        if ends_word(character) and is_capital(following):
            return character + " "
        return character

    return re.sub("(.)(?=(.))", part, chunk)


def tweet_reference(text):
    """Tokenize one text, all of it at once, as ``tweet_rule`` says."""
    text = " ".join(map(part_hashtag, re.split(r"[ \t-\r]+", text)))
    for entity in ("lt <", "gt >", 'quot "', "#39 '", "apos '", "nbsp \u00a0", "amp &"):
        name, _, character = entity.partition(" ")
        text = text.replace(f"&{name};", character)
    text = " ".join(unify(text.replace("`", "'")).split())
    text = re.sub(r"(https?://|www\.)[!-~]+", " <url> ", text)
    text = re.sub(rf"{ADDRESS}@{ADDRESS}\.[a-z]{{2,}}", " <email> ", text)
    text = re.sub(rf"@([{LATIN}]{{16,}})", r"@ \1", text)
    text = re.sub(rf"@([{LATIN}]+|([a-z0-9_]|[^\0-\xbf{SIGNS}])+)", " <user> ", text)
    text = re.sub(r"\.{2,}", " ... ", squeeze_reference(text))
    text = re.sub(r"([:;=])[-o'^]([()\[\]/\\|*]|[dpo]\b)", r"\1\2", text, flags=re.ASCII)
    tokens = TOKEN.sub(r" \g<0> ", text).split()
    return [re.sub(r"\ba?(haha|hehe)(ha|he)*h?\b", r"\1", t, flags=re.ASCII) for t in tokens]


REFERENCES = {"tutorial": tutorial_reference, "tweet": tweet_reference}


@pytest.fixture(params=sorted(TOKENIZERS))
def name(request):
    """Each tokenizer in turn."""
    return request.param


TUTORIAL = [
    ("Good Day", "good day"),
    ("  two\t\nblanks  ", "two blanks"),
    ("why,me?no;yes.", "why , me ? no ; yes ."),
    ("wait... what??", "wait . . . what ? ?"),
    ('hey! it\'s "ok" :)', 'hey! it\'s "ok" :)'),
    ("@Ann http://t.co/x", "@ann http://t . co/x"),
    ("&lt;3 &amp; a", "&lt ; 3 &amp ; a"),
    ("soooo #Tag \\", "soooo #tag \\"),
    ("CAF\u00c9 \u2665", "caf\u00e9 \u2665"),
    ("a\u00a0b\u2003c", "a b c"),
    ("", ""),
    (" \t\n ", ""),
]
"""Texts and their tokens, joined by blanks."""


@pytest.mark.parametrize(("text", "tokens"), TUTORIAL)
def test_tutorial_rule_on_examples(text, tokens):
    assert tokens_of([text], "tutorial") == [tokens.split(" ") if tokens else []]


TWEET = [
    ("Good DAY", "good day"),
    (
        "don't can't it's I'm we've you'll he'd they're",
        "do n't ca n't it 's i 'm we 've you 'll he 'd they 're",
    ),
    ("won't,isn't! don'ts", "wo n't , is n't ! don ' ts"),
    ("it\u2019s don\u2019t", "it 's do n't"),
    ("don\u00b4t I`m", "do n't i 'm"),
    ("o'clock ma'am 'em 'cause 'til y'all", "o'clock ma'am 'em 'cause 'til y' all"),
    ("rock'n'roll o'clocks", "rock ' n ' roll o ' clocks"),
    ("@ann @Bob_1: hi", "<user> <user> : hi"),
    ("@unitedwhydoyou @unitedwhydoyouask!", "<user> @ unitedwhydoyouask !"),
    ("@", "@"),
    ("see http://t.co/Ab?c=1\nWWW.x.com https://y", "see <url> <url> <url>"),
    ("&lt;3 &quot;hi&quot; a &amp; b &gt; c &#39;s", '<3 " hi " a & b > c \'s'),
    ("i&apos;m a&nbsp;b&nbsp;", "i 'm a b"),
    ("http:// https:// x", "http :/ https :/ x"),
    ("http://t.co/x&nbsp;y", "<url> y"),
    ("&amp;quot; &amp;nbsp;", "& quot ; & nbsp ;"),
    ("sooooo goood AAAH too", "so good ah too"),
    ("allll yesss helllo sleeep misssed betttter", "all yes hello sleep missed better"),
    ("hahahaha AHAHAH hehehehe: ha", "haha haha hehe : ha"),
    ("muahahaha hahahaz", "muahahaha hahahaz"),
    ("1000000 $100 50%", "1000000 $ 100 50 %"),
    ("3.5 1,000,000 10:30", "3.5 1,000,000 10:30"),
    ("1/2 2-0 24/7 1.2.3", "1/2 2-0 24/7 1.2.3"),
    ("10:30pm, $2.50. (1,000)", "10:30 pm , $ 2.50 . ( 1,000 )"),
    ("5, 6. 7: 1..2 ps3,4", "5 , 6 . 7 : 1 ... 2 ps3 , 4"),
    ("p.s. 9 a.m., r.i.p.", "p.s. 9 a.m. , r.i.p."),
    ("plan b. or c.d", "plan b . or c . d"),
    ("wow!!!!! what??? ?!?!", "wow ! what ? ? ! ? !"),
    ('""a"" ((b)) $$$ >>', '" a " ( b ) $ >'),
    ("a. b.. c... d......", "a . b ... c ... d ..."),
    ("hey...:D", "hey ... :d"),
    ("wait...the t..t", "wait ... the t ... t"),
    ("a.b,c;e", "a . b , c ; e"),
    ("-- --- a-b", "-- -- a - b"),
    (":) ;D :P =) :/ :o :| :)))", ":) ;d :p =) :/ :o :| :)"),
    (":-) :'( ;-D :o) re:-d", ":) :( ;d :) re : d"),
    ("yes:) no:(", "yes :) no :("),
    ("<3 </3 ^_^ -_- T_T", "<3 </3 ^_^ -_- t_t"),
    ("^^ >.< -.- >__<", "^^ >.< -.- >_<"),
    ("at 4:do, a:d is:odd", "at 4 : do , a : d is : odd"),
    ("\U0001f600\U0001f600ok\u2665", "\U0001f600 \U0001f600 ok \u2665"),
    (
        "\U0001f44d\U0001f3fd \u2764\ufe0f \U0001f468\u200d\U0001f469",
        "\U0001f44d \u2764 \U0001f468\u200d\U0001f469",
    ),
    ("\u201cquoted\u201d \u2014 \u00a35", "\u201c quoted \u201d \u2014 \u00a3 5"),
    ("l'\u00e9T\u00c9", "l ' \u00e9t\u00e9"),
    ("#MusicMonday #140 #MTV #abc", "# music monday # 140 # mtv # abc"),
    ("mail a.b@c.co.uk, hi@ann RT@ann", "mail <email> , hi <user> rt <user>"),
    ("back\\slash :-\\", "back \\ slash :\\"),
    ("", ""),
    (" \t\n\u00a0", ""),
]
"""Texts and their tokens, joined by blanks."""


@pytest.mark.parametrize(("text", "tokens"), TWEET)
def test_tweet_rule_on_examples(text, tokens):
    assert tokens_of([text], "tweet") == [tokens.split(" ") if tokens else []]


LANGUAGES = [
    ("latin, NFD", "Cafe\u0301 CAF\u00c9", "caf\u00e9 caf\u00e9", "Annex 15"),
    ("latin, compatibility", "Ｇｏｏｄ ﬁne ½ m²", "good fine 1/2 m2", "Annex 15, NFKC"),
    ("german", "Schifffahrt Betttuch STRAẞE", "schifffahrt betttuch strasse", "3.13"),
    ("german, elongated", "schööön @Müller: #SchönesÖl", "schön <user> : # schönes öl", "5.22"),
    ("turkish", "İYİ Iğdır ISPARTA ısparta", "iyi iğdir isparta isparta", "5.18"),
    ("greek", "ΛΌΓΟΣ λόγος #ΚαλήΜέρα", "λόγοσ λόγοσ # καλή μέρα", "3.13, final sigma"),
    ("cyrillic", "Привеееет, ЁЛКА #МойГород", "привет , ёлка # мой город", "3.13"),
    ("arabic", "جمييييل مُدَرِّسَة كــتاب أحمد آمن إلى", "جميل مدرسة كتاب احمد امن الي", "9.2"),
    ("persian", "می\u200cخواهم کتاب؟", "ميخواهم كتاب ؟", "9.2, 23.2"),
    ("hebrew", "שָׁלוֹם!", "שלום !", "9.1"),
    ("devanagari", "नमस्ते बहुुुत क्\u200dष।", "नमस्ते बहुत क्ष ।", "12.1, 23.2"),
    ("thai", "ดีมากกกก น้ำ", "ดี ม า ก น้ํา", "Annex 29, Annex 14 SA"),
    ("lao", "ນ້ຳ", "ນ້ໍາ", "Annex 29, Annex 14 SA"),
    ("khmer", "ខ្ញុំស្រលាញ់", "ខ្ញុំ ស្រ លា ញ់", "16.4, Annex 29"),
    ("burmese", "က္ခမြန်", "က္ခ မြ န်", "16.3, Annex 29"),
    (
        "chinese",
        "我爱北京！2024年iPhone好。。",
        "我 爱 北 京 ! 2024 年 iphone 好 。",
        "Annex 14 ID",
    ),
    ("japanese", "すごーーーい！ﾊﾞｶ @ユーザー、", "す ご ー い ! バ カ <user> 、", "Annex 14 CJ"),
    ("japanese, mixed", "@annさん http://t.co/xは", "<user> さ ん <url> は", "Annex 14 CJ"),
    ("korean", "정말 \u1112\u1161\u11ab국어 ㅋㅋㅋㅋ", "정말 한국어 \u110f", "Annex 15"),
    ("flags", "🇩🇪🇫🇷", "🇩🇪 🇫🇷", "Technical Standard 51, flags"),
    ("an emoji cut away", "so good \ufe0f ok\ufe0f", "so good <emoji> ok", "Technical Standard 51"),
    ("skin tones", "👍🏽👍 👩🏽\u200d🚀", "👍 👍 👩\u200d🚀", "Technical Standard 51, modifiers"),
    (
        "families",
        "👨\u200d👩\u200d👧😀 ❤️\u200d🔥",
        "👨\u200d👩\u200d👧 😀 ❤\u200d🔥",
        "Technical Standard 51, ZWJ",
    ),
    ("quotes", "「あ」«да» don’t", "「 あ 」 « да » do n't", "4.5, general category"),
    ("zero width", "ab\u200bc a\u00adb x\u200dy", "ab c ab xy", "Annex 14 ZW, 3.13"),
    ("addresses", "müller@web.de 联系a@b.com", "<email> 联 系 <email>", "RFC 6532"),
]
"""Name, text, tokens, and the section of the Unicode Standard, or another source, of the rule."""


@pytest.mark.parametrize(("text", "tokens"), [row[1:3] for row in LANGUAGES], ids=lambda _: "")
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_tweet_rule_on_languages(text, tokens, form):
    assert tokens_of([unicodedata.normalize(form, text)], "tweet") == [tokens.split(" ")]


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=12)
SCRIPTS = st.lists(
    st.sampled_from([word for row in LANGUAGES for word in row[1]]) | ANY_TEXT, max_size=8
).map("".join)


@settings(max_examples=100, deadline=None)
@given(text=SCRIPTS | TWEETS)
def test_canonically_equal_texts_have_equal_tokens(text):
    forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD")]
    composed, decomposed = tokens_of(forms, "tweet")
    assert composed == decomposed


@settings(max_examples=100, deadline=None)
@given(text=SCRIPTS | TWEETS)
def test_a_token_has_no_white_space_and_no_upper_case(text):
    tokens = tokens_of([text], "tweet")[0]
    assert " ".join(tokens).split() == tokens
    folded = [unicodedata.normalize("NFKC", token.casefold()) for token in tokens]
    assert folded == tokens


@settings(max_examples=100, deadline=None)
@given(text=SCRIPTS)
def test_tokens_are_tokenized_to_themselves_but_marks_of_ascii(text):
    text = re.sub("[!-/:-@[-`{-~]", "", text)  # ". ." and ": )" are others than ".." and ":)"
    tokens = tokens_of([text], "tweet")[0]
    assert tokens_of([" ".join(tokens)], "tweet") == [tokens]


@settings(max_examples=100, deadline=None)
@given(text=SCRIPTS)
def test_unifying_twice_changes_nothing(text):
    assert unify(unify(text)) == unify(text)


def test_every_character_is_unified_once():
    unified = unify("\n".join(EVERY_CHARACTER))
    assert unify(unified) == unified


@settings(max_examples=100, deadline=None)
@given(text=NEAR_MISSES | TWEETS)
def test_all_rules_give_ascii_the_tokens_of_the_plain_rules(text):
    chunks = text.encode("ascii", "ignore").decode().split()
    marked = [f"{chunk}\u200b" for chunk in chunks]
    assert tokens_of(marked, "tweet") == tokens_of(chunks, "tweet")


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(st.text(CHARACTERS, max_size=12) | NEAR_MISSES | TWEETS, max_size=5))
def test_the_tutorial_rule_equals_its_plain_form(texts):
    assert tokens_of(texts, "tutorial") == [tutorial_reference(text) for text in texts]


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(NEAR_MISSES | TWEETS, max_size=5))
def test_the_tweet_rule_equals_its_plain_form(texts):
    assert tokens_of(texts, "tweet") == [tweet_reference(text) for text in texts]


def test_arrow_lowers_as_python_does():
    lower = pc.utf8_lower(pa.array(EVERY_CHARACTER)).to_pylist()
    differ = [c for c, low in zip(EVERY_CHARACTER, lower, strict=True) if low != c.lower()]
    assert differ == ["\u0130"]


def test_a_rule_splits_at_the_white_space_and_signs_of_unicode(name):
    others = (
        c
        for c in EVERY_CHARACTER
        if unicodedata.category(c)[0] in "ZPS" and not re.search(r"\w", unify(c))
    )
    texts = [f"a{character}b" for character in others]
    assert tokens_of(texts, name) == [REFERENCES[name](text) for text in texts]


@SETTINGS
@given(texts=st.lists(TWEETS, max_size=6), start=st.integers(0, 6), length=st.integers(0, 6))
@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_a_slice_is_tokenized_as_a_copy(name, texts, start, length):
    piece = pa.array(texts, pa.string())[start : start + length]
    tokens = tokenize(piece, name=name).to_lists()
    assert tokens.to_pylist() == tokens_of(piece.to_pylist(), name)
    tokens.validate(full=True)


@SETTINGS
@given(texts=st.lists(RUNS, max_size=6), start=st.integers(0, 6), length=st.integers(0, 6))
def test_squeezing_a_slice_equals_its_plain_form(texts, start, length):
    piece = pa.array(texts, pa.string())[start : start + length]
    squeezed = squeeze_runs(piece)
    assert squeezed.to_pylist() == [squeeze_reference(text) for text in piece.to_pylist()]
    squeezed.validate(full=True)


@SETTINGS
@given(texts=st.lists(TWEETS, max_size=6), max_length=st.integers(0, 12))
def test_cutting_keeps_the_first_tokens_of_each_text_or_both_ends(texts, max_length):
    tokens = tokenize(pa.array(texts, pa.string()), name="tweet")
    rows = tokens.to_lists().to_pylist()
    assert tokens.cut(max_length).to_lists().to_pylist() == [row[:max_length] for row in rows]

    num_last = max_length // 2
    both_ends = []
    for row in rows:
        is_long = len(row) > max_length
        ends = row[: max_length - num_last] + row[len(row) - num_last :]
        both_ends.append(ends if is_long else row)
    assert tokens.cut(max_length, "middle").to_lists().to_pylist() == both_ends


@pytest.mark.parametrize("texts", [[], [""], ["", " ", "\n"], ["\ufe0e", ""]])
def test_texts_without_a_word_have_no_tokens(texts):
    tokens = tokenize(pa.array(texts, pa.string()), name="tweet")
    assert tokens.to_lists().to_pylist() == [[] for _ in texts]
    assert (len(tokens.words), len(tokens.ids)) == (0, 0)
