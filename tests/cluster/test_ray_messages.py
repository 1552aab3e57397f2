"""Standard output has only results, and a dead node is reported in one line."""

import sys

from sentiflow.cluster import ray_messages

MESSAGE = (
    "\x1b[33m(raylet)\x1b[0m The node with node id: e36 has been marked dead because\t(1) crash\n"
    "\t(2) raylet has lagging heartbeats\n    - num bytes created total: 93691\n\n"
)


def test_the_first_line_of_a_message_of_ray_is_shown(capsys, said):
    with ray_messages.aside(verbose=False):
        print(MESSAGE, end="")
        print("a library's own line, in", "two pieces")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == "a library's own line, in two pieces"
    assert "heartbeats" not in err
    assert said.messages == [
        "ray       The node with node id: e36 has been marked dead because\t(1) crash"
    ]


def test_verbose_shows_complete_messages(capsys):
    with ray_messages.aside(verbose=True):
        print(MESSAGE, end="")
    assert capsys.readouterr() == ("", MESSAGE)
    print("a result")
    assert capsys.readouterr().out == "a result\n"
    assert sys.stdout is not sys.stderr


def test_other_output_is_passed_on_completely(capsys):
    with ray_messages.aside(verbose=False):
        print("  indented\n\nlast", end="")
    assert capsys.readouterr() == ("", "  indented\n\nlast\n")
