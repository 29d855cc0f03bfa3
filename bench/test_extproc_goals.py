"""The bench of the Envoy door judges by its figures. Run: python3 -m unittest discover bench."""

import unittest

import extproc_goals as of
from extproc_envoy import config


def sample(peer, case, rep=0, **figures):
    return {"peer": peer, "case": case, "rep": rep, **figures}


def judged(samples, part):
    return next(row for row in of.rows(samples) if part in row["name"])


class Judge(unittest.TestCase):
    def test_what_was_not_measured_does_not_hold(self):
        for row in of.rows([]):
            self.assertFalse(row["holds"], row["name"])
            self.assertTrue(row["note"])

    def test_added_time_is_taken_within_a_repeat(self):
        samples = [sample(peer, of.SMALL, rep, p50_ms=ms) for rep, pair in enumerate(((0.2, 0.6), (1.0, 1.6), (0.3, 0.7)))
                   for peer, ms in zip((of.NOTHING, of.WAYPOST), pair, strict=True)]
        row = judged(samples, "picker on, p50")
        self.assertAlmostEqual(row["value"], 0.4)
        self.assertTrue(row["holds"])
        self.assertFalse(judged([sample(of.NOTHING, of.SMALL, p50_ms=0.2), sample(of.WAYPOST, of.SMALL, p50_ms=0.8)], "picker on, p50")["holds"])

    def test_cpu_is_a_ratio_to_the_floor(self):
        both = [sample(of.FLOOR, of.SMALL, cpu_us=200), sample(of.WAYPOST, of.SMALL, cpu_us=290)]
        row = judged(both, "to the floor")
        self.assertEqual((row["value"], row["goal"], row["holds"]), (1.45, "<= 1.5x", True))

    def test_a_rate_is_a_least_and_errors_spoil_it(self):
        fast = sample(of.WAYPOST, of.LARGE, rps=900, errors=0)
        self.assertTrue(judged([fast], "requests a second")["holds"])
        self.assertFalse(judged([{**fast, "rps": 700}], "requests a second")["holds"])
        spoilt = judged([{**fast, "errors": 3}], "requests a second")
        self.assertFalse(spoilt["holds"])
        self.assertIn("3 requests not answered with 200", spoilt["note"])

    def test_memory_does_not_count_when_requests_were_lost(self):
        row = judged([sample(of.WAYPOST, of.CROWD, peak_mib=100, error="9 not answered: 503")], "memory")
        self.assertFalse(row["holds"])
        self.assertIn("9 not answered", row["note"])


class Configuration(unittest.TestCase):
    def test_a_subject_without_a_processor_goes_straight_to_the_engine(self):
        made = config(1, 2, {"none": (3, None, None), "a b, c": (4, 5, ("BUFFERED", "STREAMED"))})["static_resources"]
        none, one = (listener["filter_chains"][0]["filters"][0]["typed_config"] for listener in made["listeners"])
        self.assertEqual([f["name"] for f in none["http_filters"]], ["router"])
        self.assertEqual([f["name"] for f in one["http_filters"]], ["ext_proc", "router"])
        asked = one["http_filters"][0]["typed_config"]["grpc_service"]["envoy_grpc"]["cluster_name"]
        self.assertIn(asked, [cluster["name"] for cluster in made["clusters"]])
        # It is sent as `:authority`: no blank, no comma.
        self.assertRegex(asked, r"^[a-z0-9-]+$")


if __name__ == "__main__":
    unittest.main()
