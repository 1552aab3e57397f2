"""Seed -> a synthetic corpus in Sentiment140's form.

For demonstrations, tests and load: no network, no license, any size. The sentences come from a
small grammar, so the corpus says nothing about English. What it keeps of the real file:

- the form: six quoted columns, no header, all negatives and then all positives, ids ascending
  within a label, broken bytes, entities, mentions, links, spam, ids used twice;
- that word order decides: a negation turns a word over, and of two clauses only one counts.
  Both labels use every template alike, so "not", "but" and "until" say nothing by themselves;
- wrong labels: in one row of twenty the text means the opposite.
"""

import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

NOISE_FRACTION = 0.05
"""Share of the rows whose text means the opposite of their label."""

BLOCK_ROWS = 50_000
"""Rows drawn and yielded at a time."""

_TWIN_INTERVAL = 500
"""One row of so many appears under both labels, with the same id, user and text."""

_SPAM_FRACTION, _SPAM_COPIES = 0.004, 8
"""Share of the rows that copy a text of their block, and copies of each such text on average."""

_WORDLESS_FRACTION = 0.0025
"""Share of the rows in which no word is left without mentions, links and non-letters."""

_CASE_SHARES = (0.55, 0.42, 0.03)
"""Shares of the sentences in lower case, with a capital first letter, and in capitals."""

_FIRST_ID, _FIRST_TIME = 1_467_810_369, np.datetime64("2009-04-06T22:19:45").astype(np.int64)
_ID_SPAN, _SECOND_SPAN = 861_395_425, 6_869_323
"""The real file's first tweet, and how far on its last one is."""

_LEXICON = {
    "good": """good, great, amazing, awesome, wonderful, fantastic, beautiful, brilliant, excellent,
        perfect, lovely, cool, nice, fun, funny, sweet, super, incredible, magic, pleasant,
        exciting, impressive, outstanding, remarkable, stunning, spectacular, elegant, smart, fresh,
        comfortable, memorable, interesting, valuable, useful, helpful, friendly, generous, bright,
        healthy, lucky, special, touching, epic, popular, reliable, promising, attractive,
        successful, romantic, peaceful, warm, legendary, unique, strong, safe, rich, extraordinary,
        exceptional, positive, solid, ideal, creative, golden, fine""",
    "bad": """bad, awful, terrible, horrible, boring, annoying, ridiculous, sad, ugly, stupid, poor,
        painful, disappointing, rough, cruel, cold, dirty, broken, weak, slow, worse, tragic,
        unfair, unfortunate, mean, cheap, wrong, sick, gross, bitter, harsh, disturbing,
        embarrassing, brutal, unhappy, unacceptable, grim, dangerous, toxic, fake, evil, scary,
        weird, frustrating, inadequate, flawed, uncomfortable, offensive, hostile, empty, negative,
        damaged, disastrous, difficult, unnecessary, expensive, dark, loud, strange, flat, lost,
        nasty, hard, crazy""",
    "happy": """happy, excited, proud, glad, hopeful, relaxed, grateful, delighted, confident,
        satisfied, optimistic, pleased, calm, inspired, better, fine""",
    "sad": """sad, tired, sick, angry, upset, worried, nervous, depressed, disappointed, hurt,
        frustrated, scared, anxious, exhausted, lonely, lost""",
    "love": "love, like, enjoy, appreciate, recommend, trust, treasure, LOVE, loooove",
    "hate": "hate, regret, miss, fear, avoid, doubt, blame, HATE, haaaate",
    "smile": """make me smile, make my day, make me laugh, make me happy, save my week,
        keep me going, give me hope, bring me joy, win my heart, lift me up""",
    "cry": """make me cry, destroy my day, make me sick, make me angry, waste my time, let me down,
        drive me crazy, break my heart, give me pain, kill my mood""",
    "very": "so, really, very, pretty, quite, totally, absolutely, truly, SO, soooo, reallyy",
    "thing": """the concert, the movie, the show, the game, the party, the train, the bus,
        the weather, the traffic, the coffee, the food, the music, the book, the album, the band,
        the song, the new episode, the season finale, the trip, the beach, the hotel, the flight,
        the airport, the match, the meeting, the interview, the exam, the lecture, the class,
        the teacher, the project, the office, the update, the website, the app, the camera,
        the service, the store, the restaurant, the pizza, the soup, the cake, the garden,
        the kitchen, the neighborhood, the museum, the wedding, the ceremony, the speech, the news,
        the radio, the internet, my phone, my new phone, my laptop, my computer, my car, my bike,
        my room, my bed, my desk, my boss, my job, my old job, my team, my dog, my cat, my brother,
        my sister, my best friend, my family, my hair, my breakfast, my lunch, my dinner,
        my birthday, my weekend, my homework, my math test, my doctor, my dentist, my ticket,
        my order, my vacation, this morning, this city, this place, this film, this summer,
        this rain, this game, this video, this story, today, school, work, monday, twitter,
        facebook, our house, our holiday, our new apartment""",
    "hey": "well, omg, ok, hey, wow, haha, hmm, yeah, lol, oh, man, Hello, Sigh, morning",
    "tail": "today, lol, haha, right now, i think, this time, for real, you know, tonight, again",
    "aside": "that is all, so on, more, thanks, you know why, other stuff, lol, whatever",
    "face": ";D, :/, :p, =P, xD, &lt;3, &lt;3 &lt;3, ;-), D:",
    "tag": "fb, monday, music, followfriday, iphone, london, jobs, tv, 140, travel, MusicMonday",
    "foreign": "at the café, it\u2019s true, £10, … yeah, ♥, ☺, ½ off, mañana, señor, 日本, ¡hola!",
    "broken": "at the caf\udce9, it\udc92s true, \udca310, d\udce9j\udce0 vu, \udce2\udc80 yeah",
    "mark": "..., !!!, ??, ?!, !, 10, 100 %, =), -, ...., 2 + 2 = 5",
    "first": """sunny, happy, lazy, tiny, Crazy, little, miss, mister, Dj, its, just, simply, Red,
        blue, green, lucky, old, young, Big, super, mad, wild, dr, lady, sir, King, queen, indie,
        xo, iam, callme, the, hey, Team, pop, rock""",
    "last": """Anna, ben, carla, Dave, ella, frank, gina, Hugo, ines, jack, kate, leo, Mia, nick,
        olga, paul, quinn, rosa, sam, Tina, umar, vera, will, xena, yuri, zoe, moon, star, cat,
        panda, Tiger, cookie, pixel, robot, ninja, surfer, gamer, reader, baker, cloud""",
    "host": "bit.ly, twitpic.com, tinyurl.com, is.gd, plurk.com/p, www.example.com",
}
"""Slot -> its phrases, separated by commas.

Most sentiment words are among the 10,000 most frequent of GloVe 6B. A surrogate such as
``\\udce9`` stands for the lone byte 0xe9.
"""

_ANTONYMS = {"good": "bad", "happy": "sad", "love": "hate", "smile": "cry"}
_ANTONYMS |= {bad: good for good, bad in _ANTONYMS.items()}

# Templates are written for a positive text; a negative one takes the antonyms' slots.
_PLAIN = (
    "{thing} was {good}",
    "{thing} is {very} {good}",
    "{thing} turned out {good}",
    "{thing} looks {very} {good}",
    "{thing} and {thing} were both {good}",
    "everything about {thing} is {good}",
    "just saw {thing}, {very} {good}",
    "why not, {thing} is always {good}",
    "waited until noon and {thing} was {good}",
    "no joke, {thing} is {very} {good}",
    "but wow, {thing} was {very} {good}",
    "i never knew that {thing} is this {good}",
    "i {love} {thing}",
    "i really {love} {thing}",
    "you know how i {love} {thing}",
    "not gonna lie, i {love} {thing}",
    "i am {very} {happy} about {thing}",
    "i'm {happy} now that {thing} is over",
    "{thing} will {smile}",
    "{thing} and {thing} always {smile}",
)
_NEGATED = (
    "{thing} was not {bad} at all",
    "{thing} isn't {bad}",
    "{thing} is not {very} {bad}",
    "{thing} was never that {bad}",
    "{thing} is no longer {bad}",
    "{thing} used to be {bad}",
    "{thing} was {bad} until it wasn't",
    "{thing} is far from {bad}",
    "i don't {hate} {thing}",
    "i no longer {hate} {thing}",
    "i used to {hate} {thing}",
    "i am not {sad} about {thing}",
    "i'm never {sad} about {thing}",
    "{thing} did not {cry}",
    "{thing} won't {cry}",
)
_CONTRASTED = (
    "{thing} was {bad} but {thing} was {good}",
    "{thing} is {bad}, but i {love} it",
    "i {hate} {thing} but {thing} is {very} {good}",
    "i {hate} {thing}, but now i am {happy}",
    "i was {sad} until {thing} turned out {good}",
    "{thing} was {bad} until it got {very} {good}",
    "{thing} looked {bad} at first, then it was {good}",
    "{thing} was {bad} yesterday, now it is {good}",
    "although {thing} started {bad}, the rest was {good}",
    "even though i {hate} {thing}, it was {good}",
    "{thing} was {good} although it started {bad}",
    "{thing} is {good} even though it looks {bad}",
    "i {love} {thing} even if it is {bad}",
    "thought {thing} would be {bad}, it was {good}",
    "{thing} used to be {bad}, now it is {very} {good}",
    "{thing} isn't {bad}, it is {good}",
    "{thing} is {good}, not {bad}",
    "{thing} did {cry} but now i am {happy}",
    "{thing} went from {bad} to {good}",
)
_CORES = ((0.62, _PLAIN), (0.1, _NEGATED), (0.28, _CONTRASTED))
"""What carries the meaning: share of the rows -> templates."""

# Around the core nothing depends on the meaning, and little follows it: recurrent nets forget.
_LINK = "http://{host}/{code}{code}"
_OPENINGS = (
    (0.42, ("",)),
    (0.45, ("@{first}{last} ", "@{first}_{last} ", "@{last}{number} ", "@{first}{last}, ")),
    (0.01, (f"{_LINK} - ",)),
    (0.12, ("{hey} ", "{hey}, ", "{hey}! ")),
)
_ENDINGS = (
    (0.4395, ("",)),
    (0.15, (".", "!", "!!", "...", "!!!")),
    (0.22, (" {tail}", ", {tail}", " {tail}!", "  {tail}...")),
    (0.05, (" &amp; {aside}", " &quot;{aside}&quot;")),
    (0.05, (" {face}", "{face}")),
    (0.04, (" #{tag}", "! #{tag}")),
    (0.04, (f" {_LINK}", f"...  {_LINK}")),
    (0.01, (" {foreign}",)),
    (0.0005, (" {broken}",)),
)
_LEADS = ((0.95, ("",)), (0.05, (" ", "  ")))
_TRAILS = ((0.3, ("",)), (0.699, (" ", " ", "  ")), (0.001, (" :-\\",)))
_WORDLESS = (
    (0.7, ("@{first}{last} ", "@{first}_{last} {mark} ", "@{last}{number} @{first}{last}")),
    (0.2, (_LINK, f"@{{first}}{{last}} {_LINK}")),
    (0.1, ("{mark}", "{mark} {mark} ")),
)
"""Whole texts without a word to know."""

_USERS = (
    (0.999, ("{first}{last}{number}", "{first}_{last}{number}", "{last}_{number}")),
    (0.001, ("{number}{number}",)),
)


def generate(*, num_rows: int, seed: int) -> Iterator[bytes]:
    """Yield a corpus as CSV bytes, at most ``BLOCK_ROWS`` whole rows at a time.

    ``num_rows // 2`` negatives come first, then the positives; no rows yield nothing. The same
    arguments give the same bytes as long as numpy keeps its random streams, and a longer corpus
    does not begin with a shorter one. Each line is a record: no field holds a newline or a
    quotation mark. Memory stays at one block.

    Example:
        >>> lines = b"".join(generate(num_rows=3, seed=0)).splitlines()
        >>> [line[:4] for line in lines]
        [b'"0",', b'"4",', b'"4",']
    """
    num_positive = num_rows - num_rows // 2
    for label, count in enumerate((num_rows // 2, num_positive)):
        for start in range(0, count, BLOCK_ROWS):
            rows = np.arange(start, min(start + BLOCK_ROWS, count))
            yield _block(rows, label=label, seed=seed, id_step=_ID_SPAN // num_positive)


def _block(rows: np.ndarray, *, label: int, seed: int, id_step: int) -> bytes:
    """Write one block: the rows of ``label`` with these consecutive numbers.

    Row r of either label owns the ids from ``r * id_step`` on and takes one at random. Twins
    take the middle one, and their user and text come from a generator without the label.
    """
    number = rows[0] // BLOCK_ROWS
    rng = np.random.default_rng([seed, label, number])
    is_noise = rng.random(len(rows)) < NOISE_FRACTION
    texts = _spam(rng, _texts(rng, negative=is_noise ^ (label == 0)))
    users = _grammar(_USERS).draw(rng, len(rows))
    offsets = rng.integers(id_step, size=len(rows))

    twin_rng = np.random.default_rng([seed, 2, number])
    is_twin = rows % _TWIN_INTERVAL == _TWIN_INTERVAL // 2
    max_twins = BLOCK_ROWS // _TWIN_INTERVAL
    twin_texts = _texts(twin_rng, negative=twin_rng.random(max_twins) < 0.5)
    texts = _replace(texts, is_twin, twin_texts)
    users = _replace(users, is_twin, _grammar(_USERS).draw(twin_rng, max_twins))
    offsets[is_twin] = id_step // 2
    return _csv((b"0", b"4")[label], rows * id_step + offsets, users, texts)


def _csv(target: bytes, id_offsets: np.ndarray, users: pa.Array, texts: pa.Array) -> bytes:
    """Join the columns of a block to lines; the date follows from the id."""
    times = (_FIRST_TIME + id_offsets * _SECOND_SPAN // _ID_SPAN).astype("datetime64[s]")
    dates = pc.strftime(pa.array(times), format="%a %b %d %H:%M:%S PDT 2009", locale="C")
    ids = pa.array(_FIRST_ID + id_offsets).cast(pa.string())
    lines = _join(
        b'"', target, b'","', ids, b'","', dates, b'","NO_QUERY","', users, b'","', texts, b'"\n'
    )
    # The last buffer holds the values end to end, and may be longer than they are.
    data: pa.Buffer = lines.buffers()[2]
    return bytes(data.slice(0, pc.sum(pc.binary_length(lines)).as_py()))


def _texts(rng: np.random.Generator, *, negative: np.ndarray) -> pa.Array:
    """Draw one text for each row, with the meaning that ``negative`` asks for."""
    num_rows = len(negative)
    parts = [
        _grammar(_LEADS).draw(rng, num_rows),
        _grammar(_OPENINGS).draw(rng, num_rows),
        _cores(rng, negative=negative),
        _grammar(_ENDINGS).draw(rng, num_rows),
        _grammar(_TRAILS).draw(rng, num_rows),
    ]
    is_wordless = rng.random(num_rows) < _WORDLESS_FRACTION
    wordless = _grammar(_WORDLESS).draw(rng, is_wordless.sum())
    return _replace(_join(*parts), is_wordless, wordless)


def _cores(rng: np.random.Generator, *, negative: np.ndarray) -> pa.Array:
    """Draw the sentences: a template whatever the meaning, then its words, then their case.

    The templates for negative texts follow the positive ones and are reached by adding.
    """
    mirrored = tuple((0.0, tuple(map(_mirror, templates))) for _, templates in _CORES)
    grammar = _grammar(_CORES + mirrored)
    templates = grammar.choose(rng, len(negative)) + negative * (len(grammar.shares) // 2)
    lower = grammar.fill(rng, templates).cast(pa.string())
    cases = rng.choice(3, len(negative), p=_CASE_SHARES)
    return pc.choose(pa.array(cases), lower, pc.utf8_capitalize(lower), pc.utf8_upper(lower))


def _mirror(template: str) -> str:
    """Turn a template's meaning over: each slot gives way to its antonym."""
    return re.sub(r"{(\w+)}", lambda slot: f"{{{_ANTONYMS.get(slot[1], slot[1])}}}", template)


def _spam(rng: np.random.Generator, texts: pa.Array) -> pa.Array:
    """Overwrite some texts by copies of a few others."""
    num_rows = len(texts)
    originals = rng.integers(num_rows, size=1 + int(num_rows * _SPAM_FRACTION / _SPAM_COPIES))
    is_copy = rng.random(num_rows) < _SPAM_FRACTION
    sources = np.where(is_copy, rng.choice(originals, num_rows), np.arange(num_rows))
    return texts.take(pa.array(sources))


@dataclass(frozen=True)
class _Grammar:
    """Templates, each cut into pieces, with every way to fill each piece.

    ``phrases`` holds the filled pieces of all templates. Piece p of template t is one of the
    ``sizes[t, p]`` phrases from number ``starts[t, p]`` on; a template with fewer pieces than
    others ends in the empty phrase. ``shares`` are the templates' probabilities.
    """

    phrases: pa.Array
    starts: np.ndarray
    sizes: np.ndarray
    shares: np.ndarray

    def draw(self, rng: np.random.Generator, num_rows: int) -> pa.Array:
        """Draw ``num_rows`` filled templates."""
        return self.fill(rng, self.choose(rng, num_rows))

    def choose(self, rng: np.random.Generator, num_rows: int) -> np.ndarray:
        """Draw template numbers by their shares."""
        return rng.choice(len(self.shares), num_rows, p=self.shares)

    def fill(self, rng: np.random.Generator, templates: np.ndarray) -> pa.Array:
        """Draw phrases for the pieces of the templates with these numbers, as bytes."""
        pieces = []
        for starts, sizes in zip(self.starts.T, self.sizes.T, strict=True):
            picks = (rng.random(len(templates)) * sizes[templates]).astype(np.int64)
            pieces.append(self.phrases.take(pa.array(starts[templates] + picks)))
        return _join(*pieces)


@cache
def _grammar(groups: tuple[tuple[float, tuple[str, ...]], ...]) -> _Grammar:
    """Lay out groups of templates; the templates of a group have equal parts of its share."""
    templates = [_pieces(template) for _, group in groups for template in group]
    num_pieces = max(map(len, templates))
    filled = [
        piece for pieces in templates for piece in pieces + [[""]] * (num_pieces - len(pieces))
    ]
    sizes = np.array([len(phrases) for phrases in filled])
    starts = np.cumsum(sizes) - sizes
    shares = [share / len(group) for share, group in groups for _ in group]
    return _Grammar(
        phrases=pa.array([p.encode(errors="surrogateescape") for ps in filled for p in ps]),
        starts=starts.reshape(len(templates), num_pieces),
        sizes=sizes.reshape(len(templates), num_pieces),
        shares=np.array(shares),
    )


def _pieces(template: str) -> list[list[str]]:
    """Cut a template behind each slot, and fill the slot with each of its phrases."""
    slots = re.findall(r"([^{}]*){(\w+)}", template)
    pieces = [[literal + phrase for phrase in _lexicon()[slot]] for literal, slot in slots]
    tail = template.rpartition("}")[2]
    return [*pieces, [tail]] if tail else pieces


@cache
def _lexicon() -> dict[str, list[str]]:
    """Name each slot's phrases, the numeric slots included."""
    lexicon = {slot: re.split(r",\s+", phrases) for slot, phrases in _LEXICON.items()}
    characters = string.digits + string.ascii_lowercase
    lexicon["code"] = [a + b for a in characters for b in characters]
    lexicon["number"] = [str(number) for number in range(1, 1000)]
    return lexicon


def _join(*columns: pa.Array | bytes) -> pa.Array:
    """Concatenate the columns row by row, as bytes; a ``bytes`` stands in each row."""
    binary = [c if isinstance(c, bytes) else c.cast(pa.binary()) for c in columns]
    return pc.binary_join_element_wise(*binary, b"")


def _replace(column: pa.Array, mask: np.ndarray, values: pa.Array) -> pa.Array:
    """Put the first of ``values``, in order, where ``mask`` is true."""
    return pc.replace_with_mask(column, pa.array(mask), values[: mask.sum()])
