//! Check digits and checksums: Luhn, Verhoeff, ISO 7064 mod 97, bech32, and weighted sums of national numbers.
//!
//! Digits come as values 0 to 9. All functions are total: a wrong length is simply not valid.

/// ISO/IEC 7812-1 Annex B: the check digit of payment cards.
pub(crate) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, &digit)| {
            let value = u32::from(digit) << (at & 1);
            if value > 9 { value - 9 } else { value }
        })
        .sum();
    !digits.is_empty() && sum.is_multiple_of(10) && digits.iter().any(|&d| d != digits[0])
}

/// ISO 7064 MOD 97-10 over an IBAN without spaces: the first four characters go to the end, letters count from 10.
pub(crate) fn iban(characters: &[u8]) -> bool {
    if characters.len() < 5 {
        return false;
    }
    let (front, rest) = characters.split_at(4);
    let remainder = rest.iter().chain(front).try_fold(0_u32, |remainder, &byte| match byte {
        b'0'..=b'9' => Some((remainder * 10 + u32::from(byte - b'0')) % 97),
        b'A'..=b'Z' | b'a'..=b'z' => {
            Some((remainder * 100 + u32::from(byte.to_ascii_uppercase() - b'A') + 10) % 97)
        }
        _ => None,
    });
    remainder == Some(1)
}

/// Verhoeff's dihedral check, used by Aadhaar.
pub(crate) fn verhoeff(digits: &[u8]) -> bool {
    const TIMES: [[u8; 10]; 10] = [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        [1, 2, 3, 4, 0, 6, 7, 8, 9, 5],
        [2, 3, 4, 0, 1, 7, 8, 9, 5, 6],
        [3, 4, 0, 1, 2, 8, 9, 5, 6, 7],
        [4, 0, 1, 2, 3, 9, 5, 6, 7, 8],
        [5, 9, 8, 7, 6, 0, 4, 3, 2, 1],
        [6, 5, 9, 8, 7, 1, 0, 4, 3, 2],
        [7, 6, 5, 9, 8, 2, 1, 0, 4, 3],
        [8, 7, 6, 5, 9, 3, 2, 1, 0, 4],
        [9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
    ];
    const SWAP: [u8; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let permuted = |digit: u8, times: usize| (0..times % 8).fold(digit, |d, _| SWAP[usize::from(d)]);
    let sum = digits
        .iter()
        .rev()
        .enumerate()
        .fold(0_u8, |sum, (at, &digit)| TIMES[usize::from(sum)][usize::from(permuted(digit, at))]);
    sum == 0
}

/// Sum of digit times weight.
pub(crate) fn weighted(digits: &[u8], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(&digit, &weight)| u32::from(digit) * weight).sum()
}

/// Brazil's CPF: two digits mod 11.
pub(crate) fn cpf(d: &[u8]) -> bool {
    let digit = |sum: u32| (sum * 10 % 11 % 10) as u8;
    d.len() == 11
        && d.iter().any(|&x| x != d[0])
        && digit(weighted(&d[..9], &[10, 9, 8, 7, 6, 5, 4, 3, 2])) == d[9]
        && digit(weighted(&d[..10], &[11, 10, 9, 8, 7, 6, 5, 4, 3, 2])) == d[10]
}

/// Poland's PESEL.
pub(crate) fn pesel(d: &[u8]) -> bool {
    d.len() == 11
        && (weighted(&d[..10], &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3]) + u32::from(d[10])).is_multiple_of(10)
}

/// England's NHS number.
pub(crate) fn nhs(d: &[u8]) -> bool {
    d.len() == 10
        && 11 - weighted(&d[..9], &[10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11
            == if d[9] == 0 { 11 } else { u32::from(d[9]) }
}

/// Spain's DNI and NIE: eight digits (X, Y, Z stand for 0, 1, 2) and a letter mod 23.
pub(crate) fn dni(word: &[u8]) -> bool {
    if word.len() != 9 {
        return false;
    }
    let number =
        word[..8].iter().enumerate().try_fold(0_u32, |number, (at, &byte)| match byte.to_ascii_uppercase() {
            digit @ b'0'..=b'9' => Some(number * 10 + u32::from(digit - b'0')),
            letter @ b'X'..=b'Z' if at == 0 => Some(u32::from(letter - b'X')),
            _ => None,
        });
    number.is_some_and(|n| b"TRWAGMYFPDXBNJZSQVHLCKE"[(n % 23) as usize] == word[8].to_ascii_uppercase())
}

/// Italy's codice fiscale: 16 characters, the last a check over odd and even places.
pub(crate) fn codice_fiscale(word: &[u8]) -> bool {
    const ODD: [u8; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    const SHAPE: &[u8; 16] = b"AAAAAA00A00A000A";
    if word.len() != 16 {
        return false;
    }
    let fits = word
        .iter()
        .zip(SHAPE)
        .all(|(byte, shape)| if *shape == b'A' { byte.is_ascii_alphabetic() } else { byte.is_ascii_digit() });
    let value = |byte: u8| if byte.is_ascii_digit() { byte - b'0' } else { byte.to_ascii_uppercase() - b'A' };
    fits && {
        let sum: u32 = word[..15]
            .iter()
            .enumerate()
            .map(|(at, &byte)| {
                u32::from(if at % 2 == 0 { ODD[usize::from(value(byte))] } else { value(byte) })
            })
            .sum();
        (sum % 26) as u8 == value(word[15])
    }
}

/// BIP 173 and 350: the checksum of a lower-case bech32 or bech32m address, prefix included.
pub(crate) fn bech32(address: &[u8]) -> bool {
    const ALPHABET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let Some(split) = address.iter().rposition(|&b| b == b'1') else { return false };
    let step = |sum: u32, value: u32| {
        let top = sum >> 25;
        GENERATOR.iter().enumerate().fold((sum & 0x1ff_ffff) << 5 ^ value, |sum, (bit, generator)| {
            if top >> bit & 1 == 1 { sum ^ generator } else { sum }
        })
    };
    let prefix = &address[..split];
    let high = prefix.iter().map(|&b| u32::from(b >> 5));
    let low = prefix.iter().map(|&b| u32::from(b & 31));
    let sum = high.chain([0]).chain(low).fold(1, step);
    let sum = address[split + 1..].iter().try_fold(sum, |sum, byte| {
        ALPHABET.iter().position(|a| a == byte).map(|value| step(sum, value as u32))
    });
    matches!(sum, Some(1 | 0x2bc8_30a3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(text: &str) -> Vec<u8> {
        text.bytes().filter(u8::is_ascii_digit).map(|b| b - b'0').collect()
    }

    #[test]
    fn published_examples_pass_and_a_changed_digit_does_not() {
        assert!(luhn(&digits("4111 1111 1111 1111")) && !luhn(&digits("4111 1111 1111 1112")));
        assert!(!luhn(&digits("0000 0000 0000 0000")) && !luhn(&[]));
        assert!(iban(b"GB82WEST12345698765432") && !iban(b"GB82WEST12345698765433") && !iban(b"GB8"));
        assert!(verhoeff(&digits("2363")) && !verhoeff(&digits("2364")));
        assert!(cpf(&digits("529.982.247-25")) && !cpf(&digits("529.982.247-26")) && !cpf(&[1; 11]));
        assert!(pesel(&digits("44051401359")) && !pesel(&digits("44051401358")));
        assert!(nhs(&digits("943 476 5919")) && !nhs(&digits("943 476 5918")));
        assert!(dni(b"12345678Z") && dni(b"X1234567L") && !dni(b"12345678A") && !dni(b"Z"));
        assert!(codice_fiscale(b"RSSMRA85T10A562S") && !codice_fiscale(b"RSSMRA85T10A562T"));
        assert!(bech32(b"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"));
        assert!(!bech32(b"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5") && !bech32(b"hello"));
    }
}
