//! Made-up streets, addresses and postal codes, as many countries write them.
//!
//! The other half of [`Values`]; nothing is a real address but by chance.

use crate::rng::Rng;
use crate::values::{Values, capitalise};

const STATES: &[&str] =
    &["CA", "NY", "TX", "FL", "WA", "IL", "OH", "GA", "MA", "AZ", "OR", "CO", "PA", "MI", "NJ", "VA"];
const WORD_NAMES: &[&str] = &[
    "Oak", "Maple", "Cedar", "Pine", "Elm", "Main", "High", "Church", "Park", "Mill", "Station", "School",
    "Queen", "King", "Victoria", "Green", "North", "South", "West", "Lake", "River", "Spring", "Sunset",
    "Meadow", "Forest", "Market", "Bridge", "First", "Second", "Third", "5th", "42nd", "Garten", "Linden",
    "Haupt", "Bahnhof", "Schiller", "Goethe", "Berg", "Wald",
];

impl Values<'_> {
    /// Street and number, as a country writes it.
    pub(crate) fn street(&self, rng: &mut Rng) -> String {
        let number = format!(
            "{}{}",
            rng.between(1, 2400).min(rng.between(1, 2400)),
            if rng.chance(8) { "a" } else { "" }
        );
        let short = rng.between(1, 220);
        let name = self.street_word(rng);
        let unit = match rng.below(5) {
            0 => format!(
                " {} {}",
                rng.pick::<str>(&["Apt.", "Apt", "Suite", "Unit", "Flat"]),
                rng.between(1, 999)
            ),
            1 => format!(
                ", {} {}",
                rng.pick::<str>(&["Apt.", "apt", "Suite", "Flat", "Floor"]),
                rng.between(1, 99)
            ),
            _ => String::new(),
        };
        match rng.below(14) {
            0..=4 => format!(
                "{number} {name} {}{unit}",
                rng.pick::<str>(&[
                    "Street",
                    "St",
                    "St.",
                    "Road",
                    "Rd",
                    "Avenue",
                    "Ave",
                    "Ave.",
                    "Lane",
                    "Drive",
                    "Dr",
                    "Court",
                    "Close",
                    "Way",
                    "Boulevard",
                    "Blvd",
                    "Terrace",
                    "Crescent",
                    "Place",
                    "Hill",
                    "Gardens",
                    "Parkway"
                ])
            ),
            5 => format!(
                "{}{} {short}",
                capitalise(&name.to_lowercase()),
                rng.pick::<str>(&["straße", "strasse", "str.", "weg", "gasse", "allee", "platz"])
            ),
            6 => format!(
                "{short} {} {}{name}",
                rng.pick::<str>(&["rue", "avenue", "boulevard", "Rue", "Avenue", "chemin"]),
                rng.pick::<str>(&["de ", "du ", "", "de la ", "des "])
            ),
            7 => format!(
                "{} {name}{} {short}",
                rng.pick::<str>(&["Calle", "Avenida", "Av.", "C/", "Rua", "Plaza", "Travessa"]),
                rng.pick::<str>(&["", ",", " n.º"])
            ),
            8 => format!(
                "{} {name}{} {short}",
                rng.pick::<str>(&["Via", "Viale", "Piazza", "Corso", "Largo"]),
                rng.pick::<str>(&["", ","])
            ),
            9 => format!(
                "{}{} {short}",
                name,
                rng.pick::<str>(&[
                    "straat", "laan", "gatan", "vägen", "vej", "gata", "veien", "katu", "tie", "kade",
                    "gade", "tänav"
                ])
            ),
            10 => format!(
                "{} {name}{} {short}",
                rng.pick::<str>(&["ul.", "ulica", "al.", "Ulica"]),
                rng.pick::<str>(&["a", "ska", "owa", ""])
            ),
            11 => format!(
                "{name} {} {short}",
                rng.pick::<str>(&["utca", "út", "cesta", "ulica", "náměstí", "caddesi", "tér", "ulice"])
            ),
            12 => format!(
                "{} {number} {name} {}",
                rng.pick::<str>(&["Unit 3,", "Flat 2B,", "Apt 14,", "Level 2,"]),
                rng.pick::<str>(&["Road", "Street", "Avenue", "Rd"])
            ),
            _ => format!("{name} {short}"),
        }
    }

    fn street_word(&self, rng: &mut Rng) -> String {
        match rng.below(4) {
            0 => rng.pick::<str>(WORD_NAMES).to_owned(),
            1 => self.last(rng),
            2 => self.first(rng),
            _ => Self::invented(rng, &["a", "er", "y", "en", "ton", "wood", "o", "i", "ova", "al"]),
        }
    }

    /// The name of a street without a number.
    pub(crate) fn street_name(&self, rng: &mut Rng) -> String {
        match rng.below(5) {
            0 => format!("{}straße", capitalise(&self.street_word(rng).to_lowercase())),
            1 => format!("rue {}", self.street_word(rng)),
            _ => format!(
                "{} {}",
                self.street_word(rng),
                rng.pick::<str>(&[
                    "Street", "Road", "Avenue", "Lane", "Drive", "Close", "Way", "Square", "Hill"
                ])
            ),
        }
    }

    /// A whole address, its parts joined by `joint`.
    pub(crate) fn address(&self, rng: &mut Rng, joint: &str) -> String {
        let (street, city) = (self.street(rng), self.city(rng));
        let country = if rng.chance(30) {
            format!("{joint}{}", self.country(rng).trim_start_matches("the "))
        } else {
            String::new()
        };
        let place = match rng.below(8) {
            0 | 1 => format!("{city}, {} {}", rng.pick::<str>(STATES), rng.digits(5)),
            2 => format!("{city} {}", Self::postcode(rng)),
            3 => format!("{} {city}", rng.digits(5)),
            4 => format!("{} {city}", rng.digits(4)),
            5 => format!("{city} {}", rng.digits(5)),
            6 => format!("{} {} {city}", rng.digits(3), rng.digits(2)),
            _ => city,
        };
        if rng.chance(6) {
            return format!("P.O. Box {}{joint}{place}", rng.between(10, 9999));
        }
        format!("{street}{joint}{place}{country}")
    }

    /// An address of armed forces.
    pub(crate) fn military(&self, rng: &mut Rng) -> String {
        let end = format!(
            "{} {} {}",
            rng.pick::<str>(&["APO", "FPO", "DPO"]),
            rng.pick::<str>(&["AA", "AE", "AP"]),
            rng.digits(5)
        );
        match rng.below(3) {
            0 => format!("PSC {}, Box {}\n{end}", rng.digits(4), rng.digits(4)),
            1 => format!("Unit {} Box {}\n{end}", rng.digits(4), rng.digits(4)),
            _ => format!("{} {}\n{end}", rng.pick::<str>(&["USS", "USNS", "USNV"]), self.last(rng)),
        }
    }

    /// A British postcode.
    fn postcode(rng: &mut Rng) -> String {
        format!(
            "{}{} {}{}",
            rng.pick::<str>(&["SW", "M", "LS", "EH", "BS", "CF", "B", "N", "SE", "OX"]),
            rng.between(1, 20),
            rng.below(10),
            rng.pick::<str>(&["AB", "QT", "JH", "XY", "LN"])
        )
    }

    /// A postal code of some country.
    pub(crate) fn zip(&self, rng: &mut Rng) -> String {
        match rng.below(6) {
            0 => Self::postcode(rng),
            1 => rng.digits(4),
            2 => format!("{}-{}", rng.digits(5), rng.digits(4)),
            3 => format!("{} {}", rng.digits(3), rng.digits(2)),
            _ => rng.digits(5),
        }
    }
}
