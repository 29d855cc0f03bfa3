//! How feeds, pools and queues do, in the Prometheus text form.
//!
//! Read from the counters where they are kept; labels are names of the configuration only. Called by feeding.

use super::Feeding;
use std::sync::Arc;
use waypost_ledger::Kind::{Counter, Gauge};
use waypost_ledger::{Family, Page};
use waypost_picker::{KvState, Pool};
use waypost_router::Brain;

type Pools = [(Arc<str>, Arc<Pool>)];

pub(super) fn text(feeding: &Feeding, brain: &Brain, pools: &Pools) -> Result<String, String> {
    let mut page = Page::default();
    endpoints(&mut page, brain, pools);
    indexes(&mut page, pools);
    queues(&mut page, brain);
    tokenizers(&mut page, brain);
    feeds(&mut page, feeding);
    page.text().map_err(|e| e.to_string())
}

fn endpoints(page: &mut Page, brain: &Brain, pools: &Pools) {
    let now = brain.now();
    for (model, pool) in pools {
        for (index, endpoint) in pool.endpoints().iter().enumerate() {
            let labels = [("model", &**model), ("endpoint", &**endpoint.id())];
            let mut add = |family: Family, value: f64| page.add(family, &labels, value);
            let load = pool.load(index);
            add(
                ("waypost_endpoint_requests", Gauge, "Requests booked on an endpoint"),
                f64::from(endpoint.in_flight()),
            );
            add(
                (
                    "waypost_endpoint_others_requests",
                    Gauge,
                    "Requests booked on it by other Waypost processes",
                ),
                f64::from(endpoint.requests().saturating_sub(endpoint.in_flight())),
            );
            add(
                ("waypost_endpoint_prefill_tokens", Gauge, "Prompt tokens it has yet to compute"),
                load.prefill_tokens as f64,
            );
            add(
                ("waypost_endpoint_decode_blocks", Gauge, "KV blocks in use by requests in flight"),
                load.decode_blocks as f64,
            );
            add(
                ("waypost_endpoint_aside", Gauge, "1 while failures keep an endpoint out"),
                f64::from(u8::from(endpoint.is_aside())),
            );
            let observed = endpoint.observed();
            let told = [
                (
                    ("waypost_endpoint_waiting", Gauge, "Requests waiting, as the engine tells"),
                    observed.waiting.map(f64::from),
                ),
                (
                    ("waypost_endpoint_running", Gauge, "Requests running, as the engine tells"),
                    observed.running.map(f64::from),
                ),
                (
                    ("waypost_endpoint_kv_usage", Gauge, "Share of KV cache in use, as the engine tells"),
                    observed.kv_usage,
                ),
            ];
            let mut any = false;
            for (family, value) in told {
                if let Some(value) = value {
                    any = true;
                    add(family, value);
                }
            }
            if any {
                let age = now.saturating_sub(observed.at) as f64 / 1e3;
                add(("waypost_endpoint_figures_age_seconds", Gauge, "Age of what the engine told"), age);
            }
            let state = endpoint.kv_state();
            if state != KvState::Off {
                let labels = [labels[0], labels[1], ("state", state.as_str())];
                page.add(
                    ("waypost_endpoint_kv_state", Gauge, "1 for how far its KV events can be believed"),
                    &labels,
                    1.0,
                );
            }
        }
    }
}

fn indexes(page: &mut Page, pools: &Pools) {
    for (model, pool) in pools {
        let labels = [("model", &**model)];
        let mut add = |family: Family, value: f64| page.add(family, &labels, value);
        let stats = pool.stats();
        add(
            ("waypost_bookings", Gauge, "Bookings of this process that are written down"),
            stats.bookings as f64,
        );
        add(("waypost_bookings_expired_total", Counter, "Bookings whose lease ended"), stats.expired as f64);
        add(
            ("waypost_others_bookings", Gauge, "Bookings told by other Waypost processes"),
            stats.others as f64,
        );
        add(
            (
                "waypost_others_bookings_dropped_total",
                Counter,
                "Bookings of others for which there was no room",
            ),
            stats.others_dropped as f64,
        );
        add(
            (
                "waypost_kept_in_rotation_total",
                Counter,
                "Failures that put no endpoint aside, because half of the pool was",
            ),
            stats.kept_in_rotation as f64,
        );
        let Some(index) = pool.index() else { continue };
        let stats = index.stats();
        add(("waypost_index_blocks", Gauge, "Blocks in the prefix index"), stats.blocks as f64);
        add(
            ("waypost_index_pairs", Gauge, "Block and endpoint pairs in the prefix index"),
            stats.pairs as f64,
        );
        add(("waypost_index_bytes", Gauge, "Memory of the prefix index"), stats.bytes as f64);
        add(("waypost_index_max_bytes", Gauge, "Memory it may take"), stats.max_bytes as f64);
        add(
            ("waypost_index_evicted_total", Counter, "Pairs given up because the index was full"),
            stats.evicted as f64,
        );
        add(
            ("waypost_index_unknown_parents_total", Counter, "Stored blocks whose parent was not known"),
            stats.unknown_parents as f64,
        );
        add(
            ("waypost_index_unknown_removes_total", Counter, "Removed blocks that were not known"),
            stats.unknown_removes as f64,
        );
        let what: Family =
            ("waypost_index_dropped_total", Counter, "Blocks of events that were not written into the index");
        for (reason, count) in [
            ("no_room", stats.no_room),
            ("contradiction", stats.contradictions),
            ("unknown_block", stats.unknown_blocks),
        ] {
            page.add(what, &[labels[0], ("reason", reason)], count as f64);
        }
    }
}

fn queues(page: &mut Page, brain: &Brain) {
    for (index, model) in brain.snapshot().models.iter().enumerate() {
        // An adapter waits in its model's queue.
        let queue = brain.queue_refused(index).filter(|_| model.adapter_of.is_none());
        let Some([full, late]) = queue else { continue };
        let name = [("model", &*model.name)];
        page.add(
            ("waypost_queue_requests", Gauge, "Requests that wait for an endpoint"),
            &name,
            brain.waiting(index) as f64,
        );
        for (reason, count) in [("queue_full", full), ("queue_deadline", late)] {
            let labels = [name[0], ("reason", reason)];
            page.add(
                ("waypost_queue_refused_total", Counter, "Requests that waited or queued in vain"),
                &labels,
                count as f64,
            );
        }
    }
}

fn tokenizers(page: &mut Page, brain: &Brain) {
    for (index, model) in brain.snapshot().models.iter().enumerate() {
        let Some(stats) = brain.tokenizers().stats(index) else { continue };
        let name = [("model", &*model.name)];
        let fast = matches!(stats.engine, waypost_tokens::Engine::Fast);
        page.add(
            (
                "waypost_tokenizer_fast",
                Gauge,
                "0 where the fast encoder differs, so that the slow one serves",
            ),
            &name,
            f64::from(u8::from(fast)),
        );
        for (result, count) in
            [("hit", stats.cache.hits), ("miss", stats.cache.misses), ("evicted", stats.cache.evictions)]
        {
            page.add(
                (
                    "waypost_tokenizer_cache_total",
                    Counter,
                    "Pieces of prompts looked up in the tokenizer's cache",
                ),
                &[name[0], ("result", result)],
                count as f64,
            );
        }
    }
}

fn feeds(page: &mut Page, feeding: &Feeding) {
    let scrapes: Family = ("waypost_scrapes_total", Counter, "Reads of engines' metrics by result");
    for (endpoints, tally) in feeding.scraper.tallies() {
        for endpoint in endpoints {
            for (result, count) in [
                ("ok", tally.ok),
                ("failed", tally.failed),
                ("too_large", tally.too_large),
                ("garbage", tally.garbage),
            ] {
                page.add(scrapes, &[("endpoint", endpoint.id()), ("result", result)], count as f64);
            }
        }
    }
    let checks: Family = ("waypost_health_checks_total", Counter, "Checks of health by result");
    for (endpoints, tally) in feeding.checks.tallies() {
        for endpoint in endpoints {
            page.add(checks, &[("endpoint", endpoint.id()), ("result", "ok")], tally.ok as f64);
            page.add(checks, &[("endpoint", endpoint.id()), ("result", "failed")], tally.failed as f64);
        }
    }
    for (model, events) in &feeding.events {
        for (endpoint, stats) in events.stats() {
            let labels = [("model", &**model), ("endpoint", &**endpoint.id())];
            page.add(
                ("waypost_kv_batches_total", Counter, "Batches of KV events applied"),
                &labels,
                stats.batches.get() as f64,
            );
            page.add(("waypost_kv_bytes_total", Counter, "Bytes of them"), &labels, stats.bytes.get() as f64);
            let what: Family = (
                "waypost_kv_events_total",
                Counter,
                "What became of KV events, and of batches that were not",
            );
            for (kind, count) in [
                ("stored", &stats.stored),
                ("removed", &stats.removed),
                ("cleared", &stats.cleared),
                ("malformed", &stats.malformed),
                ("unknown", &stats.unknown),
                ("other_group", &stats.other_group),
                ("other_medium", &stats.other_medium),
                ("ambiguous", &stats.ambiguous),
                ("block_size", &stats.block_size),
                ("other_worker", &stats.other_worker),
                ("garbled", &stats.garbled),
                ("oversized", &stats.oversized),
                ("duplicates", &stats.duplicates),
                ("gaps", &stats.gaps),
                ("lost", &stats.lost),
                ("replays", &stats.replays),
                ("replays_failed", &stats.replays_failed),
            ] {
                page.add(what, &[labels[0], labels[1], ("kind", kind)], count.get() as f64);
            }
        }
    }
    if let Some((_, watch)) = &feeding.sharing {
        let tally = watch.tally();
        let what: Family =
            ("waypost_replica_events_total", Counter, "Bookings told between Waypost processes");
        for (kind, count) in [
            ("sent", tally.sent),
            ("dropped", tally.dropped),
            ("lost", tally.lost),
            ("heard", tally.heard),
            ("missed", tally.missed),
            ("garbage", tally.garbage),
            ("disconnects", tally.disconnects),
        ] {
            page.add(what, &[("kind", kind)], count as f64);
        }
        page.add(
            ("waypost_replica_peers", Gauge, "Other Waypost processes heard lately"),
            &[],
            tally.peers as f64,
        );
        page.add(
            ("waypost_replica_drift", Gauge, "How far the bookings heard are from what the others count"),
            &[],
            tally.drift as f64,
        );
    }
}
