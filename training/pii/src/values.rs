//! Made-up values for template slots: names of many cultures, organisations, plausible numbers. Addresses: `places`.
//!
//! Nothing is copied from a data set. A third of the names is invented from syllables, so that the tagger learns to read the
//! sentence and not only its lists.

use crate::lists::Lists;
use crate::rng::Rng;

/// Makes values.
#[derive(Debug)]
pub(crate) struct Values<'l> {
    lists: &'l Lists,
}

const DOMAINS: &[&str] =
    &["gmail.com", "example.org", "web.de", "mail.co.uk", "outlook.com", "firma.de", "uni.edu", "orange.fr"];
const LINKS: &[&str] = &["van", "van der", "de", "von", "de la", "bin", "al", "dos", "di", "Mc", "O'", "el"];
const FIRM_WORDS: &[&str] = &[
    "Blue", "North", "Silver", "Global", "United", "First", "Green", "Bright", "Quantum", "Summit",
    "Pioneer", "Atlas", "Delta", "Nova", "Vertex", "Harbor", "Golden", "Rapid", "Urban", "Solar", "Stone",
    "Cloud", "Data", "Iron", "Crystal", "Alpine",
];

impl<'l> Values<'l> {
    /// Values from these lists.
    pub(crate) fn new(lists: &'l Lists) -> Self {
        Self { lists }
    }

    fn listed(&self, rng: &mut Rng, list: &str) -> String {
        capitalise(
            rng.pick::<str>(self.lists.get(list).iter().map(String::as_str).collect::<Vec<_>>().as_slice()),
        )
    }

    /// A word of syllables.
    pub(crate) fn invented(rng: &mut Rng, endings: &[&str]) -> String {
        let onset = [
            "b", "br", "ch", "d", "dr", "f", "g", "gr", "h", "j", "k", "kr", "l", "m", "n", "p", "r", "s",
            "sh", "st", "t", "th", "tr", "v", "w", "y", "z", "", "ø", "š",
        ];
        let vowel = ["a", "e", "i", "o", "u", "ai", "ei", "ou", "á", "ö", "é", "ü", "a", "o", "e", "i"];
        let coda = ["", "", "l", "n", "r", "s", "m", "k", "t", "nd", "rt", "v", "d"];
        let mut word = String::new();
        for _ in 0..rng.between(1, 2) {
            word.push_str(rng.pick(&onset));
            word.push_str(rng.pick(&vowel));
            word.push_str(rng.pick(&coda));
        }
        word.push_str(rng.pick(endings));
        capitalise(&word)
    }

    /// A given name.
    pub(crate) fn first(&self, rng: &mut Rng) -> String {
        match rng.below(100) {
            0..70 => self.listed(rng, "first"),
            70..74 => format!("{}-{}", self.listed(rng, "first"), self.listed(rng, "first")),
            _ => Self::invented(
                rng,
                &[
                    "a", "o", "ie", "us", "in", "ella", "ka", "en", "is", "iya", "eth", "an", "el", "io",
                    "y", "ur",
                ],
            ),
        }
    }

    /// A family name.
    pub(crate) fn last(&self, rng: &mut Rng) -> String {
        match rng.below(100) {
            0..60 => self.listed(rng, "last"),
            60..63 => format!("{}-{}", self.listed(rng, "last"), self.listed(rng, "last")),
            63..67 => {
                let link = *rng.pick::<&str>(LINKS);
                let space = if link.ends_with(['c', '\'']) { "" } else { " " };
                format!("{link}{space}{}", self.listed(rng, "last"))
            }
            _ => Self::invented(
                rng,
                &[
                    "son", "sen", "ski", "ska", "ova", "ov", "ić", "escu", "idis", "opoulos", "ez", "ini",
                    "elli", "berg", "mann", "ström", "nen", "oğlu", "yan", "dze", "wala", "moto", "ado",
                    "eira", "ham", "ton", "field", "ley", "er", "ek", "uk", "ak", "i",
                ],
            ),
        }
    }

    /// A full name in one of many orders.
    pub(crate) fn person(&self, rng: &mut Rng) -> String {
        let initial = |rng: &mut Rng| char::from(b'A' + rng.below(26) as u8);
        match rng.below(20) {
            0 => format!("{} {} {}", self.first(rng), initial(rng), self.last(rng)),
            1 => format!("{} {}. {}", self.first(rng), initial(rng), self.last(rng)),
            2 => format!("{}. {}", initial(rng), self.last(rng)),
            3 => format!("{} {} {}", self.first(rng), self.first(rng), self.last(rng)),
            4 => format!("{} {} {}", self.first(rng), self.last(rng), self.last(rng)),
            _ => format!("{} {}", self.first(rng), self.last(rng)),
        }
    }

    /// A city.
    pub(crate) fn city(&self, rng: &mut Rng) -> String {
        match rng.below(100) {
            0..60 => self.listed(rng, "place"),
            60..66 => rng
                .pick::<str>(&[
                    "New York",
                    "San Francisco",
                    "Los Angeles",
                    "Hong Kong",
                    "São Paulo",
                    "Rio de Janeiro",
                    "Tel Aviv",
                    "Cape Town",
                    "Buenos Aires",
                    "Frankfurt am Main",
                    "St. Louis",
                    "Den Haag",
                ])
                .to_owned(),
            _ => Self::invented(
                rng,
                &[
                    "ville", "burg", "stad", "ton", "ford", "dorf", "ow", "ice", "vik", "by", "ham", "o",
                    "ia", "sk", "bury", "heim", "port", "ingen", "a", "mouth",
                ],
            ),
        }
    }

    /// A country.
    pub(crate) fn country(&self, rng: &mut Rng) -> String {
        match rng.below(10) {
            0 => rng
                .pick::<str>(&[
                    "United States",
                    "United Kingdom",
                    "South Africa",
                    "New Zealand",
                    "Czech Republic",
                    "Saudi Arabia",
                    "Sri Lanka",
                    "Costa Rica",
                    "South Korea",
                    "the Netherlands",
                    "USA",
                    "UK",
                ])
                .to_owned(),
            _ => self.listed(rng, "country"),
        }
    }

    /// An organisation.
    pub(crate) fn org(&self, rng: &mut Rng) -> String {
        let name = |rng: &mut Rng| match rng.below(3) {
            0 => self.last(rng),
            1 => rng.pick::<str>(FIRM_WORDS).to_owned(),
            _ => Self::invented(
                rng,
                &["ex", "ia", "on", "tech", "soft", "io", "ix", "um", "line", "hub", "ly", "a"],
            ),
        };
        let end = [
            "Inc", "Inc.", "Ltd", "Ltd.", "LLC", "GmbH", "AG", "S.A.", "AB", "Oy", "B.V.", "PLC", "Group",
            "Corp", "& Co", "Partners", "Holdings",
        ];
        match rng.below(12) {
            0 | 1 => {
                let org = self.listed(rng, "org");
                if org.len() < 5 { org.to_uppercase() } else { org }
            }
            2 | 3 => format!("{} {}", name(rng), rng.pick::<str>(&end)),
            4 => format!("{}, {} and {}", self.last(rng), self.last(rng), self.last(rng)),
            5 => format!("{}-{}", self.last(rng), self.last(rng)),
            6 | 7 => format!("{} {}", name(rng), self.listed(rng, "orgword")),
            8 => format!("University of {}", self.city(rng)),
            9 => format!(
                "{} {} {}",
                rng.pick::<str>(FIRM_WORDS),
                self.listed(rng, "orgword"),
                rng.pick::<str>(&end)
            ),
            10 => format!("{} & {}", self.last(rng), self.last(rng)),
            _ => name(rng),
        }
    }

    /// A form of address.
    pub(crate) fn title(&self, rng: &mut Rng) -> String {
        rng.pick::<str>(&[
            "Mr.",
            "Mrs.",
            "Ms.",
            "Dr.",
            "Mr",
            "Mrs",
            "Ms",
            "Dr",
            "Prof.",
            "Professor",
            "Miss",
            "Sir",
            "Captain",
            "Rev.",
            "Madame",
            "Señora",
            "Herr",
            "Frau",
        ])
        .to_owned()
    }

    /// A job, by itself in lower or title case.
    pub(crate) fn job(&self, rng: &mut Rng) -> String {
        let job = rng.pick::<String>(self.lists.get("job")).clone();
        let long = match rng.below(4) {
            0 => format!(
                "{} {job}",
                rng.pick::<str>(&[
                    "senior",
                    "chief",
                    "assistant",
                    "software",
                    "civil",
                    "school",
                    "sales",
                    "project",
                    "forensic",
                    "primary school",
                    "marine"
                ])
            ),
            _ => job,
        };
        if long.len() <= 3 {
            long.to_uppercase()
        } else if rng.chance(50) {
            capitalise(&long)
        } else {
            long
        }
    }

    /// A nationality or religion.
    pub(crate) fn nrp(&self, rng: &mut Rng) -> String {
        self.listed(rng, "nrp")
    }

    /// A telephone number.
    pub(crate) fn phone(&self, rng: &mut Rng) -> String {
        let area = format!("{}{}", rng.between(2, 9), rng.digits(2));
        match rng.below(8) {
            0 => format!("{area}-{}{}-{}", rng.between(2, 9), rng.digits(2), rng.digits(4)),
            1 => format!("({area}) {}{}-{}", rng.between(2, 9), rng.digits(2), rng.digits(4)),
            2 => format!("+44 7{} {}", rng.digits(3), rng.digits(6)),
            3 => format!("+49 1{} {}", rng.digits(2), rng.digits(7)),
            4 => format!("0{} {} {} {}", rng.between(1, 7), rng.digits(2), rng.digits(2), rng.digits(4)),
            5 => format!("+1-{area}-{}{}-{}", rng.between(2, 9), rng.digits(2), rng.digits(4)),
            6 => format!("0{} {}", rng.digits(3), rng.digits(6)),
            _ => format!("+33 6 {} {} {} {}", rng.digits(2), rng.digits(2), rng.digits(2), rng.digits(2)),
        }
    }

    /// An e-mail address.
    pub(crate) fn email(&self, rng: &mut Rng) -> String {
        let plain = |name: String| {
            name.to_lowercase().chars().filter(char::is_ascii_alphanumeric).collect::<String>()
        };
        let (first, last) = (plain(self.first(rng)), plain(self.last(rng)));
        format!("{first}{}{last}@{}", rng.pick::<str>(&[".", "", "_"]), rng.pick::<str>(DOMAINS))
    }

    /// A date.
    pub(crate) fn date(&self, rng: &mut Rng) -> String {
        let (day, month, year) = (rng.between(1, 28), rng.between(1, 12), rng.between(1930, 2024));
        let name = [
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ][month - 1];
        match rng.below(6) {
            0 => format!("{year}-{month:02}-{day:02}"),
            1 => format!("{month}/{day}/{year}"),
            2 => format!("{day:02}.{month:02}.{year}"),
            3 => format!("{day} {name} {year}"),
            4 => format!("{name} {day}, {year}"),
            _ => format!("{day:02}/{month:02}/{year}"),
        }
    }
}

/// With a capital in front of each word.
pub(crate) fn capitalise(words: &str) -> String {
    let mut start = true;
    words
        .chars()
        .map(|c| {
            let capital = start && c.is_lowercase();
            start = c == ' ' || c == '-';
            if capital { c.to_uppercase().next().unwrap_or(c) } else { c }
        })
        .collect()
}
