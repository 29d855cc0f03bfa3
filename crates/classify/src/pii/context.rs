//! Words that say what a number near them is: "card", "phone", "zip", months, units.
//!
//! A fixed table in a dozen languages, since a bare number means nothing by itself. Looked up once per word through the
//! lexicon; the scanners ask only whether such a word stands close before or after.

/// What a word says about its neighbours: bits, and a month's number in the lowest four.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Context(u32);

impl Context {
    /// Telephones.
    pub(crate) const PHONE: Self = Self(1 << 4);
    /// Payment cards.
    pub(crate) const CARD: Self = Self(1 << 5);
    /// Social security numbers.
    pub(crate) const SSN: Self = Self(1 << 6);
    /// Postal codes.
    pub(crate) const ZIP: Self = Self(1 << 7);
    /// Ages.
    pub(crate) const AGE: Self = Self(1 << 8);
    /// Birth and other personal dates.
    pub(crate) const BIRTH: Self = Self(1 << 9);
    /// Licences.
    pub(crate) const LICENSE: Self = Self(1 << 10);
    /// Drivers.
    pub(crate) const DRIVER: Self = Self(1 << 11);
    /// Passports.
    pub(crate) const PASSPORT: Self = Self(1 << 12);
    /// Bank accounts.
    pub(crate) const ACCOUNT: Self = Self(1 << 13);
    /// International bank account numbers.
    pub(crate) const IBAN: Self = Self(1 << 14);
    /// Personal numbers of other governments.
    pub(crate) const NATIONAL: Self = Self(1 << 15);
    /// Patients.
    pub(crate) const MEDICAL: Self = Self(1 << 16);
    /// Things that are secret.
    pub(crate) const SECRET: Self = Self(1 << 17);
    /// Numbers that are nobody's: versions, parts, orders, errors.
    pub(crate) const THING: Self = Self(1 << 18);
    /// "year", "years", "yo".
    pub(crate) const YEARS: Self = Self(1 << 19);
    /// "old".
    pub(crate) const OLD: Self = Self(1 << 20);
    /// "turned", "aged": an age follows at once.
    pub(crate) const TURNED: Self = Self(1 << 21);
    /// Days of the week.
    pub(crate) const WEEKDAY: Self = Self(1 << 22);
    /// Levels of log lines.
    pub(crate) const LOG: Self = Self(1 << 23);
    /// Old things that are no people.
    pub(crate) const OBJECT: Self = Self(1 << 24);
    /// Units and currencies after a number.
    pub(crate) const UNIT: Self = Self(1 << 25);
    /// People, after an age.
    pub(crate) const HUMAN: Self = Self(1 << 26);
    /// "number", "no", "nr".
    pub(crate) const NUMBER: Self = Self(1 << 27);
    /// Internet addresses.
    pub(crate) const IP: Self = Self(1 << 28);
    /// States of the USA, and the like, before a postal code.
    pub(crate) const STATE: Self = Self(1 << 29);

    const fn month(number: u32) -> Self {
        Self(number)
    }

    /// The number of the month it names.
    pub(crate) fn as_month(self) -> Option<u32> {
        Some(self.0 & 15).filter(|&month| month != 0)
    }

    /// Whether it says any of `other`.
    pub(crate) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Both.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Bits above the month's, for [`Recent`].
    fn bits(self) -> u32 {
        self.0 & !15
    }
}

/// Where each kind of context was said last.
#[derive(Debug)]
pub(crate) struct Recent {
    last: [u32; 32],
}

impl Recent {
    /// Nothing said yet.
    pub(crate) fn new() -> Self {
        Self { last: [u32::MAX; 32] }
    }

    /// Notes a word that ends at byte `end`.
    pub(crate) fn say(&mut self, context: Context, end: u32) {
        let mut bits = context.bits();
        while bits != 0 {
            self.last[bits.trailing_zeros() as usize] = end;
            bits &= bits - 1;
        }
    }

    /// Where `context` (one bit) was said last, if at most `reach` bytes before `at`.
    pub(crate) fn last(&self, context: Context, at: usize, reach: usize) -> Option<u32> {
        self.within(context, at, reach).then(|| self.last[context.bits().trailing_zeros() as usize & 31])
    }

    /// Whether `context` (one bit) was said within `reach` bytes before `at`.
    pub(crate) fn within(&self, context: Context, at: usize, reach: usize) -> bool {
        let last = self.last[context.bits().trailing_zeros() as usize & 31];
        last != u32::MAX && at.saturating_sub(last as usize) <= reach
    }
}

/// The words, folded as [`super::fold`] does, several to a line.
pub(crate) const WORDS: &[(&str, Context)] = &[
    (
        "phone phones telephone tel cell cellphone mobile fax telefax call calling called whatsapp sms text texted dial \
      reach hotline landline handy telefon telefono telefone movil celular portable tlf tlfn mob ph puhelin numero \
      telefonnummer rufnummer mobil komorka office gsm viber signal ring answering contact callback desk ext extension \
      전화 電話 电话 手机 тел телефон هاتف",
        Context::PHONE,
    ),
    (
        "card cards cc visa mastercard amex maestro discover jcb creditcard debit kreditkarte karte tarjeta carte cartao \
      carta kort kaart pan",
        Context::CARD,
    ),
    ("ssn social ss itin", Context::SSN),
    (
        "zip zipcode postal postcode postleitzahl plz cep postnummer postinumero irsz psc postnr pincode",
        Context::ZIP,
    ),
    ("age aged ages alter edad alder alter", Context::AGE),
    (
        "born birth birthday birthdate dob bday geboren geb nacido nacida nacimiento nascimento nascita naissance fodt \
      fodd anniversary married died wedding urodzony passed",
        Context::BIRTH,
    ),
    (
        "license licence licences licenses lic permis fuhrerschein licencia carnet patente dl",
        Context::LICENSE,
    ),
    ("driver drivers driving dl fuhrerschein dmv dvla conducir permis", Context::DRIVER),
    (
        "passport passports pasaporte passeport reisepass passaporto passaporte pass paszport",
        Context::PASSPORT,
    ),
    (
        "account accounts acct routing aba sort konto kontonummer cuenta compte conto bsb rekening banking wire",
        Context::ACCOUNT,
    ),
    ("iban bic swift", Context::IBAN),
    (
        "nino ni nif nie dni cpf cnpj pesel aadhaar aadhar nhs bsn ssin tin tfn sin ein tax taxpayer insurance national \
      identity steuer steuernummer personnummer cpr fiscale codice curp nric hkid identification rut",
        Context::NATIONAL,
    ),
    ("mrn patient medical chart record", Context::MEDICAL),
    (
        "password passwd passwort pwd passphrase secret token apikey api_key key credential credentials pin pass \
      contrasena senha clave kennwort bearer",
        Context::SECRET,
    ),
    (
        "version versions v ver release build part sku model order invoice item ticket error code rfc isbn issn serial \
      commit pr issue port line page section chapter row column sequence hash doi article case ref reference \
      tracking figure table equation step question",
        Context::THING,
    ),
    ("year years yr yrs yo y jahre jahr anos ano ans lat", Context::YEARS),
    ("old alt age anos vieux", Context::OLD),
    ("turned turn turning turns aged", Context::TURNED),
    ("monday tuesday wednesday thursday friday saturday sunday", Context::WEEKDAY),
    ("info warn warning error debug trace fatal", Context::LOG),
    (
        "car cars house houses home building laptop computer pc company business software code codebase app system bug \
      wine whisky whiskey scotch tree trees boiler fridge furnace roof bike truck van suv phone tv bridge church \
      tradition technology engine machine server database mortgage loan bond lease contract dog cat puppy kitten \
      horse carpet sofa mattress paper book song film movie game website project startup pipe plant language \
      battery kitchen oven washing heating bread cheese cheddar",
        Context::OBJECT,
    ),
    (
        "minutes minute mins min hours hour hrs seconds secs days day weeks week months month percent miles mile km kg \
      lbs lb meters metres feet foot ft inches inch cm mm mg ml usd dollars euros euro eur gbp pounds gb mb kb tb \
      degrees people users items times pages points px am pm k m cents grams litres bucks",
        Context::UNIT,
    ),
    (
        "man woman boy girl male female m f child kid son daughter guy lady patient person student men women mother \
      father teen teenager mann frau chica chico hombre mujer nurse teacher single married divorced retired widow \
      widower and from with living years",
        Context::HUMAN,
    ),
    ("mrn id number num no nr nummer numero n nbr numbers digits #", Context::NUMBER),
    ("ip ipv4 ipv6 address host hostname server dns ping subnet gateway", Context::IP),
    (
        "al ak az ar ca co ct de fl ga hi id il in ia ks ky la me md ma mi mn ms mo mt ne nv nh nj nm ny nc nd oh ok or \
      pa ri sc sd tn tx ut vt va wa wv wi wy dc pr nsw vic qld sa tas act nt",
        Context::STATE,
    ),
    ("january jan enero januar janvier gennaio janeiro januari ocak stycznia янв января", Context::month(1)),
    (
        "february feb febrero februar fevrier febbraio fevereiro februari subat lutego февраля",
        Context::month(2),
    ),
    ("march mar marzo marz mars marco maart mart marca марта", Context::month(3)),
    ("april apr abril avril aprile nisan kwietnia апреля", Context::month(4)),
    ("may mayo mai maggio maio mei maj mayis maja мая", Context::month(5)),
    ("june jun junio juni juin giugno junho haziran czerwca июня", Context::month(6)),
    ("july jul julio juli juillet luglio julho temmuz lipca июля", Context::month(7)),
    ("august aug agosto aout augustus augusti agustos sierpnia августа", Context::month(8)),
    ("september sep sept septiembre septembre settembre setembro eylul wrzesnia сентября", Context::month(9)),
    ("october oct octubre oktober octobre ottobre outubro ekim pazdziernika октября", Context::month(10)),
    ("november nov noviembre novembre novembro kasim listopada ноября", Context::month(11)),
    (
        "december dec diciembre dezember decembre dicembre dezembro desember aralik grudnia декабря",
        Context::month(12),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_folded_and_lower_case() {
        for (words, _) in WORDS {
            for word in words.split(' ').filter(|w| *w != "#" && !w.contains('_')) {
                assert_eq!(super::super::fold::Folded::new(word).as_bytes(), word.as_bytes());
            }
        }
    }

    #[test]
    fn context_fades_with_distance() {
        let mut recent = Recent::new();
        assert!(!recent.within(Context::PHONE, 0, 40));
        recent.say(Context::PHONE.and(Context::CARD), 10);
        assert!(recent.within(Context::PHONE, 20, 40) && recent.within(Context::CARD, 50, 40));
        assert!(!recent.within(Context::PHONE, 51, 40) && !recent.within(Context::SSN, 20, 40));
    }
}
