"""Makes the demo's input: payment events as a flaky queue delivers them, some of them more than once.

Each line of the file is one delivery. About half of the duplicates come right behind the payment's first delivery,
so that two workers have the same payment in hand at the same moment; the others come any time later.
The same seed makes the same file.
"""

import argparse
import json
import random
from pathlib import Path

MOST_DELIVERIES_OF_ONE_PAYMENT = 5
OUT = Path(__file__).parent / "out"


def flaky_deliveries(deliveries: int, payments: int, seed: int) -> list[dict[str, str | int]]:
    """The payment events in the order in which the queue delivers them; each payment comes at least once."""
    rng = random.Random(seed)
    events: list[dict[str, str | int]] = [
        {"payment_id": f"pay_{number:05}", "amount_cents": rng.randint(100, 50_000), "currency": "EUR"}
        for number in range(1, payments + 1)
    ]
    # A payment's place in the list is also its time.
    arrivals = [(float(place), place) for place in range(payments)]
    may_come_again = list(range(payments)) * (MOST_DELIVERIES_OF_ONE_PAYMENT - 1)
    for place in rng.sample(may_come_again, deliveries - payments):
        at_the_same_moment = rng.random() < 0.5  # noqa: PLR2004  # half of them
        delay = rng.uniform(0, 0.001) if at_the_same_moment else rng.uniform(1, payments)
        arrivals.append((place + delay, place))
    return [events[place] for _, place in sorted(arrivals)]


def main() -> None:
    """Write the file that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deliveries", type=int, default=10_000, help="lines of the file (default: %(default)s)")
    parser.add_argument("--payments", type=int, default=6_000, help="payments among them (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same file (default: %(default)s)")
    parser.add_argument("--to", type=Path, default=OUT / "deliveries.jsonl", help="the file (default: %(default)s)")
    asked = parser.parse_args()
    if not 1 <= asked.payments <= asked.deliveries <= asked.payments * MOST_DELIVERIES_OF_ONE_PAYMENT:
        parser.error(f"a payment is delivered between 1 and {MOST_DELIVERIES_OF_ONE_PAYMENT} times")
    lines = [json.dumps(event) + "\n" for event in flaky_deliveries(asked.deliveries, asked.payments, asked.seed)]
    asked.to.parent.mkdir(parents=True, exist_ok=True)
    asked.to.write_text("".join(lines))
    print(f"{asked.deliveries:,} deliveries of {asked.payments:,} payments are in {asked.to}")


if __name__ == "__main__":
    main()
