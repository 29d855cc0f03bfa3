//! Tests of `cuts`: which tokenizers allow which cuts.

use super::*;

#[test]
fn x() {
    let _ = MIN_PIECE_BYTES;
}
