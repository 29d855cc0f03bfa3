"""The quality bench judges by its figures and holds out what it says. Run: python3 -m unittest discover bench."""

import unittest

import quality_data
import quality_goals


def span(value):
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def tier(apgr=0.7, gain=0.02, saving=0.3, p50_us=200):
    rule = {"quality": 0.5, "gain": span(gain), "saving": span(saving)}
    measured = {"n": 10, "pair": {"apgr": span(apgr), "cpt50": span(0.25), "cpt80": span(0.6)}, "best_quality": rule, "equal_quality": rule}
    return {"measured": measured, "p50_us": p50_us}


def case(tier0, tier1=None):
    return {"taught": "other questions", "said": {"tier0": tier0, "tier1": tier1}}


def row(part, cases):
    return quality_goals.judge(next(goal for goal in quality_goals.GOALS if part in goal.name), cases)


class Judge(unittest.TestCase):
    def test_what_was_not_measured_does_not_hold(self):
        for found in quality_goals.rows({}):
            self.assertFalse(found["holds"])
            self.assertEqual(found["note"], "was not measured")

    def test_it_is_judged_as_it_answers(self):
        cases = {quality_goals.TRANSFER: case(tier(apgr=0.5), tier(apgr=0.56))}
        self.assertTrue(row("no MMLU", cases)["holds"])
        self.assertFalse(row("no MMLU", {quality_goals.TRANSFER: case(tier(apgr=0.5))})["holds"])

    def test_times_are_those_of_their_tier(self):
        cases = {quality_goals.NINE: case(tier(p50_us=200), tier(p50_us=7000))}
        self.assertEqual(row("one core, tier 0", cases)["value"], 0.2)
        self.assertTrue(row("with the encoder", cases)["holds"])
        self.assertFalse(row("with the encoder", {quality_goals.NINE: case(tier())})["holds"])

    def test_less_than_the_limit_does_not_hold(self):
        cases = {quality_goals.NINE: case(tier(gain=-0.001, saving=0.24))}
        self.assertFalse(row("never below", cases)["holds"])
        self.assertFalse(row("cost saved", cases)["holds"])


class Split(unittest.TestCase):
    rows = [{"text": f"question {at}", "split": "train"} for at in range(500)]

    def test_given_rows_are_held_out(self):
        train, held, how = quality_data.split([*self.rows, {"text": "x", "split": "test"}])
        self.assertEqual((len(train), len(held), how), (500, 1, quality_data.GIVEN))

    def test_rows_from_elsewhere_are_held_out_whatever_they_say(self):
        train, held, how = quality_data.split(self.rows, [{"text": "x", "split": "train"}])
        self.assertEqual((len(train), [row["text"] for row in held], how), (500, ["x"], quality_data.GIVEN))

    def test_without_them_a_fifth_is_by_hash(self):
        train, held, how = quality_data.split(self.rows)
        self.assertEqual((len(train) + len(held), how), (500, quality_data.HASHED))
        self.assertTrue(70 < len(held) < 130)
        self.assertEqual(quality_data.split(self.rows[::-1])[1], held[::-1])
        fifths = [quality_data.split(self.rows, fifth=fifth)[1] for fifth in range(quality_data.HELD_ONE_IN)]
        self.assertEqual(sorted(row["text"] for fifth in fifths for row in fifth), sorted(row["text"] for row in self.rows))


if __name__ == "__main__":
    unittest.main()
