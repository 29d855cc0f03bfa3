//! The embedded models on prompts they were never trained on.

use waypost_classify::{Classifier, Head, Prompt, Verdict};

fn classify(classifier: &Classifier, head: Head, focus: &str) -> Verdict {
    classifier.classify(head, &Prompt { focus, context: "" })
}

fn share_right(head: Head, column: usize) -> f64 {
    let classifier = Classifier::embedded().unwrap();
    let (mut right, mut all) = (0, 0);
    for line in include_str!("prompts.tsv").lines().filter(|l| !l.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let (expected, prompt) = (fields[column], fields[2].replace("\\n", "\n"));
        if expected == "-" {
            continue;
        }
        let verdict = classify(&classifier, head, &prompt);
        let got = head.labels()[verdict.label];
        all += 1;
        if got == expected {
            right += 1;
        } else {
            println!("{expected:<22} got {got:<22} {:.2}  {}", verdict.confidence, fields[2]);
        }
    }
    println!("{} {right} of {all}", head.name());
    f64::from(right) / f64::from(all)
}

#[test]
fn most_tasks_are_recognised() {
    assert!(share_right(Head::Task, 0) > 0.80);
}

#[test]
fn most_complexities_are_recognised() {
    assert!(share_right(Head::Complexity, 1) > 0.75);
}
