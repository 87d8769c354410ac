//! Numbered files: frames (`shot.0101.exr`), tiles (`tex.1001.exr`), takes.

use wire::Name;

/// The largest step from one number to the next that is taken for one: every hundredth frame is looked at, hardly less.
const STEP_MAX: u64 = 1000;
/// Digits of a number at most: what fits its type.
const DIGITS_MAX: usize = 18;

/// Files whose names differ in one number alone, at equal distances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sequence {
    prefix: Vec<u8>,
    suffix: Vec<u8>,
    /// Digits of the number at least, with zeros in front.
    width: usize,
    /// The number of the latest.
    number: u64,
    step: i64,
}

impl Sequence {
    /// The sequence in which `b` comes after `a`; `None` when they are not of one.
    pub(super) fn between(a: &Name, b: &Name) -> Option<Sequence> {
        let (a, b) = (a.as_bytes(), b.as_bytes());
        let same_front = a.iter().zip(b).take_while(|(a, b)| a == b).count();
        let front = same_front - digits_before(&a[..same_front]);
        let back_max = a.len().min(b.len()) - front;
        let same_back = a.iter().rev().zip(b.iter().rev()).take(back_max).take_while(|(a, b)| a == b).count();
        let tail = &a[a.len() - same_back..];
        let back = same_back - tail.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (of_a, of_b) = (number(&a[front..a.len() - back])?, number(&b[front..b.len() - back])?);
        let distance = of_b.abs_diff(of_a);
        if !(1..=STEP_MAX).contains(&distance) {
            return None;
        }
        let step = i64::try_from(distance).ok()?;
        let digits = &b[front..b.len() - back];
        let is_padded = digits.len() == a.len() - back - front;
        Some(Sequence {
            prefix: b[..front].to_vec(),          // copy: it outlives the name
            suffix: b[b.len() - back..].to_vec(), // copy: as above
            width: if is_padded { digits.len() } else { 1 },
            number: of_b,
            step: if of_b > of_a { step } else { -step },
        })
    }

    /// Whether `self` goes on as `earlier` did.
    pub(super) fn continues(&self, earlier: &Sequence) -> bool {
        let steps_on = earlier.number.checked_add_signed(earlier.step) == Some(self.number);
        self.step == earlier.step
            && steps_on
            && self.prefix == earlier.prefix
            && self.suffix == earlier.suffix
    }

    /// The distance of the numbers.
    pub(super) fn step(&self) -> i64 {
        self.step
    }

    /// The name `count` steps after the latest.
    pub(super) fn after(&self, count: u32) -> Option<Name> {
        let number = self.number.checked_add_signed(self.step.checked_mul(count.into())?)?;
        let digits = format!("{number:0width$}", width = self.width);
        Name::new(&[&self.prefix[..], digits.as_bytes(), &self.suffix[..]].concat()).ok()
    }
}

fn digits_before(bytes: &[u8]) -> usize {
    bytes.iter().rev().take_while(|byte| byte.is_ascii_digit()).count()
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.len() > DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    fn next(a: &str, b: &str) -> Option<String> {
        let sequence = Sequence::between(&name(a), &name(b))?;
        sequence.after(1).map(|name| name.to_string())
    }

    #[test]
    fn frames_and_tiles_are_numbered_on() {
        let table = [
            ("shot.0101.exr", "shot.0102.exr", Some("shot.0103.exr")),
            ("shot.0109.exr", "shot.0119.exr", Some("shot.0129.exr")),
            ("shot.0102.exr", "shot.0101.exr", Some("shot.0100.exr")),
            ("tex.1001.exr", "tex.1002.exr", Some("tex.1003.exr")),
            ("frame9", "frame10", Some("frame11")),
            ("frame99", "frame100", Some("frame101")),
            ("v2_shot.099.dpx", "v2_shot.100.dpx", Some("v2_shot.101.dpx")),
            ("007", "008", Some("009")),
            ("a1b", "a2c", None),
            ("same", "same", None),
            ("shot.0101.exr", "shot.9101.exr", None),
            ("x1y1", "x2y2", None),
            ("readme", "license", None),
            ("0", "-1", None),
        ];
        for (a, b, expected) in table {
            assert_eq!(next(a, b).as_deref(), expected, "{a}, {b}");
        }
    }

    #[test]
    fn a_step_must_be_kept() {
        let of = |a, b| Sequence::between(&name(a), &name(b)).unwrap();
        assert!(of("s.3", "s.5").continues(&of("s.1", "s.3")));
        assert!(!of("s.3", "s.4").continues(&of("s.1", "s.3")));
        assert!(!of("t.3", "t.5").continues(&of("s.1", "s.3")));
    }

    proptest! {
        #[test]
        fn any_two_names_are_a_sequence_or_none(a in "[a-c0-9.]{1,24}", b in "[a-c0-9.]{1,24}") {
            if let (Ok(a), Ok(b)) = (Name::new(a.as_bytes()), Name::new(b.as_bytes()))
                && let Some(sequence) = Sequence::between(&a, &b)
            {
                prop_assert!(sequence.step() != 0);
                prop_assert_eq!(sequence.after(0), Some(b));
            }
        }

        #[test]
        fn a_numbered_file_is_followed_by_the_next(
            prefix in "[a-z._]{0,8}", first in 0..100_000u64, step in 1..1000u64, width in 1..8usize
        ) {
            let at = |n: u64| name(&format!("{prefix}{:0width$}.x", first + n * step));
            let sequence = Sequence::between(&at(0), &at(1)).unwrap();
            prop_assert_eq!(sequence.after(1), Some(at(2)));
            prop_assert!(Sequence::between(&at(1), &at(2)).unwrap().continues(&sequence));
        }
    }
}
