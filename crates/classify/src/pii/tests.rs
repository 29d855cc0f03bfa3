//! The whole detector on short texts, and on any text whatever.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::{Detector, Kind, MAX_SPANS, WINDOW_BYTES};

static DETECTOR: LazyLock<Detector> = LazyLock::new(|| Detector::embedded().unwrap());

/// What was found, as kind and text.
fn found(text: &str) -> Vec<(Kind, &str)> {
    DETECTOR.find(text).into_iter().map(|span| (span.kind, &text[span.start..span.end])).collect()
}

fn finds(text: &str, kind: Kind, value: &str) {
    let spans = found(text);
    assert!(spans.contains(&(kind, value)), "{text:?}: no {} {value:?} in {spans:?}", kind.name());
}

fn lacks(text: &str, kind: Kind) {
    let spans = found(text);
    assert!(!spans.iter().any(|span| span.0 == kind), "{text:?}: {spans:?}");
}

#[test]
fn numbers_with_check_digits() {
    finds("my card is 4111 1111 1111 1111 exp 12/26", Kind::CreditCard, "4111 1111 1111 1111");
    finds("amex 3782-822463-10005", Kind::CreditCard, "3782-822463-10005");
    lacks("the sum is 1234567812345678", Kind::CreditCard);
    lacks("at 1700000000000 ms", Kind::CreditCard);
    finds("pay to DE89 3704 0044 0532 0130 00, thanks", Kind::IbanCode, "DE89 3704 0044 0532 0130 00");
    finds("gb82west12345698765432", Kind::IbanCode, "gb82west12345698765432");
    lacks("DE89 3704 0044 0532 0130 01", Kind::IbanCode);
    finds("CPF 529.982.247-25", Kind::NationalId, "529.982.247-25");
    finds("My Aadhaar is 2341 2341 2346.", Kind::NationalId, "2341 2341 2346");
    finds("DNI 12345678Z", Kind::NationalId, "12345678Z");
    finds("NI number AB 12 34 56 C", Kind::NationalId, "AB 12 34 56 C");
    finds("to 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", Kind::Crypto, "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa");
    lacks("to 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb", Kind::Crypto);
}

#[test]
fn social_security_numbers_by_their_ranges() {
    finds("Here's my SSN: 550-53-3582", Kind::UsSsn, "550-53-3582");
    finds("ssn 550533582", Kind::UsSsn, "550533582");
    lacks("part 000-12-3456", Kind::UsSsn);
    lacks("part 666-12-3456", Kind::UsSsn);
    lacks("part 550-00-3456", Kind::UsSsn);
    lacks("550-53-35821", Kind::UsSsn);
    finds("ITIN 912-70-1234", Kind::NationalId, "912-70-1234");
}

#[test]
fn telephone_numbers() {
    for number in [
        "(415) 555-2671",
        "415-555-2671",
        "+44 20 7946 0958",
        "+46 (0)157 548 89",
        "0049 89 123 4567",
        "03.93.92.16.85",
    ] {
        finds(&format!("try {number} first"), Kind::PhoneNumber, number);
    }
    finds("call me on 450 0840", Kind::PhoneNumber, "450 0840");
    finds("phone:\n0393 1144137", Kind::PhoneNumber, "0393 1144137");
    finds("(898)666-3621x0135", Kind::PhoneNumber, "(898)666-3621x0135");
    lacks("part no 0471-993-22", Kind::PhoneNumber);
    lacks("450 0840 units", Kind::PhoneNumber);
    lacks("3.14159265358979", Kind::PhoneNumber);
    lacks("errors 0.011 0.052 0.19", Kind::PhoneNumber);
    lacks("7c9e6679-7425-40de-944b-e07fc1f90ae7", Kind::PhoneNumber);
}

#[test]
fn addresses_of_machines() {
    finds("host 8.8.8.8:53", Kind::IpAddress, "8.8.8.8");
    finds("2001:db8::ff00:42:8329", Kind::IpAddress, "2001:db8::ff00:42:8329");
    finds("00:1A:2B:3C:4D:5E", Kind::MacAddress, "00:1A:2B:3C:4D:5E");
    for text in [
        "127.0.0.1",
        "version 10.2.3.4",
        "1.2.3.4.5",
        "256.1.1.1",
        "std::vec<int>",
        "12:30:45",
        "a::b",
        "section 1.2.3.4",
    ] {
        lacks(text, Kind::IpAddress);
    }
}

#[test]
fn mail_and_web() {
    finds("<mailto:x.y+z@mail.co.uk>", Kind::EmailAddress, "x.y+z@mail.co.uk");
    finds("Mail jürgen@müller.de.", Kind::EmailAddress, "jürgen@müller.de");
    for text in [
        "a@b",
        "git@github.com:foo/bar.git",
        "logo@2x.png",
        "@mention",
        "a..b@c.de",
        "noreply@shop.com",
        "pkg@1.2.3",
    ] {
        lacks(text, Kind::EmailAddress);
    }
    finds("(see https://a.org/b_(c)).", Kind::Url, "https://a.org/b_(c)");
    lacks("http://localhost:80 and https://", Kind::Url);
}

#[test]
fn secrets_and_what_only_looks_like_one() {
    finds(
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        Kind::Secret,
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    );
    finds("id AKIAQ3EGRXN5PLM2KTZA", Kind::Secret, "AKIAQ3EGRXN5PLM2KTZA");
    finds("my password is Tr0ub4dor&3", Kind::Secret, "Tr0ub4dor&3");
    finds(r#"{"password": "correcthorse1"}"#, Kind::Secret, "correcthorse1");
    finds(
        "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----",
        Kind::Secret,
        "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----",
    );
    for text in [
        "password=<your password>",
        "api_key = os.environ[\"KEY1\"]",
        "password: ********",
        "the key is important",
        "sk-learn-is-a-library-for-machine-learning",
        "token=$TOKEN_1234",
        "-----BEGIN CERTIFICATE-----\nMIIE",
    ] {
        lacks(text, Kind::Secret);
    }
}

#[test]
fn numbers_that_only_a_word_explains() {
    finds("passport number X1234567", Kind::Passport, "X1234567");
    finds("My driver's license number is U62928788557186", Kind::UsDriverLicense, "U62928788557186");
    finds("driver's license D1234562, account number 12345678", Kind::BankNumber, "12345678");
    finds("sort code 12-34-56", Kind::BankNumber, "12-34-56");
    finds("MRN 00123456", Kind::MedicalRecord, "00123456");
    finds("my zip code is 35350", Kind::ZipCode, "35350");
    finds("postcode SW1A 1AA", Kind::ZipCode, "SW1A 1AA");
    assert_eq!(found("order number 12345678"), []);
}

#[test]
fn ages_of_people_but_not_of_things() {
    for text in [
        "my mum is 67 years old",
        "a 67-year-old man",
        "she turned 67.",
        "age: 67",
        "I'm 67 and fine",
        r#"{"age": 67}"#,
    ] {
        finds(text, Kind::Age, "67");
    }
    for text in
        ["a 20 year old house", "5 years of experience", "I'm 20 minutes late", "aged 300", "turn 3 pages"]
    {
        lacks(text, Kind::Age);
    }
}

#[test]
fn dates_of_people_and_of_history() {
    finds("born 12 May 1990", Kind::DateTime, "12 May 1990");
    finds("on May 12th, 1990 we met", Kind::DateTime, "May 12th, 1990");
    finds("2005-07-21 18:19:22", Kind::DateTime, "2005-07-21 18:19:22");
    finds("geboren am 3. März 1985", Kind::DateTime, "3. März 1985");
    for text in [
        "the war of 1812",
        "4 July 1776",
        "may 5 people come",
        "2024-05-12 10:22:31 ERROR failed",
        "13/13/2020",
        "1/2",
    ] {
        lacks(text, Kind::DateTime);
    }
}

#[test]
fn names_places_and_addresses() {
    finds("Who was Marie Curie?", Kind::Person, "Marie Curie");
    finds("my name is priya venkataraman and i live in chennai", Kind::Person, "priya venkataraman");
    finds("Hello, this is Mike from Acme Corp.", Kind::Organization, "Acme Corp");
    finds("We flew to Paris in the morning.", Kind::Location, "Paris");
    finds(
        "I live at 221B Baker Street, London NW1 6XE",
        Kind::StreetAddress,
        "221B Baker Street, London NW1 6XE",
    );
    finds("Mr. Smith called", Kind::Title, "Mr.");
}

#[test]
fn a_plain_prompt_has_none() {
    for text in [
        "",
        "write a haiku about autumn rain",
        "can you fix this sql query please",
        "Explain the Doppler effect to me.",
        "let x = 123456789; const PI = 3.14159265358979;",
        "export OPENAI_API_KEY=\"\"",
        "What is 17 * 23?",
    ] {
        assert_eq!(found(text), [], "{text}");
    }
}

#[test]
fn only_both_ends_of_a_long_text_are_looked_at() {
    let filler = "the rain falls on the roof ".repeat(WINDOW_BYTES / 20);
    let text = format!("mail a@first.org {filler} mail b@middle.org {filler} mail c@last.org");
    let mails: Vec<&str> = found(&text).iter().map(|span| span.1).collect();
    assert_eq!(mails, ["a@first.org", "c@last.org"]);
    let accents = "é".repeat(3 * WINDOW_BYTES);
    assert_eq!(found(&accents), []);
}

#[test]
fn all_of_a_long_text_is_looked_at_when_there_is_time() {
    // Every offset of the cut, with blanks to cut at and without.
    for (filler, count) in [("lorem ipsum ", 400), ("é", 2_500)] {
        for shift in 0..40 {
            let text = format!(
                "{}{} a.b@example.org, {} end",
                "x".repeat(shift * 17),
                filler.repeat(count),
                filler.repeat(900)
            );
            let spans = DETECTOR.find_throughout(&text, super::MIN_CONFIDENCE, 100);
            let mails: Vec<&str> = spans
                .iter()
                .filter(|s| s.kind == Kind::EmailAddress)
                .map(|s| &text[s.start..s.end])
                .collect();
            assert_eq!(mails, ["a.b@example.org"], "{shift}");
        }
    }
    let many = "u@example.org ".repeat(3_000);
    let all = DETECTOR.find_throughout(&many, super::MIN_CONFIDENCE, usize::MAX);
    assert_eq!(all.len(), 3_000);
    assert!(all.windows(2).all(|pair| pair[0].end <= pair[1].start));
    assert!((100..500).contains(&DETECTOR.find_throughout(&many, super::MIN_CONFIDENCE, 100).len()));
    // However much stands before it that is too weak to be shown.
    for weak in ["1999 ", "Monday ", "127.0.0.1 "] {
        let text = weak.repeat(600) + "jane.doe@example.org";
        let found = DETECTOR.find_throughout(&text, super::MIN_CONFIDENCE, usize::MAX);
        assert!(found.iter().any(|span| &text[span.start..span.end] == "jane.doe@example.org"), "{weak}");
    }
}

#[test]
fn spans_are_capped() {
    let text = "a@first.org ".repeat(1000);
    assert_eq!(DETECTOR.find(&text).len(), MAX_SPANS);
}

#[test]
fn a_lower_threshold_finds_more() {
    let kinds: BTreeSet<Kind> =
        DETECTOR.find_above("In 1976, at 127.0.0.1", 0.2).iter().map(|span| span.kind).collect();
    assert!(kinds.contains(&Kind::DateTime) && kinds.contains(&Kind::IpAddress));
    assert_eq!(DETECTOR.find("In 1976, at 127.0.0.1"), []);
}

#[test]
fn a_damaged_model_is_refused() {
    let mut bytes = super::MODEL.to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert!(Detector::open(&bytes.into()).unwrap_err().to_string().contains("pii.safetensors"));
}

fn check(text: &str) -> Result<(), TestCaseError> {
    let mut end = 0;
    for span in DETECTOR.find_above(text, 0.0) {
        prop_assert!(
            span.start >= end && span.start < span.end && span.end <= text.len(),
            "{text:?} {span:?}"
        );
        prop_assert!(
            text.is_char_boundary(span.start) && text.is_char_boundary(span.end),
            "{text:?} {span:?}"
        );
        prop_assert!((0.0..=1.0).contains(&span.confidence), "{text:?} {span:?}");
        end = span.end;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_gives_sorted_spans_within_it(text in any::<String>()) {
        check(&text)?;
    }

    #[test]
    fn pieces_of_personal_data_in_any_order(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "4111 1111", " 1111-1111", "+49", "(030)", "0", "12", "1990", "-", "/", ".", "@", "a@b.de", "http://", "www.", "eyJ", "sk-",
                "password: ", "is", "x", "born ", "May ", " zip ", "SW1A 1AA", "GB82WEST", "1234 5698", "::", "fe80", ":", "\n", "é", "日本",
                "Maria ", "Mr", " Street ", "-----BEGIN ", "PRIVATE KEY-----", " years old", "\u{a0}", "ß", "’", "\t", "_", "ssn", "account ",
            ]),
            0..24,
        )
    ) {
        check(&pieces.concat())?;
    }
}
