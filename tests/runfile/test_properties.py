"""What holds for any text: the reader never raises, and neither order nor comments change the settings."""

from hypothesis import HealthCheck, example, given
from hypothesis import settings as drawn
from hypothesis import strategies as st

from apero_dask.cli.options import parse
from apero_dask.core.errors import Findings
from apero_dask.runfile.commands import declared_recipes
from apero_dask.runfile.keys import BY_SPELLING, KEYS
from apero_dask.runfile.merge import CommandLine, Override, merge
from apero_dask.runfile.reader import read_text
from apero_dask.runfile.sequence_names import SEQUENCES
from apero_dask.runfile.switches import PARTS, SHORTS
from tests.runfile.reading import without_lines

RECIPES = declared_recipes()
SLOW_START = [HealthCheck.too_slow]


def read(data):
    findings = Findings()
    result = merge(read_text("test.ini", data, findings, RECIPES), CommandLine(), findings)
    return result, findings


@drawn(deadline=None, max_examples=300)
@given(st.binary(max_size=400))
@example(b"\xef\xbb\xbf\xef\xbb\xbf")
@example(b"id" + b"0" * 5000 + b" = x")
@example(b"id1 = '\\")
def test_any_bytes_are_read(data):
    result, findings = read(data)
    assert all(str(finding).isprintable() for finding in findings)
    assert result.requests or findings.errors()


@drawn(deadline=None, max_examples=300)
@given(st.text(max_size=300))
def test_any_text_is_read(text):
    _, findings = read(text.encode("utf-8", errors="surrogatepass"))
    assert all(finding.line <= text.count("\n") + 1 for finding in findings)


WORDS = st.sampled_from(
    [
        *(
            "=",
            " = ",
            "#",
            "'",
            '"',
            "\\",
            ";",
            ",",
            "[",
            "]",
            "\n",
            "\r\n",
            "\t",
            " ",
            "--",
            "-",
            "id1",
            "id01",
        ),
        *("id2 = ", "RUN_", "SKIP_", "None", "All", "True", "1", "-1", "--rv", "--mask", "cal_ccf_spirou.py"),
        *("cal_badpix", "--flatfiles", "a.fits", "*", "/", "\u00e9", "\ufeff", "%(x)s"),
        *BY_SPELLING,
        *SHORTS,
        *SEQUENCES,
    ]
)


@drawn(deadline=None, max_examples=600)
@given(st.lists(WORDS, max_size=40).map("".join))
def test_any_mixture_of_words_is_read(text):
    _, findings = read(text.encode())
    assert all(str(finding).isprintable() for finding in findings)


@drawn(deadline=None, max_examples=300)
@given(
    st.sampled_from(sorted(RECIPES)),
    st.lists(
        st.one_of(
            st.sampled_from([f"--{o.name}" for recipe in RECIPES.values() for o in recipe.options]),
            st.sampled_from(
                ["2018-09-25", "a.fits", "-1", "0", "True", "--ref", "--flatfiles", "--darkfiles", "x/y"]
            ),
            st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=5),
        ),
        max_size=10,
    ),
)
def test_any_command_is_accepted_or_reported(recipe, words):
    result, findings = read(f"id1 = {recipe} {' '.join(words)}".encode())
    assert bool(result.requests) == (not findings.errors())


SAMPLES = {
    "bool": ["True", "no"],
    "int": ["3", "7"],
    "float": ["0.5", "1"],
    "str": ["x", '"a # b"'],
    "night": ["2018-09-25", "None"],
    "list": ["All", "red"],
    "memory": ["8GB"],
    "walltime": ["12:00:00"],
}


def key_lines():
    keys = st.sampled_from([key for key in KEYS if not key.name.startswith("RESET")])
    return keys.flatmap(
        lambda key: st.sampled_from(key.choices if key.kind == "choice" else SAMPLES[key.kind]).map(
            lambda text: (key.name, text)
        )
    )


def switch_lines():
    names = st.sampled_from(
        [prefix + short for prefix in ("RUN_", "SKIP_") for short in (*SHORTS, "LOCC", "THERM_I")]
    )
    return st.tuples(names, st.sampled_from(["True", "0"]))


COMMANDS = [
    "cal_ccf_spirou.py n f --rv -1.5",
    "cal_badpix n --flatfiles a b --darkfiles c",
    "obj_mk_template Gl699",
]


def id_lines():
    numbers = st.integers(0, 99999).map(lambda n: f"id{n:05d}")
    return st.tuples(numbers, st.sampled_from([*SEQUENCES, *COMMANDS]))


FILES = st.lists(
    st.one_of(key_lines(), switch_lines(), id_lines()), max_size=25, unique_by=lambda item: item[0]
)
COMMENTS = st.sampled_from(["", "# a = b", "   # [x]", "\t"])


@drawn(deadline=None, max_examples=200, suppress_health_check=SLOW_START)
@given(FILES, st.randoms(use_true_random=False), st.lists(COMMENTS, min_size=26, max_size=26))
def test_neither_order_nor_comments_nor_case_change_the_settings(items, random, comments):
    plain = "\n".join(f"{key} = {value}" for key, value in items)
    shuffled = list(items)
    random.shuffle(shuffled)
    dressed = []
    for (key, value), comment in zip(shuffled, comments, strict=False):
        dressed += [comment, f"  {random.choice([key, key.lower()])}\t=  {value}  # {comment}"]
    first, found_first = read(plain.encode())
    second, found_second = read("\r\n".join(dressed).encode())
    assert without_lines(first) == without_lines(second)
    assert sorted(found_first.codes()) == sorted(found_second.codes())


@drawn(deadline=None, max_examples=200)
@given(st.sampled_from([key for key in KEYS if key.options]), st.text(max_size=20))
def test_any_value_of_an_option_is_used_or_reported(key, text):
    findings = Findings()
    runfile = read_text("a", b"id1 = pp_seq", findings, RECIPES)
    result = merge(runfile, CommandLine(overrides=(Override(key.name, key.options[0], text),)), findings)
    assert set(findings.codes()) <= {"E-TYPE", "W-LISTDUP"}
    assert result.requests == runfile.requests


@drawn(deadline=None, max_examples=300)
@given(
    st.lists(
        st.one_of(
            st.sampled_from([f for key in KEYS for f in key.options]),
            st.sampled_from(
                ["SPIROU", "run.ini", "True", "-1", "--data", "--strict", "--order=strict", "''"]
            ),
            st.text(max_size=4),
        ),
        max_size=8,
    )
)
def test_any_command_line_is_accepted_or_ends_with_status_two(argv):
    try:
        line = parse(argv)
    except SystemExit as stop:
        assert stop.code == 2 or {"-h", "--help", "--version"} & set(argv)
    else:
        assert line.instrument in argv and line.run_file in argv


def test_parts_are_halves_of_known_steps():
    assert {short for short, _ in PARTS.values()} == {"LOCM", "LOC", "THERMAL"}
