//! A Rust file as the checks see it: code without its comments and literals, line by line.
//!
//! The lexer knows just enough of the language (comments that nest, raw strings, lifetimes beside character
//! literals) that a word inside a string is never taken for code, nor a brace in a comment for a block.

use std::path::{Path, PathBuf};

/// A lexed file. Lines count from 1 in reports and from 0 here.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) lines: Vec<Line>,
    /// All code, newlines kept, comments and the insides of literals blanked: as many characters as the file has.
    code: Vec<char>,
}

/// One line, in its parts.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// Comments and the insides of literals are blank.
    pub(crate) code: String,
    /// What stands in comments, the rest blank.
    pub(crate) comment: String,
    /// Inside a test file or an item under `#[cfg(test)]`.
    pub(crate) test: bool,
}

/// A function with a body: its name and the line indices of `fn` and of the closing brace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) first: usize,
    pub(crate) last: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Code,
    Comment,
    /// The inside of a string or character literal.
    Literal,
}

impl Source {
    pub(crate) fn parse(path: &Path, text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let parts = classify(&chars);
        let only = |wanted: Part| -> Vec<char> {
            let keep = |(&c, &part): (&char, &Part)| if part == wanted || c == '\n' { c } else { ' ' };
            chars.iter().zip(&parts).map(keep).collect()
        };
        let code = only(Part::Code);
        let comment: String = only(Part::Comment).into_iter().collect();
        let code_text: String = code.iter().collect();
        let test_file = path.iter().any(|part| part == "tests" || part == "tests.rs");
        let lines = code_text
            .lines()
            .zip(comment.lines())
            .map(|(code, comment)| Line { code: code.into(), comment: comment.into(), test: test_file })
            .collect();
        let mut source = Self { path: path.to_path_buf(), lines, code };
        source.mark_test_items();
        source
    }

    /// Functions with a body, in order of their `fn`; nested ones are listed too.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for at in words(&self.code, "fn") {
            let name: String = self.code[at + 2..]
                .iter()
                .skip_while(|c| c.is_whitespace())
                .take_while(|&&c| is_word(c) || c == '$')
                .collect();
            // Without a name it is the type of a function pointer.
            if name.is_empty() {
                continue;
            }
            if let Some((_, end)) = item_end(&self.code, at).filter(|(body, _)| *body) {
                found.push(Function { name, first: self.line_of(at), last: self.line_of(end) });
            }
        }
        found
    }

    /// Whether the line, or a comment line just above it, says `mark` followed by a reason.
    pub(crate) fn is_excused(&self, line: usize, mark: &str) -> bool {
        let says = |line: &Line| {
            line.comment.split_once(mark).is_some_and(|(_, reason)| reason.trim().chars().count() > 2)
        };
        let above = line.checked_sub(1).map(|above| &self.lines[above]);
        says(&self.lines[line]) || above.is_some_and(|above| above.code.trim().is_empty() && says(above))
    }

    fn line_of(&self, at: usize) -> usize {
        self.code[..at].iter().filter(|&&c| c == '\n').count()
    }

    /// Marks the lines of each item behind a `#[cfg(..)]` that is true only in tests.
    fn mark_test_items(&mut self) {
        for at in words(&self.code, "cfg") {
            let before: String = self.code[..at].iter().rev().take(2).collect();
            if before != "[#" {
                continue;
            }
            let Some(close) = matching(&self.code, at - 1) else { continue };
            let condition = &self.code[at..close];
            let negated = condition.iter().collect::<String>().contains("not(test");
            if negated || words(condition, "test").is_empty() {
                continue;
            }
            let end = item_end(&self.code, close + 1).map_or(close, |(_, end)| end);
            let (first, last) = (self.line_of(at), self.line_of(end));
            for line in &mut self.lines[first..=last] {
                line.test = true;
            }
        }
    }
}

/// Sorts each character of a file into code, comment or the inside of a literal.
fn classify(chars: &[char]) -> Vec<Part> {
    let mut parts = vec![Part::Code; chars.len()];
    let mut at = 0;
    while at < chars.len() {
        let (end, part, quotes) = match (chars[at], chars.get(at + 1)) {
            ('/', Some('/')) => (line_end(chars, at), Part::Comment, 0),
            ('/', Some('*')) => (block_comment_end(chars, at), Part::Comment, 0),
            ('"', _) => (string_end(chars, at), Part::Literal, 1),
            ('r', Some('"' | '#')) if starts_raw(chars, at) => (raw_string_end(chars, at), Part::Literal, 1),
            ('\'', _) => (char_end(chars, at), Part::Literal, 1),
            _ => (at + 1, Part::Code, 0),
        };
        // The quotes stay code, so that an empty literal does not vanish.
        let end = end.min(chars.len());
        for part_at in
            &mut parts[(at + quotes).min(end)..end.saturating_sub(quotes).max(at + quotes).min(end)]
        {
            *part_at = part;
        }
        at = end.max(at + 1);
    }
    parts
}

fn line_end(chars: &[char], at: usize) -> usize {
    chars[at..].iter().position(|&c| c == '\n').map_or(chars.len(), |n| at + n)
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = at;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    chars.len()
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut at = at + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// Whether the `r` at `at` begins a raw string, and is neither the end of a word nor of a raw identifier.
fn starts_raw(chars: &[char], at: usize) -> bool {
    let prefix_len = usize::from(at > 0 && matches!(chars[at - 1], 'b' | 'c'));
    let inside_word = at > prefix_len && is_word(chars[at - prefix_len - 1]);
    !inside_word && chars[at + 1..].iter().find(|&&c| c != '#') == Some(&'"')
}

fn raw_string_end(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
    let mut at = at + 1 + hashes + 1;
    while at < chars.len() {
        let closing = &chars[at + 1..chars.len().min(at + 1 + hashes)];
        if chars[at] == '"' && closing.len() == hashes && closing.iter().all(|&c| c == '#') {
            return at + 1 + hashes;
        }
        at += 1;
    }
    chars.len()
}

/// The end of a character literal; a lifetime is one quote of code.
fn char_end(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => {
            // The escaped character itself may be the quote.
            let rest = chars.get(at + 3..).unwrap_or_default();
            rest.iter().position(|&c| c == '\'').map_or(chars.len(), |n| at + 3 + n + 1)
        }
        (Some(_), Some('\'')) => at + 3,
        _ => at + 1,
    }
}

pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `word` stands as a whole word.
pub(crate) fn words(code: &[char], word: &str) -> Vec<usize> {
    let word: Vec<char> = word.chars().collect();
    code.windows(word.len())
        .enumerate()
        .filter(|(_, window)| *window == word)
        .map(|(at, _)| at)
        .filter(|&at| at == 0 || !is_word(code[at - 1]))
        .filter(|&at| code.get(at + word.len()).is_none_or(|&c| !is_word(c)))
        .collect()
}

/// The end of the item that starts at `at`: its closing brace (true) or its semicolon (false).
fn item_end(code: &[char], at: usize) -> Option<(bool, usize)> {
    let mut depth = 0_usize;
    for (index, &c) in code.iter().enumerate().skip(at) {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            ';' if depth == 0 => return Some((false, index)),
            '{' if depth == 0 => return matching(code, index).map(|end| (true, end)),
            _ => {}
        }
    }
    None
}

/// The bracket that closes the one at `open`.
fn matching(code: &[char], open: usize) -> Option<usize> {
    let (opening, closing) = match code.get(open)? {
        '{' => ('{', '}'),
        '[' => ('[', ']'),
        _ => ('(', ')'),
    };
    let mut depth = 0_usize;
    for (index, &c) in code.iter().enumerate().skip(open) {
        if c == opening {
            depth += 1;
        } else if c == closing {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return Some(index);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        let source = Source::parse(Path::new("x/src/a.rs"), text);
        source.lines.iter().map(|line| line.code.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        assert_eq!(code("a(\"fn {\"); // fn {"), "a(\"    \");");
        assert_eq!(code("a /* b /* c */ d */ e"), "a                   e");
        assert_eq!(code("let r = br#\"a \" { \"#;"), format!("let r = br{}#;", " ".repeat(9)));
    }

    #[test]
    fn lifetimes_are_no_character_literals() {
        assert_eq!(
            code("fn f<'a>(x: &'a str) { '{'; '\\''; b'\\\\'; }"),
            "fn f<'a>(x: &'a str) { ' '; '  '; b'  '; }"
        );
    }

    #[test]
    fn an_open_literal_ends_with_the_file() {
        for text in ["\"abc", "r#\"abc\"", "'\\", "/* /* */", "b'", "'", "\"\\"] {
            Source::parse(Path::new("a.rs"), text);
        }
    }

    #[test]
    fn functions_are_measured_from_fn_to_their_brace() {
        let source = Source::parse(
            Path::new("a.rs"),
            "fn one(f: fn(u8) -> [u8; 2])\nwhere u8: Copy,\n{\n    \"}\";\n}\ntrait T { fn none(&self); }\n",
        );
        assert_eq!(source.functions(), [Function { name: "one".into(), first: 0, last: 4 }]);
    }

    #[test]
    fn items_under_cfg_test_are_tests() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n#[cfg(not(test))]\nfn c() {}\n";
        let source = Source::parse(Path::new("x/src/a.rs"), text);
        let tests: Vec<bool> = source.lines.iter().map(|line| line.test).collect();
        assert_eq!(tests, [false, true, true, true, true, false, false]);
    }

    #[test]
    fn files_of_tests_are_tests() {
        for path in ["engine/tests/it/main.rs", "engine/src/read/tests.rs"] {
            assert!(Source::parse(Path::new(path), "fn a() {}\n").lines[0].test, "{path}");
        }
        assert!(!Source::parse(Path::new("engine/src/testing.rs"), "fn a() {}\n").lines[0].test);
    }

    #[test]
    fn an_excuse_needs_a_reason() {
        let text = "a(); // copy: the header outlives the packet\n// copy: as above\nb();\nc(); // copy:\n";
        let source = Source::parse(Path::new("a.rs"), text);
        assert!(source.is_excused(0, "copy:") && source.is_excused(2, "copy:"));
        assert!(!source.is_excused(3, "copy:"));
    }
}
