"""Configurations and names that several tests start from."""

TASK_LABELS = [
    "Brainstorming", "Chatbot", "Classification", "Closed QA", "Code Generation", "Extraction",
    "Open QA", "Other", "Rewrite", "Summarization", "Text Generation", "Unknown",
]  # fmt: skip
COMPLEXITY_LABELS = [
    "Creativity", "Reasoning", "Contextual-Knowledge", "Few-Shot", "Domain-Knowledge",
    "No-Label-Reason", "Constraint",
]  # fmt: skip

V1_MISSING = (
    "Missing required 'nim-llm-router' parameters in request body. Expected format: { 'nim-llm-router': "
    "{ 'policy': 'string', 'routing_strategy': 'manual|triton', 'model': 'string' (for manual strategy) } }"
)

# The sources' example prompts and the task their own table names for them.
SOURCE_PROMPTS = [
    ("Help me write a python function to load salesforce data into my warehouse.", "Code Generation"),
    ("Tell me about your return policy", "Open QA"),
    (
        "Rewrite the user prompt to be better for an LLM agent. User prompt: what is the best coffee recipe",
        "Rewrite",
    ),
]


def user(text):
    """One user turn."""
    return [{"role": "user", "content": text}]


def considered(*pairs):
    """`plan` and `unfit` of a Decision: models, each with its reason."""
    return [{"model": model, "reason": reason} for model, reason in pairs]


def v1_policy(name, url, api_base, labels, key="sk-upstream", **more):
    """A policy in v1's form; entry `i` has the model id `meta/m<i>`."""
    llms = [
        {"name": label, "api_base": api_base, "api_key": key, "model": f"meta/m{i}"} for i, label in enumerate(labels)
    ]
    return {"name": name, "url": url, "llms": llms, **more}


def three_sims(url, **models):
    """`sim-small`, `sim-large`, `sim-creative` at one engine, under both built-in policies; more models by name."""
    task = {label: "sim-small" for label in TASK_LABELS}
    task |= {"Code Generation": "sim-large", "Open QA": "sim-large", "Text Generation": "sim-creative"}
    task |= {"Brainstorming": "sim-large", "Chatbot": "sim-creative"}
    complexity = {label: "sim-small" for label in COMPLEXITY_LABELS} | {"Reasoning": "sim-large"}
    return {
        "models": [{"name": name, "endpoint": url} for name in ("sim-small", "sim-large", "sim-creative")]
        + [{"name": name, **spec} for name, spec in models.items()],
        "policies": [
            {"name": "task_router", "classifier": "task", "routes": task},
            {"name": "complexity_router", "classifier": "complexity", "routes": complexity},
        ],
    }


SIM_MODELS = ["sim-small", "sim-large", "sim-creative"]
