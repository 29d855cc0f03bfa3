//! The two pictures of a measured classifier, as SVG: is its confidence honest, and what does it take for what.
//!
//! Plain text, the same bytes for the same figures, no script and no font of its own. Pure. Called by `eval` and `train`.

use std::fmt::Write as _;

use waypost_classify::train::Metrics;

/// Side of the reliability diagram, in pixels.
const SIDE: f64 = 360.0;
/// Room around it.
const MARGIN: f64 = 56.0;
/// Side of a confusion matrix that is not limited by its text, in pixels.
const MATRIX_SIDE: f64 = 720.0;
/// Smallest and largest side of one of its cells.
const CELL: (f64, f64) = (9.0, 44.0);
/// Smaller cells have no room for a number.
const MIN_CELL_WITH_COUNT: f64 = 24.0;
/// Most labels drawn: those with the most mistakes.
pub(crate) const MAX_LABELS: usize = 150;
/// Longer label names are cut, in characters.
const MAX_NAME_CHARS: usize = 32;
const STYLE: &str =
    "<style>text{font-family:sans-serif;fill:#222}.a{stroke:#222;fill:none}.g{stroke:#ddd}</style>";

/// Share right against confidence, a bar a bin; the number of texts is the bar's width in colour.
pub(crate) fn reliability(title: &str, metrics: &Metrics) -> String {
    let size = SIDE + 2.0 * MARGIN;
    let mut svg = open(size, size, title);
    let (x, y) = (|share: f64| MARGIN + share * SIDE, |share: f64| MARGIN + (1.0 - share) * SIDE);
    for tick in 0..=5 {
        let share = f64::from(tick) / 5.0;
        let (px, py) = (x(share), y(share));
        let (low, high) = (x(0.0), y(0.0));
        let _ = writeln!(
            svg,
            r#"<path class="g" d="M{px:.1} {:.1}V{high:.1}M{low:.1} {py:.1}H{:.1}"/>"#,
            y(1.0),
            x(1.0)
        );
        let _ = writeln!(
            svg,
            r#"<text x="{px:.1}" y="{:.1}" font-size="11" text-anchor="middle">{share:.1}</text>"#,
            high + 16.0
        );
        let _ = writeln!(
            svg,
            r#"<text x="{:.1}" y="{:.1}" font-size="11" text-anchor="end">{share:.1}</text>"#,
            low - 6.0,
            py + 4.0
        );
    }
    let bins = &metrics.bins;
    let most = bins.iter().map(|bin| bin.n).max().unwrap_or(0).max(1) as f64;
    let width = SIDE / bins.len().max(1) as f64;
    for (at, bin) in bins.iter().enumerate().filter(|(_, bin)| bin.n > 0) {
        let left = MARGIN + at as f64 * width;
        let shade = 0.25 + 0.75 * (bin.n as f64 / most).sqrt();
        let _ = writeln!(
            svg,
            r##"<rect x="{:.1}" y="{:.1}" width="{:.1}" height="{:.1}" fill="#2b6cb0" fill-opacity="{shade:.2}"><title>confidence {:.3}, right {:.3}, {} texts</title></rect>"##,
            left + 1.0,
            y(bin.accuracy),
            width - 2.0,
            bin.accuracy * SIDE,
            bin.confidence,
            bin.accuracy,
            bin.n
        );
        let _ = writeln!(
            svg,
            r##"<circle cx="{:.1}" cy="{:.1}" r="3" fill="#c05621"/>"##,
            x(bin.confidence),
            y(bin.accuracy)
        );
    }
    let _ = writeln!(
        svg,
        r#"<path class="a" stroke-dasharray="4 4" d="M{:.1} {:.1}L{:.1} {:.1}"/>"#,
        x(0.0),
        y(0.0),
        x(1.0),
        y(1.0)
    );
    let _ = writeln!(svg, r#"<rect class="a" x="{MARGIN}" y="{MARGIN}" width="{SIDE}" height="{SIDE}"/>"#);
    let middle = size / 2.0;
    text(&mut svg, middle, 22.0, 14.0, "middle", title);
    let figures = format!(
        "{} texts, accuracy {:.3}, ECE {:.3}; darker bars: more texts",
        metrics.n, metrics.accuracy, metrics.ece
    );
    text(&mut svg, middle, 40.0, 11.0, "middle", &figures);
    text(&mut svg, middle, size - 14.0, 12.0, "middle", "confidence");
    let _ = writeln!(
        svg,
        r#"<text transform="translate(16 {middle}) rotate(-90)" font-size="12" text-anchor="middle">share right</text>"#
    );
    svg + "</svg>\n"
}

/// True labels down, given labels across; a row's shares as colour, blue where right and orange where wrong.
pub(crate) fn confusion(title: &str, labels: &[&str], metrics: &Metrics) -> String {
    let counts = &metrics.confusion.counts;
    let drawn = drawn(counts);
    let n = drawn.len().max(1) as f64;
    let cell = (MATRIX_SIDE / n).clamp(CELL.0, CELL.1);
    let font = (cell - 1.0).min(12.0);
    let names: Vec<String> =
        drawn.iter().map(|&label| cut(labels.get(label).copied().unwrap_or("?"))).collect();
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0) as f64;
    // A letter of a sans-serif font is about 0.6 of its size wide.
    let (left, top) = (longest * font * 0.62 + 34.0, longest * font * 0.62 + 58.0);
    let side = n * cell;
    let title_width = title.chars().count() as f64 * 8.0 + 40.0;
    let mut svg = open((left + side + 24.0).max(title_width).max(420.0), top + side + 30.0, title);
    text(&mut svg, 12.0, 22.0, 14.0, "start", title);
    let cut_note = if drawn.len() < counts.len() {
        format!("; the {MAX_LABELS} labels with the most mistakes")
    } else {
        String::new()
    };
    text(&mut svg, 12.0, 40.0, 11.0, "start", &format!("down: true label, across: given label{cut_note}"));
    for (at, name) in names.iter().enumerate() {
        let middle = (at as f64 + 0.5) * cell;
        text(&mut svg, left - 5.0, top + middle + font * 0.35, font, "end", name);
        let _ = writeln!(
            svg,
            r#"<text transform="translate({:.1} {:.1}) rotate(-90)" font-size="{font:.1}">{}</text>"#,
            left + middle + font * 0.35,
            top - 5.0,
            escaped(name)
        );
    }
    for (row, &right) in drawn.iter().enumerate() {
        let total: usize = counts[right].iter().sum();
        for (column, &given) in drawn.iter().enumerate().filter(|(_, given)| counts[right][**given] > 0) {
            let (x, y) = (left + column as f64 * cell, top + row as f64 * cell);
            let meaning = format!("{} as {}", names[row], names[column]);
            square(&mut svg, (x, y, cell), right == given, counts[right][given], total, &meaning);
        }
    }
    let mut grid = String::new();
    for at in 0..=drawn.len() {
        let at = at as f64 * cell;
        let _ = write!(grid, "M{left:.1} {:.1}h{side:.1}M{:.1} {top:.1}v{side:.1}", top + at, left + at);
    }
    let _ = writeln!(
        svg,
        r##"<path d="{grid}" fill="none" stroke="#bbb" stroke-width="{}"/>"##,
        if cell < 14.0 { 0.2 } else { 0.5 }
    );
    svg + "</svg>\n"
}

/// One cell of the matrix, with its count where there is room.
fn square(
    svg: &mut String,
    (x, y, cell): (f64, f64, f64),
    right: bool,
    count: usize,
    of: usize,
    meaning: &str,
) {
    let share = count as f64 / of as f64;
    let colour = if right { "#2b6cb0" } else { "#dd6b20" };
    let _ = writeln!(
        svg,
        r#"<rect x="{x:.1}" y="{y:.1}" width="{cell:.1}" height="{cell:.1}" fill="{colour}" fill-opacity="{:.2}"><title>{}: {count} of {of}</title></rect>"#,
        0.08 + 0.92 * share.sqrt(),
        escaped(meaning)
    );
    if cell >= MIN_CELL_WITH_COUNT {
        let _ = writeln!(
            svg,
            r#"<text x="{:.1}" y="{:.1}" font-size="11" text-anchor="middle"{}>{count}</text>"#,
            x + cell / 2.0,
            y + cell / 2.0 + 4.0,
            if share > 0.4 { r#" style="fill:#fff""# } else { "" }
        );
    }
}

/// All labels, or those with the most mistakes, in label order.
fn drawn(counts: &[Vec<usize>]) -> Vec<usize> {
    let mut labels: Vec<usize> = (0..counts.len()).collect();
    if labels.len() > MAX_LABELS {
        let mistakes = |label: &usize| counts[*label].iter().sum::<usize>() - counts[*label][*label];
        labels.sort_by_key(|label| std::cmp::Reverse(mistakes(label)));
        labels.truncate(MAX_LABELS);
        labels.sort_unstable();
    }
    labels
}

/// The opening of a picture of this size, in pixels.
pub(crate) fn open(width: f64, height: f64, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n<title>{}</title>{STYLE}<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
        escaped(title)
    )
}

/// A line of text at a place.
pub(crate) fn text(svg: &mut String, x: f64, y: f64, size: f64, anchor: &str, text: &str) {
    let text = escaped(text);
    let _ = writeln!(
        svg,
        r#"<text x="{x:.1}" y="{y:.1}" font-size="{size:.1}" text-anchor="{anchor}">{text}</text>"#
    );
}

/// A name of bounded length.
pub(crate) fn cut(name: &str) -> String {
    if name.chars().count() <= MAX_NAME_CHARS {
        return name.to_owned();
    }
    name.chars().take(MAX_NAME_CHARS - 1).chain(['…']).collect()
}

/// XML knows no control characters at all.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_classify::train::Outcome;

    fn metrics(labels: usize) -> Metrics {
        let outcomes: Vec<Outcome> = (0..labels * 10)
            .map(|at| {
                let mut probabilities = vec![0.3 / labels as f32; labels];
                probabilities[if at % 4 == 0 { (at + 1) % labels } else { at % labels }] += 0.7;
                Outcome { probabilities, label: at % labels, escalated: false }
            })
            .collect();
        Metrics::of(&outcomes)
    }

    #[test]
    fn names_are_escaped_and_every_label_is_drawn() {
        let svg = confusion("a < b", &["x & y", "<script>"], &metrics(2));
        assert!(svg.contains("a &lt; b") && svg.contains("x &amp; y") && !svg.contains("<script>"));
        assert_eq!(svg.matches("<rect x=").count(), 3, "label 1 is never mistaken");
        let many = confusion("t", &["n"; 400], &metrics(400));
        assert!(many.contains("the 150 labels with the most mistakes"));
        assert_eq!(many.matches("rotate(-90)").count(), MAX_LABELS);
        assert_eq!(cut(&"é".repeat(40)).chars().count(), MAX_NAME_CHARS);
    }

    #[test]
    fn every_bin_with_texts_is_a_bar() {
        let metrics = metrics(3);
        let filled = metrics.bins.iter().filter(|bin| bin.n > 0).count();
        let svg = reliability("t", &metrics);
        assert_eq!(svg.matches("<circle").count(), filled);
        assert!(svg.contains("30 texts"));
        assert!(reliability("t", &Metrics::of(&[])).ends_with("</svg>\n"), "nothing to draw is no error");
    }
}
