//! Times as people write and read them: `7d`, `2026-12-31`, `2026-12-31T18:00:00Z`. All of them in UTC.

use std::fmt;

/// Seconds of a day; UTC as the kernel counts it has no leap seconds.
const DAY_S: u64 = 24 * 3600;
/// The last second of the year 9999: what four digits can say.
const LAST: u64 = 253_402_300_799;

/// What is no time a ticket can end at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no time: write how long (7d, 12h, 30m, 2w), a day (2026-12-31, to its end in UTC), or a moment \
     (2026-12-31T18:00Z)"
)]
pub struct DateError {
    text: String,
}

/// Seconds since 1970 of an end that is given as a span from `now`, a day or a moment. A day is meant whole.
///
/// # Errors
/// When it is none of them, or past the year 9999.
pub fn parse_end(text: &str, now: u64) -> Result<u64, DateError> {
    let bytes = text.trim().as_bytes();
    let end = if bytes.len() >= 10 && bytes[4] == b'-' { parse_date(bytes) } else { parse_span(bytes, now) };
    end.filter(|&end| end <= LAST).ok_or_else(|| DateError { text: text.to_owned() })
}

/// A number and its unit.
fn parse_span(bytes: &[u8], now: u64) -> Option<u64> {
    let (unit, digits) = bytes.split_last()?;
    let seconds = match unit {
        b's' => 1,
        b'm' => 60,
        b'h' => 3600,
        b'd' => DAY_S,
        b'w' => 7 * DAY_S,
        _ => return None,
    };
    now.checked_add(number(digits)?.checked_mul(seconds)?)
}

/// `YYYY-MM-DD`, then nothing or `T` (or a space) and a time. Source: RFC 3339, section 5.6.
fn parse_date(bytes: &[u8]) -> Option<u64> {
    let (date, rest) = bytes.split_at_checked(10)?;
    if date[7] != b'-' {
        return None;
    }
    let (year, month, day) = (number(&date[..4])?, number(&date[5..7])?, number(&date[8..])?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=days_of_month(year, month)).contains(&day) {
        return None;
    }
    let midnight = days_since_1970(year, month, day) * DAY_S;
    match rest.split_first() {
        None => Some(midnight + DAY_S),
        Some((b'T' | b't' | b' ', time)) => parse_time(time, midnight),
        Some(_) => None,
    }
}

/// `HH:MM` or `HH:MM:SS`, then `Z` or an offset from UTC; without either, UTC.
fn parse_time(bytes: &[u8], midnight: u64) -> Option<u64> {
    let (hour_minute, mut rest) = bytes.split_at_checked(5)?;
    let mut seconds = clock(hour_minute)?;
    if let Some((b':', after)) = rest.split_first() {
        let (digits, after) = after.split_at_checked(2)?;
        seconds += number(digits).filter(|&s| s < 60)?;
        rest = after;
    }
    let local = midnight + seconds;
    match rest.split_first() {
        None => Some(local),
        Some((b'Z' | b'z', [])) => Some(local),
        Some((b'+', offset)) => local.checked_sub(clock(offset)?),
        Some((b'-', offset)) => local.checked_add(clock(offset)?),
        Some(_) => None,
    }
}

/// `HH:MM` in seconds.
fn clock(bytes: &[u8]) -> Option<u64> {
    let [h1, h2, b':', m1, m2] = *bytes else { return None };
    let (hours, minutes) = (number(&[h1, h2])?, number(&[m1, m2])?);
    (hours < 24 && minutes < 60).then_some(hours * 3600 + minutes * 60)
}

/// Digits and nothing else; `str::parse` would take a sign.
fn number(digits: &[u8]) -> Option<u64> {
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    all.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of_month(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days before January 1st of `year`, from 1970 on.
fn days_before(year: u64) -> u64 {
    let leaps = |year: u64| (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    (year - 1970) * 365 + leaps(year) - leaps(1970)
}

fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    days_before(year) + (1..month).map(|month| days_of_month(year, month)).sum::<u64>() + day - 1
}

/// A moment in seconds since 1970, as RFC 3339 has it; what lies past the year 9999 as its last second.
pub fn utc(seconds: u64) -> String {
    let seconds = seconds.min(LAST);
    let (days, second) = (seconds / DAY_S, seconds % DAY_S);
    // One too late at most, never too early: 366 days are the longest year.
    let mut year = 1970 + days / 366;
    while days_before(year + 1) <= days {
        year += 1;
    }
    let mut day = days - days_before(year);
    let mut month = 1;
    while day >= days_of_month(year, month) {
        day -= days_of_month(year, month);
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", day + 1)
}

/// How far one moment is from another, in the largest unit that fits: `3 d`, `12 h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Span(seconds) = *self;
        let (count, unit) = match seconds {
            0..120 => (seconds, "s"),
            120..7_200 => (seconds / 60, "min"),
            7_200..172_800 => (seconds / 3600, "h"),
            _ => (seconds / DAY_S, "d"),
        };
        write!(f, "{count} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // 2026-11-23T09:00:00Z, as date(1) has it.
    const NOW: u64 = 1_795_424_400;

    #[test]
    fn moments_are_those_of_date_1() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (NOW, "2026-11-23T09:00:00Z"),
            (LAST, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(utc(seconds), text);
            assert_eq!(parse_end(text, NOW), Ok(seconds));
        }
        assert_eq!(utc(u64::MAX), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn every_day_of_eight_centuries_comes_back() {
        for day in 0..292_000 {
            let at = day * DAY_S + 3_723;
            assert_eq!(parse_end(&utc(at), 0), Ok(at));
        }
    }

    #[test]
    fn spans_days_and_moments() {
        for (text, end) in [
            ("7d", NOW + 7 * DAY_S),
            ("12h", NOW + 12 * 3600),
            ("30m", NOW + 1_800),
            ("2w", NOW + 14 * DAY_S),
            ("90s", NOW + 90),
            ("2026-11-23", NOW - 9 * 3600 + DAY_S),
            ("2026-11-23T09:00", NOW),
            ("2026-11-23 09:00:01", NOW + 1),
            ("2026-11-23T10:30:00+01:30", NOW),
            ("2026-11-23T01:00-08:00", NOW),
        ] {
            assert_eq!(parse_end(text, NOW), Ok(end), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_says_how_to_write_one() {
        for text in [
            "",
            "7",
            "d",
            "7y",
            "+7d",
            "-7d",
            "2026-02-29",
            "2026-13-01",
            "2026-00-01",
            "1969-12-31",
            "2026-1-1",
            "2026-11-23T",
            "2026-11-23T24:00",
            "2026-11-23T09:00:60",
            "2026-11-23T09:00X",
            "2026-11-23T09:00+1",
            "99999999999999999999d",
            "9999999d",
            "2026-11-23Z",
            "é026-11-23",
            "2026-11-2é",
        ] {
            let error = parse_end(text, NOW).unwrap_err().to_string();
            assert!(error.contains("7d") && error.contains("2026-12-31"), "{text}: {error}");
        }
    }

    #[test]
    fn spans_in_words() {
        let words: Vec<_> = [5, 120, 7_199, 7_200, 172_800].map(|s| Span(s).to_string()).into();
        assert_eq!(words, ["5 s", "2 min", "119 min", "2 h", "2 d"]);
    }
}
