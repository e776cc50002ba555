"""Sources with examples that cannot be used, picklable for workers, and transforms that fail."""

import os
import signal
import time

import numpy as np

from maskjax.errors import UserError

GOOD = 12


class Numbered:
    """Example n is an image of n's; ``bad`` maps numbers to what is wrong with them."""

    class_names = ("even", "odd")

    def __init__(self, size=GOOD, bad=None):
        self.size, self.bad = size, bad or {}

    def __len__(self):
        return self.size

    def ids(self):
        return [f"id {number}" for number in range(self.size)]

    def __getitem__(self, number):
        problem = self.bad.get(number)
        if isinstance(problem, Exception):
            raise problem
        if problem == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        image = np.full((4, 4, 1), number, np.uint16)
        example = {"image": image, "label": number % 2, "id": f"id {number}"}
        return {**example, **problem} if isinstance(problem, dict) else example


def picture(example, rng):
    """The image, which cannot be bytes; a second pixel is random."""
    if isinstance(example["image"], bytes):
        raise UserError(f"cannot decode {example['id']!r}")
    image = example["image"].copy()
    image[0, 1] = rng.integers(256)
    return image


def picture_killed_at_5(example, rng):
    """Kills its worker when it gets example 5."""
    if example["id"] == "id 5":
        os.kill(os.getpid(), signal.SIGKILL)
    return picture(example, rng)


def picture_with_a_bug(example, rng):
    """Has a bug that only example 5 shows."""
    return picture(example, rng) if example["id"] != "id 5" else {}["missing"]


def picture_that_exits(example, rng):
    """Ends the interpreter at example 5."""
    return picture(example, rng) if example["id"] != "id 5" else exit(0)


def slow_picture(example, rng):
    """Takes longer for some examples than for others."""
    time.sleep(0.02 * (example["image"].max() % 3))
    return picture(example, rng)


class UnpicklableError(Exception):
    """Cannot be made again from what pickle keeps of it."""

    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


def picture_with_an_odd_error(example, rng):
    """Raises what does not survive the way from a worker."""
    raise UnpicklableError(1, 2)
