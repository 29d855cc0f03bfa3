//! Reads and writes the `.safetensors` files under `models/`.
//!
//! Reading shares: large tensors stay where they are (in the binary's read-only data, or in the file as it was read). The checksum covers the metadata and
//! all tensor bytes, so that a damaged file is refused by name instead of routing badly. The writer exists because the
//! order of header entries must be stable: the same training run yields the same bytes.

use std::collections::BTreeMap;

use bytes::Bytes;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::error::Error;

const CHECKSUM: &str = "crc32";
/// safetensors opens with the header's length as a little-endian u64.
const LENGTH_BYTES: usize = 8;

/// A checked model file.
#[derive(Debug)]
pub(crate) struct ModelFile<'a> {
    name: &'a str,
    metadata: BTreeMap<String, String>,
    tensors: SafeTensors<'a>,
    bytes: &'a Bytes,
    checksum: String,
}

impl<'a> ModelFile<'a> {
    /// Parses `bytes`, verifies the checksum and requires `format`.
    pub(crate) fn open(name: &'a str, bytes: &'a Bytes, format: &str) -> Result<Self, Error> {
        let fail = |reason: String| Error::model(name, reason);
        let (header_bytes, header) = SafeTensors::read_metadata(bytes).map_err(|e| fail(e.to_string()))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| fail(e.to_string()))?;
        let mut metadata: BTreeMap<String, String> =
            header.metadata().clone().unwrap_or_default().into_iter().collect();
        let stated = metadata.remove(CHECKSUM).ok_or_else(|| fail("no checksum".into()))?;
        let data = bytes.get(LENGTH_BYTES + header_bytes..).unwrap_or_default();
        let found = checksum(&metadata, data);
        if stated != found {
            return Err(fail(format!("checksum {found}, the file states {stated}")));
        }
        let file = Self { name, metadata, tensors, bytes, checksum: found };
        if file.text("format")? != format {
            return Err(fail(format!("format {}, this build reads {format}", file.text("format")?)));
        }
        Ok(file)
    }

    /// The checksum, which tells this file from any other.
    pub(crate) fn checksum(&self) -> &str {
        &self.checksum
    }

    /// A metadata entry.
    pub(crate) fn text(&self, key: &str) -> Result<&str, Error> {
        self.metadata.get(key).map(String::as_str).ok_or_else(|| Error::model(self.name, format!("no {key}")))
    }

    /// The raw bytes of an int8 tensor of exactly this shape, used where they lie.
    pub(crate) fn int8(&self, tensor: &str, shape: &[usize]) -> Result<Bytes, Error> {
        Ok(self.bytes.slice_ref(self.tensor(tensor, Dtype::I8, shape)?))
    }

    /// A float tensor of exactly this shape, copied out: for small tensors.
    pub(crate) fn floats(&self, tensor: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let bytes = self.tensor(tensor, Dtype::F32, shape)?;
        let floats: Vec<f32> =
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        if floats.iter().any(|f| !f.is_finite()) {
            return Err(Error::model(self.name, format!("{tensor} holds a value that is not finite")));
        }
        Ok(floats)
    }

    fn tensor(&self, tensor: &str, dtype: Dtype, shape: &[usize]) -> Result<&'a [u8], Error> {
        let view: TensorView<'a> =
            self.tensors.tensor(tensor).map_err(|e| Error::model(self.name, format!("{tensor}: {e}")))?;
        if view.dtype() != dtype || view.shape() != shape {
            let reason =
                format!("{tensor} is {:?} {:?}, expected {dtype:?} {shape:?}", view.dtype(), view.shape());
            return Err(Error::model(self.name, reason));
        }
        Ok(view.data())
    }
}

/// One tensor to be written.
pub(crate) struct Tensor {
    name: &'static str,
    dtype: &'static str,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl Tensor {
    /// An int8 tensor.
    pub(crate) fn int8(name: &'static str, shape: &[usize], values: &[i8]) -> Self {
        let data = values.iter().map(|&v| v as u8).collect();
        Self { name, dtype: "I8", shape: shape.to_vec(), data }
    }

    /// A float tensor.
    pub(crate) fn floats(name: &'static str, shape: &[usize], values: &[f32]) -> Self {
        let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { name, dtype: "F32", shape: shape.to_vec(), data }
    }
}

/// A whole model file; the same input gives the same bytes.
pub(crate) fn write(mut metadata: BTreeMap<String, String>, tensors: &[Tensor]) -> Vec<u8> {
    let data: Vec<u8> = tensors.iter().flat_map(|t| t.data.iter().copied()).collect();
    metadata.insert(CHECKSUM.into(), checksum(&metadata, &data));
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), serde_json::json!(metadata));
    let mut at = 0;
    for tensor in tensors {
        let end = at + tensor.data.len();
        let entry =
            serde_json::json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [at, end]});
        header.insert(tensor.name.into(), entry);
        at = end;
    }
    let mut header = serde_json::Value::Object(header).to_string();
    // The format asks for a header that keeps the tensors aligned.
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(LENGTH_BYTES) - header.len()));
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}

/// CRC-32 of the sorted metadata (`key NUL value NUL`) followed by the tensor bytes. `distill_static.py` computes the same.
fn checksum(metadata: &BTreeMap<String, String>, data: &[u8]) -> String {
    let mut crc = crc32fast::Hasher::new();
    for (key, value) in metadata {
        for part in [key, value] {
            crc.update(part.as_bytes());
            crc.update(&[0]);
        }
    }
    crc.update(data);
    format!("{:08x}", crc.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Bytes {
        let metadata = BTreeMap::from([("format".into(), "f1".into()), ("temperature".into(), "1.5".into())]);
        write(
            metadata,
            &[Tensor::floats("bias", &[2], &[0.5, -1.0]), Tensor::int8("rows", &[3], &[1, -2, 3])],
        )
        .into()
    }

    #[test]
    fn what_is_written_can_be_read() {
        let bytes = sample();
        let file = ModelFile::open("x", &bytes, "f1").unwrap();
        assert_eq!(file.floats("bias", &[2]).unwrap(), [0.5, -1.0]);
        assert_eq!(file.int8("rows", &[3]).unwrap()[..], [1, 254, 3]);
        assert_eq!(file.text("temperature").unwrap(), "1.5");
        assert!(file.int8("rows", &[4]).is_err());
        assert!(ModelFile::open("x", &bytes, "f2").is_err());
    }

    #[test]
    fn any_flipped_bit_is_noticed_and_the_file_is_named() {
        let bytes = sample();
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1;
            let damaged = Bytes::from(damaged);
            // Padding and JSON spelling aside, every byte is covered by the checksum or by the shape checks.
            let opened = ModelFile::open("task.safetensors", &damaged, "f1").and_then(|file| {
                file.floats("bias", &[2])?;
                file.int8("rows", &[3])
            });
            match opened {
                Err(error) => assert!(error.to_string().contains("task.safetensors"), "{error}"),
                Ok(rows) => assert_eq!(rows[..], [1, 254, 3], "flip at {at} changed the weights unnoticed"),
            }
        }
        assert!(ModelFile::open("x", &bytes.slice(..bytes.len() - 1), "f1").is_err());
        assert!(ModelFile::open("x", &Bytes::new(), "f1").is_err());
    }
}
