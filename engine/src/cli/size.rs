//! Sizes as people type them.

use crate::config::MEMORY_BYTES_DEFAULT;

/// A number with an optional unit: `B`, `K`, `M`, `G`, `KiB`, `MiB`, `GiB`, all powers of 1,024.
pub(super) fn parse_size(text: &str) -> Result<usize, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return Err(format!("{unit:?} is no unit: write a size such as 64MiB")),
    };
    let number: usize = digits.parse().map_err(|_| "write a size such as 64MiB".to_owned())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("more than a machine has; the default is {MEMORY_BYTES_DEFAULT} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("1 g"), Ok(1 << 30));
        assert_eq!(parse_size("4096"), Ok(4096));
        assert!(parse_size("99999999999999999G").is_err());
        assert!(parse_size("MiB").is_err());
        assert!(parse_size("5 parsecs").is_err());
    }
}
