"""`holds` follows from the figures alone. Run: python3 -m unittest discover bench."""

import unittest

import goals


def sample(peer, case, rep, **figures):
    return {"peer": peer, "case": case, "rep": rep, **figures}


def core(ours, envoy, **extra):
    """One sample per repeat of Waypost and Envoy, pinned to one core."""
    pairs = enumerate(zip(ours, envoy, strict=True))
    return [
        row
        for rep, (a, b) in pairs
        for row in (
            sample("waypost", "core", rep, gw_cpu_us=a, errors=0, classified=0.0, **extra),
            sample("envoy", "core", rep, gw_cpu_us=b, errors=0),
        )
    ]


def goal(part):
    (found,) = [g for g in goals.GOALS if part in g.name]
    return found


ENVOY = goal("classifier off, to plain Envoy")
CLASSIFIER = goal("over classifier off")


class Judge(unittest.TestCase):
    def test_a_ratio_is_taken_within_each_repeat(self):
        # The medians alone, 30 / 50 = 0.6, would hold; repeat by repeat it is 0.25, 0.75 and 0.75.
        row = goals.judge(core([15, 30, 60], [60, 40, 80]), ENVOY)
        self.assertEqual(row["value"], 0.75)
        self.assertFalse(row["holds"])

    def test_the_limit_itself_holds_and_a_hair_more_does_not(self):
        self.assertTrue(goals.judge(core([30, 30, 30], [50, 50, 50]), ENVOY)["holds"])
        self.assertFalse(goals.judge(core([30.1] * 3, [50] * 3), ENVOY)["holds"])

    def test_what_was_not_measured_does_not_hold(self):
        row = goals.judge(core([30], [50])[:1], ENVOY)
        self.assertFalse(row["holds"])
        self.assertIn("envoy was not measured", row["note"])
        self.assertIsNone(row["value"])

    def test_failed_requests_void_a_good_figure(self):
        samples = core([10] * 3, [50] * 3)
        samples[0]["errors"] = 7
        row = goals.judge(samples, ENVOY)
        self.assertFalse(row["holds"])
        self.assertIn("7 requests", row["note"])

    def test_a_skipped_classifier_is_not_a_fast_one(self):
        for share, holds in ((1.0, True), (0.5, False)):
            samples = [
                sample("waypost+classifier", "core", 0, gw_cpu_us=60, classified=share),
                sample("waypost", "core", 0, gw_cpu_us=30, classified=0.0),
            ]
            row = goals.judge(samples, CLASSIFIER)
            self.assertEqual(row["value"], 30)
            self.assertEqual(row["holds"], holds)

    def test_a_classifier_that_runs_unasked_voids_the_row(self):
        samples = core([10] * 3, [50] * 3)
        samples[0]["classified"] = 1.0
        self.assertFalse(goals.judge(samples, ENVOY)["holds"])

    def test_scattered_repeats_are_flagged_but_judged(self):
        row = goals.judge(core([10, 12, 10], [50, 50, 50]), ENVOY)
        self.assertTrue(row["holds"])
        self.assertIn("repeats of waypost differ by 20%", row["note"])

    def test_a_stall_shows_without_a_peer_to_compare_with(self):
        stalled = goal("no 40 ms mode")
        samples = [
            sample("waypost", f"first byte, {mode}", 0, first_byte_ms=ms)
            for mode, ms in ((goals.ON, 0.13), (goals.OFF, 44.0))
        ]
        row = goals.judge(samples, stalled)
        self.assertFalse(row["holds"])
        self.assertEqual(row["value"], 43.87)

    def test_every_goal_without_samples_fails_with_a_reason(self):
        for row in goals.rows([]):
            self.assertFalse(row["holds"])
            self.assertTrue(row["note"])


if __name__ == "__main__":
    unittest.main()
