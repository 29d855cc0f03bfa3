"""The classifier bench judges by its figures, and makes its texts as it says. Run: python3 -m unittest discover bench."""

import os
import unittest

import classify_goals
import classify_texts

REPO = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def sample(peer, case, rep, **figures):
    return {"peer": peer, "case": case, "rep": rep, **figures}


def goal(part):
    return next(g for g in classify_goals.GOALS if part in g.name)


class Judge(unittest.TestCase):
    def test_a_least_is_reached_from_above(self):
        wanted = goal("prompts a second and core")
        for figure, holds in ((120, True), (119, False)):
            samples = [sample(classify_goals.TIER1, classify_goals.SHORT, rep, per_s=figure + rep) for rep in (0, 0, 0)]
            row = classify_goals.judge(samples, wanted)
            self.assertEqual(row["holds"], holds)
            self.assertEqual(row["goal"], ">= 120 /s")

    def test_a_least_does_not_hold_when_something_failed(self):
        samples = [sample(classify_goals.TIER1, classify_goals.SHORT, 0, per_s=500, error="ended")]
        row = classify_goals.judge(samples, goal("prompts a second and core"))
        self.assertFalse(row["holds"])
        self.assertIn("failed: ended", row["note"])

    def test_what_was_not_measured_does_not_hold(self):
        for row in classify_goals.rows([]):
            self.assertFalse(row["holds"])
            self.assertTrue(row["note"])

    def test_ratios_are_taken_within_a_round(self):
        ours, peer = classify_goals.TIER1, classify_goals.INT8
        samples = [sample(name, "case", rep, mean_ms=ms) for rep, pair in enumerate(((1, 2), (10, 20), (3, 9)))
                   for name, ms in zip((ours, peer), pair, strict=True)]
        (record,) = [r for r in classify_goals.merged(samples) if r["peer"] == peer]
        self.assertEqual(record["to_tier_1"], 2)
        self.assertIn("to our tier 1", classify_goals.case_tables(classify_goals.merged(samples)))


class Texts(unittest.TestCase):
    def test_texts_have_the_length_asked_for_and_differ(self):
        tokens = lambda text: len(text.split()) + 2
        made = classify_texts.of_length(["one two three", "four five", "six seven eight nine"], 9, 3, tokens)
        self.assertEqual([tokens(text) for text in made], [9, 9, 9])
        self.assertEqual(len(set(made)), 3)

    def test_a_word_of_several_tokens_is_never_cut(self):
        self.assertIsNone(classify_texts.cut(["a", "bb"], 4, lambda text: len(text.replace(" ", "")) + 2))

    def test_the_repo_ships_about_a_thousand_distinct_prompts(self):
        found = classify_texts.prompts(REPO)
        self.assertGreater(len(found), 900)
        self.assertEqual(len(found), len(set(found)))
        self.assertFalse([text for text in found if not text.strip()])


if __name__ == "__main__":
    unittest.main()
