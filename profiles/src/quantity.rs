//! Rates, times, shares and sizes as they are typed.

use std::str::FromStr;
use std::time::Duration;

/// Bits a second: `64000`, `10mbit`, `2.5gbit`.
///
/// # Errors
///
/// One line that says what is taken.
pub fn rate_bps(text: &str) -> Result<u64, String> {
    scaled(text, &[("", 1.0), ("bit", 1.0), ("kbit", 1e3), ("mbit", 1e6), ("gbit", 1e9)]).map(whole)
}

/// A time with its unit: `300us`, `50ms`, `1s`.
///
/// # Errors
///
/// One line that says what is taken.
pub fn duration(text: &str) -> Result<Duration, String> {
    scaled(text, &[("us", 1e3), ("ms", 1e6), ("s", 1e9)]).map(whole).map(Duration::from_nanos)
}

/// A share in percent, `0.5` or `1%`, as parts of a million.
///
/// # Errors
///
/// One line that says what is taken.
pub fn loss_ppm(text: &str) -> Result<u32, String> {
    let ppm = scaled(text, &[("", 1e4), ("%", 1e4)]).map(whole)?;
    u32::try_from(ppm).map_err(|_| "take a share below 100 %".to_owned())
}

/// Bytes: `1500`, `64k` (of 1,024), `2m`.
///
/// # Errors
///
/// One line that says what is taken.
pub fn bytes(text: &str) -> Result<u64, String> {
    scaled(text, &[("", 1.0), ("k", 1024.0), ("m", 1_048_576.0)]).map(whole)
}

/// `number` times the factor of its unit, one of `units`.
fn scaled(text: &str, units: &[(&str, f64)]) -> Result<f64, String> {
    let lower = text.to_ascii_lowercase();
    let split = lower.find(|c: char| c.is_ascii_alphabetic() || c == '%').unwrap_or(lower.len());
    let (number, unit) = (lower[..split].trim(), &lower[split..]);
    let factor = units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| factor);
    match (f64::from_str(number), factor) {
        (Ok(number), Some(factor)) if number.is_finite() && number >= 0.0 => Ok(number * factor),
        _ => {
            let names: Vec<&str> =
                units.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()).collect();
            Err(format!("take a number and one of {}", names.join(", ")))
        }
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`scaled` refuses what is negative, and a float cast saturates"
)]
fn whole(number: f64) -> u64 {
    number.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_units() {
        assert_eq!(rate_bps("2.5gbit"), Ok(2_500_000_000));
        assert_eq!(rate_bps("64000"), Ok(64_000));
        assert_eq!(duration("1.5ms"), Ok(Duration::from_micros(1500)));
        assert_eq!(loss_ppm("0.5"), Ok(5000));
        assert_eq!(loss_ppm("1%"), Ok(10_000));
        assert_eq!(bytes("64k"), Ok(65_536));
        assert!(duration("50").is_err() && rate_bps("-1").is_err() && bytes("1g").is_err());
        assert_eq!(rate_bps("10 furlongs").unwrap_err(), "take a number and one of bit, kbit, mbit, gbit");
    }
}
