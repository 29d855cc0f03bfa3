//! Reading safetensors files: the header first, then one tensor at a time, so a model is in memory once.
//!
//! Shapes, types and lengths are checked before anything is allocated for them, and numbers must be finite. Called by
//! `clip` and `network` at load.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Cursor, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::error::Error;

/// Longest header that is read, in bytes; a CLIP model's has some 50 kB.
const MAX_HEADER_BYTES: u64 = 8 << 20;
/// Bytes of the number before the header that tells its length.
const LENGTH_BYTES: u64 = 8;

/// An open safetensors file.
#[derive(Debug)]
pub(crate) struct Tensors<R> {
    name: String,
    source: R,
    header: Metadata,
    /// Where the tensors' bytes begin.
    start: u64,
}

impl Tensors<File> {
    /// Opens the file at `path`, of at most `max_bytes`.
    pub(crate) fn open(path: &Path, max_bytes: u64) -> Result<Self, Error> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|e| Error::io(&name, e))?;
        let size = file.metadata().map_err(|e| Error::io(&name, e))?.len();
        if size > max_bytes {
            return Err(Error::model(&name, format!("{size} bytes, at most {max_bytes} are read")));
        }
        Self::read(name, file, size)
    }
}

impl<'a> Tensors<Cursor<&'a [u8]>> {
    /// Reads `bytes`, which errors call `name`.
    pub(crate) fn of(name: &str, bytes: &'a [u8]) -> Result<Self, Error> {
        Self::read(name.to_owned(), Cursor::new(bytes), bytes.len() as u64)
    }
}

impl<R: Read + Seek> Tensors<R> {
    fn read(name: String, mut source: R, size: u64) -> Result<Self, Error> {
        let mut length = [0; LENGTH_BYTES as usize];
        fill(&name, &mut source, &mut length)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER_BYTES || length > size.saturating_sub(LENGTH_BYTES) {
            let reason = format!("not a safetensors file: a header of {length} bytes in a file of {size}");
            return Err(Error::model(&name, reason));
        }
        let mut header = vec![0; length as usize];
        fill(&name, &mut source, &mut header)?;
        // This also checks that the tensors lie without gaps and that their shapes give their lengths.
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|e| Error::model(&name, format!("its safetensors header is broken: {e}")))?;
        let start = LENGTH_BYTES + length;
        let needed = start + header.data_len() as u64;
        if needed != size {
            let reason =
                format!("{size} bytes long, but its header describes {needed}: truncated or altered");
            return Err(Error::model(&name, reason));
        }
        Ok(Self { name, source, header, start })
    }

    /// Which file, for errors.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The text under `key` in the file's metadata.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// Each tensor's shape.
    pub(crate) fn shapes(&self) -> HashMap<String, Vec<usize>> {
        self.header.tensors().into_iter().map(|(name, info)| (name, info.shape.clone())).collect()
    }

    /// The numbers of a tensor in float, which must have just that shape.
    pub(crate) fn floats(&mut self, tensor: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let info = self.header.info(tensor).cloned();
        let info = info.ok_or_else(|| Error::model(&self.name, format!("tensor `{tensor}` is missing")))?;
        if info.shape != shape {
            let reason = format!("tensor `{tensor}` has shape {:?} instead of {shape:?}", info.shape);
            return Err(Error::model(&self.name, reason));
        }
        let values = self.convert(tensor, &info)?;
        if values.iter().any(|v| !v.is_finite()) {
            return Err(Error::model(
                &self.name,
                format!("tensor `{tensor}` holds numbers that are not finite"),
            ));
        }
        Ok(values)
    }

    fn convert(&mut self, tensor: &str, info: &TensorInfo) -> Result<Vec<f32>, Error> {
        if !matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            let reason = format!("tensor `{tensor}` has type {:?}; F32, F16 and BF16 are read", info.dtype);
            return Err(Error::model(&self.name, reason));
        }
        let (from, to) = info.data_offsets;
        let mut bytes = vec![0; to - from];
        let at = SeekFrom::Start(self.start + from as u64);
        self.source.seek(at).map_err(|e| Error::io(&self.name, e))?;
        fill(&self.name, &mut self.source, &mut bytes)?;
        let halves = bytes.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b));
        Ok(match info.dtype {
            Dtype::F16 => halves.map(half).collect(),
            Dtype::BF16 => halves.map(|b| f32::from_bits(u32::from(b) << 16)).collect(),
            _ => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        })
    }
}

fn fill(name: &str, source: &mut impl Read, bytes: &mut [u8]) -> Result<(), Error> {
    source.read_exact(bytes).map_err(|e| match e.kind() {
        ErrorKind::UnexpectedEof => Error::model(name, "ends too early: truncated"),
        _ => Error::io(name, e),
    })
}

/// IEEE 754 binary16 to binary32.
fn half(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f32::from(bits & 0x3ff) / 1024.0;
    match exponent {
        0 => sign * fraction * 2_f32.powi(-14),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        _ => sign * (1.0 + fraction) * 2_f32.powi(exponent - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::{Tensors, half};
    use safetensors::{Dtype, tensor::TensorView};

    fn file(dtype: Dtype, bytes: &[u8]) -> Vec<u8> {
        let view = TensorView::new(dtype, vec![2], bytes).unwrap();
        safetensors::serialize([("t", view)], None).unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<f32>, String> {
        let open = Tensors::of("f", bytes).map_err(|e| e.to_string());
        open?.floats("t", &[2]).map_err(|e| e.to_string())
    }

    #[test]
    fn every_kind_of_float_is_read() {
        let f32s: Vec<u8> = [1.5_f32, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(read(&file(Dtype::F32, &f32s)).unwrap(), [1.5, -2.0]);
        assert_eq!(read(&file(Dtype::F16, &[0x00, 0x3e, 0x00, 0xc0])).unwrap(), [1.5, -2.0]);
        assert_eq!(read(&file(Dtype::BF16, &[0xc0, 0x3f, 0x00, 0xc0])).unwrap(), [1.5, -2.0]);
        assert_eq!(half(0x0001), 2_f32.powi(-24));
        assert_eq!(half(0x7bff), 65504.0);
        assert_eq!(half(0x8000).to_bits(), (-0.0_f32).to_bits());
        assert!(half(0x7c00).is_infinite() && half(0x7e00).is_nan());
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let good = file(Dtype::F32, &[0; 8]);
        let check = |bytes: &[u8], words: &str| {
            let error = read(bytes).unwrap_err();
            assert!(error.contains(words), "{error}");
        };
        check(&[], "truncated");
        check(&good[..5], "truncated");
        check(&good[..20], "not a safetensors file");
        check(&good[..good.len() - 1], "truncated or altered");
        check(&[good.as_slice(), &[0]].concat(), "truncated or altered");
        check(&file(Dtype::I32, &[0; 8]), "has type I32");
        check(&file(Dtype::BF16, &[0x80, 0x7f, 0, 0]), "not finite");
        let mut altered = good.clone();
        altered[9] = b'!';
        check(&altered, "header is broken");
        let open = || Tensors::of("f", &good).unwrap();
        assert!(open().floats("u", &[2]).unwrap_err().to_string().contains("`u` is missing"));
        assert!(open().floats("t", &[1, 2]).unwrap_err().to_string().contains("[2] instead of [1, 2]"));
    }
}
