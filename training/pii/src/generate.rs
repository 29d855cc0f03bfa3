//! Fills the templates under `templates/` with made-up values, and roughens them as typists do.
//!
//! Each line is one template and one group: groups are held out whole.

use std::path::Path;

use crate::error::Error;
use crate::example::Example;
use crate::lists::Lists;
use crate::pii::Kind;
use crate::rng::Rng;
use crate::values::{Values, capitalise};

/// Fills each template of `file` `times` times.
pub(crate) fn fill(file: &str, times: usize, lists: &Lists, rng: &mut Rng) -> Result<Vec<Example>, Error> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates").join(file);
    let text = std::fs::read_to_string(&path)
        .map_err(|source| Error::Io { path: path.display().to_string(), source })?;
    let mut examples = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with("# ") && !line.is_empty()) {
        for _ in 0..times {
            examples.push(one(line, file, lists, rng));
        }
    }
    Ok(examples)
}

fn one(template: &str, file: &str, lists: &Lists, rng: &mut Rng) -> Example {
    let values = Values::new(lists);
    let mut example = Example { text: String::new(), gold: Vec::new(), group: format!("{file}:{template}") };
    let mut rest = template;
    while let Some((before, slot, after)) = next_slot(rest) {
        example.text.push_str(&before.replace("\\n", "\n").replace("\\t", "\t"));
        let (value, kind) = value(slot, &values, lists, rng);
        let start = example.text.len();
        example.text.push_str(&value);
        if let Some(kind) = kind {
            match example.gold.last_mut() {
                // "{first} {last}" is one name.
                Some(last) if kind == Kind::Person && last.2 == kind && before == " " => {
                    last.1 = example.text.len()
                }
                _ => example.gold.push((start, example.text.len(), kind)),
            }
        }
        rest = after;
    }
    example.text.push_str(&rest.replace("\\n", "\n").replace("\\t", "\t"));
    roughen(&mut example, rng);
    example
}

/// Text before the next `{slot}`, its name, and the text behind.
fn next_slot(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let open = from + text[from..].find('{')?;
        // {=Herr} is a tagged form of address, as it stands.
        if text[open..].starts_with("{=") {
            let close = open + text[open..].find('}')?;
            return Some((&text[..open], &text[open + 1..close], &text[close + 1..]));
        }
        let name_end = text[open + 1..].find(|c: char| !c.is_ascii_lowercase()).map(|at| open + 1 + at)?;
        if name_end > open + 2 && text[name_end..].starts_with('}') {
            return Some((&text[..open], &text[open + 1..name_end], &text[name_end + 1..]));
        }
        from = open + 1;
    }
}

fn value(slot: &str, values: &Values<'_>, lists: &Lists, rng: &mut Rng) -> (String, Option<Kind>) {
    let common = |rng: &mut Rng| rng.pick::<String>(lists.get("common")).clone();
    let tagged = |value: String, kind: Kind| (value, Some(kind));
    match slot {
        "person" => tagged(values.person(rng), Kind::Person),
        "first" => tagged(values.first(rng), Kind::Person),
        "last" => tagged(values.last(rng), Kind::Person),
        "org" => tagged(values.org(rng), Kind::Organization),
        "city" => tagged(values.city(rng), Kind::Location),
        "country" => tagged(values.country(rng).trim_start_matches("the ").to_owned(), Kind::Location),
        "street" => tagged(values.street(rng), Kind::StreetAddress),
        "streetname" => tagged(values.street_name(rng), Kind::StreetAddress),
        "address" => tagged(values.address(rng, ", "), Kind::StreetAddress),
        "addressml" => {
            let joint = *rng.pick::<&str>(&["\n", "\n ", ",\n", "\n    "]);
            tagged(values.address(rng, joint), Kind::StreetAddress)
        }
        "military" => tagged(values.military(rng), Kind::StreetAddress),
        "nrp" => tagged(values.nrp(rng), Kind::Nrp),
        "nrpl" => tagged(values.nrp(rng), Kind::Nrp),
        "title" => tagged(values.title(rng), Kind::Title),
        "job" => tagged(values.job(rng), Kind::Title),
        "zip" => tagged(values.zip(rng), Kind::ZipCode),
        "phone" => tagged(values.phone(rng), Kind::PhoneNumber),
        "email" => tagged(values.email(rng), Kind::EmailAddress),
        "date" => tagged(values.date(rng), Kind::DateTime),
        "age" => tagged(rng.between(3, 95).to_string(), Kind::Age),
        "card" => ("4111 1111 1111 1111".into(), Some(Kind::CreditCard)),
        "iban" => ("DE89 3704 0044 0532 0130 00".into(), Some(Kind::IbanCode)),
        "jobx" => (values.job(rng), None),
        "year" => (rng.between(1500, 2026).to_string(), None),
        "num" => {
            let length = rng.between(1, 5);
            (rng.digits(length), None)
        }
        "digit" => (rng.between(1, 9).to_string(), None),
        "price" => (
            format!(
                "{}{}.{}",
                rng.pick::<str>(&["$", "€", "£", "USD "]),
                rng.between(1, 9999),
                rng.digits(2)
            ),
            None,
        ),
        "version" => (format!("{}.{}.{}", rng.between(0, 20), rng.between(0, 30), rng.between(0, 9)), None),
        "part" => (
            format!(
                "{}{}-{}",
                char::from(b'A' + rng.below(26) as u8),
                char::from(b'A' + rng.below(26) as u8),
                rng.digits(4)
            ),
            None,
        ),
        "hex" => ((0..16).map(|_| char::from(b"0123456789abcdef"[rng.below(16)])).collect(), None),
        "roman" => (rng.pick::<str>(&["I", "II"]).to_owned(), None),
        "lang" => (rng.pick::<str>(&["German", "French", "Spanish", "Polish"]).to_owned(), None),
        "term" => {
            let term = rng.pick::<String>(lists.get("term")).clone();
            (if term.len() < 5 { term.to_uppercase() } else { capitalise(&term) }, None)
        }
        "word" => (common(rng), None),
        "cap" => (capitalise(&common(rng)), None),
        "heading" => {
            ((0..rng.between(2, 5)).map(|_| capitalise(&common(rng))).collect::<Vec<_>>().join(" "), None)
        }
        literal if literal.starts_with('=') => tagged(literal[1..].to_owned(), Kind::Title),
        other => (format!("{{{other}}}"), None),
    }
}

/// Lower case, upper case, or no full stop. Lengths stay the same where the case of a letter changes its length.
fn roughen(example: &mut Example, rng: &mut Rng) {
    let same_length = |c: char, to: char| if to.len_utf8() == c.len_utf8() { to } else { c };
    match rng.below(100) {
        0..20 => {
            example.text =
                example.text.chars().map(|c| same_length(c, c.to_lowercase().next().unwrap_or(c))).collect();
        }
        20..22 => {
            example.text =
                example.text.chars().map(|c| same_length(c, c.to_uppercase().next().unwrap_or(c))).collect();
        }
        22..30 if example.text.ends_with(['.', '?', '!']) => {
            let end = example.text.len() - 1;
            if example.gold.iter().all(|gold| gold.1 <= end) {
                example.text.truncate(end);
            }
        }
        _ => {}
    }
}
