//! A `data:` URL to pixels, within limits.
//!
//! The URL's length and the picture's size are judged before memory is taken for them, so a small file that unpacks to
//! a huge picture stops early. Fetches nothing, ever. Of an animation the first frame counts; transparency is dropped,
//! as CLIP's own preparation does. Called by the router with what clients sent.

use std::io::Cursor;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use crate::error::Error;

/// Longest `data:` URL that is read, in bytes: a picture of some 20 MiB.
pub const MAX_URL_BYTES: usize = 28 << 20;
/// Most pixels of a picture's side.
pub const MAX_SIDE_PIXELS: u32 = 16_384;
/// Most pixels of a picture, width times height: 32 million.
pub const MAX_PIXELS: u64 = 32 << 20;
/// Most memory a decoder may take, in bytes: `MAX_PIXELS` of eight bytes, the widest kind of PNG.
const MAX_DECODER_BYTES: u64 = MAX_PIXELS * 8;
/// Most characters of a wrong media type that an error repeats.
const MAX_QUOTED_CHARS: usize = 40;

/// Missing padding does no harm: the bytes are the same.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A picture: three bytes (red, green, blue) per pixel, row by row from the top left.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({} x {})", self.width, self.height)
    }
}

impl Image {
    /// A picture of `width` times `height` pixels from their `rgb` bytes.
    ///
    /// # Errors
    /// When a side is zero or the bytes are not three per pixel.
    pub fn new(width: usize, height: usize, rgb: Vec<u8>) -> Result<Self, Error> {
        let bytes = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(3));
        if rgb.is_empty() || bytes != Some(rgb.len()) {
            return Err(Error::Broken(format!("{width} x {height} pixels are not {} bytes", rgb.len())));
        }
        Ok(Self { width, height, rgb })
    }

    /// Pixels of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The pixels, three bytes each, row by row.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }
}

/// The picture in a `data:` URL of a PNG, JPEG, WebP or GIF.
///
/// # Errors
/// What exactly is wrong with the URL or the picture; [`Error::is_image`] holds for all of them.
pub fn decode(url: &str) -> Result<Image, Error> {
    let bytes = bytes_of(url)?;
    let decoder = open(&bytes)?;
    let (width, height) = decoder.dimensions();
    let rgb = DynamicImage::from_decoder(decoder).map_err(broken)?.into_rgb8();
    Image::new(width as usize, height as usize, rgb.into_raw())
}

/// Whether [`decode`] would take the picture, as far as its header tells: no pixel is unpacked.
///
/// # Errors
/// As [`decode`], but for what is wrong with the pixels.
pub fn check(url: &str) -> Result<(), Error> {
    open(&bytes_of(url)?).map(drop)
}

/// The bytes in a `data:` URL.
fn bytes_of(url: &str) -> Result<Vec<u8>, Error> {
    if url.len() > MAX_URL_BYTES {
        return Err(Error::TooLarge(format!("{} bytes of URL, at most {MAX_URL_BYTES}", url.len())));
    }
    BASE64.decode(base64_of(url)?).map_err(Error::Base64)
}

/// The base64 part of a `data:` URL that says it holds a picture.
fn base64_of(url: &str) -> Result<&str, Error> {
    let Some((scheme, rest)) = url.trim().split_once(':') else {
        return Err(Error::NotData("it has no scheme; bare base64 is not taken"));
    };
    if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") {
        return Err(Error::Remote);
    }
    if !scheme.eq_ignore_ascii_case("data") {
        return Err(Error::NotData("it has another scheme"));
    }
    let (head, body) = rest.split_once(',').ok_or(Error::NotData("the comma before its bytes is missing"))?;
    let mut words = head.split(';').map(str::trim);
    let media = words.next().unwrap_or_default();
    // What the bytes say decides in the end: a JPEG named PNG is read by every engine, too.
    let known = ["image/png", "image/jpeg", "image/jpg", "image/webp", "image/gif"];
    if !known.iter().any(|name| media.eq_ignore_ascii_case(name)) {
        return Err(Error::MediaType(media.chars().take(MAX_QUOTED_CHARS).collect()));
    }
    if !words.any(|word| word.eq_ignore_ascii_case("base64")) {
        return Err(Error::NotData("its bytes are not marked `;base64`"));
    }
    Ok(body)
}

/// A picture whose header has been read and judged.
fn open(bytes: &[u8]) -> Result<impl ImageDecoder + '_, Error> {
    let format = image::guess_format(bytes).map_err(broken)?;
    if !matches!(format, ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP | ImageFormat::Gif) {
        return Err(Error::MediaType(format.to_mime_type().to_owned()));
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE_PIXELS);
    limits.max_image_height = Some(MAX_SIDE_PIXELS);
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(broken)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(Error::TooLarge(format!("{width} x {height} pixels, at most {MAX_PIXELS} in all")));
    }
    Ok(decoder)
}

fn broken(error: ImageError) -> Error {
    match error {
        ImageError::Limits(_) => Error::TooLarge(format!(
            "a side of at most {MAX_SIDE_PIXELS} pixels and at most {MAX_PIXELS} pixels in all are read"
        )),
        other => Error::Broken(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
