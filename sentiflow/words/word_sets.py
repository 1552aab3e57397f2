"""Published sets of words that show what word vectors have taken from the texts they are made of.

The sets of the Word Embedding Association Test are those of the supplement to Caliskan, Bryson and
Narayanan, "Semantics derived automatically from language corpora contain human-like biases",
Science 356, 2017, without the names that it leaves out as too rare. They are written as there:
some stereotypes in them are those of the studies of people that the paper repeats with words.
"""

from typing import NamedTuple


class WordSet(NamedTuple):
    """Words that stand for one thing."""

    name: str
    words: tuple[str, ...]


class AssociationTest(NamedTuple):
    """Asks whether the first targets are nearer to the first attributes than the second are."""

    name: str
    targets: tuple[WordSet, WordSet]
    attributes: tuple[WordSet, WordSet]

    @property
    def sets(self) -> tuple[WordSet, ...]:
        """Targets and attributes, in order."""
        return (*self.targets, *self.attributes)


GENDER_PAIRS: tuple[tuple[str, str], ...] = (
    ("he", "she"),
    ("his", "her"),
    ("man", "woman"),
    ("John", "Mary"),
    ("himself", "herself"),
    ("son", "daughter"),
    ("father", "mother"),
    ("guy", "gal"),
    ("boy", "girl"),
    ("male", "female"),
)
"""The ten of Bolukbasi et al. 2016 that define gender, the male word first."""


def _of(words: str) -> tuple[str, ...]:
    return tuple(words.split())


PROFESSIONS = _of(
    "accountant architect artist baker carpenter cashier chef clerk coach dancer dentist designer "
    "doctor driver economist electrician engineer farmer firefighter hairdresser homemaker janitor "
    "journalist judge lawyer librarian manager mechanic nanny nurse pharmacist photographer pilot "
    "plumber professor programmer receptionist scientist secretary singer soldier surgeon teacher "
    "therapist writer"
)
"""In one word, of which none names a gender."""

_FLOWERS = _of(
    "aster clover hyacinth marigold poppy azalea crocus iris orchid rose bluebell daffodil lilac "
    "pansy tulip buttercup daisy lily peony violet carnation gladiola magnolia petunia zinnia"
)
_INSECTS = _of(
    "ant caterpillar flea locust spider bedbug centipede fly maggot tarantula bee cockroach gnat "
    "mosquito termite beetle cricket hornet moth wasp blackfly dragonfly horsefly roach weevil"
)
_INSTRUMENTS = _of(
    "bagpipe cello guitar lute trombone banjo clarinet harmonica mandolin trumpet bassoon drum "
    "harp oboe tuba bell fiddle harpsichord piano viola bongo flute horn saxophone violin"
)
_WEAPONS = _of(
    "arrow club gun missile spear axe dagger harpoon pistol sword blade dynamite hatchet rifle "
    "tank bomb firearm knife shotgun teargas cannon grenade mace slingshot whip"
)
_EUROPEAN = _of(
    "Adam Harry Josh Roger Alan Frank Justin Ryan Andrew Jack Matthew Stephen Brad Greg Paul "
    "Jonathan Peter Amanda Courtney Heather Melanie Katie Betsy Kristin Nancy Stephanie Ellen "
    "Lauren Colleen Emily Megan Rachel"
)
_AFRICAN = _of(
    "Alonzo Jamel Theo Alphonse Jerome Leroy Torrance Darnell Lamar Lionel Tyree Deion Lamont "
    "Malik Terrence Tyrone Lavon Marcellus Wardell Nichelle Shereen Ebony Latisha Shaniqua "
    "Jasmine Tanisha Tia Lakisha Latoya Yolanda Malika Yvette"
)
_EUROPEAN_APPLICANTS = _of(
    "Brad Brendan Geoffrey Greg Brett Matthew Neil Todd Allison Anne Carrie Emily Jill Laurie "
    "Meredith Sarah"
)
_AFRICAN_APPLICANTS = _of(
    "Darnell Hakim Jermaine Kareem Jamal Leroy Rasheed Tyrone Aisha Ebony Keisha Kenya Lakisha "
    "Latoya Tamika Tanisha"
)
_PLEASANT = _of(
    "caress freedom health love peace cheer friend heaven loyal pleasure diamond gentle honest "
    "lucky rainbow diploma gift honor miracle sunrise family happy laughter paradise vacation"
)
_UNPLEASANT = _of(
    "abuse crash filth murder sickness accident death grief poison stink assault disaster hatred "
    "pollute tragedy divorce jail poverty ugly cancer kill rotten vomit agony prison"
)
_UNPLEASANT_TO_NAMES = _of(
    "abuse crash filth murder sickness accident death grief poison stink assault disaster hatred "
    "pollute tragedy bomb divorce jail poverty ugly cancer evil kill rotten vomit"
)
_FEW_PLEASANT = _of("joy love peace wonderful pleasure friend laughter happy")
_FEW_UNPLEASANT = _of("agony terrible horrible nasty evil war awful failure")


def _test(number: int, *sets: tuple[str, tuple[str, ...]]) -> AssociationTest:
    first, second, one, other = (WordSet(name, words) for name, words in sets)
    return AssociationTest(f"WEAT {number}", (first, second), (one, other))


TESTS = (
    _test(
        1,
        ("flowers", _FLOWERS),
        ("insects", _INSECTS),
        ("pleasant", _PLEASANT),
        ("unpleasant", _UNPLEASANT),
    ),
    _test(
        2,
        ("instruments", _INSTRUMENTS),
        ("weapons", _WEAPONS),
        ("pleasant", _PLEASANT),
        ("unpleasant", _UNPLEASANT),
    ),
    _test(
        3,
        ("Eur.-American names", _EUROPEAN),
        ("Afr.-American names", _AFRICAN),
        ("pleasant", _PLEASANT),
        ("unpleasant", _UNPLEASANT_TO_NAMES),
    ),
    _test(
        4,
        ("Eur.-American names", _EUROPEAN_APPLICANTS),
        ("Afr.-American names", _AFRICAN_APPLICANTS),
        ("pleasant", _PLEASANT),
        ("unpleasant", _UNPLEASANT_TO_NAMES),
    ),
    _test(
        5,
        ("Eur.-American names", _EUROPEAN_APPLICANTS),
        ("Afr.-American names", _AFRICAN_APPLICANTS),
        ("pleasant", _FEW_PLEASANT),
        ("unpleasant", _FEW_UNPLEASANT),
    ),
    _test(
        6,
        ("male names", _of("John Paul Mike Kevin Steve Greg Jeff Bill")),
        ("female names", _of("Amy Joan Lisa Sarah Diana Kate Ann Donna")),
        (
            "career",
            _of("executive management professional corporation salary office business career"),
        ),
        ("family", _of("home parents children family cousins marriage wedding relatives")),
    ),
    _test(
        7,
        ("math", _of("math algebra geometry calculus equations computation numbers addition")),
        ("arts", _of("poetry art dance literature novel symphony drama sculpture")),
        ("male", _of("male man boy brother he him his son")),
        ("female", _of("female woman girl sister she her hers daughter")),
    ),
    _test(
        8,
        (
            "science",
            _of("science technology physics chemistry Einstein NASA experiment astronomy"),
        ),
        ("arts", _of("poetry art Shakespeare dance literature novel symphony drama")),
        ("male", _of("brother father uncle grandfather son he his him")),
        ("female", _of("sister mother aunt grandmother daughter she hers her")),
    ),
    _test(
        9,
        ("mental disease", _of("sad hopeless gloomy tearful miserable depressed")),
        ("physical disease", _of("sick illness influenza disease virus cancer")),
        (
            "temporary",
            _of("impermanent unstable variable fleeting short-term brief occasional"),
        ),
        ("permanent", _of("stable always constant persistent chronic prolonged forever")),
    ),
    _test(
        10,
        ("young people's names", _of("Tiffany Michelle Cindy Kristy Brad Eric Joey Billy")),
        ("old people's names", _of("Ethel Bernice Gertrude Agnes Cecil Wilbert Mortimer Edgar")),
        ("pleasant", _FEW_PLEASANT),
        ("unpleasant", _FEW_UNPLEASANT),
    ),
)
"""WEAT 1 to 10. The sizes are those of the paper: 25, 25, 32, 16, 16, 8, 8, 8, 6 and 8 targets."""
