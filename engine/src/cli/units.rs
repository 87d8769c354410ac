//! Quantities as people type them, each checked against its bounds where it is read: on the command line, in the
//! environment, in a configuration file.

use std::{fmt, num::NonZeroU64, str::FromStr, time::Duration};

/// A whole number of `MIN..=MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count<const MIN: u32, const MAX: u32>(pub u32);

/// Bytes of `MIN..=MAX`: a number with k, M, G (kB, MB, GB; powers of 1000) or Ki, Mi, Gi (KiB, MiB, GiB; powers of
/// 1024).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size<const MIN: u64, const MAX: u64>(pub u64);

/// Bytes as [`Size`], or none: `0` or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeOrNone<const MIN: u64, const MAX: u64>(pub Option<u64>);

/// A time from 1 ms to `MAX_S` seconds: a number with ms, s, m or h; seconds without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time<const MAX_S: u64>(pub Duration);

/// Bytes a second, or no bound: a number with B/s, kB/s, MB/s, GB/s (also KiB/s and so on) or bit/s, kbit/s, Mbit/s,
/// Gbit/s, or `none`. From [`Rate::MIN`] to [`Rate::MAX`] bytes a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(pub Option<NonZeroU64>);

impl<const MIN: u32, const MAX: u32> FromStr for Count<MIN, MAX> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number: u64 = text.trim().parse().map_err(|_| format!("{text:?} is no whole number"))?;
        let bounded = u32::try_from(number).ok().filter(|number| (MIN..=MAX).contains(number));
        bounded.map(Count).ok_or_else(|| format!("{text:?} is not from {MIN} to {MAX}"))
    }
}

impl<const MIN: u64, const MAX: u64> FromStr for Size<MIN, MAX> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text).ok_or_else(|| format!("{text:?} is no size: write 512MiB, 2GiB"))?;
        let factor =
            bytes_of(unit).ok_or_else(|| format!("{text:?} has no known unit: write 512MiB, 2GiB"))?;
        let bytes = number.checked_mul(factor).filter(|bytes| (MIN..=MAX).contains(bytes));
        bytes.map(Size).ok_or_else(|| format!("{text:?} is not from {} to {}", Bytes(MIN), Bytes(MAX)))
    }
}

impl<const MIN: u64, const MAX: u64> FromStr for SizeOrNone<MIN, MAX> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if ["0", "none"].contains(&text.trim()) {
            return Ok(SizeOrNone(None));
        }
        match text.parse::<Size<MIN, MAX>>() {
            Ok(Size(bytes)) => Ok(SizeOrNone(Some(bytes))),
            Err(error) => Err(format!("{error}, nor 0 for none")),
        }
    }
}

impl<const MAX_S: u64> FromStr for Time<MAX_S> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text).ok_or_else(|| format!("{text:?} is no time: write 30s, 500ms"))?;
        let millis = match unit {
            "ms" => 1,
            "" | "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            _ => return Err(format!("{text:?} has no known unit: write 30s, 500ms, 2m, 1h")),
        };
        let time = number.checked_mul(millis).map(Duration::from_millis);
        time.filter(|time| !time.is_zero() && *time <= Duration::from_secs(MAX_S))
            .map(Time)
            .ok_or_else(|| format!("{text:?} is not from 1ms to {MAX_S}s"))
    }
}

impl Rate {
    /// Below it, one answer takes longer than its mount waits.
    pub const MIN: u64 = 100_000;
    /// Beyond any link.
    pub const MAX: u64 = 1_000_000_000_000;
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        const ADVICE: &str = "write 100MB/s, 1Gbit/s or none";
        if text.trim() == "none" {
            return Ok(Rate(None));
        }
        let (number, unit) = split(text).ok_or_else(|| format!("{text:?} is no rate: {ADVICE}"))?;
        let unknown = || format!("{text:?} has no known unit: {ADVICE}");
        let unit = unit.strip_suffix("/s").ok_or_else(unknown)?;
        let per_s = match unit.strip_suffix("bit") {
            Some(prefix) => {
                decimal(prefix).and_then(|factor| number.checked_mul(factor)).map(|bits| bits / 8)
            }
            // `Mb` would be read as either.
            None if unit.ends_with('B') => bytes_of(unit).and_then(|factor| number.checked_mul(factor)),
            None => None,
        };
        let per_s = per_s.ok_or_else(unknown)?;
        NonZeroU64::new(per_s)
            .filter(|per_s| (Rate::MIN..=Rate::MAX).contains(&per_s.get()))
            .map(|per_s| Rate(Some(per_s)))
            .ok_or_else(|| format!("{text:?} is not from 100kB/s to 1000GB/s"))
    }
}

/// A whole number and what follows it.
fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim()))
}

fn bytes_of(unit: &str) -> Option<u64> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        other => decimal(other.strip_suffix('b').unwrap_or(other))?,
    })
}

fn decimal(prefix: &str) -> Option<u64> {
    Some(match prefix {
        "" => 1,
        "k" => 1_000,
        "m" | "M" => 1_000_000,
        "g" | "G" => 1_000_000_000,
        _ => return None,
    })
}

/// A bound, in the largest unit that divides it.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 30 && bytes % (1 << 30) == 0 => write!(f, "{}GiB", bytes >> 30),
            bytes if bytes >= 1 << 20 && bytes % (1 << 20) == 0 => write!(f, "{}MiB", bytes >> 20),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type AnySize = Size<0, { u64::MAX }>;

    #[test]
    fn sizes_are_read_in_either_system() {
        let bytes = |text: &str| text.parse::<AnySize>().map(|size| size.0);
        assert_eq!(bytes("128MiB"), Ok(128 << 20));
        assert_eq!(bytes("1g"), Ok(1_000_000_000));
        assert_eq!(bytes("2 GiB"), Ok(2 << 30));
        assert_eq!(bytes("4096"), Ok(4096));
        assert_eq!(bytes("500kB"), Ok(500_000));
        for bad in ["", "MiB", "1.5GiB", "-1", "3 parsecs", "99999999999999999999", "18446744073709551615k"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        let small = "1MiB".parse::<Size<{ 16 << 20 }, { 64 << 30 }>>().unwrap_err();
        assert_eq!(small, "\"1MiB\" is not from 16MiB to 64GiB");
    }

    #[test]
    fn times_are_read_with_their_units() {
        let time = |text: &str| text.parse::<Time<86_400>>().map(|time| time.0);
        assert_eq!(time("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(time("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(time("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(time("5"), Ok(Duration::from_secs(5)));
        for bad in ["", "0s", "25h", "s", "3 fortnights"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_are_read_in_bytes_and_in_bits() {
        let rate = |text: &str| text.parse::<Rate>().map(|rate| rate.0.map(NonZeroU64::get));
        assert_eq!(rate("100MB/s"), Ok(Some(100_000_000)));
        assert_eq!(rate("1Gbit/s"), Ok(Some(125_000_000)));
        assert_eq!(rate("8 MiB/s"), Ok(Some(8 << 20)));
        assert_eq!(rate("none"), Ok(None));
        for bad in
            ["", "100", "100MB", "10Mb/s", "1kB/s", "0GB/s", "9999999GB/s", "fast", "20000000000Gbit/s"]
        {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn counts_have_bounds() {
        assert_eq!("16".parse(), Ok(Count::<1, 20>(16)));
        assert_eq!("many".parse::<Count<1, 20>>().unwrap_err(), "\"many\" is no whole number");
        for bad in ["0", "21", "99999999999"] {
            assert_eq!(bad.parse::<Count<1, 20>>().unwrap_err(), format!("{bad:?} is not from 1 to 20"));
        }
    }
}
