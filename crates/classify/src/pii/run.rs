//! A run of digit groups as people write numbers: `4111 1111 1111 1111`, `(030) 12-34`, `+46 (0)157 548 89`.
//!
//! Only cuts; what the number is, the scanners of cards, phones, dates and identity numbers decide.

/// Groups looked at; longer runs are tables or data.
const MAX_GROUPS: usize = 10;
/// Digits kept; no number we know has more.
pub(crate) const MAX_DIGITS: usize = 24;

/// Groups of digits with what stands between them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// First byte: a digit, `+` or `(`.
    pub(crate) start: usize,
    /// Whether it begins with `+`.
    pub(crate) plus: bool,
    /// Whether the first group (after a country code, if any) stands in parentheses.
    pub(crate) paren: bool,
    groups: [Group; MAX_GROUPS],
    len: usize,
}

/// One group.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Group {
    /// First digit.
    pub(crate) start: usize,
    /// After the last digit.
    pub(crate) end: usize,
    /// What stands before it: a separator, `(` for any mix with parentheses, 0 for nothing.
    pub(crate) separator: u8,
}

impl Group {
    /// How many digits it has.
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }
}

impl Run {
    /// Reads the run that begins at byte `start`.
    pub(crate) fn read(text: &str, start: usize) -> Option<Self> {
        let bytes = text.as_bytes();
        let at = |index: usize| bytes.get(index).copied().unwrap_or(0);
        let mut run =
            Self { start, plus: at(start) == b'+', paren: false, groups: Default::default(), len: 0 };
        let mut here = start + usize::from(run.plus);
        let mut separator = 0;
        if at(here) == b'(' {
            run.paren = true;
            here += 1;
        }
        while run.len < MAX_GROUPS && at(here).is_ascii_digit() {
            let mut end = here;
            while at(end).is_ascii_digit() {
                end += 1;
            }
            // A group that runs on into a word is no number, unless it is a phone's extension.
            if at(end).is_ascii_alphabetic()
                && !(matches!(at(end), b'x' | b'X') && at(end + 1).is_ascii_digit())
            {
                break;
            }
            run.groups[run.len] = Group { start: here, end, separator };
            run.len += 1;
            (here, separator) = match (at(end), at(end + 1), at(end + 2)) {
                (b' ' | b'-' | b'.' | b'/', next, _) if next.is_ascii_digit() => (end + 1, at(end)),
                (b')', b' ' | b'-', next) if next.is_ascii_digit() => (end + 2, b'('),
                (b')', next, _) if next.is_ascii_digit() => (end + 1, b'('),
                (b' ', b'(', next) if next.is_ascii_digit() => (end + 2, b'('),
                (b'(', next, _) if next.is_ascii_digit() => (end + 1, b'('),
                // A no-break space is two bytes.
                (0xC2, 0xA0, next) if next.is_ascii_digit() => (end + 2, b' '),
                _ => break,
            };
            run.paren |= run.len == 1 && separator == b'(' && at(here - 1) == b'(';
        }
        (run.len > 0).then_some(run)
    }

    /// The groups.
    pub(crate) fn groups(&self) -> &[Group] {
        &self.groups[..self.len]
    }

    /// Lengths of the first groups, zero-padded: a pattern to match on.
    pub(crate) fn lengths<const N: usize>(&self) -> [usize; N] {
        std::array::from_fn(|at| self.groups().get(at).map_or(0, Group::len))
    }

    /// Whether groups 1 to `count` (exclusive) all follow the same separator, and which.
    pub(crate) fn separator(&self, count: usize) -> Option<u8> {
        let groups = self.groups().get(1..count)?;
        let first = groups.first()?.separator;
        groups.iter().all(|g| g.separator == first).then_some(first)
    }

    /// The digits of the first `count` groups as values; nothing if there are too many.
    pub(crate) fn digits(&self, text: &str, count: usize) -> Option<Digits> {
        let mut digits = Digits { values: [0; MAX_DIGITS], len: 0 };
        for group in self.groups().get(..count)? {
            for byte in &text.as_bytes()[group.start..group.end] {
                *digits.values.get_mut(digits.len)? = byte - b'0';
                digits.len += 1;
            }
        }
        Some(digits)
    }

    /// After the last digit of the first `count` groups.
    pub(crate) fn end(&self, count: usize) -> usize {
        count.checked_sub(1).and_then(|last| self.groups().get(last)).map_or(self.start, |group| group.end)
    }
}

/// Digits as values 0 to 9.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Digits {
    values: [u8; MAX_DIGITS],
    len: usize,
}

impl std::ops::Deref for Digits {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.values[..self.len]
    }
}

/// The number these digits write; saturates.
pub(crate) fn value(digits: &[u8]) -> u32 {
    digits.iter().fold(0_u32, |value, &digit| value.saturating_mul(10).saturating_add(u32::from(digit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(text: &str) -> Vec<usize> {
        Run::read(text, 0).map_or(Vec::new(), |run| run.groups().iter().map(Group::len).collect())
    }

    #[test]
    fn groups_as_people_write_them() {
        assert_eq!(lengths("4111 1111-1111.1111"), [4, 4, 4, 4]);
        assert_eq!(lengths("(898)666-3621x0135"), [3, 3, 4]);
        assert_eq!(lengths("+46 (0)157 548 89"), [2, 1, 3, 3, 2]);
        assert_eq!(lengths("030\u{a0}12"), [3, 2]);
        assert_eq!(lengths("12 34ab"), [2]);
        assert_eq!(lengths("12  34"), [2]);
        assert_eq!(lengths("+"), [0; 0]);
        assert!(Run::read("(898) 666", 0).unwrap().paren);
        assert!(Run::read("+46 (0)157", 0).unwrap().paren);
        assert!(!Run::read("898 666", 0).unwrap().paren);
    }

    #[test]
    fn too_many_digits_are_no_number() {
        let long = "1".repeat(40);
        let run = Run::read(&long, 0).unwrap();
        assert!(run.digits(&long, 1).is_none());
        assert_eq!(run.end(1), 40);
        assert_eq!(run.end(0), 0);
    }
}
