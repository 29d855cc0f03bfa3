//! The embedded models on prompts they were never trained on.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::LazyLock;

use waypost_classify::{Builtin, Cascade, Engine, Prompt, Tier, Verdict};

static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::embedded().unwrap());

/// Both tiers, as the gateway asks them.
fn judge(builtin: Builtin, prompt: Prompt<'_>) -> Verdict {
    Cascade::new(&ENGINE).classify(ENGINE.builtin(builtin), &prompt).unwrap()
}

fn classify(builtin: Builtin, focus: &str) -> Verdict {
    judge(builtin, Prompt { focus, context: "" })
}

/// The share of right labels, and the prompts that were labelled wrongly.
fn share_right(head: Builtin, column: usize) -> (f64, String) {
    let (mut right, mut all, mut wrong) = (0, 0, String::new());
    for line in include_str!("prompts.tsv").lines().filter(|l| !l.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let (expected, prompt) = (fields[column], fields[2].replace("\\n", "\n"));
        if expected == "-" {
            continue;
        }
        let verdict = classify(head, &prompt);
        let got = head.labels()[verdict.label];
        all += 1;
        if got == expected {
            right += 1;
        } else {
            wrong += &format!("{expected}, got {got} ({:.2}): {}\n", verdict.confidence, fields[2]);
        }
    }
    (f64::from(right) / f64::from(all), format!("{right} of {all} right\n{wrong}"))
}

#[test]
fn most_tasks_are_recognised() {
    let (share, details) = share_right(Builtin::Task, 0);
    assert!(share > 0.85, "{details}");
}

#[test]
fn most_complexities_are_recognised() {
    let (share, details) = share_right(Builtin::Complexity, 1);
    assert!(share > 0.80, "{details}");
}

fn label(head: Builtin, prompt: Prompt<'_>) -> &'static str {
    head.labels()[judge(head, prompt).label]
}

#[test]
fn the_examples_of_the_blueprint_are_right() {
    let cases = [
        (
            Builtin::Task,
            "Code Generation",
            "Help me write a python function to load salesforce data into my warehouse",
        ),
        (Builtin::Task, "Open QA", "Tell me about your return policy"),
        (
            Builtin::Task,
            "Rewrite",
            "Rewrite the user prompt to be better for an LLM agent. User prompt: what is the best coffee recipe",
        ),
        (Builtin::Task, "Text Generation", "Can you write me a song? Use as many emojis as possible."),
        (Builtin::Task, "Chatbot", "Hello! How are you?"),
        (Builtin::Task, "Open QA", "Explain quantum computing in simple terms"),
        (Builtin::Complexity, "Domain-Knowledge", "Explain quantum computing in simple terms"),
        (Builtin::Complexity, "Creativity", "Write me a science fiction story"),
        (Builtin::Complexity, "Reasoning", "Solve this riddle: what has keys but cannot open a lock?"),
        (Builtin::Complexity, "Constraint", "What is the moon made of? Answer as a haiku."),
        (Builtin::Complexity, "No-Label-Reason", "Hello! How are you?"),
    ];
    for (head, expected, focus) in cases {
        assert_eq!(label(head, Prompt { focus, context: "" }), expected, "{focus}");
    }
}

#[test]
fn a_focus_that_points_back_leans_on_the_context_and_a_full_question_does_not() {
    let code = "Write a Python function that parses a CSV file and loads it into Postgres";
    for focus in ["continue", "yes please", "now the same again"] {
        assert_eq!(label(Builtin::Task, Prompt { focus, context: code }), "Code Generation", "{focus}");
    }
    let focus = "What is the capital of Australia?";
    assert_eq!(label(Builtin::Task, Prompt { focus, context: code }), "Open QA");
    let assistant = "You are a helpful assistant.";
    assert_eq!(label(Builtin::Task, Prompt { focus: "Hello! How are you?", context: assistant }), "Chatbot");
}

#[test]
fn an_empty_focus_takes_the_label_of_its_context() {
    let context = "Summarize this article: The harbour froze over and ships were stuck for nine days.";
    assert_eq!(label(Builtin::Task, Prompt { focus: "", context }), "Summarization");
    assert_eq!(label(Builtin::Task, Prompt { focus: "", context: "" }), "Unknown");
}

#[test]
fn counts_and_difficulty_come_with_complexity_only() {
    let focus = "Q: 3+4?\nA: 7\nQ: 5+8?\nA:";
    let verdict = classify(Builtin::Complexity, focus);
    assert_eq!((verdict.few_shots, verdict.constraints), (Some(1), Some(0)));
    let task = classify(Builtin::Task, focus);
    assert_eq!((task.few_shots, task.constraints, task.difficulty), (None, None, None));
    let hard = "Prove that every bounded entire function is constant, and derive the fundamental theorem of algebra from it.";
    let difficulty = |focus| classify(Builtin::Complexity, focus).difficulty.unwrap();
    assert!(difficulty("hi there") < 0.15 && difficulty(hard) > difficulty("What is the capital of France?"));
}

#[test]
fn a_prompt_in_doubt_is_answered_by_both_tiers_and_says_why() {
    let verdict = classify(Builtin::Domain, "zyx qvw frobnicated the gronk, so what now");
    assert!(verdict.doubt.is_some() && verdict.tier == Tier::Encoder, "{verdict:?}");
    let plain = ENGINE.classify(
        ENGINE.builtin(Builtin::Domain),
        &Prompt { focus: "zyx qvw frobnicated the gronk, so what now", context: "" },
    );
    assert_eq!((plain.tier, plain.doubt), (Tier::Ngram, verdict.doubt));
}

proptest::proptest! {
    #[test]
    fn any_text_gets_a_distribution(focus in "\\PC{0,200}|[ -~\n]{0,400}", context in "\\PC{0,60}", repeat in 1_usize..400) {
        let focus = focus.repeat(repeat);
        for head in Builtin::ALL {
            let verdict = ENGINE.classify(ENGINE.builtin(head), &Prompt { focus: &focus, context: &context });
            proptest::prop_assert_eq!(verdict.probabilities.len(), head.labels().len());
            proptest::prop_assert!((verdict.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-4);
            proptest::prop_assert!(verdict.probabilities.iter().all(|p| (0.0..=1.0).contains(p)));
            proptest::prop_assert!(verdict.confidence >= verdict.probabilities.iter().copied().fold(0.0, f32::max));
            proptest::prop_assert!(verdict.difficulty.is_none_or(|d| (0.0..=1.0).contains(&d)));
        }
    }
}
