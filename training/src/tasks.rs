//! Prompts composed from `tasks*.txt`: definitions of tasks with inputs, laid out as guides, pipelines and collections do.
//!
//! Format: `training/README.md`. Every definition meets every input in the file's order; the layout is drawn. Called by `corpus`.

use std::path::Path;

use waypost_classify::train::Random;
use waypost_classify::{Builtin, Error};

use crate::corpus::{Row, read};
use crate::own::{domain, label, unescape};

/// Prompts made of each input.
const PER_INPUT: usize = 3;
/// Share of prompts that teach their domain: mostly they teach what is asked.
const DOMAIN_SHARE: f32 = 0.25;
/// Share of prompts with worked examples, where the block has outputs.
const EXAMPLE_SHARE: f32 = 0.12;
const SEED: u64 = 23;

/// One task: wordings of its definition, and inputs with their outputs if known.
#[derive(Debug, Default)]
struct Block {
    task: u32,
    domain: u32,
    definitions: Vec<String>,
    inputs: Vec<(String, Option<String>)>,
}

/// All prompts of the files; each block is a group of its own.
pub(crate) fn prompts(folder: &Path, files: &[&str]) -> Result<Vec<Row>, Error> {
    let mut blocks = Vec::new();
    for file in files {
        read_blocks(&read(&folder.join(file))?, &mut blocks)?;
    }
    let mut random = Random(SEED);
    let mut out = Vec::new();
    for (number, block) in blocks.iter().enumerate() {
        for at in 0..block.inputs.len() {
            for _ in 0..PER_INPUT {
                let definition = &block.definitions[random.below(block.definitions.len())];
                let examples = if random.unit() < EXAMPLE_SHARE { worked(block, at) } else { Vec::new() };
                let few_shot = (!examples.is_empty()).then(|| label(Builtin::Complexity, "Few-Shot"));
                out.push(Row {
                    task: Some(block.task),
                    complexity: few_shot.transpose()?,
                    domain: (random.unit() < DOMAIN_SHARE).then_some(block.domain),
                    safety: Some(0),
                    ..Row::new(
                        lay_out(definition, &block.inputs[at].0, &examples, &mut random),
                        format!("defs:{number}"),
                    )
                });
            }
        }
    }
    Ok(out)
}

fn read_blocks(text: &str, out: &mut Vec<Block>) -> Result<(), Error> {
    for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with("# ")) {
        let bad = || Error::Data(format!("tasks: cannot read {line:?}"));
        let (mark, rest) = line.split_once(' ').ok_or_else(bad)?;
        match (mark, out.last_mut()) {
            ("=", _) => {
                let (task, code) = rest.split_once(" | ").ok_or_else(bad)?;
                let domain = domain(code.trim()).ok_or_else(bad)?;
                out.push(Block { task: label(Builtin::Task, task.trim())?, domain, ..Block::default() });
            }
            ("d", Some(block)) => block.definitions.push(unescape(rest)),
            ("i", Some(block)) => block.inputs.push((unescape(rest), None)),
            ("o", Some(block)) => {
                if let Some((_, output)) = block.inputs.last_mut() {
                    *output = Some(unescape(rest));
                }
            }
            _ => return Err(bad()),
        }
    }
    out.retain(|block| !block.definitions.is_empty());
    Ok(())
}

/// One or two other inputs of the block that have outputs.
fn worked(block: &Block, but: usize) -> Vec<(&str, &str)> {
    let others = block.inputs.iter().enumerate().filter(|(at, _)| *at != but);
    others
        .filter_map(|(_, (input, output))| Some((input.as_str(), output.as_deref()?)))
        .take(1 + but % 2)
        .collect()
}

fn lay_out(definition: &str, input: &str, examples: &[(&str, &str)], random: &mut Random) -> String {
    if !examples.is_empty() {
        let (ask, answer) =
            [("Input", "Output"), ("Q", "A"), ("Text", "Answer"), ("input", "output")][random.below(4)];
        let shown: String = examples
            .iter()
            .map(|(input, output)| format!("{ask}: {input}\n{answer}: {output}\n\n"))
            .collect();
        return format!("{definition}\n\n{shown}{ask}: {input}\n{answer}:");
    }
    let first = definition.split_inclusive(['.', '?', '\n']).next().unwrap_or(definition).trim();
    match random.below(12) {
        0 | 1 => format!("{definition}\n\n{input}"),
        2 => format!("{definition}\n{input}"),
        3 => format!("{definition}\n\nInput: {input}\nOutput:"),
        4 => format!("Definition: {definition}\nInput: {input}\nOutput: "),
        5 => format!("{first}\n{input}"),
        6 => format!("{} {input}", first.trim_end_matches(['.', ':']).to_owned() + ":"),
        7 => format!("{input}\n\n{definition}"),
        8 => format!("{input}\n{first}"),
        9 => format!("### Instruction:\n{definition}\n\n### Input:\n{input}\n\n### Response:"),
        10 => serde_json::json!({ "instruction": definition, "input": input }).to_string(),
        _ => format!("{definition}\n\n\"{input}\"\n\nAnswer:"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "= Summarization | his\nd Sum it up. Be brief.\nd Shorter?\ni Rome fell.\no It fell.\ni Troy\\nburned.\no It burned.\n";

    #[test]
    fn every_input_is_met_and_keeps_its_lines() {
        let mut blocks = Vec::new();
        read_blocks(TEXT, &mut blocks).unwrap();
        assert_eq!(blocks.len(), 1);
        assert_eq!(blocks[0].inputs[1], ("Troy\nburned.".to_owned(), Some("It burned.".to_owned())));
        let mut random = Random(SEED);
        for _ in 0..60 {
            let text = lay_out(&blocks[0].definitions[0], &blocks[0].inputs[0].0, &[], &mut random);
            assert!(text.contains("Rome fell.") && text.contains("Sum it up"), "{text}");
        }
        let shown = lay_out("Sum it up.", "Troy", &worked(&blocks[0], 1), &mut random);
        assert!(
            shown.contains("It fell.") && shown.contains("Troy") && !shown.contains("It burned."),
            "{shown}"
        );
    }

    #[test]
    fn a_line_without_a_block_or_mark_is_named() {
        for bad in ["d first", "= Summarization", "= Nothing | his", "= Summarization | xyz", "x y"] {
            assert!(read_blocks(bad, &mut Vec::new()).is_err(), "{bad}");
        }
    }
}
