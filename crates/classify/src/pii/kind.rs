//! The kinds of personal data and the span that carries one.
//!
//! Names are those of Microsoft Presidio where it has one, so that policies written for it can be taken over. Nothing here
//! looks at text.

/// What a span holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The name of a human being, famous or not.
    Person,
    /// A company, authority, school or the like.
    Organization,
    /// A city, region or country that is not part of a street address.
    Location,
    /// A street address, with the postal code, city and country that follow it.
    StreetAddress,
    /// A nationality, religion or political group.
    Nrp,
    /// A form of address or a job.
    Title,
    /// A postal code outside an address.
    ZipCode,
    /// A date, or a year in a personal context.
    DateTime,
    /// Somebody's age in years.
    Age,
    /// An e-mail address.
    EmailAddress,
    /// A telephone number.
    PhoneNumber,
    /// A payment card number.
    CreditCard,
    /// An international bank account number.
    IbanCode,
    /// A national bank account, routing or sort code.
    BankNumber,
    /// A United States social security number.
    UsSsn,
    /// Another government's personal number (tax, insurance, identity card), or an ITIN.
    NationalId,
    /// A passport number.
    Passport,
    /// A driving licence number.
    UsDriverLicense,
    /// A patient or medical record number.
    MedicalRecord,
    /// An IPv4 or IPv6 address.
    IpAddress,
    /// A network card's address.
    MacAddress,
    /// A web address.
    Url,
    /// A cryptocurrency address.
    Crypto,
    /// A password, API key, token or private key.
    Secret,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 24] = [
        Self::Person,
        Self::Organization,
        Self::Location,
        Self::StreetAddress,
        Self::Nrp,
        Self::Title,
        Self::ZipCode,
        Self::DateTime,
        Self::Age,
        Self::EmailAddress,
        Self::PhoneNumber,
        Self::CreditCard,
        Self::IbanCode,
        Self::BankNumber,
        Self::UsSsn,
        Self::NationalId,
        Self::Passport,
        Self::UsDriverLicense,
        Self::MedicalRecord,
        Self::IpAddress,
        Self::MacAddress,
        Self::Url,
        Self::Crypto,
        Self::Secret,
    ];

    /// The name in configuration, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Person => "PERSON",
            Self::Organization => "ORGANIZATION",
            Self::Location => "LOCATION",
            Self::StreetAddress => "STREET_ADDRESS",
            Self::Nrp => "NRP",
            Self::Title => "TITLE",
            Self::ZipCode => "ZIP_CODE",
            Self::DateTime => "DATE_TIME",
            Self::Age => "AGE",
            Self::EmailAddress => "EMAIL_ADDRESS",
            Self::PhoneNumber => "PHONE_NUMBER",
            Self::CreditCard => "CREDIT_CARD",
            Self::IbanCode => "IBAN_CODE",
            Self::BankNumber => "US_BANK_NUMBER",
            Self::UsSsn => "US_SSN",
            Self::NationalId => "NATIONAL_ID",
            Self::Passport => "PASSPORT",
            Self::UsDriverLicense => "US_DRIVER_LICENSE",
            Self::MedicalRecord => "MEDICAL_RECORD",
            Self::IpAddress => "IP_ADDRESS",
            Self::MacAddress => "MAC_ADDRESS",
            Self::Url => "URL",
            Self::Crypto => "CRYPTO",
            Self::Secret => "SECRET",
        }
    }

    /// The kind of this name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }

    /// Whether one span of this kind points at a person or opens a door by itself. The others (a city, a date, a job)
    /// are harmless alone and occur in most prompts.
    pub fn identifies(self) -> bool {
        !matches!(
            self,
            Self::Organization
                | Self::Location
                | Self::Nrp
                | Self::Title
                | Self::ZipCode
                | Self::DateTime
                | Self::Age
                | Self::Url
        )
    }
}

/// A piece of text that holds personal data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// Byte offset of the first byte, on a character boundary.
    pub start: usize,
    /// Byte offset after the last byte, on a character boundary.
    pub end: usize,
    /// What it holds.
    pub kind: Kind,
    /// From 0 to 1. A passed checksum gives 0.95 and more; a bare pattern less; tagged kinds carry the tagger's
    /// probability.
    pub confidence: f32,
}

impl Span {
    pub(super) fn new(start: usize, end: usize, kind: Kind, confidence: f32) -> Self {
        Self { start, end, kind, confidence }
    }

    /// Whether both cover a common byte.
    pub(super) fn touches(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back_to_the_kind() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_name(&kind.name().to_lowercase()), Some(kind));
        }
        assert_eq!(Kind::from_name("SHOE_SIZE"), None);
    }
}
