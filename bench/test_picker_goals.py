"""The picker bench judges by its figures. Run: python3 -m unittest discover bench."""

import unittest

import picker_goals
from picker_goals import COLD, INDEX, MATCH, OURS, ROUND_ROBIN, SATURATED, TOKENIZERS


def trace(peer, mean, p99=100, case=SATURATED, rep=1, refused=0):
    return {"peer": peer, "case": case, "rep": rep, "ttft_mean_ms": mean, "ttft_p99_ms": p99, "refused_percent": refused}


def judged(rows, part):
    return next(row for row in picker_goals.rows(picker_goals.samples(rows)) if part in row["name"])


class Judge(unittest.TestCase):
    def test_what_was_not_measured_does_not_hold(self):
        for row in picker_goals.rows(picker_goals.samples([])):
            self.assertFalse(row["holds"], row["name"])
            self.assertTrue(row["note"])

    def test_rows_of_the_index_become_samples(self):
        rows = [{"case": MATCH, "index": INDEX, "p50_us": us, "p99_us": 10} for us in (3, 5, 3.5)]
        rows.append({"case": MATCH, "index": "DashMap", "p50_us": 99, "p99_us": 99})
        row = judged(rows, "events/s, p50")
        self.assertEqual((row["ours"], row["holds"], row["repeats"]), (3.5, True, 3))
        self.assertFalse(judged(rows[1:2], "events/s, p50")["holds"])

    def test_operations_are_a_least_in_either_unit(self):
        for figures, holds in (({"ops_per_s": 11e6}, True), ({"m_per_cpu_s": 9.9}, False)):
            row = judged([{"case": "operations of a trace", "index": INDEX, **figures}], "operations")
            self.assertEqual((row["holds"], row["goal"]), (holds, ">= 10 M/s"))

    def test_tokens_stand_beside_the_usual_crate_and_must_be_right(self):
        def chat(peer, ms, wrong=0):
            return {"case": COLD, "peer": peer, "chats": 9, "wrong": wrong, "p50_ms": ms}

        row = judged([chat(INDEX, 1.1), chat(TOKENIZERS, 5.5)], COLD)
        self.assertEqual((row["holds"], row["goal"], row["ratio"]), (True, "<= 1.2 ms", 0.2))
        self.assertFalse(judged([chat(INDEX, 1.3), chat(TOKENIZERS, 5.5)], COLD)["holds"])
        wrong = judged([chat(INDEX, 1.1, wrong=1), chat(TOKENIZERS, 5.5)], COLD)
        self.assertFalse(wrong["holds"])
        self.assertIn("1 of 9 chats got wrong tokens", wrong["note"])

    def test_memory_is_told_apart_by_workers_on_a_block(self):
        row = {"case": "memory", "workers_per_block": 4.01, "bytes_per_pair": 47.0, "peak_bytes": 5 << 30}
        self.assertTrue(judged([row], "pair, 4 on a block")["holds"])
        self.assertFalse(judged([row], "pair, 1 on a block")["holds"])
        self.assertFalse(judged([row], "to its cap")["holds"])

    def test_ratio_to_round_robin_is_taken_within_a_seed(self):
        rows = [trace(peer, mean, rep=rep) for rep, pair in enumerate(((10, 60), (30, 120), (10, 55)))
                for peer, mean in zip((OURS[0], ROUND_ROBIN), pair, strict=True)]
        row = judged(rows, f"round robin's, {OURS[0]}")
        self.assertTrue(row["holds"])
        self.assertEqual(row["goal"], "<= 0.2x")
        self.assertAlmostEqual(row["value"], 10 / 55, places=3)
        self.assertFalse(judged([trace(OURS[0], 21), trace(ROUND_ROBIN, 100)], f"round robin's, {OURS[0]}")["holds"])

    def test_the_worst_case_counts_and_ours_are_no_others(self):
        rows = [trace(OURS[0], 100), trace(OURS[1], 50), trace("a", 110), trace("b", 300, p99=98),
                trace(OURS[0], 105, case="light"), trace("a", 100, case="light")]
        behind = judged(rows, f"mean TTFT behind the best other strategy, worst case, {OURS[0]}")
        self.assertEqual((behind["value"], behind["holds"]), (5, False))
        p99 = judged(rows, f"p99 TTFT behind the best other strategy, worst case, {OURS[0]}")
        self.assertTrue(p99["holds"])
        self.assertAlmostEqual(p99["value"], 2.041, places=3)

    def test_refusing_what_others_serve_does_not_hold(self):
        name = f"refused more than others, {OURS[0]}"
        self.assertFalse(judged([trace(OURS[0], 1, refused=0.1), trace("a", 2)], name)["holds"])
        self.assertTrue(judged([trace(OURS[0], 1, refused=1), trace("a", 2, refused=1)], name)["holds"])

    def test_the_most_uneven_herd_counts_where_nothing_is_cached(self):
        herd = lambda case, off: {"peer": "kv", "case": case, "off_ideal": off}
        rows = [herd("5 endpoints, nothing cached", 0.5), herd("5 endpoints, one endpoint holds the prompt", 40)]
        self.assertTrue(judged(rows, "even spread, kv")["holds"])
        self.assertFalse(judged([*rows, herd("8 endpoints, nothing cached", 1.25)], "even spread, kv")["holds"])

    def test_goals_are_told_as_met_or_missed_and_cases_as_tables(self):
        made = picker_goals.samples([trace(OURS[0], 10), trace(ROUND_ROBIN, 100)])
        table, words = picker_goals.table_of_goals(picker_goals.rows(made))
        self.assertIn(f"met    trace, near saturation, mean TTFT to round robin's, {OURS[0]}: 0.1", words)
        self.assertIn("MISSED scrape", words)
        self.assertEqual(len(table.splitlines()), len(picker_goals.GOALS) + 2)
        cases = picker_goals.case_tables(picker_goals.merged(made))
        self.assertIn(SATURATED, cases)
        self.assertNotIn(picker_goals.WORST, cases)


if __name__ == "__main__":
    unittest.main()
