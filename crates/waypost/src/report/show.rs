//! A report as tables for a person, or as one JSON object.
//!
//! Part of `report`.

use super::Counted;
use super::arm::{Arm, Versus, shown};
use super::stats::Difference;
use crate::cli::ReportBy;
use crate::table::{Table, or_dash, percent, usd};
use serde_json::{Map, Value, json};
use std::fmt::Write;

pub(super) fn json(counted: &Counted, wants: impl Fn(ReportBy) -> bool, unread: usize) -> Value {
    let mut whole = json!({
        "requests": counted.requests, "unread": unread,
        "first_unix_ms": counted.first_ms, "last_unix_ms": counted.last_ms,
    });
    let by_name = |arms: &super::Groups<Arm>| -> Map<String, Value> {
        arms.0.iter().map(|((name, _), arm)| (name.clone(), arm.json())).collect()
    };
    if wants(ReportBy::Policy) {
        whole["policies"] = by_name(&counted.policies).into();
    }
    if wants(ReportBy::Split) {
        let splits = counted.splits().into_iter().map(|(split, arms)| (split.to_owned(), split_json(&arms)));
        whole["splits"] = splits.collect::<Map<_, _>>().into();
    }
    if wants(ReportBy::Model) {
        whole["models"] = by_name(&counted.models).into();
    }
    if wants(ReportBy::Shadow) {
        let shadows = counted.shadows.0.iter().map(|((policy, shadow), found)| found.json(policy, shadow));
        whole["shadows"] = shadows.collect();
    }
    whole
}

fn split_json(arms: &[(&str, &Arm)]) -> Value {
    let of: Map<_, _> = arms.iter().map(|(name, arm)| ((*name).to_owned(), arm.json())).collect();
    let differences = arms.split_first().map(|((against, base), others)| {
        let each = others.iter().map(|(name, arm)| {
            let Versus { cost, total, errors } = Versus::of(arm, base);
            json!({"arm": name, "against": against, "cost_usd": cost, "total_ms": total, "error_rate": errors})
        });
        each.collect::<Vec<_>>()
    });
    json!({"arms": of, "differences": differences})
}

pub(super) fn text(counted: &Counted, wants: impl Fn(ReportBy) -> bool, alone: bool) -> String {
    let seconds = counted.last_ms.zip(counted.first_ms).map_or(0, |(last, first)| (last - first) / 1000);
    // Writing to a string cannot fail.
    let mut out = String::new();
    let _ = writeln!(out, "{} requests over {}", counted.requests, span(seconds));
    let by_name = |heading: &str, arms: &super::Groups<Arm>| {
        let rows: Vec<_> = arms.0.iter().map(|((name, _), arm)| (name.as_str(), arm)).collect();
        table(heading, &rows)
    };
    if wants(ReportBy::Policy) {
        let _ = write!(out, "\n{}", by_name("policy", &counted.policies));
    }
    if wants(ReportBy::Split) {
        for (split, arms) in counted.splits() {
            let _ = write!(out, "\n{}", table(&format!("split {split}"), &arms));
            out.push_str(&differences(&arms));
        }
        if alone && counted.arms.0.is_empty() {
            out.push_str("\nno request went through a split\n");
        }
    }
    if wants(ReportBy::Model) {
        let _ = write!(out, "\n{}", by_name("model", &counted.models));
    }
    if wants(ReportBy::Shadow) {
        out.push_str(&shadows(counted));
        if alone && counted.shadows.0.is_empty() {
            out.push_str("\nno policy ran in shadow\n");
        }
    }
    out
}

fn table(heading: &str, arms: &[(&str, &Arm)]) -> String {
    let mut headings = vec![heading, "requests", "cost", "a request"];
    // Without it a sum over some reads as one over all.
    let some = arms.iter().any(|(_, arm)| arm.cost.n < arm.requests);
    headings.extend(some.then_some("known of"));
    headings.extend(["p50 ms", "p95 ms", "ttft p50", "ttft p95", "errors", "fallbacks"]);
    let mut table = Table::new(&headings, 1);
    let ms = |value: Option<f64>| or_dash(value, |ms| format!("{ms:.0}"));
    for (name, arm) in arms {
        let ([p50, p95], [first_p50, first_p95]) = (arm.total_ms(), arm.ttft_ms());
        let mut row = vec![
            (*name).to_owned(),
            arm.requests.to_string(),
            or_dash(arm.cost.known_mean(), |_| usd(arm.cost.sum())),
            or_dash(arm.cost.known_mean(), usd),
        ];
        row.extend(some.then(|| arm.cost.n.to_string()));
        row.extend([
            ms(p50),
            ms(p95),
            ms(first_p50),
            ms(first_p95),
            percent(arm.error_rate()),
            arm.fallbacks.to_string(),
        ]);
        table.row(row);
    }
    let mut out = table.shown();
    for (name, arm) in arms {
        for (what, counter) in [("labels", &arm.labels), ("models", &arm.models)] {
            // A model's models are itself.
            if counter.names().any(|known| known != *name) {
                let _ = writeln!(out, "  {name}  {what}: {}", shown(counter));
            }
        }
    }
    out
}

fn differences(arms: &[(&str, &Arm)]) -> String {
    let mut out = String::new();
    let Some(((against, base), others)) = arms.split_first() else { return out };
    for (name, arm) in others {
        let Versus { cost, total, errors } = Versus::of(arm, base);
        let _ = writeln!(out, "  {name} less {against}, with 95 % intervals:");
        let mut line = |what: &str, found: Option<Difference>, of: &str, show: &dyn Fn(f64) -> String| {
            let told = or_dash(found, |d| {
                let verdict = if d.low > 0.0 || d.high < 0.0 { "" } else { "  (may be chance)" };
                format!("{} [{}, {}]{verdict}", show(d.difference), show(d.low), show(d.high))
            });
            let _ = writeln!(out, "    {what:<17} {told}{of}");
        };
        line("cost a request", cost, &known_of(arm, base), &usd);
        line("latency, mean ms", total, "", &|ms| format!("{ms:.0}"));
        line("error rate", errors, "", &percent);
    }
    out
}

/// How many requests a difference of costs rests on, unless it is all.
fn known_of(arm: &Arm, base: &Arm) -> String {
    match arm.cost.n < arm.requests || base.cost.n < base.requests {
        true => {
            format!(", known of {} of {} and {} of {}", arm.cost.n, arm.requests, base.cost.n, base.requests)
        }
        false => String::new(),
    }
}

fn shadows(counted: &Counted) -> String {
    if counted.shadows.0.is_empty() {
        return String::new();
    }
    let headings = ["policy", "shadow", "requests", "agrees", "undecided", "cost", "its cost", "known of"];
    let mut table = Table::new(&headings, 2);
    for ((policy, name), shadow) in &counted.shadows.0 {
        table.row(vec![
            policy.clone(),
            name.clone(),
            shadow.requests.to_string(),
            or_dash(shadow.agreement(), percent),
            shadow.absent.to_string(),
            or_dash(shadow.cost_taken.known_mean(), |_| usd(shadow.cost_taken.sum())),
            or_dash(shadow.cost.known_mean(), |_| usd(shadow.cost.sum())),
            shadow.cost.n.to_string(),
        ]);
    }
    let mut out = format!("\n{}", table.shown());
    for ((policy, name), shadow) in &counted.shadows.0 {
        for (what, counter) in [("labels", &shadow.labels), ("models", &shadow.models)] {
            if counter.names().next().is_some() {
                let _ = writeln!(out, "  {name} beside {policy}  {what}: {}", shown(counter));
            }
        }
    }
    out
}

/// A span of time in the two units that matter.
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}
