//! KServe v2 (Triton) messages over HTTP: what v1's controller sends and reads, from both sides.
//!
//! As a client Waypost accepts answers with or without `parameters` and shapes `[n]` and `[1,n]`; as a
//! server it emits the three sequence parameters that v1's controller insists on. No I/O here. Called
//! by the router (client) and the proxy (server).

use serde::{Deserialize, Serialize};

/// Most class scores read from an answer.
pub const MAX_CLASSES: usize = 4096;

/// A request for inference on one text, as v1's controller writes it.
#[must_use]
pub fn request_body(text: &str) -> String {
    let text = serde_json::Value::from(text);
    format!(r#"{{"inputs":[{{"name":"INPUT","datatype":"BYTES","shape":[1,1],"data":[[{text}]]}}]}}"#)
}

/// What a client of our KServe server asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct InferRequest {
    /// Echoed in the answer.
    pub id: Option<String>,
    /// The texts to classify, one row each.
    pub texts: Vec<String>,
    /// It asked for the output `PROBABILITIES` beside or in place of `OUTPUT`.
    pub probabilities: bool,
    /// It asked for `OUTPUT`, or named no output.
    pub one_hot: bool,
}

#[derive(Deserialize)]
struct RawRequest {
    #[serde(default)]
    id: Option<String>,
    inputs: Vec<RawInput>,
    #[serde(default)]
    outputs: Vec<RawName>,
}

#[derive(Deserialize)]
struct RawInput {
    datatype: String,
    data: serde_json::Value,
}

#[derive(Deserialize)]
struct RawName {
    name: String,
}

impl InferRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// A sentence that names what is wrong.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let raw: RawRequest = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        let [input] = raw.inputs.as_slice() else {
            return Err(format!("expected one input, got {}", raw.inputs.len()));
        };
        if input.datatype != "BYTES" {
            return Err(format!("input datatype must be BYTES, got {}", input.datatype));
        }
        let mut texts = Vec::new();
        collect_strings(&input.data, &mut texts)?;
        if texts.is_empty() {
            return Err("input data holds no text".to_owned());
        }
        if let Some(other) =
            raw.outputs.iter().find(|o| !matches!(o.name.as_str(), "OUTPUT" | "PROBABILITIES"))
        {
            return Err(format!("unknown output '{}': OUTPUT and PROBABILITIES are offered", other.name));
        }
        Ok(Self {
            id: raw.id,
            texts,
            probabilities: raw.outputs.iter().any(|o| o.name == "PROBABILITIES"),
            one_hot: raw.outputs.is_empty() || raw.outputs.iter().any(|o| o.name == "OUTPUT"),
        })
    }
}

/// Most texts in one request: v1's models are configured for the same batch size.
const MAX_BATCH: usize = 8;

fn collect_strings(value: &serde_json::Value, out: &mut Vec<String>) -> Result<(), String> {
    match value {
        serde_json::Value::String(text) if out.len() < MAX_BATCH => out.push(text.clone()),
        serde_json::Value::String(_) => return Err(format!("more than {MAX_BATCH} texts in one request")),
        serde_json::Value::Array(items) => {
            for item in items {
                collect_strings(item, out)?;
            }
        }
        _ => return Err("input data must be strings".to_owned()),
    }
    Ok(())
}

/// One named tensor of an answer.
#[derive(Debug, Serialize)]
pub struct Output {
    /// `OUTPUT` or `PROBABILITIES`.
    pub name: &'static str,
    /// Always `FP32`.
    pub datatype: &'static str,
    /// `[classes]` for one text, as v1's models answer; `[texts, classes]` for several.
    pub shape: Vec<usize>,
    /// Row after row.
    pub data: Vec<f32>,
}

/// v1's controller refuses an answer without all three.
#[derive(Debug, Default, Serialize)]
pub struct SequenceParameters {
    sequence_id: u32,
    sequence_start: bool,
    sequence_end: bool,
}

/// The answer of our KServe server.
#[derive(Debug, Serialize)]
pub struct InferResponse<'a> {
    /// Echo of the request's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// As in the path.
    pub model_name: &'a str,
    /// Always `"1"`.
    pub model_version: &'a str,
    /// Mandatory for v1's controller.
    pub parameters: SequenceParameters,
    /// The tensors asked for.
    pub outputs: Vec<Output>,
}

/// Class scores read from a KServe answer, in the server's own order.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// Index of the largest score; the last one on a tie, as v1 does.
    pub best: usize,
    /// The scores as probabilities that sum to 1.
    pub probabilities: Vec<f32>,
    /// The server answered one-hot, so its confidence is unknown.
    pub one_hot: bool,
}

#[derive(Deserialize)]
struct RawAnswer {
    outputs: Vec<RawOutput>,
}

#[derive(Deserialize)]
struct RawOutput {
    data: serde_json::Value,
}

/// Reads the first output of an answer.
///
/// # Errors
/// A sentence that names what is wrong; the same two v1 used for empty outputs and empty data.
pub fn read_scores(body: &[u8]) -> Result<Scores, String> {
    let answer: RawAnswer =
        serde_json::from_slice(body).map_err(|e| format!("Invalid Triton response: {e}"))?;
    let Some(output) = answer.outputs.first() else {
        return Err("No outputs returned from the Triton response".to_owned());
    };
    let mut scores = Vec::new();
    collect_numbers(&output.data, &mut scores)?;
    let best = scores
        .iter()
        .enumerate()
        .fold(None, |best: Option<(usize, f32)>, (i, s)| match best {
            Some((_, top)) if *s < top => best,
            _ => Some((i, *s)),
        })
        .ok_or("Could not determine model selection from probability distribution")?
        .0;
    let one_hot = scores.iter().all(|s| *s == 0.0 || *s == 1.0) && scores.iter().sum::<f32>() == 1.0;
    Ok(Scores { best, probabilities: to_probabilities(scores), one_hot })
}

fn collect_numbers(value: &serde_json::Value, out: &mut Vec<f32>) -> Result<(), String> {
    match value {
        serde_json::Value::Array(items) => {
            for item in items {
                collect_numbers(item, out)?;
            }
            Ok(())
        }
        serde_json::Value::Number(number) => {
            let score = number.as_f64().unwrap_or(f64::NAN) as f32;
            if !score.is_finite() || out.len() == MAX_CLASSES {
                return Err(
                    "Invalid Triton response: a score is not finite, or there are too many".to_owned()
                );
            }
            out.push(score);
            Ok(())
        }
        _ => Err("Invalid Triton response: output data must be numbers".to_owned()),
    }
}

/// Scores that already are a distribution stay; anything else is taken as logits.
fn to_probabilities(scores: Vec<f32>) -> Vec<f32> {
    let sum: f32 = scores.iter().sum();
    if scores.iter().all(|s| (0.0..=1.0).contains(s)) && (sum - 1.0).abs() < 0.02 {
        return scores.into_iter().map(|s| s / sum).collect();
    }
    let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exps: Vec<f32> = scores.iter().map(|s| (s - top).exp()).collect();
    let sum: f32 = exps.iter().sum();
    exps.into_iter().map(|e| e / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_request_is_read_by_our_server() {
        let request = InferRequest::parse(request_body("say \"hi\"\n").as_bytes()).unwrap();
        assert_eq!(request.texts, ["say \"hi\"\n"]);
        assert!(request.one_hot && !request.probabilities);
        for bad in [
            "{}",
            r#"{"inputs":[]}"#,
            r#"{"inputs":[{"datatype":"FP32","data":[1]}]}"#,
            r#"{"inputs":[{"datatype":"BYTES","data":[1]}]}"#,
        ] {
            assert!(InferRequest::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn answers_of_every_shape_are_read() {
        let one_hot =
            read_scores(br#"{"model_name":"m","outputs":[{"name":"OUTPUT","shape":[3],"data":[0,1,0]}]}"#)
                .unwrap();
        assert!(one_hot.one_hot && one_hot.best == 1);
        let nested = read_scores(br#"{"outputs":[{"data":[[0.2,0.5,0.3]]}]}"#).unwrap();
        assert_eq!((nested.best, nested.one_hot), (1, false));
        assert!((nested.probabilities[1] - 0.5).abs() < 1e-6);
        let logits = read_scores(br#"{"outputs":[{"data":[-1.0,4.0,4.0]}]}"#).unwrap();
        assert_eq!(logits.best, 2, "the last of equal scores wins, as in v1");
        assert!((logits.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert_eq!(
            read_scores(br#"{"outputs":[]}"#).unwrap_err(),
            "No outputs returned from the Triton response"
        );
        assert!(read_scores(br#"{"outputs":[{"data":[]}]}"#).unwrap_err().starts_with("Could not determine"));
        assert!(read_scores(b"busy").unwrap_err().starts_with("Invalid Triton response"));
    }
}
