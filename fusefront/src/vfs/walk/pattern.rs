//! Patterns of one name, as shells have them: `*`, `?`, `[a-z]`, `[!a-z]`. Pure.

/// Whether a part of a path says more than one name.
pub(super) fn is_pattern(part: &[u8]) -> bool {
    part.iter().any(|byte| matches!(byte, b'*' | b'?' | b'['))
}

/// Whether a name fits. A hidden one fits a pattern alone that starts with a dot, as in a shell.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    fits(pattern, name)
}

/// Goes back to the last `*` alone, so it takes at most pattern times name steps.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, n));
        } else if let Some(next) = one(pattern, p, name[n]) {
            p = next;
            n += 1;
        } else if let Some((after, from)) = star {
            star = Some((after, from + 1));
            p = after;
            n = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// Where the pattern goes on when its part at `p` is `byte`.
fn one(pattern: &[u8], p: usize, byte: u8) -> Option<usize> {
    match *pattern.get(p)? {
        b'?' => Some(p + 1),
        b'[' => match class(&pattern[p + 1..], byte) {
            Some((true, len)) => Some(p + 1 + len),
            Some((false, _)) => None,
            // Without its end it is itself.
            None => (byte == b'[').then_some(p + 1),
        },
        literal => (literal == byte).then_some(p + 1),
    }
}

/// Whether a class, given from after its `[`, holds `byte`; and its length with the `]`.
fn class(text: &[u8], byte: u8) -> Option<(bool, usize)> {
    let negated = matches!(text.first(), Some(b'!' | b'^'));
    let mut at = usize::from(negated);
    let first = at;
    let mut holds = false;
    loop {
        let low = *text.get(at)?;
        if low == b']' && at > first {
            return Some((holds != negated, at + 1));
        }
        match (text.get(at + 1), text.get(at + 2)) {
            (Some(b'-'), Some(&high)) if high != b']' => {
                holds |= (low..=high).contains(&byte);
                at += 3;
            }
            _ => {
                holds |= low == byte;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_are_those_of_shells() {
        for (pattern, name, expected) in [
            ("*", "a", true),
            ("*", ".hidden", false),
            (".*", ".hidden", true),
            ("*.exr", "shot.0001.exr", true),
            ("*.exr", "shot.exr.tmp", false),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXbX", false),
            ("f?o", "foo", true),
            ("f?o", "fo", false),
            ("[a-c]1", "b1", true),
            ("[!a-c]1", "b1", false),
            ("[]x]", "]", true),
            ("[a", "[a", true),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} on {name}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_pattern(pattern in prop::collection::vec(any::<u8>(), 0..64), name in prop::collection::vec(any::<u8>(), 0..64)) {
            matches(&pattern, &name);
            prop_assert!(name.first() == Some(&b'.') || matches(b"*", &name));
        }
    }
}
