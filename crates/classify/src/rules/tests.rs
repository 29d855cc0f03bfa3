//! The rules against a naive reference, and their errors.

use proptest::collection::vec;
use proptest::prelude::*;
use unicode_categories::UnicodeCategories as _;
use unicode_normalization::UnicodeNormalization as _;

use super::fold::is_unspaced;
use super::*;

fn rule(keywords: &[&str], regex: Option<&str>) -> Rule {
    Rule {
        label: "label".to_owned(),
        keywords: keywords.iter().map(|&keyword| keyword.to_owned()).collect(),
        regex: regex.map(str::to_owned),
    }
}

fn keyword_is_in(keyword: &str, text: &str) -> bool {
    Rules::build(&[rule(&[keyword], None)]).unwrap().find(text).is_some()
}

fn error(rules: &[Rule]) -> String {
    Rules::build(rules).unwrap_err().to_string()
}

#[test]
fn keywords_are_whole_words_in_any_case() {
    for (keyword, text) in [
        ("refund", "REFUND!"),
        ("refund", "a (refund), now"),
        ("money back", "my money \n\t back"),
        ("  money   back ", "money\u{a0}back"),
        ("straße", "STRASSE"),
        ("ΟΔΟΣ", "οδος"),
        ("café", "Cafe\u{301}"),
        ("résumé", "RÉSUMÉ"),
        ("refund", "re\u{ad}fund"),
        ("c++", "C++?"),
        (".net", "asp.NET"),
        ("退款", "我要退款。"),
        ("환불", "환불을 원해요"),
        ("คืนเงิน", "ขอคืนเงินหน่อย"),
        ("👍", "ok👍ok"),
    ] {
        assert!(keyword_is_in(keyword, text), "{keyword:?} in {text:?}");
    }
    for (keyword, text) in [
        ("refund", "refunds"),
        ("refund", "prefund"),
        ("refund", "refund_id"),
        ("money back", "moneyback"),
        ("money back", "money, back"),
        ("cafe", "café"),
        ("cafe", "cafe\u{301}"),
        ("net", "internet"),
        ("refund", ""),
    ] {
        assert!(!keyword_is_in(keyword, text), "{keyword:?} not in {text:?}");
    }
}

#[test]
fn the_first_rule_wins_wherever_it_is_found() {
    let rules = Rules::build(&[
        rule(&["urgent"], Some(r"^ERR-\d+")),
        rule(&["refund", "money back"], None),
        rule(&["back"], Some("(?i)return")),
        rule(&["money"], None),
    ])
    .unwrap();
    for (text, expected) in [
        ("money back, this is urgent", Some(0)),
        ("ERR-17 money", Some(0)),
        ("err-17 money", Some(3)),
        ("I want my money back", Some(1)),
        ("back to RETURN", Some(2)),
        ("money: RETURN it", Some(2)),
        ("nothing", None),
        ("", None),
    ] {
        assert_eq!(rules.find(text), expected, "{text}");
    }
    assert_eq!(Rules::build(&[]).unwrap().find("anything"), None);
}

#[test]
fn errors_name_the_rule_and_the_place() {
    let good = rule(&["x"], None);
    let wrong = |regex: &str| error(&[good.clone(), rule(&[], Some(regex))]);
    assert!(error(&[good.clone(), rule(&[], None)]).contains("rule 2: has neither"));
    assert!(error(&[rule(&["ok", " \u{200b} "], None)]).contains("rule 1: keyword 2 is empty"));
    assert!(
        wrong("ab(c")
            .contains("rule 2: the regular expression `ab(c` is wrong at character 3: unclosed group")
    );
    assert!(wrong("a{2,1}").contains("at character 2"), "{}", wrong("a{2,1}"));
    assert!(wrong(r"é\pq").contains("at character 2: Unicode property not found"), "{}", wrong(r"é\pq"));
    assert!(wrong("(?x)\n (").contains("unclosed group"), "{}", wrong("(?x)\n ("));
    assert!(wrong(r"(a)\1").contains("backreferences are not supported"));
    assert!(wrong(r"\pL{5000}").contains("rule 2: the regular expression is over 1024 KiB"));
    assert!(wrong(&"(".repeat(1000)).contains("rule 2: "));
    let long = "x".repeat(MAX_KEYWORD_BYTES);
    assert!(
        error(&[good.clone(), rule(&[&long], None)]).contains("rule 2: with this one the keywords are over")
    );
    assert!(error(&vec![rule(&[], Some(r"\pL{20}")); 200]).contains("together are over"));
    assert!(error(&vec![good; MAX_RULES + 1]).contains("1001 rules"));
}

/// Folded characters and whether each belongs to a word.
fn reference_fold(text: &str) -> Vec<(char, bool)> {
    let mut out: Vec<(char, bool)> = Vec::new();
    for c in text.chars() {
        if c.is_whitespace() {
            if out.last().is_some_and(|(last, _)| *last != ' ') {
                out.push((' ', false));
            }
        } else if c.is_other_control() || c.is_other_format() {
        } else if is_unspaced(c) {
            out.push((c, false));
        } else {
            let folded: String = c.to_uppercase().flat_map(char::to_lowercase).collect();
            let parts = folded.chars().flat_map(|part| part.to_string().nfd().collect::<Vec<_>>());
            out.extend(parts.map(|part| (part, part.is_alphanumeric() || part.is_mark() || part == '_')));
        }
    }
    out
}

/// Looks for the keyword at every place and around it.
fn reference(keyword: &str, text: &str) -> bool {
    let mut keyword = reference_fold(keyword);
    keyword.pop_if(|(last, _)| *last == ' ');
    let text = reference_fold(text);
    (0..text.len()).any(|at| {
        let end = at + keyword.len();
        let word = |at: usize| text.get(at).is_some_and(|(_, word)| *word);
        text[at..].starts_with(&keyword)
            && !(word(at) && at > 0 && word(at - 1))
            && !(word(end) && word(end - 1))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn keywords_match_as_a_naive_search_does(
        keywords in vec(vec("[abABéÉßſΣςσİ_ .+\\n世カ하한\u{301}\u{200b}-]{1,4}", 1..4), 1..4),
        text in "[abABéÉßſΣςσİ_ .+\\n世カ하한\u{301}\u{200b}-]{0,40}",
    ) {
        let rules: Vec<Rule> = keywords
            .iter()
            .map(|keywords| Rule { label: String::new(), keywords: keywords.clone(), regex: None })
            .collect();
        let blank = |keyword: &String| reference_fold(keyword).iter().all(|(c, _)| *c == ' ');
        let Ok(built) = Rules::build(&rules) else {
            prop_assert!(keywords.iter().flatten().any(blank));
            return Ok(());
        };
        let expected = keywords.iter().position(|list| list.iter().any(|keyword| reference(keyword, &text)));
        prop_assert_eq!(built.find(&text), expected);
    }

    #[test]
    fn no_text_and_no_rule_breaks_it(keyword in any::<String>(), regex in any::<String>(), text in any::<String>()) {
        for rule in [rule(&[&keyword], None), rule(&[], Some(&regex)), rule(&[&keyword], Some(&regex))] {
            if let Ok(rules) = Rules::build(&[rule]) {
                rules.find(&text);
                rules.find(&format!("{text} {keyword} {text}"));
            }
        }
    }
}

#[test]
fn all_rules_that_apply_are_told() {
    let rules = [rule(&["alpha", "beta gamma"], None), rule(&["delta"], Some("^x")), rule(&["gamma"], None)];
    let rules = Rules::build(&rules).unwrap();
    for (text, expected) in [
        ("", [false; 3]),
        ("Beta  gamma", [true, false, true]),
        ("x beta", [false, true, false]),
        ("delta, alpha, gamma", [true; 3]),
    ] {
        assert_eq!(rules.find_all(text), expected, "{text}");
        assert_eq!(rules.find(text), expected.iter().position(|found| *found), "{text}");
    }
    assert_eq!(Rules::build(&[]).unwrap().find_all("x"), Vec::<bool>::new());
}

#[test]
fn case_may_count() {
    let found = |keyword: &str, text: &str| {
        Rules::build(&[rule(&[], Some(&in_this_case(keyword)))]).unwrap().find(text).is_some()
    };
    for (keyword, text) in
        [("US", "in the US."), ("New York", "New\n York"), ("C++", "C++?"), ("退款", "我要退款。")]
    {
        assert!(found(keyword, text), "{keyword:?} in {text:?}");
    }
    for (keyword, text) in [("US", "tell us"), ("US", "USA"), ("US", "BUS"), ("C++", "c++"), ("a.c", "abc")] {
        assert!(!found(keyword, text), "{keyword:?} not in {text:?}");
    }
}

proptest! {
    #[test]
    fn where_case_does_not_count_both_ways_find_the_same(
        keyword in "[abAB+._]{1,3}( [abAB+]{1,3})?",
        text in "[abAB+._ \n]{0,24}",
    ) {
        let regex = format!("(?i){}", in_this_case(&keyword));
        let by_regex = Rules::build(&[rule(&[], Some(&regex))]).unwrap().find_all(&text)[0];
        prop_assert_eq!(by_regex, keyword_is_in(&keyword, &text));
    }
}
