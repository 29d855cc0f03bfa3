//! Asks the processor to fetch a value from memory before it is needed.
//!
//! The only crate of the workspace that may say `unsafe`, for a measured gain: the prefix index looks up
//! hundreds of random places a prompt, and waiting for each takes far longer than the work on it. A hint
//! reads nothing, writes nothing and cannot fault. Called by the prefix index.

/// Bytes that come from memory together.
const CACHE_LINE_BYTES: usize = 64;

/// Asks for all cache lines of a value. On processors other than x86-64 and aarch64, and under Miri, does
/// nothing.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    let start = std::ptr::from_ref(value).cast::<i8>();
    for offset in (0..size_of::<T>()).step_by(CACHE_LINE_BYTES) {
        line(start.wrapping_add(offset));
    }
}

#[inline(always)]
#[cfg_attr(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))), expect(unused_variables))]
fn line(address: *const i8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[expect(unsafe_code, reason = "see the head of the file")]
    // SAFETY: a prefetch of any address, mapped or not, only moves data between memory and caches; SSE, which
    // it belongs to, is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address);
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    #[expect(unsafe_code, reason = "see the head of the file")]
    // SAFETY: as above; the instruction touches no register, flag or stack.
    unsafe {
        std::arch::asm!(
            "prfm pldl1keep, [{address}]",
            address = in(reg) address,
            options(nostack, preserves_flags, readonly)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::prefetch;

    #[test]
    fn a_value_stays_as_it_was() {
        let values = [[7u64; 32]; 3];
        values.iter().for_each(prefetch);
        prefetch(&());
        prefetch::<[u64; 0]>(&[]);
        assert_eq!(values, [[7; 32]; 3]);
    }
}
