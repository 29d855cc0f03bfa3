//! The cost-quality curve as SVG, with what else one might do.
//!
//! Plain text, the same bytes for the same figures, no script and no font of its own. Pure. Called by `train --outcomes`
//! and `eval --outcomes`.

use std::fmt::Write as _;

use super::curve;
use super::measure::{Measured, Way};
use crate::eval::plot;

/// Size of the plotted field, in pixels.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 360.0;
const MARGIN: f64 = 64.0;
/// Room above the highest and below the lowest value, as a share of their distance.
const AIR: f64 = 0.06;
const TICKS: u32 = 5;
/// Height of a line of the legend, and its width, in pixels.
const LINE: f64 = 15.0;
const LEGEND: f64 = 200.0;

/// The picture of one set of held-out prompts.
pub(crate) fn picture(title: &str, measured: &Measured) -> String {
    let ways: Vec<&Way> = measured.singles.iter().chain([&measured.random, &measured.oracle]).collect();
    let points = &measured.curve.points;
    let costs = ways.iter().map(|way| way.cost).chain(points.iter().map(|point| point.cost));
    let qualities = ways.iter().map(|way| way.quality).chain(points.iter().map(|point| point.quality));
    let (x, y) = (Scale::of(costs, MARGIN, WIDTH), Scale::of(qualities, MARGIN + HEIGHT, -HEIGHT));
    // Of many models the legend is longer than the field is high.
    let lines = HEIGHT.max(ways.len() as f64 * LINE);
    let (width, height) = (WIDTH + 2.0 * MARGIN + LEGEND, lines + 2.0 * MARGIN);
    let mut svg = plot::open(width, height, title);
    axes(&mut svg, &x, &y, measured);
    plot::text(&mut svg, width / 2.0, 24.0, 14.0, "middle", title);
    let note = format!(
        "{} prompts; line: learnt routing by trade-off, area {:.3}; dashed: without learning, {:.3}",
        measured.n, measured.curve.area.value, measured.curve.area_without_learning
    );
    plot::text(&mut svg, width / 2.0, 42.0, 11.0, "middle", &note);
    let path = |points: &mut dyn Iterator<Item = (f64, f64)>| {
        let steps = points.map(|(cost, quality)| format!("{:.1} {:.1}", x.at(cost), y.at(quality)));
        format!("M{}", steps.collect::<Vec<_>>().join("L"))
    };
    // What sharing out prompts among single models at random can reach.
    let unlearnt = curve::upper_hull(measured.singles.iter().map(|way| (way.cost, way.quality)).collect());
    let _ = writeln!(
        svg,
        r##"<path d="{}" fill="none" stroke="#888" stroke-dasharray="5 4"/>"##,
        path(&mut unlearnt.into_iter())
    );
    let _ = writeln!(
        svg,
        r##"<path d="{}" fill="none" stroke="#2b6cb0" stroke-width="2"/>"##,
        path(&mut points.iter().map(|point| (point.cost, point.quality)))
    );
    for (number, way) in (1..).zip(ways) {
        let colour = match way.name.as_str() {
            "oracle" => "#2f855a",
            "random" => "#888",
            _ => "#c05621",
        };
        let (px, py) = (x.at(way.cost), y.at(way.quality));
        let _ = writeln!(svg, r#"<circle cx="{px:.1}" cy="{py:.1}" r="4" fill="{colour}"/>"#);
        plot::text(&mut svg, px + 6.0, py - 4.0, 10.0, "start", &number.to_string());
        let line = MARGIN + 12.0 + f64::from(number - 1) * LINE;
        let name = format!("{number}  {}", plot::cut(&way.name));
        plot::text(&mut svg, MARGIN + WIDTH + 14.0, line, 11.0, "start", &name);
    }
    svg + "</svg>\n"
}

fn axes(svg: &mut String, x: &Scale, y: &Scale, measured: &Measured) {
    let bottom = MARGIN + HEIGHT;
    for tick in 0..=TICKS {
        let share = f64::from(tick) / f64::from(TICKS);
        let (px, py) = (MARGIN + share * WIDTH, bottom - share * HEIGHT);
        let _ = writeln!(
            svg,
            r#"<path class="g" d="M{px:.1} {MARGIN:.1}V{bottom:.1}M{MARGIN:.1} {py:.1}H{:.1}"/>"#,
            MARGIN + WIDTH
        );
        let cost = x.value(px);
        let cost =
            if measured.cost_unit.starts_with("USD") { format!("{cost:.5}") } else { format!("{cost:.2}") };
        plot::text(svg, px, bottom + 16.0, 11.0, "middle", &cost);
        plot::text(svg, MARGIN - 6.0, py + 4.0, 11.0, "end", &format!("{:.3}", y.value(py)));
    }
    let _ = writeln!(svg, r#"<rect class="a" x="{MARGIN}" y="{MARGIN}" width="{WIDTH}" height="{HEIGHT}"/>"#);
    plot::text(svg, MARGIN + WIDTH / 2.0, bottom + 40.0, 12.0, "middle", measured.cost_unit);
    let middle = MARGIN + HEIGHT / 2.0;
    let _ = writeln!(
        svg,
        r#"<text transform="translate(14 {middle}) rotate(-90)" font-size="12" text-anchor="middle">quality</text>"#
    );
}

/// From values to pixels.
struct Scale {
    low: f64,
    high: f64,
    start: f64,
    length: f64,
}

impl Scale {
    fn of(values: impl Iterator<Item = f64>, start: f64, length: f64) -> Self {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let air = if high > low { (high - low) * AIR } else { low.abs().max(1.0) * AIR };
        // Nothing here is ever below nothing.
        let (low, high) = if low.is_finite() { ((low - air).max(0.0), high + air) } else { (0.0, 1.0) };
        Self { low, high, start, length }
    }

    fn at(&self, value: f64) -> f64 {
        self.start + (value - self.low) / (self.high - self.low) * self.length
    }

    fn value(&self, pixel: f64) -> f64 {
        self.low + (pixel - self.start) / self.length * (self.high - self.low)
    }
}
