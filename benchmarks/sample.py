"""``sentiflow sample`` against a plain Python loop that writes rows of the same size.

The loop is ``csv.writer`` with ``random.choice`` among a dozen ready sentences: less work for a row
than the generator does, in the way that one would write it first.

    python benchmarks/sample.py [ROWS]
"""

import csv
import io
import random
import sys

from measuring import seconds_of, show_rates, take_turns

from sentiflow.data import sample


def plain_loop(num_rows: int) -> int:
    """Write rows one by one; returns their bytes."""
    chooser = random.Random(0)
    target = io.StringIO()
    writer = csv.writer(target, quoting=csv.QUOTE_ALL, lineterminator="\n")
    subjects = ["the bus", "my phone", "this song", "our garden", "the concert", "her book"]
    words = ["not good at all", "really great", "awful today", "better than ever, i think"]
    for number in range(num_rows):
        text = f"@user{number % 997} {chooser.choice(subjects)} is {chooser.choice(words)} "
        date = "Mon Apr 06 22:19:45 PDT 2009"
        writer.writerow(
            ["0", str(1_467_810_369 + number), date, "NO_QUERY", f"user{number % 4999}", text]
        )
    return len(target.getvalue().encode())


def generate(num_rows: int) -> int:
    """Generate the synthetic corpus; returns its bytes."""
    return sum(len(chunk) for chunk in sample.generate(num_rows=num_rows, seed=0))


def main() -> None:
    """Time both in turn, three times."""
    num_rows = int(sys.argv[1]) if len(sys.argv) > 1 else 400_000
    contestants = {
        "plain loop": lambda: num_rows / seconds_of(lambda: plain_loop(num_rows)),
        "sentiflow": lambda: num_rows / seconds_of(lambda: generate(num_rows)),
    }
    rates = take_turns(contestants, 3)
    show_rates(f"{num_rows:,} rows", rates, unit="rows/s")


if __name__ == "__main__":
    main()
