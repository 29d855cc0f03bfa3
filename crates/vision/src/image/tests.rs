//! Pictures of every type, and everything a client can get wrong.

use super::*;
use image::{DynamicImage, Rgba, RgbaImage};

fn url(media: &str, bytes: &[u8]) -> String {
    format!("data:{media};base64,{}", BASE64.encode(bytes))
}

/// A picture of two halves, the left red and half transparent, the right blue.
fn encoded(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let picture = RgbaImage::from_fn(width, height, |x, _| {
        if x < width / 2 { Rgba([255, 0, 0, 128]) } else { Rgba([0, 0, 255, 255]) }
    });
    let mut picture = DynamicImage::from(picture);
    if format == ImageFormat::Jpeg {
        picture = picture.into_rgb8().into();
    }
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn error(url: &str) -> String {
    let error = decode(url).unwrap_err();
    assert!(error.is_image());
    error.to_string()
}

#[test]
fn each_type_gives_its_pixels_without_transparency() {
    for (media, format) in [
        ("image/png", ImageFormat::Png),
        ("IMAGE/PNG; name=a.png", ImageFormat::Png),
        ("image/jpeg", ImageFormat::Jpeg),
        ("image/jpg", ImageFormat::Jpeg),
        ("image/webp", ImageFormat::WebP),
        ("image/gif", ImageFormat::Gif),
        ("image/png", ImageFormat::Jpeg),
    ] {
        let image = decode(&url(media, &encoded(32, 16, format))).unwrap();
        assert_eq!((image.width(), image.height(), image.rgb().len()), (32, 16, 32 * 16 * 3));
        let (left, right) = (&image.rgb()[..3], &image.rgb()[31 * 3..32 * 3]);
        assert!(left[0] > 245 && left[2] < 10 && right[0] < 10 && right[2] > 245, "{media} {format:?}");
    }
}

#[test]
fn padding_may_be_missing() {
    let url = url("image/png", &encoded(8, 8, ImageFormat::Png));
    decode(url.trim_end_matches('=')).unwrap();
}

#[test]
fn a_url_of_another_form_says_so() {
    assert!(error("https://example.com/a.png").contains("never fetches images"));
    assert!(error("HTTP://example.com/a.png").contains("never fetches images"));
    assert!(error("iVBORw0KGgo=").contains("bare base64"));
    assert!(error("file:///etc/passwd").contains("another scheme"));
    assert!(error("data:image/png;base64").contains("comma"));
    assert!(error("data:image/png,abc").contains("not marked `;base64`"));
    assert!(error("data:application/pdf;base64,AAAA").contains("`application/pdf` are not supported"));
    assert!(error(&format!("data:{};base64,AAAA", "x".repeat(900))).len() < 200);
    assert!(error("data:;base64,AAAA").contains("not supported"));
}

#[test]
fn broken_bytes_say_so() {
    assert!(error("data:image/png;base64,AA*A").contains("base64 is broken"));
    assert!(error("data:image/png;base64,").contains("image is broken"));
    assert!(error("data:image/png;base64,AAAA").contains("image is broken"));
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
        let bytes = encoded(64, 64, format);
        assert!(error(&url("image/png", &bytes[..bytes.len() / 3])).contains("broken"), "{format:?}");
    }
    let bitmap = [b"BM".as_slice(), &[0; 60]].concat();
    assert!(error(&url("image/png", &bitmap)).contains("`image/bmp` are not supported"));
}

#[test]
fn too_long_a_url_is_refused_unread() {
    let url = format!("data:image/png;base64,{}", "A".repeat(MAX_URL_BYTES));
    assert!(error(&url).contains("bytes of URL, at most"));
}

/// A PNG that claims a size, with next to no bytes behind it.
fn claims(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = encoded(1, 1, ImageFormat::Png);
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let sum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |s, _| if s & 1 == 1 { s >> 1 ^ 0xedb8_8320 } else { s >> 1 })
    })
}

#[test]
fn a_decompression_bomb_stops_before_it_is_unpacked() {
    for (width, height) in [(MAX_SIDE_PIXELS + 1, 1), (1, 200_000), (16_000, 16_000), (u32::MAX >> 1, 9)] {
        let started = std::time::Instant::now();
        assert!(error(&url("image/png", &claims(width, height))).contains("too large"), "{width} x {height}");
        assert!(started.elapsed().as_millis() < 500);
    }
    // At the limit the picture is tried, and found to have no bytes.
    assert!(error(&url("image/png", &claims(2048, 1024))).contains("broken"));
}
