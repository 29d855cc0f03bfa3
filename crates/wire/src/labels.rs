//! The label orders of v1's two classifiers: index `i` of an output means label `i`.
//!
//! Facts of the wire contract, so they stand here once. Source: the heads of
//! nvidia/prompt-task-and-complexity-classifier as the v1 ensembles publish them. Read by the
//! configuration (to bind labels by name) and by the embedded classifier.

/// Labels of the task classifier, in the order of its outputs.
pub const TASK_LABELS: [&str; 12] = [
    "Brainstorming",
    "Chatbot",
    "Classification",
    "Closed QA",
    "Code Generation",
    "Extraction",
    "Open QA",
    "Other",
    "Rewrite",
    "Summarization",
    "Text Generation",
    "Unknown",
];

/// Labels of the complexity classifier, in the order of its outputs.
pub const COMPLEXITY_LABELS: [&str; 7] = [
    "Creativity",
    "Reasoning",
    "Contextual-Knowledge",
    "Few-Shot",
    "Domain-Knowledge",
    "No-Label-Reason",
    "Constraint",
];

/// Labels of the domain classifier, in the order of its outputs: the 14 categories of MMLU-Pro that vLLM Semantic Router
/// uses too.
pub const DOMAIN_LABELS: [&str; 14] = [
    "biology",
    "business",
    "chemistry",
    "computer science",
    "economics",
    "engineering",
    "health",
    "history",
    "law",
    "math",
    "other",
    "philosophy",
    "physics",
    "psychology",
];

/// Labels of the classifier of personal data, in the order of its outputs.
pub const PII_LABELS: [&str; 2] = ["none", "pii"];

/// Labels of the safety classifier, in the order of its outputs.
pub const SAFETY_LABELS: [&str; 3] = ["benign", "jailbreak", "injection"];
