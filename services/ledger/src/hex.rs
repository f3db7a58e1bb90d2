//! Bytes as hexadecimal digits, in key files and heads.

use std::fmt::Write as _;

/// Two lower-case digits a byte.
pub(crate) fn encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes; `None` unless there are exactly `N`, in digits of either case.
pub(crate) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    decode_any(text)?.try_into().ok()
}

/// As [`decode`], of any length.
pub(crate) fn decode_any(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_again_and_nothing_else_is() {
        assert_eq!(encode(&[0, 0x7f, 0xff]), "007fff");
        assert_eq!(decode::<3>("007fFF"), Some([0, 0x7f, 0xff]));
        assert_eq!(decode_any("007fFF"), Some(vec![0, 0x7f, 0xff]));
        assert_eq!((decode_any("0"), decode_any("0g"), decode_any("")), (None, None, Some(vec![])));
        for bad in ["", "007ff", "007fff00", "007ffg", "é7fff", "+07fff"] {
            assert_eq!(decode::<3>(bad), None, "{bad}");
        }
    }
}
