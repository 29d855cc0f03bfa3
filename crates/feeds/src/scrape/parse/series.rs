//! One series of Prometheus text behind its name: `{labels} value`, read without allocation.
//!
//! Escapes stay as they are on the page. Used by the reader of pages.

/// Labels that name a data-parallel rank: vLLM's and SGLang's.
const RANK_LABELS: [&[u8]; 2] = [b"engine", b"dp_rank"];

/// A label's name and value.
pub(super) type Label = (Box<[u8]>, Box<[u8]>);

/// A series behind its name.
#[derive(Debug)]
pub(super) struct Series<'a> {
    /// What stands between the braces.
    pub(super) labels: &'a [u8],
    /// `NaN` where it is no number.
    pub(super) value: f64,
}

impl<'a> Series<'a> {
    /// `{labels} value`, and perhaps a time stamp and an exemplar behind it. `None` if the braces do not close.
    pub(super) fn read(rest: &'a [u8]) -> Option<Self> {
        let (labels, rest) = match rest.strip_prefix(b"{") {
            Some(open) => {
                let mut pairs = Pairs(open);
                pairs.by_ref().for_each(drop);
                let rest = pairs.0.strip_prefix(b"}")?;
                (open.get(..open.len() - rest.len() - 1)?, rest)
            }
            None => (&[][..], rest),
        };
        let mut words = rest.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        Some(Self { labels, value: words.next().map_or(f64::NAN, number) })
    }

    /// The value of a label, as it is escaped on the page.
    pub(super) fn label(&self, name: &[u8]) -> Option<&'a [u8]> {
        Pairs(self.labels).find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    pub(super) fn has(&self, wanted: &[Label]) -> bool {
        wanted.iter().all(|(name, value)| self.label(name) == Some(value))
    }

    pub(super) fn rank(&self) -> Option<u32> {
        let label = RANK_LABELS.iter().find_map(|name| self.label(name))?;
        std::str::from_utf8(label).ok()?.parse().ok()
    }
}

/// The `name="value"` pairs of a series; stops at `}`, at the end, or at what is no pair.
struct Pairs<'a>(&'a [u8]);

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.0;
        let skip = text.iter().take_while(|b| matches!(b, b' ' | b'\t' | b',')).count();
        self.0 = text.get(skip..)?;
        let equals = self.0.iter().position(|b| matches!(b, b'=' | b'"' | b'}'))?;
        let (name, rest) = self.0.split_at_checked(equals)?;
        let rest = rest.strip_prefix(b"=")?.trim_ascii_start().strip_prefix(b"\"")?;
        let mut from = 0;
        loop {
            let at = from + memchr::memchr2(b'"', b'\\', rest.get(from..)?)?;
            if rest.get(at) == Some(&b'"') {
                self.0 = rest.get(at + 1..)?;
                return Some((name.trim_ascii(), rest.get(..at)?));
            }
            from = at + 2;
        }
    }
}

/// `NaN` where it is no number.
pub(super) fn number(text: &[u8]) -> f64 {
    std::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(f64::NAN)
}
